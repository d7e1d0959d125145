-- reliability.retry and retry_with_config: a function that is called again until it goes well.
local host = ...
local arguments, guard, native, exec = host.arguments, host.guard, host.native, host.exec
local bad, expect, unknown = arguments.bad, arguments.expect, arguments.unknown
local type, tostring, next, pcall, select, setmetatable = type, tostring, next, pcall, select, setmetatable
local min, max, random, unpack = math.min, math.max, math.random, table.unpack or unpack

-- The delays, in seconds, after attempt 1, 2, 3.
local DELAYS = {
    fixed = function(config)
        return config.initial_delay
    end,
    linear = function(config, attempt)
        return config.initial_delay * attempt
    end,
    exponential = function(config, attempt)
        return config.initial_delay * config.multiplier ^ (attempt - 1)
    end,
    custom = function(config, attempt)
        local delay = config.custom_delay(attempt)
        if type(delay) ~= "number" or not (delay >= 0 and delay < 1e9) then
            arguments.fail(("custom_delay returned %s: seconds from 0 expected"):format(tostring(delay)))
        end
        return delay
    end,
}

local function number_from(least)
    return function(value)
        return type(value) == "number" and value >= least and value < 1e9
    end
end

local function of_type(expected)
    return function(value)
        return type(value) == expected
    end
end

local CHECKS = {
    max_attempts = {
        "a whole number of attempts from 1",
        function(value)
            return number_from(1)(value) and value % 1 == 0
        end,
    },
    initial_delay = { "seconds from 0", number_from(0) },
    max_delay = { "seconds from 0", number_from(0) },
    multiplier = { "a number from 1", number_from(1) },
    jitter = { "true or false", of_type("boolean") },
    on_retry = { "a function", of_type("function") },
    custom_delay = { "a function", of_type("function") },
    strategy = {
        "one of reliability.strategy",
        function(value)
            return DELAYS[value] ~= nil
        end,
    },
}

local function check(position, name, option, value)
    local expected, is_fine = CHECKS[option][1], CHECKS[option][2]
    if not is_fine(value) then
        bad(position, name, ("%s: %s expected, got %s"):format(option, expected, tostring(value)))
    end
end

-- What an attempt came to: nil if it went well, else why not. As in a task's command false is failure, and so are nil
-- with a message, an error, and what exec.run returned for a command that failed.
local function problem_of(ok, result, message)
    if not ok then
        return guard.describe(result)
    elseif exec.is_result(result) then
        return not result.success and exec.reason_of(result) or nil
    elseif result == false or (result == nil and message ~= nil) then
        return message ~= nil and guard.describe(message) or "it returned false"
    end
end

local function packed(ok, ...)
    return ok, select("#", ...), { ... }
end

-- The longest delay, where none is given: never less than what the script asks for itself.
local function longest_of(config)
    return config.strategy == "custom" and math.huge or max(30, config.initial_delay)
end

local function attempts_of(config, fn)
    local longest = config.max_delay or longest_of(config)
    local attempt = 0
    while true do
        attempt = attempt + 1
        local ok, count, results = packed(pcall(fn))
        guard.go_on()
        local problem = problem_of(ok, results[1], results[2])
        if not problem then
            return count, results
        elseif attempt == config.max_attempts then
            native.log("warn", ("attempt %d of %d failed: %s"):format(attempt, attempt, problem))
            return 2, { nil, problem }
        end
        local delay = min(DELAYS[config.strategy](config, attempt), longest)
        if config.jitter then
            delay = delay * (0.5 + random() / 2)
        end
        native.log("warn", ("attempt %d of %d failed, the next in %.3gs: %s"):format(attempt, config.max_attempts, delay, problem))
        if config.on_retry then
            config.on_retry(attempt, delay, problem)
        end
        guard.pause(delay)
    end
end

local function retried(config, fn)
    local count, results = attempts_of(config, fn)
    return unpack(results, 1, count)
end

local DEFAULTS = { max_attempts = 3, initial_delay = 1, multiplier = 2, strategy = "exponential" }

-- Calls `fn()` up to `attempts` times, the first delay in seconds, each further one twice as long, but no longer than 30
-- or the first. Returns what it returned when it went well; else nil and the message of the last attempt.
local function retry(...)
    local attempts, delay, fn = ...
    check(1, "retry", "max_attempts", attempts)
    check(2, "retry", "initial_delay", delay)
    expect(3, "retry", "function", fn)
    local config = { max_attempts = attempts, initial_delay = delay }
    return retried(setmetatable(config, { __index = DEFAULTS }), fn)
end

-- The same with a table of options in place of the two numbers.
local function retry_with_config(...)
    local options, fn = ...
    expect(1, "retry_with_config", "table", ...)
    expect(2, "retry_with_config", "function", fn)
    local config = setmetatable({}, { __index = DEFAULTS })
    for name, value in next, options do
        if not CHECKS[name] then
            unknown("retry_with_config has no option", name, CHECKS)
        end
        check(1, "retry_with_config", name, value)
        config[name] = value
    end
    if (config.strategy == "custom") ~= (config.custom_delay ~= nil) then
        bad(1, "retry_with_config", "CUSTOM_BACKOFF and custom_delay go together: one is missing")
    end
    return retried(config, fn)
end

reliability = arguments.closed("reliability", {
    retry = retry,
    retry_with_config = retry_with_config,
    strategy = arguments.closed("reliability.strategy", {
        FIXED_DELAY = "fixed",
        LINEAR_BACKOFF = "linear",
        EXPONENTIAL_BACKOFF = "exponential",
        CUSTOM_BACKOFF = "custom",
    }),
})
