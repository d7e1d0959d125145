-- The prompt of `slothstate shell`: a text compiled and run, its results as text for people, and names to complete.
local host = ...
local guard = host.guard
local load, type, next, select, rawget = load, type, next, select, rawget
local concat, sort = table.concat, table.sort
local prompt = { version = jit and jit.version or _VERSION }

local LINE = 76

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

local function shown(kind, count, ...)
    if kind ~= "ok" then
        return kind, count
    end
    local texts, separator = {}, ", "
    for index = 1, count do
        texts[index] = host.shown.text((select(index, ...)), LINE)
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
        for word in next, host.shown.keywords do
            names[#names + 1] = word
        end
    end
    sort(names)
    return names
end

guard.always = true

return prompt
