-- What builders of tasks and of workflows are: objects whose methods check what they are given and return them again.
-- A table of options does the same as calling the methods of those names.
local host = ...
local arguments = host.arguments
local fail, bad, expect, sequence, unknown = arguments.fail, arguments.bad, arguments.expect, arguments.sequence, arguments.unknown
local type, tostring, select, next, ipairs, setmetatable = type, tostring, select, next, ipairs, setmetatable

local builders = {}

-- The description behind each builder. The builders themselves are empty: only their methods show.
local described = setmetatable({}, { __mode = "k" })
builders.described = described

local UNITS = { ms = 0.001, s = 1, m = 60, h = 3600 }

-- The seconds of "30s", "5m", "1h30m" or "500ms"; nil for anything else.
local function duration(text)
    local total, position = 0, 1
    repeat
        local _, last, number, unit = text:find("^(%d+%.?%d*)(%a+)", position)
        if not UNITS[unit] then
            return nil
        end
        total = total + tonumber(number) * UNITS[unit]
        position = last + 1
    until position > #text
    return total
end

-- The seconds of a duration; `what` is the option it was given for.
function builders.seconds(what, ...)
    local value = ...
    local seconds = type(value) == "string" and duration(value) or type(value) == "number" and value
    if not seconds or not (seconds > 0 and seconds < 1e9) then
        local found = select("#", ...) == 0 and "no value" or type(value) == "string" and '"' .. value .. '"' or tostring(value)
        bad(1, what, 'seconds above 0 or a text like "30s", "5m", "1h" expected, got ' .. found)
    end
    return seconds
end

-- A whole number from `least` to a million.
function builders.count(what, least, expected, ...)
    local value = expect(1, what, "number", ...)
    if value < least or value % 1 ~= 0 or value > 1e6 then
        bad(1, what, ("%s expected, got %s"):format(expected, tostring(value)))
    end
    return value
end

-- A text that is not empty and that the system can be given.
function builders.text(what, expected, ...)
    local value = expect(1, what, "string", ...)
    if not value:find("%S") or value:find("\0", 1, true) then
        bad(1, what, expected .. " expected, got an empty string or one with a NUL byte")
    end
    return value
end

function builders.one_of(what, choices, value)
    for _, choice in ipairs(choices) do
        if value == choice then
            return value
        end
    end
    bad(1, what, ("%s expected, got %s"):format(table.concat(choices, " or "), tostring(value)))
end

-- Adds the texts of a list, or the one text, to `list`.
function builders.add_texts(list, what, expected, ...)
    local value = ...
    if type(value) == "string" then
        value = { value }
    end
    for index = 1, sequence(1, what, expect(1, what, "table", value)) do
        list[#list + 1] = builders.text(what, expected, value[index])
    end
end

-- A method that keeps what it is given; `name` is its own, if that is not the field's.
function builders.taker(field, expected, name)
    return function(description, ...)
        description[field] = expect(1, name or field, expected, ...)
    end
end

function builders.text_taker(field, expected)
    return function(description, ...)
        description[field] = builders.text(field, expected, ...)
    end
end

function builders.seconds_taker(field)
    return function(description, ...)
        description[field] = builders.seconds(field, ...)
    end
end

-- Applies a table of options, in the order of their names.
function builders.apply(class, description, options)
    for name in next, options do
        if type(name) ~= "string" or not class.methods[name] or class.methods[name] == class.finish then
            unknown(("a %s has no option"):format(class.kind), name, class.options)
        end
    end
    for _, name in ipairs(arguments.names(options)) do
        class.methods[name](description, options[name])
    end
end

function builders.new(class, description)
    local builder = setmetatable({}, class.metatable)
    description.kind = class.kind
    description.where, description.line = arguments.where()
    described[builder] = description
    return builder
end

-- A class of builders. A method takes (description, ...) and changes the description; the call returns the builder
-- again. `finish`, if given, is the method after which no other may come; those of `after` may.
function builders.class(kind, methods, finish, after)
    local callable = {}
    local class = { kind = kind, methods = methods, finish = methods[finish], options = {} }
    for name, method in next, methods do
        if method ~= class.finish then
            class.options[name] = true
        end
        callable[name] = function(self, ...)
            local description = described[self]
            if not description or description.kind ~= kind then
                fail(("'%s' is a method: call it with a colon, as in %s:%s(...)"):format(name, kind, name))
            elseif description.finished then
                if after and after[name] then
                    return after[name](description, ...)
                end
                fail(("%s '%s' is already built: '%s' comes too late"):format(kind, tostring(description.name), name))
            end
            method(description, ...)
            description.finished = name == finish
            return self
        end
    end
    class.metatable = {
        __name = kind,
        __metatable = kind,
        __index = function(self, name)
            if name == "name" then
                return described[self].name
            end
            return callable[name] or unknown(("a %s has no method"):format(kind), name, methods)
        end,
        __newindex = function(_, name)
            local names = table.concat(arguments.names(methods), ", ")
            fail(("a %s has no field '%s' to set; its methods are: %s"):format(kind, tostring(name), names))
        end,
        __tostring = function(self)
            return ("%s '%s'"):format(kind, tostring(described[self].name))
        end,
    }
    return class
end

return builders
