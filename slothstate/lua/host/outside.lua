-- What a script reaches without the host, where it matters that the host knows: os.execute and io.popen run where the
-- task does; and nothing acts in a dry run.
local host = ...
local native, guard, fail = host.native, host.guard, host.arguments.fail
local execute, popen, open = os.execute, io.popen, io.open
local type, tostring, setmetatable = type, tostring, setmetatable

local function said(what, ...)
    native.log("info", "dry run, not done: " .. what .. " " .. tostring((...)))
end

-- The command for the directory of the task that runs.
local function placed(what, command)
    local workdir, user = native.place()
    if user then
        fail(("%s would not run as the task's user '%s': exec.run does"):format(what, user))
    elseif workdir and type(command) == "string" then
        local quoted = "'" .. workdir:gsub("'", "'\\''") .. "'"
        return "cd " .. quoted .. " && {\n" .. command .. "\n}"
    end
    return command
end

-- Lua 5.1 returns what C's system() does, later ones three values; LuaJIT can be built for either.
local is_5_1 = _VERSION == "Lua 5.1" and #setmetatable({}, { __len = function() return 1 end }) == 0

local function ended(code, signal)
    if is_5_1 then
        return signal == 0 and code * 256 or signal
    elseif signal ~= 0 then
        return nil, "signal", signal
    end
    return code == 0 or nil, "exit", code
end

-- Not C's system(), which nothing can stop, and which keeps Ctrl-C from this process.
function os.execute(command)
    if native.dry_run and command ~= nil then
        said("os.execute", command)
        return execute("true")
    elseif type(command) ~= "string" or package.config:sub(1, 1) ~= "/" then
        return execute(placed("os.execute", command))
    end
    local code, signal, stopped = native.shell(placed("os.execute", command), guard.remaining())
    if stopped then
        guard.stop(stopped)
    end
    return ended(code, signal)
end

function io.popen(command, mode)
    if native.dry_run then
        said("io.popen", command)
        return popen("cat > /dev/null < /dev/null", mode)
    end
    return popen(placed("io.popen", command), mode)
end

if native.dry_run then
    for _, name in ipairs({ "remove", "rename" }) do
        os[name] = function(...)
            said("os." .. name, ...)
            return true
        end
    end

    function io.open(path, mode)
        if type(mode) == "string" and mode:find("[wa+]") then
            said("io.open", path)
            return open("/dev/null", "r+")
        end
        return open(path, mode)
    end

    function io.output(...)
        if select("#", ...) > 0 and type((...)) == "string" then
            said("io.output", ...)
        end
        return io.stdout
    end
end
