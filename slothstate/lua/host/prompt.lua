-- The prompt of `slothstate shell`: a text compiled and run, its results as text for people, and names to complete.
local host = ...
local guard = host.guard
local load, type, tostring, tonumber, next, select, rawget, ipairs = load, type, tostring, tonumber, next, select, rawget, ipairs
local concat, sort = table.concat, table.sort
local null = state.null
local prompt = { version = jit and jit.version or _VERSION }

local LINE = 76
local ITEMS_MAX = 200

local KEYWORDS = {}
for word in
    ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until while]]):gmatch("%a+")
do
    KEYWORDS[word] = true
end

-- The function that a text is: an expression, with or without = before it as in Lua's own prompt, or else statements.
-- Otherwise nil, the syntax error, and whether more lines could make it whole.
function prompt.compile(source, name)
    source = source:gsub("^(%s*)=", "%1", 1)
    local fn, unlike = load("return " .. source, name, "t")
    if fn then
        -- The same, but not as a tail call: an error in what it calls would lose its position.
        return load("return (function(...) return ... end)(" .. source .. "\n)", name, "t") or fn
    end
    local problem
    fn, problem = load(source, name, "t")
    if fn then
        return fn
    end
    return nil, problem, (problem:find("<eof>'?$") or unlike:find("<eof>'?$")) ~= nil
end

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
    if #line + #indent <= LINE and not line:find("\n", 1, true) then
        return line
    end
    return "{\n" .. indent .. "  " .. concat(texts, ",\n" .. indent .. "  ") .. "\n" .. indent .. "}"
end

local function shown(kind, count, ...)
    if kind ~= "ok" then
        return kind, count
    end
    local texts, separator = {}, ", "
    for index = 1, count do
        texts[index] = show((select(index, ...)), "", {})
        separator = texts[index]:find("\n", 1, true) and "\n" or separator
    end
    return "ok", concat(texts, separator), count
end

-- Runs a compiled text. Returns "ok", its results as text and their number; "error" and its text; "exit" or "interrupt".
function prompt.run(fn)
    return shown(guard.call(nil, fn))
end

-- The names of the fields of a table, given by names with dots between them, "" for the globals.
function prompt.names(path)
    local found = _G
    for name in path:gmatch("[^.]+") do
        found = type(found) == "table" and rawget(found, name) or nil
    end
    local names = {}
    if type(found) == "table" then
        for name in next, found do
            names[#names + 1] = type(name) == "string" and name or nil
        end
    end
    if path == "" then
        for word in next, KEYWORDS do
            names[#names + 1] = word
        end
    end
    sort(names)
    return names
end

guard.always = true

return prompt
