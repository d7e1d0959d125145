-- Lua values as text for people: those of the prompt, and of errors that are no text.
local type, tostring, tonumber, next, rawget, ipairs = type, tostring, tonumber, next, rawget, ipairs
local concat, sort = table.concat, table.sort
local null = state.null

local ITEMS_MAX = 200

local KEYWORDS = {}
for word in
    ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until while]]):gmatch("%a+")
do
    KEYWORDS[word] = true
end

-- How long a line may be before what is in braces gets lines of its own.
local width

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function quoted(text)
    return '"' .. text:gsub('[%c"\\]', function(character)
        return ESCAPES[character] or ("\\x%02x"):format(character:byte())
    end) .. '"'
end

local function number(value)
    if math.type and math.type(value) == "integer" then
        return tostring(value)
    elseif value % 1 == 0 and value > -2 ^ 53 and value < 2 ^ 53 then
        return (math.type and "%.1f" or "%.0f"):format(value)
    end
    local text = tostring(value)
    return tonumber(text) == value and text or ("%.17g"):format(value)
end

local function before(left, right)
    local kind, other = type(left), type(right)
    if kind == other and (kind == "number" or kind == "string") then
        return left < right
    end
    return kind ~= other and kind < other or kind == other and tostring(left) < tostring(right)
end

local show

-- The items of a table as texts, each with its key unless it is the next of a sequence.
local function items(value, indent, above)
    local keys, length = {}, #value
    for key in next, value do
        if not (type(key) == "number" and key % 1 == 0 and key >= 1 and key <= length) then
            keys[#keys + 1] = key
        end
    end
    sort(keys, before)
    local texts, left = {}, length + #keys
    for index = 1, length do
        if #texts == ITEMS_MAX then
            break
        end
        texts[#texts + 1] = show(value[index], indent, above)
    end
    for _, key in ipairs(keys) do
        if #texts == ITEMS_MAX then
            break
        end
        local name = type(key) == "string" and key:find("^[%a_][%w_]*$") and not KEYWORDS[key] and key
        texts[#texts + 1] = (name or "[" .. show(key, "", above) .. "]") .. " = " .. show(rawget(value, key), indent, above)
    end
    if left > #texts then
        texts[#texts + 1] = ("... %d more"):format(left - #texts)
    end
    return texts
end

function show(value, indent, above)
    local kind = type(value)
    if kind == "string" then
        return quoted(value)
    elseif kind == "number" then
        return number(value)
    elseif value == null then
        return "state.null"
    elseif kind ~= "table" then
        return tostring(value)
    elseif above[value] then
        return "{...}"
    end
    above[value] = true
    local texts = items(value, indent .. "  ", above)
    above[value] = nil
    if #texts == 0 then
        return "{}"
    end
    local line = "{ " .. concat(texts, ", ") .. " }"
    if #line + #indent <= width and not line:find("\n", 1, true) then
        return line
    end
    return "{\n" .. indent .. "  " .. concat(texts, ",\n" .. indent .. "  ") .. "\n" .. indent .. "}"
end

local shown = { keywords = KEYWORDS }

-- The text of a value in lines of about `longest` characters.
function shown.text(value, longest)
    width = longest
    return show(value, "", {})
end

return shown
