-- guard.call: calls into the script, each protected and, where asked, bounded in time.
--
-- A deadline is enforced by a count hook that raises an error. Once it has passed the hook fires at every instruction,
-- so a script that catches the error with pcall only unwinds one level further. LuaJIT runs no hooks in compiled code:
-- the compiler is off, and its traces flushed, while a deadline holds.
local host = ...
local native, is_foreign = host.native, host.arguments.is_foreign

local pcall, error, type, tostring, select, getmetatable, next = pcall, error, type, tostring, select, getmetatable, next
local raw_xpcall = xpcall
local sethook, getinfo = debug.sethook, debug.getinfo
local jit = jit

-- A check costs about a microsecond, this many instructions several times that.
local INSTRUCTIONS_PER_CHECK = 5000

local guard = {}

-- Why the script is being stopped: nil, "timeout", "exit" or "interrupt". `marker` is what the hook raises; as a table
-- it does not read like an error of the script's own.
local stopping
local marker = setmetatable({}, {
    __tostring = function()
        return "the script is being stopped (" .. tostring(stopping) .. ")"
    end,
})
local deadline
local watching = false
-- Whether LuaJIT compiled when the watch began.
local compiles = false

local watch

-- Why the script is to stop, as far as that is known only outside: nil, "interrupt" or "timeout".
local function asked_to_stop()
    -- In a prompt it is here that Python answers a Ctrl-C: by raising.
    local ok, interrupted = pcall(native.interrupted)
    if interrupted or not ok then
        return "interrupt"
    elseif deadline and native.now() >= deadline then
        return "timeout"
    end
end

local function hook()
    if not stopping then
        stopping = asked_to_stop()
        if not stopping then
            return
        end
        watch(1)
    end
    -- Code of ours goes on while the script is being stopped, so that what it began, a lock, a transaction, gets undone.
    if not is_foreign(getinfo(2, "S").source) then
        error(marker, 0)
    end
end

function watch(count)
    if jit and not watching then
        compiles = jit.status()
        jit.flush()
        jit.off()
    end
    watching = true
    sethook(hook, "", count)
end

local function unwatch()
    sethook()
    if watching and compiles then
        jit.on()
    end
    watching = false
end

-- Ends the script from where it stands: raises, and goes on raising if the script catches it.
function guard.stop(reason)
    stopping = stopping or reason
    watch(1)
    error(marker, 0)
end

-- The text of an error value: what a person should read, whatever the script raised.
local function describe(value)
    local kind = type(value)
    if kind == "string" and not value:find("%S") then
        return "an error without a text was raised"
    elseif kind == "string" or kind == "number" then
        return tostring(value)
    end
    local metatable = getmetatable(value)
    if type(metatable) == "table" and metatable.__tostring then
        local ok, text = pcall(tostring, value)
        if ok and type(text) == "string" then
            return text
        end
    end
    if kind == "table" then
        local ok, text = pcall(host.codecs.to_json, value)
        if not ok then
            ok, text = pcall(host.shown.text, value, math.huge)
        end
        if ok then
            return text
        end
    end
    return "an error that is not text was raised: a " .. kind
end

guard.describe = describe

-- Where tables were raised, which do not say it themselves: what catches them on the way raises them elsewhere again.
local places = setmetatable({}, { __mode = "k" })
local raw_error = error

-- And the last error that says no place: a number, which Lua gives none from 5.3 on, and one that is to have none.
local number, number_place, bare

function _G.error(problem, level)
    if type(problem) == "table" and not places[problem] then
        places[problem] = host.arguments.where()
    elseif level == 0 then
        bare = problem
    elseif type(problem) == "number" then
        number, number_place = problem, host.arguments.where()
    end
    raw_error(problem, level == 0 and 0 or (level or 1) + 1)
end

-- The function of the script that the host has called.
local called

-- The place of the call that a function ends with, as far as one can tell: `return f()` leaves the function before it
-- calls, so that no line of it is known any more.
local function place_of_tail_call()
    local info = called and getinfo(called, "SL")
    if not info or info.what == "C" or info.source:sub(1, 12) == "=slothstate:" then
        return "?"
    end
    local line = info.linedefined
    for each in next, info.activelines or {} do
        if each > line and (each < info.lastlinedefined or info.what == "main") then
            line = each
        end
    end
    return ("%s:%d"):format(info.source:gsub("^[@=]", ""), line)
end

-- What an error becomes where it is raised: text, with the place for what brings none, and the calls that led there if
-- they are asked for.
local function explain(problem)
    if stopping then
        return problem
    end
    local text = describe(problem)
    local place = host.arguments.where()
    if type(problem) == "number" then
        place = problem == number and number_place or "?"
        number = nil
    elseif type(problem) == "string" and problem ~= "" then
        local has_place = place ~= "?" or problem == bare or problem:find("^[^\n]-:%d+: ")
        place = has_place and "?" or place_of_tail_call()
    else
        place = places[problem] or (place == "?" and place_of_tail_call() or place)
    end
    if place ~= "?" then
        text = place .. ": " .. text
    end
    return native.traced and host.trace.explained(problem, text) or text
end

local function finish(outer_deadline, outer_watching, outer_called, ok, ...)
    unwatch()
    called = outer_called
    local reason = stopping
    if not reason then
        reason = asked_to_stop()
        if ok and reason == "interrupt" then
            -- It came to its end all the same; what would come next does not begin.
            reason = nil
        end
    end
    stopping, deadline = nil, outer_deadline
    if outer_watching then
        watch(INSTRUCTIONS_PER_CHECK)
    end
    if reason then
        return reason
    elseif ok then
        return "ok", select("#", ...), ...
    end
    return "error", describe((...))
end

-- Whether calls without a limit can be interrupted, too, at the price of an interpreter instead of a compiler.
guard.always = false

-- Calls `fn(...)`, until `limit` on the clock of native.now() at the latest (nil: unbounded).
-- Returns "ok", the number of results and the results; "error" and its text; or "timeout", "exit", "interrupt".
-- A call that came back by itself, but too late, has timed out as well. A call may be made within another.
function guard.call(limit, fn, ...)
    local outer_deadline, outer_watching, outer_called = deadline, watching, called
    deadline, called = limit, fn
    if limit or guard.always then
        watch(INSTRUCTIONS_PER_CHECK)
    end
    return finish(outer_deadline, outer_watching, outer_called, raw_xpcall(fn, explain, ...))
end

-- The seconds left until the deadline, nil without one.
function guard.remaining()
    return deadline and deadline - native.now()
end

-- To be called by what caught an error of the script's: goes on ending the script if that is under way, or ends it if
-- the error came of a wait that was called off, for the same reason.
function guard.go_on()
    local reason = stopping or asked_to_stop()
    if reason then
        guard.stop(reason)
    end
end

local function caught(ok, ...)
    if not ok then
        guard.go_on()
    end
    return ok, ...
end

-- The script's own ways to catch an error do not hold back what ends it.
local script_pcall = _G.pcall

function _G.pcall(...)
    return caught(script_pcall(...))
end

-- Waits, no longer than to the deadline or an interrupt; those end the script. A dry run does not wait.
function guard.pause(seconds)
    local left = guard.remaining()
    if native.pause(left and left < seconds and left or seconds) then
        guard.stop("interrupt")
    elseif left and left <= seconds then
        guard.stop("timeout")
    end
end

-- Hooks are off while the handler of an error that a hook raised runs: skip the script's handler then.
function xpcall(fn, handler, ...)
    if type(handler) ~= "function" then
        return caught(raw_xpcall(fn, handler, ...))
    end
    return caught(raw_xpcall(fn, function(problem)
        if stopping or asked_to_stop() then
            return problem
        end
        return handler(problem)
    end, ...))
end

local create, resume, status = coroutine.create, coroutine.resume, coroutine.status

-- In LuaJIT one hook serves all coroutines; from Lua 5.2 on each has its own and starts with none.
if jit then
    function coroutine.resume(...)
        return caught(resume(...))
    end
else
    local function resumed(ok, ...)
        if stopping or not ok then
            guard.go_on()
        end
        return ok, ...
    end

    local function bounded_resume(thread, ...)
        if not watching or type(thread) ~= "thread" then
            return resumed(resume(thread, ...))
        end
        sethook(thread, hook, "", stopping and 1 or INSTRUCTIONS_PER_CHECK)
        return resumed(resume(thread, ...))
    end

    coroutine.resume = bounded_resume

    function coroutine.wrap(fn)
        local thread = create(fn)
        local function passed(ok, ...)
            if ok then
                return ...
            end
            local problem = ...
            if status(thread) == "dead" and coroutine.close then
                coroutine.close(thread)
            end
            error(problem, type(problem) == "string" and 2 or 0)
        end
        return function(...)
            return passed(bounded_resume(thread, ...))
        end
    end
end

return guard
