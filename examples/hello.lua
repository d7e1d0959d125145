-- A first look: what this script stores is there again the next time. Run it twice.
--
--     slothstate run examples/hello.lua

local runs = state.increment("hello:runs")
print("Run number " .. runs .. ", counted exactly, whoever else is counting.")

local greeting = state.get("hello:greeting")
if not greeting then
    greeting = "Hello from run " .. runs
    state.set("hello:greeting", greeting, 60)
end
print(greeting .. ", remembered for " .. state.get_ttl("hello:greeting") .. " more seconds.")

local waiting = state.list_push("hello:queue", { run = runs, at = os.date("%H:%M:%S") })
print("Jobs in the queue: " .. waiting)

state.with_lock("hello:queue", function()
    if state.list_length("hello:queue") >= 3 then
        local job = state.list_shift("hello:queue")
        print("One process at a time takes the oldest job: that of run " .. job.run .. ", from " .. job.at .. ".")
    end
end)
