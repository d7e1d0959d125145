-- Loading the script, and calling its commands and hooks on behalf of the scheduler.
local host = ...
local guard = host.guard
local load, type, tostring, pcall = load, type, tostring, pcall

local script = {}

-- The function that a source text is; nil and the syntax error with its line.
-- Text only: bytecode is not checked by Lua and a damaged one crashes the process.
function script.load(source, name)
    return load(source, name, "t")
end

-- `require` looks beside the script first.
function script.search(directory)
    package.path = directory .. "/?.lua;" .. directory .. "/?/init.lua;" .. package.path
end

local function text(message)
    if message == nil then
        return ""
    end
    local ok, converted = pcall(tostring, message)
    return ok and converted or "a message that cannot be shown"
end

local function judge(kind, count, ...)
    if kind == "error" then
        return "failed", count
    elseif kind ~= "ok" then
        return kind, ""
    end
    local verdict, message = ...
    if verdict == true or count == 0 or (verdict == nil and message == nil) then
        return "ok", text(message)
    elseif verdict == false or verdict == nil then
        return "failed", text(message)
    end
    return "failed", ("the command returned a %s: true or false expected, then a message"):format(type(verdict))
end

-- Calls a task's command. Returns "ok" or "failed" and its message; or "timeout", "exit", "interrupt" and "".
-- Nothing returned is success; nil and a message, the way Lua functions fail, is failure.
function script.attempt(limit, command, this, params)
    return judge(guard.call(limit, command, this, params))
end

-- Calls the script itself, or a hook. Returns "ok", or "error" and its text, or what stopped it, and "".
function script.call(fn, ...)
    local kind, problem = guard.call(nil, fn, ...)
    return kind, kind == "error" and problem or ""
end

-- Lines appear when they are printed, in a pipe as well, so that none is lost however the run ends.
io.stdout:setvbuf("line")

return script
