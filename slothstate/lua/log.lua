-- log.debug, log.info, log.warn, log.error: any values, joined by spaces.
local host = ...
local native, bad = host.native, host.arguments.bad
local tostring, select, concat = tostring, select, table.concat

log = {}

for _, level in ipairs({ "debug", "info", "warn", "error" }) do
    log[level] = function(...)
        local count = select("#", ...)
        if count == 0 then
            bad(1, level, "value expected")
        end
        local words = {}
        for index = 1, count do
            words[index] = tostring((select(index, ...)))
        end
        native.log(level, concat(words, " "))
    end
end
