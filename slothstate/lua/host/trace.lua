-- The calls that led to an error, across what catches errors on the way and raises them again: coroutines, pcall, and
-- the verbs that call a function. Loaded always, but only with native.traced does it put itself in their way.
local host = ...
local native = host.native
local traceback, raw_xpcall, error, type, rawequal = debug.traceback, xpcall, error, type, rawequal
local concat, select, unpack = table.concat, select, table.unpack or unpack

local trace = {}

-- The error that was caught last and the calls that led to it.
local caught, calls

local function lines(text, is_raised_again)
    local kept = {}
    for line in text:gmatch("\n\t([^\n]+)") do
        local is_ours = line:find("slothstate:", 1, true) or line:find("^%[C%]: in %?") or line:find("xpcall'", 1, true)
        local is_error = line:find("raw_error'", 1, true) or is_raised_again and line:find("^%[C%]: in .*error'$")
        if not is_ours and not is_error then
            kept[#kept + 1] = "\n    " .. line
        end
    end
    return concat(kept)
end

-- Takes note of an error on its way: `text` is the traceback of where it was caught. An error that is on its way
-- already comes by again unchanged, or with a position before it; it brings new calls where it left a coroutine.
local function note(problem, text)
    local known = rawequal(problem, caught)
        or type(problem) == "string" and type(caught) == "string" and caught ~= "" and problem:sub(-#caught) == caught
    local more = lines(text, known)
    if not known then
        calls = more
    elseif calls:sub(-#more) ~= more then
        calls = calls .. more
    end
    caught = problem
    return problem
end

-- The text of an error that is raised here, with the calls that led to it.
function trace.explained(problem, text)
    local noted = note(problem, traceback("", 2))
    text = (type(noted) == "string" and noted or text) .. "\ncalls, innermost first:" .. calls
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

-- The function, noting the errors that leave it. LuaJIT could not tell the line from outside of a dead coroutine.
local function noting(fn)
    if type(fn) ~= "function" then
        return fn
    end
    return function(...)
        return passed(raw_xpcall(fn, handler, ...))
    end
end

local create, wrap = coroutine.create, coroutine.wrap

function coroutine.create(fn)
    return create(noting(fn))
end

function coroutine.wrap(fn)
    return wrap(noting(fn))
end

-- The arguments of a verb that calls one of them.
local function all_noting(...)
    local given, count = { ... }, select("#", ...)
    for index = 1, count do
        given[index] = noting(given[index])
    end
    return unpack(given, 1, count)
end

-- Called as fields: their names are what a traceback shows.
local verbs = {
    transaction = state.transaction,
    snapshot = state.snapshot,
    with_lock = state.with_lock,
    list_claim = state.list_claim,
}

function state.transaction(...)
    return verbs.transaction(all_noting(...))
end

function state.snapshot(...)
    return verbs.snapshot(all_noting(...))
end

function state.with_lock(...)
    return verbs.with_lock(all_noting(...))
end

function state.list_claim(...)
    return verbs.list_claim(all_noting(...))
end

return trace
