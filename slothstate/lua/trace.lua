-- The calls that led to an error, across what catches errors on the way and raises them again: coroutines, pcall, and
-- the verbs that call a function. Loaded always, but only with native.traced does it put itself in their way.
local host = ...
local native = host.native
local traceback, create, raw_xpcall, error, type, rawequal = debug.traceback, coroutine.create, xpcall, error, type, rawequal
local concat, select, unpack = table.concat, select, table.unpack or unpack

local trace = {}

-- The error that was caught last and the calls that led to it.
local caught, calls

local function lines(text)
    local kept = {}
    for line in text:gmatch("[^\n]+") do
        local is_ours = line:find("slothstate:", 1, true) or line:find("^\t%[C%]: in %?") or line:find("xpcall'", 1, true)
        if line:sub(1, 1) == "\t" and not is_ours then
            kept[#kept + 1] = "\n" .. line
        end
    end
    return concat(kept)
end

-- Takes note of an error on its way: `text` is the traceback of where it was caught. An error that is on its way
-- already comes by again unchanged, or with a position before it.
local function note(problem, text)
    local known = rawequal(problem, caught)
        or type(problem) == "string" and type(caught) == "string" and caught ~= "" and problem:sub(-#caught) == caught
    calls = (known and calls or "") .. lines(text)
    caught = problem
    return problem
end

-- The calls that led to an error that is raised here.
function trace.chain(problem)
    note(problem, traceback("", 2))
    local text = "\ncalls, innermost first:" .. calls
    caught, calls = nil, nil
    return text
end

if not native.traced then
    return trace
end

local function handler(problem)
    return note(problem, traceback("", 2))
end

function pcall(fn, ...)
    return raw_xpcall(fn, handler, ...)
end

local function passed(ok, ...)
    if ok then
        return ...
    end
    error((...), 0)
end

local resume = coroutine.resume

local function resumed(thread, ok, ...)
    if not ok then
        note((...), traceback(thread, ""))
    end
    return ok, ...
end

function coroutine.resume(thread, ...)
    return resumed(thread, resume(thread, ...))
end

function coroutine.wrap(fn)
    local thread = create(fn)
    return function(...)
        return passed(coroutine.resume(thread, ...))
    end
end

for _, name in ipairs({ "transaction", "with_lock" }) do
    local verb = state[name]
    state[name] = function(...)
        local given, count = { ... }, select("#", ...)
        for index = 1, count do
            local fn = given[index]
            if type(fn) == "function" then
                given[index] = function(...)
                    return passed(raw_xpcall(fn, handler, ...))
                end
            end
        end
        return verb(unpack(given, 1, count))
    end
end

return trace
