"""The script host: log, exec, data, the builders, timeouts, os.exit and interruption, on both Luas."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

import slothstate
from helpers.host import Recorder, Runner
from slothstate.lua.host.host import Host, Interrupted, ScriptError, ScriptSyntaxError
from slothstate.lua.host.workflow import PlanError


def one_task(body: str, options: str = "") -> str:
    """A script of one workflow with one task `t` whose command has this body."""
    return f"""
        local t = task("t"){options}:command(function(this, params) {body} end):build()
        workflow.define("w"):tasks({{ t }})
    """


def test_script_without_tasks(scripts: Runner) -> None:
    """A script that defines nothing just runs, with the store at hand."""
    assert scripts.run("state.set('answer', 42)") == 0
    assert scripts.state["answer"] == 42
    assert scripts.recorder.events == []


def test_script_error(scripts: Runner) -> None:
    """An error of the script has its file and line, and no workflow runs."""
    with pytest.raises(ScriptError, match=r"^deploy\.lua:3: attempt to index"):
        scripts.run("workflow.define('w'):tasks({})\n\nlocal x = nothing.here")
    assert scripts.recorder.events == []


@pytest.mark.parametrize(
    ("raised", "shown"),
    [
        ("'text', 0", "text"),
        ("42, 0", "42"),
        ("setmetatable({}, { __tostring = function() return 'mine' end })", "mine"),
        ("setmetatable({}, { __tostring = function() error('worse') end })", "{}"),
        ("{}", "{}"),
        ("{ code = 3 }", '{"code":3}'),
        ("{ why = { 'a', { at = 1 } } }", '{"why":["a",{"at":1}]}'),
        ("{ 'text', code = 3 }", '{ "text", code = 3 }'),
        ("'', 0", "an error without a text was raised"),
        ("print", "an error that is not text was raised: a function"),
        ("nil", "an error that is not text was raised: a nil"),
    ],
)
def test_error_values(scripts: Runner, raised: str, shown: str) -> None:
    """Whatever value a script raises reads as text."""
    with pytest.raises(ScriptError) as caught:
        scripts.run(f"error({raised})")
    assert str(caught.value).removeprefix("deploy.lua:1: ") == shown


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "\n\nreturn state.set('k', print)",
            "deploy.lua:3: bad argument #2 to 'set' (value: a function cannot be stored)",
        ),
        ("return exec.run(5)", "deploy.lua:1: bad argument #1 to 'run' (string expected, got number)"),
        (
            "return state.with_lock('l', function() return state.increment('k', 'x') end)",
            "deploy.lua:1: bad argument #2 to 'increment' (number expected, got string)",
        ),
        ("return error('mine')", "deploy.lua:1: mine"),
        ("return error('mine', 0)", "mine"),
        ("return coroutine.wrap(function()\n error('in') end)()", "deploy.lua:2: in"),
        ("\nerror(5)", "deploy.lua:2: 5"),
    ],
)
def test_the_place_of_an_error_is_the_script_s(scripts: Runner, binding: str, source: str, message: str) -> None:
    """Also of what a function returns, which has left it by then; never a line of our own code."""
    with pytest.raises(ScriptError) as caught:
        scripts.run(source)
    assert str(caught.value) == message
    scripts.run(
        f"""workflow.define("w", {{ tasks = {{ {{ name = "t", command = function() {source.strip()} end }} }} }})"""
    )
    place, _, rest = scripts.recorder.results()["t"][1].rpartition("deploy.lua:")
    assert (place, rest.partition(": ")[2] or rest) == ("", message.partition(": ")[2] or message)
    assert scripts.info(f"log.info((select(2, pcall(function() {source.strip()} end))))")[0].find("slothstate") == -1


def test_syntax_error(scripts: Runner) -> None:
    """What is no Lua is told apart from an error at run time, with the line."""
    with pytest.raises(ScriptSyntaxError, match=r"^deploy\.lua:2: .*near"):
        scripts.run("local x = 1\nlocal y = = 2")


def test_bytecode_is_refused(scripts: Runner) -> None:
    """Only source text runs: Lua does not check bytecode."""
    with pytest.raises(ScriptSyntaxError, match=r"^deploy\.lua: compiled Lua"):
        scripts.run(b"\x1bLua" + bytes(64))


def test_shebang_and_byte_order_mark(scripts: Runner) -> None:
    """A first line for the shell and a byte order mark are skipped, and lines still count from 1."""
    assert scripts.run("\ufeff#!/usr/bin/env -S slothstate run\nstate.set('k', 1)") == 0
    with pytest.raises(ScriptError, match=r"^deploy\.lua:2: boom"):
        scripts.run("#!/usr/bin/env -S slothstate run\nerror('boom')")


def test_require_looks_beside_the_script(scripts: Runner, tmp_path: Path) -> None:
    """`require` finds modules in the script's directory."""
    (tmp_path / "helper.lua").write_text("return { name = 'helper' }")
    scripts.run("log.info(require('helper').name)", path=str(tmp_path / "deploy.lua"))
    assert scripts.recorder.logged() == ["helper"]


def test_print_goes_to_stdout(scripts: Runner, capfd: pytest.CaptureFixture[str]) -> None:
    """`print` writes to stdout at once."""
    scripts.run("print('hello', 1, nil) io.write('there')")
    scripts.run("io.stdout:flush()")
    assert capfd.readouterr().out == "hello\t1\tnil\nthere"


def test_require_of_what_the_host_offers(scripts: Runner, tmp_path: Path) -> None:
    """The host's tables can be required by name, and a file of that name beside the script comes first."""
    (tmp_path / "data.lua").write_text("return 'my own'")
    path = str(tmp_path / "deploy.lua")
    source = """
        for _, name in ipairs({ "log", "exec", "metrics", "reliability", "state" }) do
            assert(require(name) == _G[name], name)
        end
        log.info(require("data"), (pcall(require, "systemd")))
    """
    assert scripts.run(source, path=path) == 0
    assert scripts.recorder.logged() == ["my own false"]


def test_no_python_in_reach(scripts: Runner) -> None:
    """There is no `python` table, and no value that a script sees is a Python object."""
    assert scripts.info("""
        local seen, found = {}, {}
        local function walk(value, path)
            if type(value) == "userdata" and not tostring(value):find("^file") then found[#found + 1] = path end
            if type(value) ~= "table" or seen[value] then return end
            seen[value] = true
            for key, inner in pairs(value) do walk(inner, path .. "." .. tostring(key)) end
        end
        local names = "log exec data metrics reliability task workflow os coroutine"
        for name in names:gmatch("%a+") do
            walk(_G[name], name)
        end
        log.info(tostring(python), tostring(package.loaded.python), table.concat(found, " "))
    """) == ["nil nil "]


def test_os_exit_ends_the_run(scripts: Runner) -> None:
    """os.exit gives the exit code from anywhere, and pcall does not hold it back; no workflow runs after it."""
    assert scripts.run("os.exit(7)") == 7
    assert scripts.run("os.exit()") == 0
    assert scripts.run("os.exit(true)") == 0
    assert scripts.run("os.exit(false)") == 1
    assert scripts.run("pcall(os.exit, 3) state.set('after', 1)") == 3
    assert scripts.run("pcall(function() pcall(os.exit, 4) end) while true do end") == 4
    assert scripts.run("coroutine.wrap(function() os.exit(5) end)() state.set('after', 1)") == 5
    assert scripts.run(one_task("os.exit(6)") + " workflow.define('x'):tasks({ 't' })") == 6
    assert not scripts.state.exists("after")
    with pytest.raises(ScriptError, match=r"deploy\.lua:1: bad argument #1 to 'exit'"):
        scripts.run("os.exit('7')")


def test_log(scripts: Runner) -> None:
    """Each level takes any values, as print does, joined by spaces."""
    scripts.run("""
        log.debug("a", 1, nil, true) log.info("two\\nlines") log.warn("\\255") log.error(exec.run("echo out"))
    """)
    assert scripts.recorder.events == [
        ("debug", "a 1 nil true"),
        ("info", "two\nlines"),
        ("warn", "\udcff"),
        ("error", "out"),
    ]


def test_exec_run(scripts: Runner) -> None:
    """A command gives success, code and both outputs, byte for byte."""
    assert scripts.info("""
        local good, bad = exec.run("printf 'a\\\\n\\\\n'"), exec.run("printf '\\\\377' ; echo problem >&2 ; exit 3")
        log.info(good.success, good.code, #good.stdout, good.stderr == "")
        log.info(bad.success, bad.code, bad.stdout:byte(), bad.stderr)
    """) == ["true 0 3 true", "false 3 255 problem\n"]


def test_exec_result_reads_as_its_output(scripts: Runner) -> None:
    """Concatenated on either side, or with another result, a result is its stdout without the last newline."""
    assert scripts.info("""
        local a, b = exec.run("echo a"), exec.run("printf 'b\\\\r\\\\n'")
        log.info("<" .. a, a .. ">", a .. b, tostring(a), 1 .. a, "[" .. exec.run("printf 'x\\\\n\\\\n'") .. "]")
    """) == ["<a a> ab a 1a [x\n]"]
    with pytest.raises(ScriptError, match=r"^deploy\.lua:1: attempt to concatenate"):
        scripts.run("local x = exec.run('true') .. {}")


def test_exec_options(scripts: Runner, tmp_path: Path) -> None:
    """`workdir` is where a command runs, `env` what it sees beside this process's own variables."""
    assert scripts.info(f"""
        log.info(exec.run("pwd", {{ workdir = "{tmp_path}" }}))
        log.info(exec.run('echo "$A $B ${{PATH:+path}}"', {{ env = {{ A = "a b", B = 5 }} }}))
    """) == [str(tmp_path.resolve()), "a b 5 path"]


def test_exec_failures(scripts: Runner) -> None:
    """What cannot start has code 127 and says why; a signal gives 128 + its number; stdin is empty."""
    assert scripts.info("""
        local nowhere = exec.run("true", { workdir = "/no/such/place" })
        log.info(nowhere.success, nowhere.code, nowhere.stderr)
        log.info(exec.run("no-such-command-here").code, exec.run("kill -9 $$").code, exec.run("cat").success)
    """) == ["false 127 /no/such/place: No such file or directory\n", "127 137 true"]


def test_json(scripts: Runner) -> None:
    """JSON goes both ways; null is state.null; what JSON cannot hold gives nil and a message."""
    assert scripts.info("""
        log.info(data.to_json({ 1, "two", { three = true } }), data.to_json("text"), data.to_json(1.5))
        local value = data.parse_json('{"list": [1, 2.5, "x", null], "t": {"on": false}}')
        log.info(value.list[2], value.list[3], value.list[4] == state.null, value.t.on)
        log.info(data.to_json({ state.null }), data.to_json(nil), data.to_json(state.null))
        log.info(data.parse_json("null") == state.null)
        log.info(data.parse_json("42"), data.parse_json('"x"'), data.parse_json("false"))
    """) == ['[1,"two",{"three":true}] "text" 1.5', "2.5 x true false", "[null] null null", "true", "42 x false"]


@pytest.mark.parametrize(
    "call",
    [
        "data.parse_json('[1,')",
        "data.parse_json('')",
        "data.to_json({ print })",
        "data.to_json({ 1, x = 2 })",
        "data.to_json(0/0)",
    ],
)
def test_json_failures(scripts: Runner, call: str) -> None:
    """A text that is no JSON, or a value that JSON cannot hold, gives nil and a message."""
    (line,) = scripts.info(f"local value, message = {call} log.info(value, type(message), #message > 10)")
    assert line == "nil string true"


TASK_METHODS = (
    "artifacts, build, command, consumes, delegate_to, depends_on, description, on_fail, on_failure, on_success, "
    "retries, run, run_if, timeout, user, workdir"
)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("log.info()", "bad argument #1 to 'info' (value expected)"),
        ("exec.run()", "bad argument #1 to 'run' (string expected, got no value)"),
        ("exec.run(nil)", "bad argument #1 to 'run' (string expected, got nil)"),
        ("exec.run('a\\0b')", "bad argument #1 to 'run' (command contains a NUL byte)"),
        ("exec.run('true', 'x')", "bad argument #2 to 'run' (table expected, got string)"),
        ("exec.run('true', {cwd = '/'})", "bad argument #2 to 'run' (unknown option 'cwd': there are workdir and env)"),
        (
            "exec.run('true', {workdir = ''})",
            "bad argument #2 to 'run' (workdir: a directory expected, got an empty string)",
        ),
        ("exec.run('true', {workdir = 1})", "bad argument #2 to 'run' (workdir: string expected, got number)"),
        ("exec.run('true', {env = 'A=1'})", "bad argument #2 to 'run' (env: table expected, got string)"),
        ("exec.run('true', {env = {'A'}})", "bad argument #2 to 'run' (env: '1' is no name for a variable)"),
        ("exec.run('true', {env = {A = true}})", "bad argument #2 to 'run' (env.A: string expected, got boolean)"),
        ("data.to_json()", "bad argument #1 to 'to_json' (value expected)"),
        ("data.parse_json({})", "bad argument #1 to 'parse_json' (string expected, got table)"),
        ("task()", "bad argument #1 to 'task' (string expected, got no value)"),
        ("task('')", "bad argument #1 to 'task' (a name expected, got an empty string)"),
        ("task('t'):description(nil)", "bad argument #1 to 'description' (string expected, got nil)"),
        ("task('t'):description()", "bad argument #1 to 'description' (string expected, got no value)"),
        ("task('t'):command(5)", "bad argument #1 to 'command' (string expected, got number)"),
        (
            "task('t'):command(' ')",
            "bad argument #1 to 'command' (a shell command expected, got an empty string or one with a NUL byte)",
        ),
        ("task('t'):depends_on()", "bad argument #1 to 'depends_on' (a task or its name expected, got no value)"),
        ("task('t'):depends_on('a', 1)", "bad argument #2 to 'depends_on' (a task or its name expected, got number)"),
        (
            "task('t'):depends_on({'a', true})",
            "bad argument #1 to 'depends_on' (item 2: a task or its name expected, got boolean)",
        ),
        (
            "task('t'):depends_on({a = 'b'})",
            "bad argument #1 to 'depends_on' (a list expected, got a table with the key 'a')",
        ),
        (
            "task('t'):timeout('30')",
            'bad argument #1 to \'timeout\' (seconds above 0 or a text like "30s", "5m", "1h" expected, got "30")',
        ),
        (
            "task('t'):timeout(0)",
            'bad argument #1 to \'timeout\' (seconds above 0 or a text like "30s", "5m", "1h" expected, got 0)',
        ),
        ("task('t'):retries(-1)", "bad argument #1 to 'retries' (a whole number of further attempts expected, got -1)"),
        ("task('t'):retries('2')", "bad argument #1 to 'retries' (number expected, got string)"),
        ("task('t'):on_success('x')", "bad argument #1 to 'on_success' (function expected, got string)"),
        ("task('t'):build()", "task 't' has no command"),
        ("task('t').build()", "'build' is a method: call it with a colon, as in task:build(...)"),
        ("task('t'):comand('x')", f"a task has no method 'comand' (did you mean 'command'?); it has: {TASK_METHODS}"),
        ("task('t').timeout = 5", f"a task has no field 'timeout' to set; its methods are: {TASK_METHODS}"),
        ("task('t'):command('x'):build():timeout(5)", "task 't' is already built: 'timeout' comes too late"),
        ("workflow.define({})", "bad argument #1 to 'define' (string expected, got table)"),
        ("workflow.define('w'):tasks('a')", "bad argument #1 to 'tasks' (table expected, got string)"),
        (
            "workflow.define('w'):tasks({nil, 'a'})",
            "bad argument #1 to 'tasks' (a list expected, got one with holes: 1 of its 2 items are nil)",
        ),
        (
            "workflow.define('w'):tasks({task('t')})",
            "bad argument #1 to 'tasks' (item 1: task 't' is not built: end it with :build())",
        ),
        (
            "workflow.define('w'):tasks(task('t'))",
            "bad argument #1 to 'tasks' (a list of tasks expected, got one task: write tasks({ ... }))",
        ),
        (
            "workflow.define('w'):tusks({})",
            "a workflow has no method 'tusks' (did you mean 'tasks'?); it has: build, config, description, metadata, "
            "on_complete, on_start, on_task_complete, tasks, version",
        ),
    ],
)
def test_misuse_is_an_error_at_the_script_s_line(scripts: Runner, code: str, message: str) -> None:
    """Every misuse of the host is a Lua error, text with the script's line, that pcall can show."""
    with pytest.raises(ScriptError) as caught:
        scripts.run(f"\n{code}")
    assert str(caught.value) == f"deploy.lua:2: {message}"
    scripts.run(f"log.info(select(2, pcall(function()\n{code} end))) os.exit()")
    assert scripts.recorder.logged() == [f"deploy.lua:2: {message}"]


def test_tasks_run_after_the_script(scripts: Runner) -> None:
    """Workflows run once the script is through, in the order of their definition."""
    scripts.run("""
        local a = task("a"):command(function() log.info("in a") end):build()
        workflow.define("first"):tasks({ a })
        workflow.define("second"):description("d"):version("1.0.0"):tasks({ "a" })
        log.info("script")
    """)
    run = [("started", "a"), ("info", "in a"), ("ok", "a", "")]
    assert scripts.recorder.events == [
        ("info", "script"),
        *(("plan", "first"), *run, ("end", "first")),
        *(("plan", "second"), *run, ("end", "second")),
    ]


def test_depends_on_adds_up(scripts: Runner) -> None:
    """Names, several names, tables and built tasks all count, over several calls."""
    scripts.run("""
        for _, name in ipairs({ "e", "d", "c", "b", "a" }) do task(name):command("true"):build() end
        local built = task("built"):command("true"):build()
        task("t"):depends_on("a"):depends_on("b", "c"):depends_on({ "d", built }):depends_on({}):command("true"):build()
        workflow.define("w"):tasks({ "t" })
    """)
    assert list(scripts.recorder.results()) == ["d", "c", "b", "a", "built", "t"]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("", "ok", ""),
        ("return true", "ok", ""),
        ("return true, 'fine'", "ok", "fine"),
        ("return true, 5", "ok", "5"),
        ("return true, exec.run('echo out')", "ok", "out"),
        ("return nil", "ok", ""),
        ("return nil, 'not now'", "failed", "not now"),
        ("return false", "failed", ""),
        ("return false, 'why'", "failed", "why"),
        ("return 'done'", "failed", "the command returned a string: true or false expected, then a message"),
        ("error('boom', 0)", "failed", "boom"),
        ("error('boom')", "failed", "deploy.lua:2: boom"),
        ("state.get(5)", "failed", "deploy.lua:2: bad argument #1 to 'get' (string expected, got number)"),
    ],
)
def test_what_a_command_returns(scripts: Runner, body: str, status: str, message: str) -> None:
    """true and nothing are success; false, nil with a message, any other value and an error are failure."""
    assert scripts.run(one_task(body)) == (0 if status == "ok" else 1)
    assert scripts.recorder.results() == {"t": (status, message)}


def test_this_and_params(scripts: Runner) -> None:
    """`this` describes the task and the attempt; `params` is one table for all tasks and hooks of a workflow."""
    scripts.run("""
        local a = task("a"):description("First"):retries(1):timeout("1m30s"):command(function(this, params)
            params.seen = (params.seen or 0) + 1
            log.info(this.name, this.description, this.workflow, this.attempt, this.attempts, this.timeout)
            return this.attempt == 2, "said"
        end):on_success(function(this, params, message) log.info("hook", this.name, params.seen, message) end):build()
        local b = task("b"):command(function(this, params)
            log.info(params.seen, this.timeout, this.attempts)
            return false, "no"
        end):on_failure(function(this, params, message) log.info("hook", this.name, message) end):build()
        workflow.define("w"):tasks({ a, b })
    """)
    assert scripts.recorder.logged() == [
        "a First w 1 2 90",
        "a First w 2 2 90",
        "hook a 2 said",
        "2 nil 1",
        "hook b no",
    ]


def test_broken_hook(scripts: Runner) -> None:
    """An error in a hook is reported with its line and makes the run fail; the task stays ok."""
    assert (
        scripts.run("""
        local t = task("t"):command("true"):on_success(function() error("boom") end):build()
        workflow.define("w"):tasks({ t })
    """)
        == 1
    )
    assert scripts.recorder.results() == {"t": ("ok", "")}
    assert scripts.recorder.logged("error") == ["on_success of task 't': deploy.lua:2: boom"]


def test_shell_commands(scripts: Runner, capfd: pytest.CaptureFixture[str]) -> None:
    """A shell command writes straight to stdout and stderr; its exit code decides."""
    assert (
        scripts.run("""
        local good = task("good"):command("echo out; echo err >&2"):build()
        local bad = task("bad"):command("exit 3"):build()
        workflow.define("w"):tasks({ good, bad })
    """)
        == 1
    )
    assert scripts.recorder.results() == {"good": ("ok", ""), "bad": ("failed", "the command ended with code 3")}
    assert tuple(capfd.readouterr()) == ("out\n", "err\n")


def test_plan_errors_come_before_anything_runs(scripts: Runner) -> None:
    """A cycle, an unknown dependency, two tasks of one name and an unknown selection stop the run with no task run."""
    build = ":command(function() state.set('ran', true) end):build()"
    for source, tasks, message in [
        (f"task('a'):depends_on('b'){build} task('b'):depends_on('a'){build}", [], "a → b → a"),
        (f"task('a'):depends_on('x'){build}", [], "deploy.lua:1: task 'a' depends on an unknown task 'x'"),
        (f"task('a'){build}\ntask('a'){build}", [], "deploy.lua:2: a second task 'a'; the first is at deploy.lua:1"),
        (f"task('a'){build}", ["b"], "unknown task 'b'"),
    ]:
        with pytest.raises(PlanError) as caught:
            scripts.run(f"{source} workflow.define('w'):tasks({{ 'a' }})", tasks)
        assert message in str(caught.value)
        assert scripts.recorder.events == []
    assert not scripts.state.exists("ran")


def test_selected_task(scripts: Runner) -> None:
    """A selected task runs with its dependencies, the others do not, and it needs no workflow."""
    source = (
        "for _, n in ipairs({'a','b','c'}) do task(n):depends_on(n == 'b' and {'a'} or {}):command('true'):build() end"
    )
    scripts.run(source + " workflow.define('w'):tasks({'b', 'c'})", ["b"])
    assert list(scripts.recorder.results()) == ["a", "b"]
    scripts.run(source, ["c"])
    assert list(scripts.recorder.results()) == ["c"]


def test_tasks_without_a_workflow(scripts: Runner) -> None:
    """Tasks that no workflow runs are worth a warning."""
    assert scripts.run("task('a'):command('false'):build()") == 0
    assert scripts.recorder.events == [("warn", "tasks are defined, but no workflow: nothing runs (see --task)")]


@pytest.mark.parametrize(
    "body",
    [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(pcall, pcall, function() local t = {} t[1] = tostring(t) end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "while true do coroutine.wrap(function() while true do end end)() end",
        "local inner = coroutine.create(function() while true do end end) while true do coroutine.resume(inner) end",
        "while true do pcall(coroutine.wrap(function() pcall(function() while true do end end) end)) end",
        "while true do state.transaction(function() while true do end end) end",
        "state.with_lock('l', function() while true do end end)",
        "exec.run('sleep 60')",
        "while true do pcall(exec.run, 'sleep 60') end",
        "while true do exec.run('true') end",
    ],
)
def test_timeout_ends_a_function(scripts: Runner, body: str) -> None:
    """A timeout ends loops, whatever catches errors in them, and commands; the next task runs as if nothing was."""
    began = time.monotonic()
    assert (
        scripts.run(f"""
        local t = task("t"):timeout("150ms"):command(function() {body} end):build()
        local after = task("after"):command(function()
            for i = 1, 100000 do pcall(tostring, i) end
            return true, tostring(state.try_lock("l"))
        end):build()
        workflow.define("w"):tasks({{ t, after }})
    """)
        == 1
    )
    assert time.monotonic() - began < 30
    assert scripts.recorder.results() == {"t": ("failed", "timed out after 0.15s"), "after": ("ok", "true")}
    scripts.state.unlock("l")


@pytest.mark.parametrize("wait", ["state.lock('l')", "state.lock('l', 60)", "state.with_lock('l', print)"])
def test_timeout_bounds_the_wait_for_a_lock(scripts: Runner, wait: str, tmp_path: Path) -> None:
    """A task waits for a lock no longer than it may take; a shorter timeout of its own still counts."""
    with slothstate.open(tmp_path / "state.db") as other:
        assert other.lock("l")
        began = time.monotonic()
        scripts.run(one_task(wait, ":timeout(0.2)"))
        assert time.monotonic() - began < 30
        assert scripts.recorder.results() == {"t": ("failed", "timed out after 0.2s")}
        scripts.run(one_task("return not state.lock('l', 0.05), 'in time'", ":timeout(20)"))
        assert scripts.recorder.results() == {"t": ("ok", "in time")}


def test_timeout_rolls_back(scripts: Runner) -> None:
    """What a transaction wrote before its task ran out of time is undone."""
    scripts.run(one_task("state.transaction(function() state.set('k', 1) while true do end end)", ":timeout(0.1)"))
    assert scripts.recorder.results()["t"][1] == "timed out after 0.1s"
    assert not scripts.state.exists("k")


def test_timeout_ends_a_shell_command_with_its_children(scripts: Runner, tmp_path: Path) -> None:
    """A command that ran out of time is ended with the processes it started, also those that ignore SIGTERM."""
    beat = tmp_path / "beat"
    loop = f"trap '' TERM; (trap '' TERM; while :; do echo x >> {beat}; sleep 0.02; done) & wait"
    for command in (f'"{loop}"', f'function() exec.run("{loop}") end'):
        beat.unlink(missing_ok=True)
        for timeout in ("0.2", "2", "20"):
            scripts.run(f'task("t"):timeout({timeout}):command({command}):build() workflow.define("w"):tasks({{"t"}})')
            assert scripts.recorder.results() == {"t": ("failed", f"timed out after {timeout}s")}
            if beat.exists():
                break
        size = beat.stat().st_size
        time.sleep(0.1)
        assert beat.stat().st_size == size > 0


def test_timeout_counts_for_each_attempt(scripts: Runner) -> None:
    """Each attempt has the whole timeout, and one that ran out of time is attempted again."""
    assert scripts.run(one_task("if this.attempt == 1 then while true do end end", ":timeout(0.1):retries(1)")) == 0
    assert [event for event in scripts.recorder.events if event[0] == "retry"] == [
        ("retry", "t", "timed out after 0.1s")
    ]


def test_coming_back_too_late_is_a_timeout(scripts: Runner) -> None:
    """A command that a hook could not stop, and that came back after its time, has timed out."""
    assert scripts.run(one_task("os.execute('sleep 0.2') return true", ":timeout(0.1)")) == 1


def test_hot_code_times_out_too(scripts: Runner) -> None:
    """Code that LuaJIT compiled before the task began is bounded as well."""
    assert (
        scripts.run("""
        local function spin(n) local x = 0 for i = 1, n do x = x + i % 7 end return x end
        for _ = 1, 100 do spin(1000) end
        local t = task("t"):timeout("100ms"):command(function() spin(1e15) end):build()
        workflow.define("w"):tasks({ t })
    """)
        == 1
    )


def test_coroutines_are_what_they_were(scripts: Runner) -> None:
    """In a task with a timeout coroutines pass values and errors as usual."""
    assert scripts.info(
        one_task(
            """
        local double = coroutine.wrap(function(x) while true do x = coroutine.yield(x * 2) end end)
        local failing = coroutine.wrap(function() error("inside") end)
        local object = {}
        local _, problem = pcall(coroutine.wrap(function() error(object) end))
        log.info(double(1), double(4), problem == object)
        log.info(coroutine.resume(coroutine.create(function(...) return select("#", ...), ... end), nil, 2, nil))
        log.info((select(2, pcall(failing)):gsub(".*inside", "inside")), coroutine.resume(coroutine.create(error), "x"))
        log.info(select("#", xpcall(function(...) return ... end, print, nil, nil)))
    """,
            ":timeout(5)",
        )
    ) == ["2 8 true", "true 3 nil 2 nil", "inside false x", "3"]


@pytest.mark.parametrize(
    "body",
    [
        "exec.run('sleep 60')",
        "pcall(exec.run, 'sleep 60') while true do end",
        "while true do end",
        "coroutine.wrap(function() while true do pcall(function() while true do end end) end end)()",
    ],
)
def test_interrupt(scripts: Runner, body: str) -> None:
    """An interrupt from another thread ends the running command, and a task with a timeout, at once."""
    recorder = Recorder()
    host = Host(scripts.state, recorder, scripts.implementation)
    timer = threading.Timer(0.2, host.interrupt)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        host.run(one_task(body, ":timeout(60):retries(3)").encode(), "deploy.lua")
    assert time.monotonic() - began < 30
    timer.join()
    assert recorder.results() == {}
