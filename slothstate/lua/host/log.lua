-- log.debug, info, warn, error: any values, joined by spaces. log.success is info, log.print is print.
local host = ...
local arguments, native = host.arguments, host.native
local tostring, select, concat = tostring, select, table.concat

local levels = { debug = "debug", info = "info", success = "info", warn = "warn", error = "error" }

log = { print = print }
for name, level in pairs(levels) do
    log[name] = function(...)
        local count = select("#", ...)
        if count == 0 then
            arguments.bad(1, name, "value expected")
        end
        local words = {}
        for index = 1, count do
            words[index] = tostring((select(index, ...)))
        end
        native.log(level, concat(words, " "))
    end
end
arguments.closed("log", log)
