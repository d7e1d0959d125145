-- workflow.define(name), workflow.define(name, { ... }) and workflow(name): descriptions of workflows.
local host = ...
local arguments, builders = host.arguments, host.builders
local bad, expect, unknown = arguments.bad, arguments.expect, arguments.unknown
local described, taker = builders.described, builders.taker
local type, ipairs, next = type, ipairs, next

-- What was described so far, in the order of the script.
local workflows = {}

local methods = {
    description = taker("description", "string"),
    version = taker("version", "string"),
    metadata = taker("metadata", "table"),
    on_start = taker("on_start", "function"),
    on_task_complete = taker("on_task_complete", "function"),
    on_complete = taker("on_complete", "function"),
}

local function add(description, task, own)
    description.tasks[#description.tasks + 1] = task.name
    if own then
        description.own[#description.own + 1] = task
    end
end

-- Tasks in a list run in the order of their definition, and so do those under names, which Lua does not keep in order.
function methods.tasks(description, ...)
    local list = expect(1, "tasks", "table", ...)
    if described[list] then
        bad(1, "tasks", "a list of tasks expected, got one task: write tasks({ ... })")
    end
    local items, keys, lines = {}, {}, {}
    for key, value in next, list do
        if type(key) == "string" then
            keys[#keys + 1] = key
            lines[key] = host.task.line_of(value)
        else
            items[key] = value
        end
    end
    for index = 1, arguments.sequence(1, "tasks", items, "a list of tasks, or tasks under their names,") do
        add(description, host.task.listed(items[index], nil, "item " .. index))
    end
    table.sort(keys, function(left, right)
        if lines[left] ~= lines[right] then
            return lines[left] < lines[right]
        end
        return left < right
    end)
    for _, key in ipairs(keys) do
        add(description, host.task.listed(list[key], key, key))
    end
end

local retry_options = {
    max_attempts = function(config, value)
        config.retries = builders.count("max_attempts", 1, "a whole number of attempts", value) - 1
    end,
    backoff = function(config, value)
        config.backoff = builders.one_of("backoff", { "fixed", "linear", "exponential" }, value)
    end,
    initial_delay = builders.seconds_taker("initial_delay"),
    max_delay = builders.seconds_taker("max_delay"),
}

local config_options = {
    timeout = builders.seconds_taker("timeout"),
    workdir = builders.text_taker("workdir", "a directory"),
}

local function apply(what, options, config, given)
    for name in next, given do
        if not options[name] then
            unknown(what .. " has no option", name, options)
        end
    end
    for _, name in ipairs(arguments.names(given)) do
        options[name](config, given[name])
    end
end

function config_options.create_workdir_before_run(config, value)
    config.make_workdir = expect(1, "create_workdir_before_run", "boolean", value)
end

function config_options.max_parallel_tasks(config, value)
    config.parallel = builders.count("max_parallel_tasks", 1, "a whole number of tasks", value)
end

local function stop_early(what, config, value)
    if config.fail_fast ~= nil and config.fail_fast ~= value then
        bad(1, what, "it contradicts another option: say once whether the first failure stops the workflow")
    end
    config.fail_fast = value
end

function config_options.fail_fast(config, value)
    stop_early("fail_fast", config, expect(1, "fail_fast", "boolean", value))
end

function config_options.continue_on_error(config, value)
    stop_early("continue_on_error", config, not expect(1, "continue_on_error", "boolean", value))
end

function config_options.on_task_failure(config, value)
    stop_early("on_task_failure", config, builders.one_of("on_task_failure", { "stop", "continue" }, value) == "stop")
end

function config_options.max_retries(config, value)
    config.retries = builders.count("max_retries", 0, "a whole number of further attempts", value)
end

function config_options.retry_policy(config, value)
    if type(value) == "string" then
        value = { backoff = value }
    end
    apply("a retry policy", retry_options, config, expect(1, "retry_policy", "table", value))
end

function config_options.variables(config, value)
    local text, problem = host.data.encode(expect(1, "variables", "table", value))
    config.variables = text or bad(1, "variables", problem)
end

function methods.config(description, ...)
    apply("the config of a workflow", config_options, description.config, expect(1, "config", "table", ...))
end

-- sloth-runner's scripts end a workflow with it; a workflow is complete without.
function methods.build() end

local Workflow = builders.class("workflow", methods, "build")

local function define(...)
    local name, options = ...
    expect(1, "define", "string", ...)
    if name == "" then
        bad(1, "define", "a name expected, got an empty string")
    end
    local description = { name = name, tasks = {}, own = {}, config = {} }
    local builder = builders.new(Workflow, description)
    if options ~= nil then
        builders.apply(Workflow, description, expect(2, "define", "table", options))
    end
    workflows[#workflows + 1] = description
    return builder
end

workflow = arguments.closed("workflow", { define = define }, function(_, ...)
    return define(...)
end)

return { workflows = workflows }
