-- data.to_json and data.parse_json, with the codec that stores tables: what one writes, the other reads back alike.
local host = ...
local encode, decode, null = host.json.to_json, host.json.parse_json, state.null
local expect, bad = host.arguments.expect, host.arguments.bad
local pcall, select = pcall, select

data = {}

-- What would be an error at the script's line is a result here: it goes without its position and argument.
local function failure(problem)
    problem = problem:gsub("^slothstate:data:%d+: ", "")
    return nil, problem:match("^bad argument #1 to '.-' %((.*)%)$") or problem
end

-- The JSON text of a value, of nil as of state.null; nil and a message that names the path to what JSON cannot hold.
function data.to_json(...)
    if select("#", ...) == 0 then
        bad(1, "to_json", "value expected")
    end
    local value = ...
    if value == nil or value == null then
        return "null"
    end
    local ok, text = pcall(encode, value)
    if not ok then
        return failure(text)
    end
    return text
end

-- The value of a JSON text, null as state.null; nil and a message naming the byte where it stopped making sense, or
-- the number that this Lua cannot hold.
function data.parse_json(...)
    local ok, value, problem = pcall(decode, (expect(1, "parse_json", "string", ...)))
    if not ok then
        return failure(value)
    elseif problem then
        return nil, problem
    elseif value == nil then
        return null
    end
    return value
end
