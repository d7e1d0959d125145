-- task(name) and workflow.define(name): builders that check what they are given and remember where they were written.
-- They only describe; workflow.py makes the plan of it and scheduler.py carries it out.
local host = ...
local arguments = host.arguments
local fail, bad, expect, sequence = arguments.fail, arguments.bad, arguments.expect, arguments.sequence
local type, tostring, select, next, setmetatable = type, tostring, select, next, setmetatable
local getinfo = debug.getinfo

-- What was described so far, in the order of the script.
local tasks, workflows = {}, {}
-- The description behind each builder. The builders themselves are empty: only their methods show.
local described = setmetatable({}, { __mode = "k" })

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

-- Where the script calls the function that calls this.
local function call_site()
    local caller = getinfo(3, "Sl")
    return ("%s:%d"):format(caller.source:gsub("^[@=]", ""), caller.currentline)
end

local function new(metatable, description)
    local builder = setmetatable({}, metatable)
    described[builder] = description
    return builder
end

-- The metatable of a class of builders. A method takes (description, ...) and changes the description; the call
-- returns the builder again. `finish`, if given, is the method after which no other may come.
local function class(kind, methods, finish)
    local names, callable = {}, {}
    for name, method in next, methods do
        names[#names + 1] = name
        callable[name] = function(self, ...)
            local description = described[self]
            if not description or description.kind ~= kind then
                fail(("'%s' is a method: call it with a colon, as in %s:%s(...)"):format(name, kind, name))
            elseif description.finished then
                fail(("%s '%s' is already built: '%s' comes too late"):format(kind, description.name, name))
            end
            method(description, ...)
            description.finished = name == finish
            return self
        end
    end
    table.sort(names)
    local listing = table.concat(names, ", ")
    return {
        __name = kind,
        __metatable = kind,
        __index = function(self, name)
            if name == "name" then
                return described[self].name
            end
            return callable[name] or fail(("a %s has no method '%s'; it has: %s"):format(kind, tostring(name), listing))
        end,
        __newindex = function(_, name)
            fail(("a %s has no field '%s' to set; its methods are: %s"):format(kind, tostring(name), listing))
        end,
        __tostring = function(self)
            return ("%s '%s'"):format(kind, described[self].name)
        end,
    }
end

local function taker(field, expected)
    return function(description, ...)
        description[field] = expect(1, field, expected, ...)
    end
end

-- The name of a task, given by name or as what task() or build() returned; nil for anything else.
local function task_name(value)
    if type(value) == "string" then
        return value
    end
    local description = described[value]
    return description and description.kind == "task" and description.name or nil
end

local function add_names(names, position, method, list)
    local length, problem = sequence(list)
    if not length then
        bad(position, method, problem)
    end
    for index = 1, length do
        local name = task_name(list[index])
        if not name then
            bad(position, method, ("item %d: a task or its name expected, got %s"):format(index, type(list[index])))
        end
        names[#names + 1] = name
    end
end

local task_methods = {
    description = taker("description", "string"),
    on_success = taker("on_success", "function"),
    on_failure = taker("on_failure", "function"),
}

function task_methods.command(description, ...)
    local command = ...
    if type(command) ~= "function" then
        command = expect(1, "command", "string", ...)
        if not command:find("%S") or command:find("\0", 1, true) then
            bad(1, "command", "a shell command expected, got an empty string or one with a NUL byte")
        end
    end
    description.command = command
end

function task_methods.depends_on(description, ...)
    local count = select("#", ...)
    if count == 0 then
        bad(1, "depends_on", "a task or its name expected, got no value")
    end
    for position = 1, count do
        local value = (select(position, ...))
        local name = task_name(value)
        if name then
            description.depends_on[#description.depends_on + 1] = name
        elseif type(value) == "table" and not described[value] then
            add_names(description.depends_on, position, "depends_on", value)
        else
            bad(position, "depends_on", "a task or its name expected, got " .. type(value))
        end
    end
end

function task_methods.timeout(description, ...)
    local value = ...
    local seconds = type(value) == "string" and duration(value) or type(value) == "number" and value
    if not seconds or not (seconds > 0 and seconds < 1e9) then
        local found = select("#", ...) == 0 and "no value" or type(value) == "string" and '"' .. value .. '"' or tostring(value)
        bad(1, "timeout", 'seconds above 0 or a text like "30s", "5m", "1h" expected, got ' .. found)
    end
    description.timeout = seconds
end

function task_methods.retries(description, ...)
    local value = expect(1, "retries", "number", ...)
    if value < 0 or value % 1 ~= 0 or value > 1e6 then
        bad(1, "retries", "a whole number of further attempts expected, got " .. tostring(value))
    end
    description.retries = value
end

function task_methods.build(description)
    if not description.command then
        fail(("task '%s' has no command"):format(description.name))
    end
    tasks[#tasks + 1] = description
end

local Task = class("task", task_methods, "build")

function task(...)
    local name = expect(1, "task", "string", ...)
    if name == "" then
        bad(1, "task", "a name expected, got an empty string")
    end
    return new(Task, { kind = "task", name = name, where = call_site(), depends_on = {}, retries = 0 })
end

local workflow_methods = {
    description = taker("description", "string"),
    version = taker("version", "string"),
}

function workflow_methods.tasks(description, ...)
    local list = expect(1, "tasks", "table", ...)
    if described[list] then
        bad(1, "tasks", "a list of tasks expected, got one task: write tasks({ ... })")
    end
    for index = 1, #list do
        local given = described[list[index]]
        if given and given.kind == "task" and not given.finished then
            bad(1, "tasks", ("item %d: task '%s' is not built: end it with :build()"):format(index, given.name))
        end
    end
    add_names(description.tasks, 1, "tasks", list)
end

local Workflow = class("workflow", workflow_methods)

workflow = {}

function workflow.define(...)
    local name = expect(1, "define", "string", ...)
    if name == "" then
        bad(1, "define", "a name expected, got an empty string")
    end
    local description = { kind = "workflow", name = name, where = call_site(), tasks = {} }
    workflows[#workflows + 1] = description
    return new(Workflow, description)
end

return { tasks = tasks, workflows = workflows }
