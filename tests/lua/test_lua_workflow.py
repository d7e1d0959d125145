"""What scripts say of tasks and workflows: in each of their forms, done for real or refused with the line."""

from __future__ import annotations

import pytest

from helpers.host import Runner
from slothstate.lua.host.host import ScriptError
from slothstate.lua.host.workflow import PlanError

FORMS = [
    """
    local a = task("a"):description("A"):command(function() log.info("a") end):build()
    local b = task("b"):depends_on("a"):command(function() log.info("b") end):build()
    workflow.define("w"):description("d"):tasks({ b, a }):build()
    """,
    """
    local a = task({ name = "a", description = "A", command = function() log.info("a") end })
    local b = task("b", { depends_on = "a", run = function() log.info("b") end })
    workflow.define("w", { description = "d", tasks = { b, a } })
    """,
    """
    workflow("w"):tasks({
        { name = "b", depends_on = { "a" }, command = function() log.info("b") end },
        { name = "a", command = function() log.info("a") end },
    })
    """,
    """
    workflow.define("w", {
        version = "1.0.0",
        metadata = { author = "someone", tags = { "x" } },
        tasks = {
            z = { name = "a", command = function() log.info("a") end },
            b = task({ depends_on = "a", command = function() log.info("b") end }),
        },
    })
    """,
    """
    workflow.define("w", { tasks = {
        b = { depends_on = "a", command = function() log.info("b") end },
        a = { command = function() log.info("a") end },
    } })
    """,
]


@pytest.mark.parametrize("source", FORMS)
def test_forms(scripts: Runner, source: str) -> None:
    """Methods, tables of options, tasks in a list or under their names describe the same."""
    assert scripts.info(source) == ["a", "b"]
    assert list(scripts.recorder.results()) == ["a", "b"]


def test_tasks_under_names_run_in_the_order_in_which_they_are_written(scripts: Runner) -> None:
    """Lua keeps no order of names; the lines of the script do."""
    names = ["m", "c", "z", "a", "k", "b", "y", "q"]
    tasks = "\n".join(f"{name} = {{ command = function() end }}," for name in names)
    assert scripts.run(f"workflow.define('w', {{ tasks = {{\n{tasks}\n}} }})") == 0
    assert list(scripts.recorder.results()) == names


def test_tasks_of_a_workflow_are_its_own(scripts: Runner) -> None:
    """Two workflows may each have a task of one name where they are written inside them; shared ones stay shared."""
    scripts.info("""
        task("shared", { command = function() log.info("shared") end })
        workflow.define("first", { tasks = { check = { depends_on = "shared", command = function() end } } })
        workflow.define("second", { tasks = { check = { command = function() error("no", 0) end, run_if = "false" } } })
    """)
    assert [event[1] for event in scripts.recorder.events if event[0] in ("ok", "skipped")] == [
        "shared",
        "check",
        "check",
    ]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("task('t', { comand = 'x' })", "a task has no option 'comand' (did you mean 'command'?); it has: artifacts, "),
        ("task({ command = 'x', build = true })", "a task has no option 'build'"),
        ("task({ name = 't' })", "task 't' has no command"),
        ("task({ name = 5, command = 'x' })", "bad argument #1 to 'name' (string expected, got number)"),
        ("workflow.define('w', { taks = {} })", "a workflow has no option 'taks' (did you mean 'tasks'?); it has: "),
        ("workflow.define('w', 5)", "bad argument #2 to 'define' (table expected, got number)"),
        ("workflow.defin('w')", "'workflow' has no 'defin' (did you mean 'define'?); it has: define"),
        ("task({ command = 'x', name = '' })", "bad argument #1 to 'name' (a name expected, got an empty string"),
        ("workflow.define('w', { tasks = { { command = 'x' } } })", "bad argument #1 to 'tasks' (item 1: the task at"),
        ("workflow.define('w', { tasks = { a = 5 } })", "bad argument #1 to 'tasks' (a: a task or its name expected"),
        ("workflow.define('w', { tasks = { [true] = 'a' } })", "bad argument #1 to 'tasks' (a list of tasks, or tasks"),
        (
            "workflow.define('w'):config({ timeot = '5m' })",
            "the config of a workflow has no option 'timeot' (did you mean 'timeout'?); it has: continue_on_error, ",
        ),
        ("workflow.define('w'):config({ timeout = 'soon' })", "bad argument #1 to 'timeout' (seconds above 0"),
        ("workflow.define('w'):config({ max_parallel_tasks = 0 })", "bad argument #1 to 'max_parallel_tasks' (a whole"),
        (
            "workflow.define('w'):config({ fail_fast = true, continue_on_error = true })",
            "bad argument #1 to 'fail_fast' (it contradicts another option",
        ),
        (
            "workflow.define('w'):config({ retry_policy = { attempts = 3 } })",
            "a retry policy has no option 'attempts' (did you mean 'max_attempts'?); it has: backoff, ",
        ),
        (
            "workflow.define('w'):config({ retry_policy = 'often' })",
            "bad argument #1 to 'backoff' (fixed or linear or exponential expected, got often)",
        ),
        (
            "workflow.define('w'):config({ variables = { f = print } })",
            "bad argument #1 to 'variables' (value.f: a fun",
        ),
        ("task('t'):retries(2, 'often')", "bad argument #1 to 'retries' (fixed or linear or exponential expected"),
        ("task('t'):artifacts({ '' })", "bad argument #1 to 'artifacts' (a file or a pattern expected, got an empty"),
        ("task('t'):delegate_to(5)", "bad argument #1 to 'delegate_to' (table expected, got number)"),
        ("task('t'):run_if(true)", "bad argument #1 to 'run_if' (string expected, got boolean)"),
        (
            "log.wran('x')",
            "'log' has no 'wran' (did you mean 'warn'?); it has: debug, error, info, print, success, warn",
        ),
        ("exec.shell('x')", "'exec' has no 'shell'; it has: run"),
        ("data.to_xml({})", "'data' has no 'to_xml' (did you mean 'to_yaml'?); it has: parse_json, "),
        ("local code = exec.run('true').status", "a result of exec.run has no 'status'; it has: code, exit_code, "),
    ],
)
def test_what_is_not_understood_is_an_error_at_the_line(scripts: Runner, code: str, message: str) -> None:
    """An option, method or function that there is none of is an error that names it, the nearest one and the line."""
    with pytest.raises(ScriptError) as caught:
        scripts.run(f"\n{code}")
    assert str(caught.value).startswith(f"deploy.lua:2: {message}")


def test_a_task_that_never_runs_is_said(scripts: Runner) -> None:
    """A task without a name that no workflow has is not dropped silently."""
    assert scripts.run("task({ command = 'true' })") == 0
    assert scripts.recorder.logged("warn") == [
        "the task at deploy.lua:1 has no name and is in no workflow: it never runs"
    ]


@pytest.mark.parametrize("name", [r"a\255", r"a\nb", r"a\27[31m"])
def test_names_are_printable(scripts: Runner, name: str) -> None:
    """A task's name is a word of a line and a key of what is kept."""
    with pytest.raises(PlanError, match=r"^deploy.lua:1: the name of a task must be printable text, got 'a"):
        scripts.run(f"task('{name}'):command('true'):build()")


@pytest.mark.parametrize(
    "parameters", ["this, params, deps", "params, deps", "_, deps", "deps", "a, b, deps", "a, b, c"]
)
def test_outputs_go_to_those_who_depend(scripts: Runner, parameters: str) -> None:
    """The third result of a command is what dependents find in `deps` under its name, by name or in third place."""
    deps = parameters.rpartition(" ")[2]
    assert scripts.info(f"""
        local a = task("a"):command(function() return true, "made", {{ name = "n", list = {{ 1, 2 }} }} end):build()
        local b = task("b"):depends_on("a"):command(function() return true, {{ direct = true }} end):build()
        local c = task("c"):depends_on("b"):command(function({parameters})
            log.info({deps}.a.name, {deps}.a.list[2], {deps}.b.direct)
        end):build()
        workflow.define("w"):tasks({{ a, b, c }})
    """) == ["n 2 true"]
    assert scripts.recorder.results()["a"] == ("ok", "made")


def test_outputs_are_copies(scripts: Runner) -> None:
    """What one task changes in the outputs of another, a third does not see; a task without outputs has none."""
    assert scripts.info("""
        local a = task("a"):command(function() return true, nil, { n = 1 } end):build()
        local b = task("b"):depends_on("a"):command(function(_, deps) deps.a.n = 2 end):build()
        local c = task("c"):depends_on("a", "b"):command(function(_, deps) log.info(deps.a.n, next(deps.b)) end):build()
        workflow.define("w"):tasks({ a, b, c })
    """) == ["1 nil"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("return exec.run('echo out')", "ok", "out"),
        ("return exec.run('echo why >&2; exit 3')", "failed", "why"),
        ("return exec.run('exit 3')", "failed", "the command ended with code 3"),
        ("return true, 'x', { f = print }", "failed", "outputs: value.f: a function cannot be stored"),
        ("return true, 'x', {}, 5", "failed", "the command returned 4 values: at most three expected, true or false, "),
    ],
)
def test_what_else_a_command_returns(scripts: Runner, body: str, status: str, message: str) -> None:
    """What exec.run returned is its verdict; outputs that cannot be handed on are a failure, never dropped."""
    scripts.run(f"workflow.define('w', {{ tasks = {{ t = {{ command = function() {body} end }} }} }})")
    found_status, found_message = scripts.recorder.results()["t"]
    assert (found_status, found_message[: len(message)]) == (status, message)


def test_the_result_of_a_command_reads_as_scripts_read_it(scripts: Runner) -> None:
    """`exit_code` is `code`; the result has the methods of a string; both are there for dependents, too."""
    assert scripts.info("""
        local r = exec.run("echo out; exit 3")
        log.info(r.exit_code == 3, r.exit_code == r.code, r:match("o(.)t"), r:upper(), r:gsub("o", "0"))
        workflow.define("w", { tasks = {
            a = { command = function() return exec.run("echo made") end },
            b = { depends_on = "a", command = function(_, deps) log.info(deps.a.exit_code, deps.a.stdout) end },
        } })
    """) == ["true true u OUT 0ut 1", "0 made\n"]
