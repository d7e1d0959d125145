-- Argument checks: an error names the argument, what was expected and what came, at the script's own line.
local native = (...).native
local error, type, select, next, tostring, setmetatable = error, type, select, next, tostring, setmetatable
local getinfo = debug.getinfo

local arguments = {}

-- Whether a function of this source is not the script's, but the host's or C's.
function arguments.is_foreign(source)
    return source == "=[C]" or source:sub(1, 12) == "=slothstate:"
end

-- The stack level, for the caller's caller, of the innermost function that is neither the host's nor C's.
local function script_level()
    local level = 3
    while true do
        local frame = getinfo(level, "S")
        if not frame then
            return 0
        elseif not arguments.is_foreign(frame.source) then
            return level - 1
        end
        level = level + 1
    end
end

-- Raises `message` with the position in the script.
function arguments.fail(message)
    error(message, script_level())
end

function arguments.bad(position, name, problem)
    error(("bad argument #%d to '%s' (%s)"):format(position, name, problem), script_level())
end

-- The place of the innermost call out of the script, "file:line", and its line; "?" and 0 if there is none.
function arguments.where()
    local level = script_level()
    local frame = level > 0 and getinfo(level, "Sl")
    if not frame then
        return "?", 0
    end
    return ("%s:%d"):format(frame.source:gsub("^[@=]", ""), frame.currentline), frame.currentline
end

-- The sorted keys of a table.
function arguments.names(fields)
    local names = {}
    for name in next, fields do
        names[#names + 1] = tostring(name)
    end
    table.sort(names)
    return names
end

-- Raises that `name` is none of the fields of `fields`: `problem` says of what, and which was meant is looked up.
function arguments.unknown(problem, name, fields)
    local listing = table.concat(arguments.names(fields), ", ")
    local meant = native.nearest(tostring(name), listing)
    local hint = meant and (" (did you mean '%s'?)"):format(meant) or ""
    error(("%s '%s'%s; it has: %s"):format(problem, tostring(name), hint, listing), script_level())
end

-- Makes it an error to read a name that a table of the host does not have; it says which one is meant.
function arguments.closed(kind, fields, call)
    return setmetatable(fields, {
        __metatable = kind,
        __call = call,
        __index = function(_, name)
            arguments.unknown(("'%s' has no"):format(kind), name, fields)
        end,
    })
end

-- Returns the first of `...`, which must be of the `expected` type.
function arguments.expect(position, name, expected, ...)
    local value = ...
    if type(value) ~= expected then
        local found = select("#", ...) == 0 and "no value" or type(value)
        arguments.bad(position, name, expected .. " expected, got " .. found)
    end
    return value
end

-- Returns the length of a table, which must be a sequence; `expected` says of what.
function arguments.sequence(position, name, value, expected)
    local count, largest = 0, 0
    for key in next, value do
        if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then
            local problem = "%s expected, got a table with the key '%s'"
            arguments.bad(position, name, problem:format(expected or "a list", tostring(key)))
        end
        count = count + 1
        largest = key > largest and key or largest
    end
    if count ~= largest then
        local problem = "a list expected, got one with holes: %d of its %d items are nil"
        arguments.bad(position, name, problem:format(largest - count, largest))
    end
    return count
end

return arguments
