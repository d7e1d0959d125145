-- Argument checks: an error names the argument, what was expected and what came, at the script's own line.
local error, type, select, next, tostring = error, type, select, next, tostring
local getinfo = debug.getinfo

local arguments = {}

-- The stack level, for the caller's caller, of the innermost function that is neither the host's nor C's.
local function script_level()
    local level = 3
    while true do
        local frame = getinfo(level, "S")
        if not frame then
            return 0
        elseif frame.source ~= "=[C]" and frame.source:sub(1, 12) ~= "=slothstate:" then
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

-- Returns the first of `...`, which must be of the `expected` type.
function arguments.expect(position, name, expected, ...)
    local value = ...
    if type(value) ~= expected then
        local found = select("#", ...) == 0 and "no value" or type(value)
        arguments.bad(position, name, expected .. " expected, got " .. found)
    end
    return value
end

-- The length of a table that is a sequence; nil and the problem otherwise.
function arguments.sequence(value)
    local count, largest = 0, 0
    for key in next, value do
        if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then
            return nil, ("a list expected, got a table with the key '%s'"):format(tostring(key))
        end
        count = count + 1
        largest = key > largest and key or largest
    end
    if count ~= largest then
        return nil, ("a list expected, got one with holes: %d of its %d items are nil"):format(largest - count, largest)
    end
    return count
end

return arguments
