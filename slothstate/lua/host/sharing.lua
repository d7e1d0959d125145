-- What a task closes over, for tasks that run side by side: each in a process of its own, so that what one changes no
-- other sees. Finds out what changed.
local getupvalue, getinfo = debug.getupvalue, debug.getinfo
local type, tostring, next, pairs, rawget = type, tostring, next, pairs, rawget
local concat, sort = table.concat, table.sort

local base = {}
for name in next, _G do
    base[name] = true
end

local picture

local function pictured_table(value, seen)
    local parts = {}
    for key, inner in next, value do
        parts[#parts + 1] = picture(key, seen) .. "=" .. picture(inner, seen)
    end
    sort(parts)
    return "{" .. concat(parts, ",") .. "}"
end

-- A text that is another one when anything changed that can be seen from here.
function picture(value, seen)
    local kind = type(value)
    if kind == "table" and not seen[value] then
        seen[value] = true
        return pictured_table(value, seen)
    end
    return kind .. ":" .. tostring(value)
end

-- Adds the variables that a function closes over, and those of the functions among them, to `found`: name -> picture.
local function collect(fn, found, visited)
    if visited[fn] or getinfo(fn, "S").source:sub(1, 12) == "=slothstate:" then
        return
    end
    visited[fn] = true
    local index = 1
    while true do
        local name, value = getupvalue(fn, index)
        if not name then
            return
        end
        if name ~= "_ENV" and name ~= "" then
            if type(value) == "function" then
                collect(value, found, visited)
            end
            found[name .. "\0" .. tostring(fn) .. index] = picture(value, {})
        end
        index = index + 1
    end
end

local function variables(fn)
    local found, visited = {}, {}
    collect(fn, found, visited)
    for name, value in next, _G do
        if not base[name] then
            if type(value) == "function" then
                collect(value, found, visited)
            end
            found[tostring(name)] = picture(value, {})
        end
    end
    return found
end

local sharing = {}

-- Returns a function that returns the name of a variable that changed since, or nil.
function sharing.watch(fn)
    local before = variables(fn)
    return function()
        local after = variables(fn)
        local changed = {}
        for id, text in pairs(after) do
            if rawget(before, id) ~= text then
                changed[#changed + 1] = id:match("^[^%z]*")
            end
        end
        sort(changed)
        return changed[1]
    end
end

return sharing
