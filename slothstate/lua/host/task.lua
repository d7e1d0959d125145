-- task(name), task({ ... }) and task(name, { ... }): descriptions of tasks. They only describe; workflow.py makes the
-- plan of it and scheduler.py carries it out.
local host = ...
local arguments, builders, native = host.arguments, host.builders, host.native
local fail, bad, expect, sequence = arguments.fail, arguments.bad, arguments.expect, arguments.sequence
local described, taker = builders.described, builders.taker
local type, select, next, getinfo = type, select, next, debug.getinfo

-- The tasks that were built by a name of their own, which every workflow can use, in the order of the script.
local tasks = {}
-- Those that have no name, until a workflow gives them one.
local nameless = {}
local count = 0

-- The name of a task, given by name or as what task() or build() returned; nil for anything else.
local function task_name(value)
    if type(value) == "string" then
        return value
    end
    local description = described[value]
    return description and description.kind == "task" and description.name or nil
end

local function add_names(names, position, method, list)
    for index = 1, sequence(position, method, list) do
        local name = task_name(list[index])
        if not name then
            bad(position, method, ("item %d: a task or its name expected, got %s"):format(index, type(list[index])))
        end
        names[#names + 1] = name
    end
end

local function action(field, name)
    return function(description, ...)
        description[field] = type((...)) == "function" and (...) or builders.text(name, "a shell command", ...)
    end
end

local function texts(field, expected)
    return function(description, ...)
        builders.add_texts(description[field], field, expected, ...)
    end
end

local methods = {
    description = taker("description", "string"),
    on_success = taker("on_success", "function"),
    on_failure = taker("on_failure", "function"),
    on_fail = taker("on_failure", "function", "on_fail"), -- sloth-runner's other name for it
    command = action("command", "command"),
    run = action("command", "run"),
    run_if = action("run_if", "run_if"),
    user = builders.text_taker("user", "the name of a user"),
    workdir = builders.text_taker("workdir", "a directory"),
    timeout = builders.seconds_taker("timeout"),
    delegate_to = texts("delegate_to", "the name of a host"),
    artifacts = texts("artifacts", "a file or a pattern"),
    consumes = texts("consumes", "a file or a pattern"),
}

function methods.depends_on(description, ...)
    local given = select("#", ...)
    if given == 0 then
        bad(1, "depends_on", "a task or its name expected, got no value")
    end
    for position = 1, given do
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

function methods.retries(description, ...)
    description.retries = builders.count("retries", 0, "a whole number of further attempts", ...)
    local strategy = (select(2, ...))
    if strategy ~= nil then
        description.backoff = builders.one_of("retries", { "fixed", "linear", "exponential" }, strategy)
    end
end

function methods.build(description)
    if not description.command then
        fail(("task '%s' has no command"):format(description.name))
    end
    tasks[#tasks + 1] = description
end

-- A task that was built runs when it is called so, at once, and only it. Returns whether it went well, its message and
-- its outputs.
local function run_now(description)
    local stopped, ok, message, outputs = native.run_now(description)
    if stopped then
        host.guard.stop(stopped)
    end
    return ok, message ~= "" and message or nil, outputs
end

local Task = builders.class("task", methods, "build", { run = run_now })

local function new(name)
    count = count + 1
    local lists = { depends_on = {}, delegate_to = {}, artifacts = {}, consumes = {} }
    lists.name, lists.count = name, count
    return lists
end

local function of_options(description, options)
    local copy = {}
    for option, value in next, options do
        copy[option] = value
    end
    if copy.name ~= nil then
        description.name, copy.name = builders.text("name", "a name", copy.name), nil
    end
    builders.apply(Task, description, copy)
    if not description.command then
        fail(("task '%s' has no command"):format(description.name or "?"))
    end
    description.finished = true
end

function task(...)
    local name, options = ...
    if select("#", ...) == 1 and type(name) == "table" and not described[name] then
        name, options = nil, name
    else
        expect(1, "task", "string", ...)
        if options ~= nil then
            expect(2, "task", "table", options)
        end
    end
    if name == "" then
        bad(1, "task", "a name expected, got an empty string")
    end
    local description = new(name)
    local builder = builders.new(Task, description)
    if options then
        of_options(description, options)
        if description.name then
            tasks[#tasks + 1] = description
        else
            nameless[description] = true
        end
    end
    return builder
end

-- The line at which a task begins that is listed in a workflow, as far as one can tell; 0 of one that is not there yet.
local function line_of(value)
    if described[value] then
        return described[value].line
    end
    local first
    for _, option in next, type(value) == "table" and value or {} do
        if type(option) == "function" then
            local line = getinfo(option, "S").linedefined
            first = (not first or line < first) and line or first
        end
    end
    return first or 0
end

-- The description of a task that is listed in a workflow: a task, its name, or a table of its options. The second
-- result says that it is the workflow's own. `key` names it where it has no other name; `item` is where it is listed.
local function listed(value, key, item)
    if type(value) == "string" then
        return { name = value }, false
    end
    local description = described[value]
    if description and description.kind ~= "task" or type(value) ~= "table" then
        bad(1, "tasks", ("%s: a task or its name expected, got %s"):format(item, description and description.kind or type(value)))
    end
    local own = not description
    if own then
        description = new()
        description.where, description.line = arguments.where()
        of_options(description, value)
        description.where = line_of(value) > 0 and description.where:gsub("%d+$", line_of(value)) or description.where
    elseif not description.finished then
        bad(1, "tasks", ("%s: task '%s' is not built: end it with :build()"):format(item, description.name))
    end
    own = own or not description.name
    description.name = description.name or key
    nameless[description] = nil
    if not description.name then
        bad(1, "tasks", ("%s: the task at %s has no name"):format(item, description.where))
    end
    return description, own
end

return { tasks = tasks, nameless = nameless, listed = listed, line_of = line_of }
