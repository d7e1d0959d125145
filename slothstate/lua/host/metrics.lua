-- metrics: how busy this machine is, and alerts as lines of the log.
local host = ...
local arguments, native = host.arguments, host.native
local bad, expect = arguments.bad, arguments.expect
local type, tostring, next, select = type, tostring, next, select

local LEVELS = { info = "info", warning = "warn", warn = "warn", error = "error", critical = "error" }

-- Logs an alert at the level that it names (error if it names none), with what else it has as JSON. Returns true.
local function alert(...)
    local name, fields = ...
    expect(1, "alert", "string", ...)
    expect(2, "alert", "table", select(2, ...))
    local level, message = fields.level, fields.message
    if level ~= nil and not LEVELS[level] then
        local names = table.concat(arguments.names(LEVELS), ", ")
        bad(2, "alert", ("level: one of %s expected, got %s"):format(names, tostring(level)))
    elseif type(message) ~= "string" then
        bad(2, "alert", "message: string expected, got " .. type(message))
    end
    local others = {}
    for key, value in next, fields do
        if key ~= "level" and key ~= "message" then
            others[key] = value
        end
    end
    local text = "alert " .. name .. ": " .. message
    if next(others) ~= nil then
        local encoded, problem = host.data.encode(others)
        text = text .. " " .. (encoded or bad(2, "alert", problem))
    end
    native.log(LEVELS[level or "error"], text)
    return true
end

metrics = arguments.closed("metrics", {
    alert = alert,

    -- The percentage of the processors' time that was not idle, over a fifth of a second.
    system_cpu = function()
        return native.machine("cpu")
    end,

    -- { total_mb, used_mb, available_mb, percent }
    system_memory = function()
        return native.machine("memory")
    end,

    -- { total_gb, used_gb, free_gb, percent } of the file system that has `path`, "/" by default.
    system_disk = function(path)
        if path ~= nil then
            expect(1, "system_disk", "string", path)
        end
        return native.machine("disk", path or "/")
    end,
})
