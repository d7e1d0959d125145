-- The rate limiter of rate_limiting.lua without its race: count first, then look at what the count says. However many
-- processes run this at once, exactly `max_requests` of them are let through in a window.
--
--     slothstate run examples/rate_limiting_atomic.lua --db limits.db

function check_rate_limit(identifier, max_requests, window_seconds)
    local key = "rate_limit:" .. identifier

    -- One transaction: there is never a counter that would not expire, not even if this process dies here.
    local count = state.transaction(function()
        local count = state.increment(key)
        if count == 1 then
            -- First request in window
            state.set_ttl(key, window_seconds)
        end
        return count
    end)

    if count > max_requests then
        return false, "Rate limit exceeded, again in " .. state.get_ttl(key) .. " seconds"
    end
    return true, "Request " .. count .. " of " .. max_requests .. " allowed"
end

local make_api_call = task("make_api_call")
    :description("Make API call with exact rate limiting")
    :command(function(this, params)
        local allowed, message = check_rate_limit("api_calls", 100, 3600) -- 100 calls/hour
        if not allowed then
            return false, message
        end

        log.info("Making API call...")
        return true, message
    end)
    :build()

workflow.define("api_tasks")
    :description("API tasks workflow with exact rate limiting")
    :version("1.0.0")
    :tasks({
        make_api_call
    })
