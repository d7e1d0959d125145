-- Loading the script, and calling its commands, conditions and hooks on behalf of the scheduler.
local host = ...
local guard, codec, is_result, reason_of = host.guard, host.data, host.exec.is_result, host.exec.reason_of
local load, type, tostring, pcall, next, getmetatable = load, type, tostring, pcall, next, getmetatable
local getinfo, getlocal, max, unpack = debug.getinfo, debug.getlocal, math.max, table.unpack or unpack
local random, randomseed = math.random, math.randomseed

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

-- Then come the tables of the host: scripts of sloth-runner also require them.
local searchers = package.searchers or package.loaders
local offered = { data = data, exec = exec, log = log, metrics = metrics, reliability = reliability }

searchers[#searchers + 1] = function(name)
    if offered[name] then
        return function()
            return offered[name]
        end
    end
end

local function text(message)
    if message == nil then
        return ""
    end
    local ok, converted = pcall(tostring, message)
    return ok and converted or "a message that cannot be shown"
end

-- Scripts call the same thing by different names, and write (this, params) as well as (params, deps).
local MEANING = { err = "message", msg = "message", error = "message", output = "output", outputs = "output" }

-- The arguments of a call: each parameter gets what its name says, and one of another name what stands in its place.
local function arranged(fn, places, given)
    local info = getinfo(fn, "u")
    local declared = info.nparams or 0
    local arguments, count = {}, max(#places, declared)
    for index = 1, count do
        local name = index <= declared and getlocal(fn, index) or nil
        name = name and MEANING[name] or name
        local known = name and given.names[name]
        arguments[index] = given[known and name or places[index]]
    end
    return unpack(arguments, 1, count)
end

local TASK = { names = { this = true, params = true, deps = true }, "this", "params", "deps" }
local HOOK = {
    names = { this = true, params = true, deps = true, message = true, output = true },
    "this",
    "params",
    "message",
    "output",
}

-- What kind of call it is, and what it is given. The texts are JSON, so that nobody changes what others get.
local function given_of(kind, this, params, deps, message, outputs)
    local given = { names = kind.names, this = this, params = params, deps = codec.decode(deps), message = message }
    if outputs then
        given.output = codec.decode(outputs)
    else
        given.output = message
    end
    return given
end

-- The verdict of a command: true or false (nil with a message is false), or what exec.run returned.
local function verdict_of(count, verdict, message, outputs)
    if is_result(verdict) then
        if verdict.success then
            return true, tostring(verdict), verdict
        end
        return false, reason_of(verdict), verdict
    elseif count > 3 then
        return false, ("the command returned %d values: at most three expected, true or false, a message and outputs"):format(count)
    end
    local has_text = type(message) == "table" and (getmetatable(message) or {}).__tostring
    if type(message) == "table" and not has_text and outputs == nil then
        message, outputs = nil, message
    end
    if verdict == true or count == 0 or (verdict == nil and message == nil and outputs == nil) then
        return true, message, outputs
    elseif verdict == false or verdict == nil then
        return false, message, outputs
    end
    return false, ("the command returned a %s: true or false expected, then a message"):format(type(verdict))
end

local function judge(kind, count, ...)
    if kind == "error" then
        return "failed", count
    elseif kind ~= "ok" then
        return kind, ""
    end
    local ok, message, outputs = verdict_of(count, ...)
    local status = ok and "ok" or "failed"
    if outputs == nil then
        return status, text(message)
    end
    local encoded, problem = codec.encode(outputs)
    if not encoded and is_result(outputs) then
        -- Bytes that are no text stay out of what the next tasks get.
        encoded = codec.encode({ success = outputs.success, code = outputs.code, exit_code = outputs.code })
    elseif not encoded then
        return "failed", "outputs: " .. problem
    end
    return status, text(message), encoded
end

-- Calls a task's command with (this, params, deps). Returns "ok" or "failed", its message and the JSON of its outputs;
-- or "timeout", "exit", "interrupt" and "".
-- Nothing returned is success; nil and a message, the way Lua functions fail, is failure.
function script.attempt(limit, command, this, params, deps)
    local given = given_of(TASK, this, params, deps)
    return judge(guard.call(limit, command, arranged(command, TASK, given)))
end

-- Asks a task's run_if. Returns "ok" and whether the task is to run, or as `script.call` does.
function script.condition(condition, this, params, deps)
    local given = given_of(TASK, this, params, deps)
    local kind, count, answer = guard.call(nil, condition, arranged(condition, TASK, given))
    if kind ~= "ok" then
        return kind, count
    elseif is_result(answer) then
        answer = answer.success
    end
    return kind, answer ~= nil and answer ~= false
end

-- Calls a task's hook with (this, params, message, outputs). Returns what `script.call` does.
function script.hook(fn, this, params, deps, message, outputs)
    local given = given_of(HOOK, this, params, deps, message, outputs)
    return script.call(fn, arranged(fn, HOOK, given))
end

-- Calls the script itself, or a hook of a workflow. Returns "ok" and what it returned first; or "error" and its text,
-- or what stopped it, and "".
function script.call(fn, ...)
    local kind, problem, first, second = guard.call(nil, fn, ...)
    if kind == "ok" then
        return kind, first, text(second)
    end
    return kind, kind == "error" and problem or ""
end

-- A value for a hook that shows the outputs of a task as its own fields.
function script.result(fields, outputs)
    fields.outputs = outputs and codec.decode(outputs)
    local shown = type(fields.outputs) == "table" and fields.outputs or {}
    return setmetatable(fields, { __index = shown })
end

-- A list that has the same under names.
function script.named(list, named)
    return setmetatable(list, { __index = named })
end

-- A text with functions, that reads as the text: this.workdir, this.agent. All have `get`.
function script.readable(value, functions)
    local function shown(part)
        return type(part) == "table" and tostring(part) or part
    end
    local fields = {
        get = function()
            return value
        end,
    }
    for name, fn in next, functions do
        fields[name] = function()
            return fn()
        end
    end
    return setmetatable(fields, {
        __tostring = fields.get,
        __concat = function(left, right)
            return shown(left) .. shown(right)
        end,
    })
end

-- Gives a fork a sequence of random numbers of its own: that of what it was forked from, and a number, decide which.
function script.reseed(number)
    randomseed(random(2 ^ 31 - 1) + number)
end

function script.flush()
    io.stdout:flush()
end

-- Lines appear when they are printed, in a pipe as well, so that none is lost however the run ends.
io.stdout:setvbuf("line")

return script
