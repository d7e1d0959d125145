-- The table `state` where lupa's Lua cannot load the C layer (csrc/lua/lua.h, whose manual holds here too): checks the
-- arguments, and calls Python through lupa, text in, text out (plain_values.lua).
--
-- A Python function answers with "=" and results, "!" and the message of an error, or a function of Python: a userdata,
-- which never leaves this file. It raises only interruptions.
local values, border = ...
local call, keep, redeliver, shield, unshield = border.call, border.keep, border.redeliver, border.shield, border.unshield
local escapes = border.escapes
border = nil
local error, pcall, type, select, next, rawequal = error, pcall, type, select, next, rawequal
local setmetatable = setmetatable
local find, sub, byte, format, gsub, gmatch = string.find, string.sub, string.byte, string.format, string.gsub, string.gmatch
local concat, huge, unpack = table.concat, math.huge, table.unpack or unpack
local getinfo, running = debug.getinfo, coroutine.running
local null, is_utf8, read, absent = values.null, values.is_utf8, values.read, {}

-- How the names of our own chunks begin, those of slothstate/lua/host too.
local OURS = "=slothstate:"

local function is_ours(frame)
    return sub(frame.source, 1, #OURS) == OURS
end

-- Whether a generic `for` closes its fourth value when it is left.
local closes = tonumber(string.match(_VERSION, "%d+%.%d+")) >= 5.4
local DEPTH = 500
-- Transactions and locks in each other: each takes several of the 200 calls that Lua lets C and Lua make in each other.
local SCOPE_DEPTH = 40

-- Raises `message` with the position of the innermost code that is neither ours nor C.
local function fail(message)
    for level = 2, huge do
        local frame = getinfo(level, "Sl")
        if not frame then
            error(message, 0)
        elseif not is_ours(frame) and frame.currentline > 0 then
            error(format("%s:%d: %s", frame.short_src, frame.currentline, message), 0)
        end
    end
end

local function bad(verb, position, problem)
    fail(format("bad argument #%d to '%s' (%s)", position, verb.name, problem))
end

-- Whether the script could catch an error that is raised here: whether a C function that it called, like pcall, or a
-- coroutine lies between here and the caller of the runtime.
local function is_catchable()
    local thread, is_main = running()
    if thread and not is_main then
        return true
    end
    local through_c = false
    for level = 2, huge do
        local frame = getinfo(level, "S")
        if not frame then
            return through_c
        elseif frame.what == "C" then
            through_c = true
        elseif through_c and not is_ours(frame) then
            return true
        else
            through_c = false
        end
    end
end

-- Carries on what a call of Python raised instead of answering. An interruption (KeyboardInterrupt, SystemExit) goes to
-- the caller of the runtime as the exception that it is if no script can see it on the way; else as the string
-- "interrupted", and again in Python as soon as the script ends or calls a verb.
local function raise(problem)
    if type(problem) == "string" and find(problem, "deleted python object", 1, true) then
        fail("this function no longer belongs to a state")
    elseif type(problem) ~= "userdata" or not is_catchable() then
        error(problem, 0)
    end
    pcall(keep, problem)
    pcall(redeliver)
    fail("interrupted")
end

local function ask(fn, ...)
    local ok, answer = pcall(fn, ...)
    if not ok then
        raise(answer)
    elseif type(answer) == "string" and byte(answer) == 33 then
        fail(sub(answer, 2))
    end
    return answer
end

local finish

local function iterator(fn)
    local function following()
        return finish(ask(fn))
    end
    if not closes then
        return following
    end
    local function close()
        pcall(fn, true)
    end
    return following, nil, nil, setmetatable({}, { __close = close, __metatable = false })
end

local function results(text, at, default)
    if at > #text then
        return
    end
    local value, following = read(text, at, absent)
    if value == absent then
        value = default
    end
    if following > #text then
        return value
    end
    return value, results(text, following, default)
end

-- The results of an answer, of which `default` is the one that stayed in Lua.
function finish(answer, default)
    if type(answer) == "userdata" then
        return iterator(answer)
    end
    return results(answer, 2, default)
end

local EXPECTED = { u = "string", s = "string", n = "number", k = "table", m = "table", f = "function", t = "table",
    p = "string or table", q = "string or table" }
local NAMES = { v = "value", d = "value", i = "item", o = "old", w = "new", k = "keys", p = "path", q = "key", t = "options" }

local function any(verb, position, value, root, key, deepest)
    local kind = type(value)
    if kind == "string" then
        return values.text(value)
    elseif kind == "number" then
        return values.number(value)
    elseif kind == "boolean" then
        return value and "t" or "f"
    elseif kind == "table" then
        return values.table(value, root, key, deepest, function(problem)
            bad(verb, position, problem)
        end)
    end
    local path = values.path(root, key, {}, 0)
    if rawequal(value, null) then
        bad(verb, position, path .. ": state.null can only be inside a table")
    end
    bad(verb, position, path .. ": a " .. kind .. " cannot be stored")
end

local function mapping(verb, position, given)
    local parts = {}
    for key, value in next, given do
        if type(key) ~= "string" then
            bad(verb, position, "values: every key must be a string")
        elseif not is_utf8(key) then
            bad(verb, position, "values: a key must be valid UTF-8")
        end
        parts[#parts + 1] = values.text(key)
        parts[#parts + 1] = any(verb, position, value, "values", key, DEPTH)
    end
    return concat(parts)
end

-- The text of one argument, as the letter of csrc/lua/arguments.c asks for it.
local function argument(verb, letter, position, count, value)
    local kind = position > count and "no value" or type(value)
    local wanted, may_be_nil = EXPECTED[letter], letter == "a" or letter == "o" or letter == "w"
    if wanted == "string or table" and (kind == "string" or kind == "table") then
        wanted, letter = kind, kind == "string" and "u" or letter
    end
    local expected = wanted or (value == nil and not may_be_nil or kind == "no value") and "value"
    if letter == "a" then
        return "a"
    elseif may_be_nil and value == nil and kind ~= "no value" then
        return "z"
    elseif expected and kind ~= expected then
        bad(verb, position, format("%s expected, got %s", expected, kind))
    elseif letter == "u" and not is_utf8(value) then
        bad(verb, position, "valid UTF-8 expected")
    end
    if letter == "u" or letter == "s" then
        return values.text(value)
    elseif letter == "n" then
        return values.number(value)
    elseif letter == "m" then
        return mapping(verb, position, value)
    elseif letter == "f" then
        return ""
    elseif (letter == "i" or letter == "d") and rawequal(value, null) then
        return "z"
    end
    local deepest = letter == "i" and DEPTH - 1 or DEPTH
    return any(verb, position, value, NAMES[letter], nil, deepest)
end

local function escaped(character)
    return format("%%%02x", byte(character))
end

-- The text of a call of a verb, and the argument that stays in Lua. Absent ones at the end are left out.
local function collected(verb, ...)
    local given, count = { ... }, select("#", ...)
    local parts, present, position, kept = { values.number(verb.index) }, 1, 0, nil
    local optional = false
    for letter in gmatch(verb.letters, ".") do
        if letter == "|" then
            optional = true
        elseif letter == "*" then
            while position < count do
                position = position + 1
                parts[#parts + 1] = argument(verb, "i", position, count, given[position])
            end
            present = #parts
        else
            position = position + 1
            local value = given[position]
            if optional and letter ~= "a" and value == nil then
                parts[#parts + 1] = "z"
            else
                parts[#parts + 1] = argument(verb, letter, position, count, value)
                present = #parts
            end
            if letter == "a" or letter == "f" then
                kept = value
            end
        end
    end
    if position < count then
        bad(verb, position + 1, format("no value expected, got %s", type(given[position + 1])))
    end
    local text = concat(parts, "", 1, present)
    if escapes then
        text = gsub(text, "[%%\128-\255]", escaped)
    end
    return text, kept
end

-- What is asked for by something that cannot be a name.
local function refused_name(verb, ...)
    local kind = verb.name == "__index" and type((select(2, ...)))
    if kind and kind ~= "string" and kind ~= "number" and kind ~= "boolean" and kind ~= "table" then
        fail("state has only verbs: expected the name of one, got " .. kind)
    end
end

local function plain_verb(verb)
    return function(...)
        refused_name(verb, ...)
        local text, default = collected(verb, ...)
        return finish(ask(call, text), default)
    end
end

local function packed(...)
    return { count = select("#", ...), ... }
end

local scopes = { depth = 0 }

-- A verb that runs a Lua function inside something that Python entered: a transaction, a lock. The answer is then a
-- function of Python: called without arguments it gives the token, and with whether the function failed it leaves.
local function scope_verb(verb)
    return function(...)
        -- What leaving needs, out of reach for a function that takes these upvalues away with the debug library.
        local scopes, pcall, error, fail, raise = scopes, pcall, error, fail, raise
        local shield, unshield, byte, sub, unpack = shield, unshield, byte, sub, unpack
        if scopes.depth >= SCOPE_DEPTH then
            fail("transactions and locks nest too deeply")
        end
        local text, fn = collected(verb, ...)
        local answer, entered, outcome
        local function body()
            answer = ask(call, text)
            entered = type(answer) == "userdata"
            if entered then
                outcome = packed(pcall(fn, results(ask(answer), 2)))
            end
        end
        scopes.depth = scopes.depth + 1
        -- Within gsub no coroutine can yield: the script would go on, and for ever, with the lock held.
        local ran, problem = pcall(gsub, "x", "x", body)
        scopes.depth = scopes.depth - 1
        if not entered then
            if not ran then
                error(problem, 0)
            end
            return finish(answer)
        end
        local failed = not ran or not outcome[1]
        pcall(shield)
        local left, said = pcall(answer, failed)
        pcall(unshield)
        if not left then
            raise(said)
        elseif not ran then
            error(problem, 0)
        elseif failed then
            error(outcome[2], 0) -- the first error is the one to report
        elseif byte(said) == 33 then
            fail(sub(said, 2))
        end
        return unpack(outcome, 2, outcome.count)
    end
end

-- `declared`: a line for each verb, its name, its letters and whether it is a scope.
return function(declared)
    local state, metatable, index = { null = null }, { __metatable = false }, 0
    for name, letters, is_scope in gmatch(declared, "(%S+) (%S*) (%d)\n") do
        local verb = { name = name, letters = letters, index = index }
        local owner = sub(name, 1, 2) == "__" and metatable or state
        owner[name] = is_scope == "1" and scope_verb(verb) or plain_verb(verb)
        index = index + 1
    end
    return setmetatable(state, metatable)
end
