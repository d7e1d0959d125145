-- data.to_json and data.parse_json, with the codec that stores tables: what one writes, the other reads back alike.
local host = ...
local encode, decode = host.codec.encode, host.codec.decode
local expect, bad = host.arguments.expect, host.arguments.bad
local select = select

data = {}

-- The JSON text of a value; nil and a message naming the path to what JSON cannot hold.
function data.to_json(...)
    if select("#", ...) == 0 then
        bad(1, "to_json", "value expected")
    end
    return encode((...))
end

-- The value of a JSON text, null as state.null; nil and a message naming the byte where it stopped making sense.
function data.parse_json(...)
    return decode(expect(1, "parse_json", "string", ...))
end
