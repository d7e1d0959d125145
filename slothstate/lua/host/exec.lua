-- exec.run: a shell command, its output and how it ended. And os.exit, which ends the run in good order.
local host = ...
local native, guard = host.native, host.guard
local arguments = host.arguments
local fail, bad, expect = arguments.fail, arguments.bad, arguments.expect
local type, tostring, next, setmetatable, getmetatable = type, tostring, next, setmetatable, getmetatable
local string = string

-- A result reads as its standard output without the last newline.
local Result = {}

function Result.__tostring(result)
    return (result.stdout:gsub("\r?\n$", "", 1))
end

-- It has the methods of a string, too. What it does not have is an error: nil would read as a command that went well.
function Result.__index(result, name)
    local method = type(name) == "string" and string[name]
    if not method then
        arguments.unknown("a result of exec.run has no", name, result)
    end
    return function(self, ...)
        return method(self == result and Result.__tostring(self) or self, ...)
    end
end

local function text(value)
    if type(value) == "string" or type(value) == "number" then
        return value
    elseif getmetatable(value) == Result then
        return Result.__tostring(value)
    end
    fail(("attempt to concatenate a %s value"):format(type(value)))
end

function Result.__concat(left, right)
    return text(left) .. text(right)
end

local function checked_text(position, what, value)
    if type(value) ~= "string" then
        bad(position, "run", ("%s: string expected, got %s"):format(what, type(value)))
    elseif value:find("\0", 1, true) then
        bad(position, "run", what .. " contains a NUL byte")
    end
    return value
end

local function checked_env(env)
    if type(env) ~= "table" then
        bad(2, "run", "env: table expected, got " .. type(env))
    end
    local copy = {}
    for name, value in next, env do
        if type(name) ~= "string" or name == "" or name:find("=", 1, true) or name:find("\0", 1, true) then
            bad(2, "run", ("env: '%s' is no name for a variable"):format(tostring(name)))
        end
        copy[name] = checked_text(2, "env." .. name, type(value) == "number" and tostring(value) or value)
    end
    return copy
end

-- Runs `command` in a shell and waits for its end.
-- Options: workdir (where it runs, from the task's own) and env (variables added to those of this process).
-- Returns { success, stdout, stderr, code, exit_code }, the last two alike; a command ended by a signal has 128 + its
-- number as code, as in a shell.
local function run(...)
    local command, options = ...
    expect(1, "run", "string", ...)
    checked_text(1, "command", command)
    if options ~= nil and type(options) ~= "table" then
        bad(2, "run", "table expected, got " .. type(options))
    end
    local workdir, env
    for name, value in next, options or {} do
        if name == "workdir" then
            workdir = checked_text(2, "workdir", value)
            if workdir == "" then
                bad(2, "run", "workdir: a directory expected, got an empty string")
            end
        elseif name == "env" then
            env = checked_env(value)
        else
            bad(2, "run", ("unknown option '%s': there are workdir and env"):format(tostring(name)))
        end
    end
    local result = native.execute(command, workdir, env, guard.remaining())
    if result.stopped then
        guard.stop(result.stopped)
    end
    return setmetatable(result, Result)
end

exec = arguments.closed("exec", { run = run })

-- C's exit() would leave the store's locks to the kernel and Python's buffers unwritten.
function os.exit(code)
    if code == nil or code == true then
        code = 0
    elseif code == false then
        code = 1
    elseif type(code) ~= "number" or code % 1 ~= 0 then
        bad(1, "exit", "an integer or a boolean expected, got " .. tostring(code))
    end
    native.exit(code)
    guard.stop("exit")
end

-- Whether a value is what exec.run returned.
local function is_result(value)
    return getmetatable(value) == Result
end

-- Why the command of a result failed, in its own words if it said any.
local function reason_of(result)
    local reason = result.stderr:gsub("%s+$", "")
    return reason ~= "" and reason or "the command ended with code " .. result.code
end

return { is_result = is_result, reason_of = reason_of }
