-- data.to_json, parse_json, to_yaml and parse_yaml, with the codec that stores tables: what one writes, the other reads
-- back alike.
local host = ...
local arguments, null = host.arguments, state.null
local expect, bad = arguments.expect, arguments.bad
local pcall, select = pcall, select

-- What would be an error at the script's line is a result here: it goes without its position and argument.
local function failure(problem)
    local _, line = arguments.where()
    problem = line > 0 and problem:match("^.-:" .. line .. ": (.*)$") or problem
    return nil, problem:match("^bad argument #1 to '.-' %((.*)%)$") or problem
end

local function encoder(encode, none)
    return function(value)
        if value == nil or value == null then
            return none
        end
        local ok, text, problem = pcall(encode, value)
        if not ok then
            return failure(text)
        end
        if problem then
            return nil, problem
        end
        return text
    end
end

local function decoder(decode)
    return function(text)
        local ok, value, problem = pcall(decode, text)
        if not ok then
            return failure(value)
        elseif problem then
            return nil, problem
        elseif value == nil then
            return null
        end
        return value
    end
end

local fields = {}
local codecs = {}
for format, none in pairs({ json = "null", yaml = "null\n" }) do
    local encode = encoder(host.codecs["to_" .. format], none)
    local decode = decoder(host.codecs["parse_" .. format])
    codecs[format] = { encode = encode, decode = decode }

    -- The text of a value, of nil as of state.null; nil and a message that names the path to what it cannot hold.
    fields["to_" .. format] = function(...)
        if select("#", ...) == 0 then
            bad(1, "to_" .. format, "value expected")
        end
        return encode((...))
    end

    -- The value of a text, null as state.null; nil and a message naming the place where it stopped making sense, or
    -- the number that this Lua cannot hold.
    fields["parse_" .. format] = function(...)
        return decode((expect(1, "parse_" .. format, "string", ...)))
    end
end
data = arguments.closed("data", fields)

return codecs.json
