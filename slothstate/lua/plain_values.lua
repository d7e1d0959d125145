-- Values across the border of the plain binding, as text. Each is a letter and what belongs to it:
--   z nil   0 null   t true   f false   a a default that stays in Lua   i12; an integer   n1.5; another number
--   s3:abc the bytes of a string   [...] a list   {...} a table, as key, value, key, value ...
-- Numbers travel as digits, because lupa's own conversion loses the sign of zero and all but 32 bits of some integers.
--
-- Everything is raw access and locals of this file: no metamethod runs, and no library that a script replaced.
local huge, kind_of, floor = math.huge, math.type, math.floor
local find, sub, byte, format, gsub = string.find, string.sub, string.byte, string.format, string.gsub
local next, type, rawget, rawequal, tonumber, concat = next, type, rawget, rawequal, tonumber, table.concat

local EXACT_MAX = 2 ^ 53
local KEY_SHOWN = 48
local PATH_SHOWN = 316

-- One null for all bindings of a runtime, and one table of notes: which tables are lists although they may be empty.
-- A userdata without contents, in a Lua without `newproxy` the identity of a variable: both are equal to nothing else.
local registry = debug.getregistry()
local shared = registry["slothstate"]
if not shared then
    local variable = {}
    local function owner()
        return variable
    end
    local null = newproxy and newproxy() or debug.upvalueid(owner, 1)
    shared = { null = null, owner = owner, lists = setmetatable({}, { __mode = "k" }) }
    registry["slothstate"] = shared
end
local null, lists = shared.null, shared.lists

local values = { null = null }

-- The end of the character of UTF-8 that begins at `at`; nil if none does.
local function character_end(text, at)
    local lead, second = byte(text, at, at + 1)
    if lead < 194 or lead > 244 or not second then
        return nil
    end
    local low = lead == 224 and 160 or lead == 240 and 144 or 128
    local high = lead == 237 and 159 or lead == 244 and 143 or 191
    if second < low or second > high then
        return nil
    end
    local last = at + (lead < 224 and 1 or lead < 240 and 2 or 3)
    for index = at + 2, last do
        local follows = byte(text, index)
        if not follows or follows < 128 or follows > 191 then
            return nil
        end
    end
    return last
end

function values.is_utf8(text)
    local at = find(text, "[\128-\255]")
    while at do
        local last = character_end(text, at)
        if not last then
            return false
        end
        at = find(text, "[\128-\255]", last + 1)
    end
    return true
end
local is_utf8 = values.is_utf8

-- Without an integer type every whole number within 2^53 is an integer, but not -0.0, whose sign it would lose.
local function is_integer(number)
    if kind_of then
        return kind_of(number) == "integer"
    end
    return number >= -EXACT_MAX and number <= EXACT_MAX and floor(number) == number and not (number == 0 and 1 / number < 0)
end

function values.number(number)
    if is_integer(number) then
        return format(kind_of and "i%d;" or "i%.0f;", number)
    elseif number ~= number then
        return "nnan;"
    elseif number == huge or number == -huge then
        return number > 0 and "ninf;" or "n-inf;"
    end
    -- The decimal point is the locale's.
    return "n" .. gsub(format("%.17g", number), "[^%d%-+e]+", ".") .. ";"
end

function values.text(text)
    return "s" .. #text .. ":" .. text
end

-- A key of a table as a path in a message shows it.
local function shown_key(key)
    if type(key) == "number" then
        return format("[%.0f]", key)
    elseif #key <= KEY_SHOWN and find(key, "^[A-Za-z_][A-Za-z0-9_]*$") then
        return "." .. key
    end
    local last = #key < KEY_SHOWN and #key or KEY_SHOWN
    while last < #key and last > 0 and floor(byte(key, last + 1) / 64) == 2 do
        last = last - 1 -- not in the middle of a character
    end
    local kept = sub(key, 1, last)
    kept = gsub(kept, is_utf8(kept) and "[%z\1-\31\127]" or "[%z\1-\31\127-\255]", "?")
    return '["' .. kept .. (last < #key and ".." or "") .. '"]'
end

-- "value.servers[1].name", cut to what can be read; the first `depth` of the keys.
function values.path(root, root_key, keys, depth)
    local path = root
    for index = root_key and 0 or 1, depth do
        local key = shown_key(index == 0 and root_key or keys[index])
        if #path + #key > PATH_SHOWN then
            return path .. "..."
        end
        path = path .. key
    end
    return path
end

local function refuse(work, depth, what)
    work.blame(values.path(work.root, work.root_key, work.keys, depth) .. ": " .. what)
end

local function refuse_key(work, depth, key)
    local kind = type(key)
    if kind == "number" or kind == "string" then
        refuse(work, depth, "a table must have only string keys, or be a list with the keys 1 to n")
    end
    refuse(work, depth, "a " .. kind .. " cannot be a key; expected strings, or the numbers 1 to n")
end

local function put(work, text)
    work.count = work.count + 1
    work.parts[work.count] = text
end

local put_table

local function put_value(work, depth, key, value)
    work.keys[depth] = key
    local kind = type(value)
    if kind == "table" then
        put_table(work, depth, value)
    elseif kind == "string" then
        if not is_utf8(value) then
            refuse(work, depth, "a string inside a table must be valid UTF-8")
        end
        put(work, values.text(value))
    elseif kind == "number" then
        if value ~= value or value == huge or value == -huge then
            refuse(work, depth, "nan and inf cannot be stored; expected a finite number")
        end
        put(work, values.number(value))
    elseif kind == "boolean" then
        put(work, value and "t" or "f")
    elseif rawequal(value, null) then
        put(work, "0")
    else
        refuse(work, depth, "a " .. kind .. " cannot be stored")
    end
end

-- The rest of a list that `next` does not give in order: from `position` on, where it came to `key`.
local function put_by_index(work, depth, list, position, key)
    local count, largest = 0, 0
    while key ~= nil do
        if type(key) ~= "number" or key < position or floor(key) ~= key then
            refuse_key(work, depth, key)
        end
        count = count + 1
        largest = key > largest and key or largest
        key = next(list, key)
    end
    local last = position - 1 + count
    for index = position, last do
        local item = rawget(list, index)
        if largest ~= last and item == nil then
            work.keys[depth + 1] = index
            refuse(work, depth + 1, "a list must have no holes")
        elseif largest == last then
            put_value(work, depth + 1, index, item)
        end
    end
end

local function put_list(work, depth, list, key, item)
    local position = 1
    while key ~= nil do
        if key ~= position then
            put_by_index(work, depth, list, position, key)
            break
        end
        put_value(work, depth + 1, position, item)
        position = position + 1
        key, item = next(list, key)
    end
    lists[list] = true
end

local function put_fields(work, depth, fields, key, value)
    while key ~= nil do
        if type(key) ~= "string" then
            refuse_key(work, depth, key)
        elseif not is_utf8(key) then
            refuse(work, depth, "a key must be valid UTF-8")
        end
        put(work, values.text(key))
        put_value(work, depth + 1, key, value)
        key, value = next(fields, key)
    end
end

-- `depth`: how many tables it is in.
function put_table(work, depth, value)
    if work.open[value] then
        refuse(work, depth, "the table contains itself")
    elseif depth == work.deepest then
        refuse(work, depth, format("tables nest deeper than %d levels", depth))
    end
    local key, first = next(value)
    if key == nil then
        put(work, lists[value] and "[]" or "{}")
        return
    elseif type(key) ~= "number" and type(key) ~= "string" then
        refuse_key(work, depth, key)
    end
    local is_list = type(key) == "number"
    work.open[value] = true
    put(work, is_list and "[" or "{")
    local put_contents = is_list and put_list or put_fields
    put_contents(work, depth, value, key, first)
    put(work, is_list and "]" or "}")
    work.open[value] = nil
end

-- The text of a table that nests at most `deepest` levels. What cannot be stored goes to `blame`, which raises, as
-- "path: what"; the path begins with `root`, and `root_key` unless that is nil.
function values.table(value, root, root_key, deepest, blame)
    local work = { root = root, root_key = root_key, deepest = deepest, blame = blame }
    work.parts, work.count, work.keys, work.open = {}, 0, {}, {}
    put_table(work, 0, value)
    return concat(work.parts)
end

local function read_number(text)
    local number = tonumber(text)
    if not number then
        local point = gsub(format("%.1f", 0.5), "%d", "")
        number = tonumber((gsub(text, "%.", point)))
    end
    return number
end

-- Returns the value at `at` of a text, and where the next one begins; `absent` for a default that stays in Lua.
local function read(text, at, absent)
    local letter = sub(text, at, at)
    if letter == "s" then
        local _, colon, length = find(text, "^(%d+):", at + 1)
        local last = colon + tonumber(length)
        return sub(text, colon + 1, last), last + 1
    elseif letter == "i" or letter == "n" then
        local stop = find(text, ";", at, true)
        return read_number(sub(text, at + 1, stop - 1)), stop + 1
    elseif letter == "[" then
        local list, count = {}, 0
        at = at + 1
        while sub(text, at, at) ~= "]" do
            count = count + 1
            list[count], at = read(text, at)
        end
        lists[list] = true
        return list, at + 1
    elseif letter == "{" then
        local fields, key = {}, nil
        at = at + 1
        while sub(text, at, at) ~= "}" do
            key, at = read(text, at)
            fields[key], at = read(text, at)
        end
        return fields, at + 1
    elseif letter == "t" or letter == "f" then
        return letter == "t", at + 1
    elseif letter == "0" then
        return null, at + 1
    elseif letter == "a" then
        return absent, at + 1
    end
    return nil, at + 1
end
values.read = read

return values
