-- What a task can change outside of itself, for tasks that run side by side: each in a process of its own, so that what
-- one changes no other sees. Finds out what changed.
local is_foreign = (...).arguments.is_foreign
local getupvalue, getinfo, metatable_of = debug.getupvalue, debug.getinfo, debug.getmetatable
local type, tostring, next, pairs, ipairs, rawequal, rawget = type, tostring, next, pairs, ipairs, rawequal, rawget
local concat, sort, format = table.concat, table.sort, string.format
local loaded = package.loaded

-- Calls `take(name, value)` for each variable that a function of the script closes over.
local function each_upvalue(fn, take)
    if is_foreign(getinfo(fn, "S").source) then
        return
    end
    local index = 1
    while true do
        local name, value = getupvalue(fn, index)
        if not name then
            return
        end
        if name ~= "_ENV" and name ~= "" then
            take(name, value, index)
        end
        index = index + 1
    end
end

local picture

local function pictured_parts(value, seen, deep)
    local parts = {}
    if type(value) == "function" then
        each_upvalue(value, function(name, inner)
            parts[#parts + 1] = name .. "=" .. picture(inner, seen, deep)
        end)
        return parts
    end
    for key, inner in next, value do
        parts[#parts + 1] = picture(key, seen, deep) .. "=" .. picture(inner, seen, deep)
    end
    if deep and metatable_of(value) then
        parts[#parts + 1] = "metatable=" .. picture(metatable_of(value), seen, deep)
    end
    sort(parts)
    return parts
end

-- A text that is another one when anything changed that can be seen from here: of a table what it holds, and if `deep`
-- also what the functions in it close over.
function picture(value, seen, deep)
    local kind = type(value)
    if kind ~= "table" and kind ~= "function" then
        return kind .. ":" .. tostring(value)
    end
    local address = format("%s:%p", kind, value)
    if seen[value] or kind == "function" and not deep or rawequal(value, _G) or rawequal(value, loaded) then
        return address
    end
    seen[value] = true
    return address .. "{" .. concat(pictured_parts(value, seen, deep), ",") .. "}"
end

-- Two pictures of each variable in the reach of these functions, by an identifier that begins with its name.
local function variables(functions, modules)
    local found, visited, pictured = {}, {}, {}

    local function add(id, value)
        local known = type(value) == "table" and pictured[value]
        local pictures = known or { picture(value, {}, false), picture(value, {}, true) }
        if type(value) == "table" then
            pictured[value] = pictures
        end
        found[id] = pictures
    end

    local function collect(fn)
        if not visited[fn] then
            visited[fn] = true
            each_upvalue(fn, function(name, value, index)
                if type(value) == "function" then
                    collect(value)
                end
                add(format("%s\0%p %d", name, fn, index), value)
            end)
        end
    end

    for _, fn in ipairs(functions) do
        collect(fn)
    end
    for name, value in next, _G do
        if not rawequal(value, _G) and not rawequal(value, package) then
            if type(value) == "function" then
                collect(value)
            end
            add(tostring(name), value)
        end
    end
    for name, module in next, modules do
        if rawequal(loaded[name], module) and rawget(_G, name) ~= module then
            add(tostring(name) .. "\0module", module)
        end
    end
    return found
end

local sharing = {}

-- Returns a function that returns the name of a variable that changed since, or nil; and that of one of which only what
-- functions in it close over has changed.
function sharing.watch(...)
    local functions, modules = { ... }, {}
    for name, module in next, loaded do
        modules[name] = module
    end
    modules._G, modules.package = nil, nil
    local before = variables(functions, modules)
    return function()
        local changed, inside = {}, {}
        for id, pictures in pairs(variables(functions, modules)) do
            local name, earlier = id:match("^[^%z]*"), before[id]
            if not earlier or earlier[1] ~= pictures[1] then
                changed[#changed + 1] = name
            elseif earlier[2] ~= pictures[2] then
                inside[#inside + 1] = name
            end
        end
        sort(changed)
        sort(inside)
        return changed[1], inside[1]
    end
end

return sharing
