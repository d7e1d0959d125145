"""Tasks side by side: only when asked for, in order of what they need, sharing the store and nothing by accident."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.command import command, environment
from helpers.host import Runner
from helpers.support import run_program
from slothstate.lua.host.exec import CommandResult, CommandRunner

MEET = """
    local function meet(name, other)
        exec.run("touch " .. name .. "; for i in $(seq 200); do test -e " .. other .. " && exit; sleep 0.05; done")
        return exec.run("test -e " .. other)
    end
"""
"""A function that two tasks can only come back from when both run at once."""


@pytest.fixture
def scripts(scripts: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """The same in a directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    return scripts


def test_tasks_run_at_once_when_asked_for(scripts: Runner) -> None:
    """Tasks that wait for each other end well side by side; what they log and give arrives, dependents run after."""
    source = (
        MEET
        + """
        workflow.define("w", { config = { max_parallel_tasks = 2 }, tasks = {
            { name = "a", command = function() log.info("in a") return meet("x", "y") end },
            { name = "b", command = function() state.increment("n") return meet("y", "x") end },
            { name = "c", depends_on = { "a", "b" }, command = function(_, deps)
                log.info(deps.a.exit_code, state.increment("n"))
            end },
        } })
    """
    )
    assert scripts.info(source) == ["in a", "0 2"]
    assert {status for status, _ in scripts.recorder.results().values()} == {"ok"}


def test_no_more_than_asked_for(scripts: Runner) -> None:
    """At most so many run at a time, the first in the order of the plan first."""
    body = (
        "command = function() local n = state.increment('now') state.list_push('seen', n) "
        "exec.run('sleep 0.15') state.decrement('now') end"
    )
    tasks = ", ".join(f"{{ name = 't{number}', {body} }}" for number in range(5))
    scripts.info(f"workflow.define('w', {{ config = {{ max_parallel_tasks = 2 }}, tasks = {{ {tasks} }} }})")
    assert max(scripts.state.list_range("seen")) == 2
    started = [event[1] for event in scripts.recorder.events if event[0] == "started"]
    assert started == [f"t{number}" for number in range(5)]


def test_one_at_a_time_by_default(scripts: Runner) -> None:
    """Without max_parallel_tasks tasks share one Lua and its variables."""
    assert scripts.info("""
        local count, pid = 0, nil
        local function command() count = count + 1 log.info(count) end
        workflow.define("w", { tasks = { { name = "a", command = command }, { name = "b", command = command } } })
    """) == ["1", "2"]


@pytest.mark.parametrize(
    ("before", "body", "name"),
    [
        ("local count = 0", "count = count + 1", "count"),
        ("local list = {}", "list[#list + 1] = 'x'", "list"),
        ("local t = { deep = { n = 1 } }", "t.deep.n = 2", "t"),
        ("local n = 0 local function add() n = n + 1 end", "add()", "n"),
        ("seen = {}", "seen.x = true", "seen"),
        ("", "made_here = 1", "made_here"),
        ("package.preload.m = function() return { n = 0 } end require('m')", "require('m').n = 1", "m"),
        ("", "string.more = 1", "string"),
        ("", "values.more = 1", "values"),
    ],
)
def test_a_variable_that_changes_is_refused(scripts: Runner, before: str, body: str, name: str) -> None:
    """A task that changes a variable outside of it fails and says which: the others would not see the change."""
    source = f"""
        {before}
        workflow.define("w", {{ config = {{ max_parallel_tasks = 2 }}, tasks = {{
            {{ name = "a", command = function() {body} end }},
            {{ name = "b", command = function() end }},
            {{ name = "c", depends_on = "a", command = function() end }},
        }} }})
    """
    assert scripts.run(source) == 1
    status, message = scripts.recorder.results()["a"]
    assert status == "failed"
    assert message.startswith(f"it changed '{name}', a variable outside of it")
    assert scripts.recorder.results()["b"] == ("ok", "")
    assert scripts.recorder.results()["c"] == ("skipped", "a failed")


def test_a_condition_s_variables_count_too(scripts: Runner) -> None:
    """What a task's `run_if` changes nobody else sees either."""
    source = """
        local asked = false
        workflow.define("w", { config = { max_parallel_tasks = 2 }, tasks = {
            { name = "a", run_if = function() asked = true return true end, command = function() end } } })
    """
    assert scripts.run(source) == 1
    assert scripts.recorder.results()["a"][1].startswith("it changed 'asked', a variable outside of it")


@pytest.mark.parametrize(
    ("before", "body", "name"),
    [
        ("local c = {} do local n = 0 function c.add() n = n + 1 end end", "c.add()", "c"),
        ("local n, M = 0, {} M.__index = M function M.add() n = 1 end local o = setmetatable({}, M)", "o.add()", "o"),
        (
            "package.preload.m = function() local t = {} return { add = function() t.x = 1 end } end require('m')",
            "require('m').add()",
            "m",
        ),
    ],
)
def test_what_functions_keep_is_warned_of(scripts: Runner, before: str, body: str, name: str) -> None:
    """It may be a cache that nobody misses, or a counter that everybody does."""
    source = f"""
        {before}
        workflow.define("w", {{ config = {{ max_parallel_tasks = 2 }}, tasks = {{
            {{ name = "a", command = function() {body} end }} }} }})
    """
    assert scripts.run(source) == 0
    warning = f"task a changed what functions in '{name}' keep, which tasks side by side do not share"
    assert warning in scripts.recorder.logged("warn")


def test_random_numbers_differ(scripts: Runner) -> None:
    """Tasks side by side draw from sequences of their own."""
    found = scripts.info("""
        local function draw() log.info(math.random(2 ^ 30)) end
        workflow.define("w", { config = { max_parallel_tasks = 4 }, tasks = {
            { name = "a", command = draw }, { name = "b", command = draw }, { name = "c", command = draw } } })
    """)
    assert len(set(found)) == 3


def test_variables_that_stay_are_everybody_s(scripts: Runner) -> None:
    """Functions, tables and values that nobody changes are there as the script left them, hooks see what it changes."""
    assert scripts.info("""
        local words, hooked = { "a", { "b" } }, 0
        local function word() return words[2][1] .. state.get("missing", "!") end
        workflow.define("w", { config = { max_parallel_tasks = 3 }, tasks = {
            { name = "a", command = function() return true, word() end,
              on_success = function(_, _, message) hooked = hooked + 1 log.info(message, hooked) end },
            { name = "b", depends_on = "a", command = function() log.info(hooked) end },
        } })
    """) == ["b! 1", "1"]


def test_params_come_together(scripts: Runner) -> None:
    """What tasks side by side put into `params` is there for those after them."""
    assert scripts.info("""
        workflow.define("w", { config = { max_parallel_tasks = 2, variables = { keep = 1, gone = 1 } }, tasks = {
            { name = "a", command = function(_, params) params.a = { 1 } params.gone = nil end },
            { name = "b", command = function(_, params) exec.run("sleep 0.2") params.b = 2 end },
            { name = "c", depends_on = { "a", "b" }, command = function(_, params)
                log.info(params.a[1], params.b, params.keep, params.gone)
            end },
        } })
    """) == ["1 2 1 nil"]


def test_failures_and_ends(scripts: Runner) -> None:
    """Errors, retries, timeouts, a process that dies and os.exit come to what they do one after the other."""
    assert (
        scripts.run("""
        workflow.define("w", { config = { max_parallel_tasks = 3 }, tasks = {
            { name = "error", command = function() error("boom") end },
            { name = "retried", retries = 1, command = function(this) return this.attempt == 2, "once more" end },
            { name = "late", timeout = 0.2, command = function() while true do end end },
            { name = "shell", timeout = 0.2, command = "sleep 20" },
            { name = "dead", command = "kill -9 $PPID" },
            { name = "no", run_if = "false", command = "exit 1" },
            { name = "after", depends_on = { "error", "no" }, command = "true" },
        } })
    """)
        == 1
    )
    assert scripts.recorder.results() == {
        "error": ("failed", "deploy.lua:3: boom"),
        "retried": ("ok", "once more"),
        "late": ("failed", "timed out after 0.2s"),
        "shell": ("failed", "timed out after 0.2s"),
        "dead": ("failed", "its process ended without a result"),
        "no": ("skipped", "its run_if ended with code 1"),
        "after": ("skipped", "error failed"),
    }
    assert ("retry", "retried", "once more") in scripts.recorder.events
    exits = "{ name = 'a', command = function() os.exit(7) end }, { name = 'b', command = 'sleep 20' }"
    began = time.monotonic()
    assert scripts.run(f"workflow.define('w', {{ config = {{ max_parallel_tasks = 2 }}, tasks = {{ {exits} }} }})") == 7
    assert time.monotonic() - began < 5


def test_locks_of_tasks_exclude_each_other(scripts: Runner) -> None:
    """A lock that one task holds another waits for; it ends with its task."""
    command = """command = function() return state.with_lock("l", function()
        local n = state.get("n", 0) exec.run("sleep 0.1") state.set("n", n + 1) return true
    end) end"""
    tasks = ", ".join(f"{{ name = 't{number}', {command} }}" for number in range(4))
    assert scripts.run(f"workflow.define('w', {{ config = {{ max_parallel_tasks = 4 }}, tasks = {{ {tasks} }} }})") == 0
    assert scripts.state["n"] == 4
    assert scripts.state.locks() == []


def begun(directory: Path, files: tuple[str, ...], *before: str) -> subprocess.Popen[str]:
    """Start `slothstate run deploy.lua` behind some words, and wait until it has made its files."""
    process = subprocess.Popen(
        [*before, *command("run", "deploy.lua", "--db", "s.db")],
        cwd=directory,
        env=environment(directory),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 20
    while not all((directory / file).exists() for file in files) and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_outlives_the_run(name: str, tmp_path: Path) -> None:
    """Ctrl-C and signals end the tasks and their commands, and say which were cut off; so does its death."""
    number = signal.Signals[name]
    loop = "while :; do echo x >> beat; sleep 0.02; done"
    (tmp_path / "deploy.lua").write_text(f"""
        workflow.define("w", {{ config = {{ max_parallel_tasks = 2 }}, tasks = {{
            {{ name = "a", command = function() exec.run("{loop}") end }},
            {{ name = "b", command = function() exec.run("touch two") while true do end end }},
        }} }})
    """)
    process = begun(tmp_path, ("beat", "two"))
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    errors = process.communicate(timeout=20)[1]
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert {line.partition(" in ")[0] for line in errors.splitlines()} >= {
            "task a: interrupted",
            "task b: interrupted",
        }
    # Soon: it may still beat for as long as whoever ends it needs to notice.
    sizes = [0, 1]
    deadline = time.monotonic() + 20
    while sizes[-1] != sizes[-2]:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.3)
        sizes.append((tmp_path / "beat").stat().st_size)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_interrupt_while_a_command_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever interrupts and leaves at once, as a worker does whose run is dead, leaves no command behind."""
    runner = CommandRunner()
    started = threading.Event()
    begin = subprocess.Popen.__init__

    def slowly(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        started.set()
        time.sleep(1)

    monkeypatch.setattr(subprocess.Popen, "__init__", slowly)
    results: list[CommandResult] = []
    thread = threading.Thread(target=lambda: results.append(runner.run(f"echo $$ > {tmp_path}/pid; exec sleep 60")))
    thread.start()
    assert started.wait(10)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    runner.interrupt(kill=True)
    # Before the thread that started it could have ended it.
    deadline = time.monotonic() + 0.5
    stat = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
            assert time.monotonic() < deadline
            time.sleep(0.01)
    thread.join(10)
    assert results[0].stopped == "interrupt"


def test_a_signal_that_is_ignored_ends_no_task(tmp_path: Path) -> None:
    """Under nohup a closed terminal ends neither the run nor tasks side by side."""
    (tmp_path / "deploy.lua").write_text("""
        workflow.define("w", { config = { max_parallel_tasks = 2 }, tasks = {
            { name = "a", command = "touch begun; while ! test -e go; do sleep 0.02; done" },
            { name = "b", command = function() exec.run("while ! test -e go; do sleep 0.02; done") end },
        } })
    """)
    process = begun(tmp_path, ("begun",), "/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh")
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(0.2)
    (tmp_path / "go").touch()
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == 0, errors


def test_a_signal_while_a_worker_begins(tmp_path: Path) -> None:
    """A worker that is told to end before it is itself ends without a traceback and runs nothing of its task."""
    (tmp_path / "deploy.lua").write_text("""
        workflow.define("w", { config = { max_parallel_tasks = 2 }, tasks = {
            { name = "a", command = "touch ran" },
        } })
    """)
    program = (
        "import os, signal, sys, slothstate.__main__ as main; "
        "os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM)); "
        "sys.exit(main.main())"
    )
    done = run_program(
        [sys.executable, "-c", program, "run", "deploy.lua", "--db", "s.db"],
        cwd=tmp_path,
        env=environment(tmp_path),
        timeout=20,
    )
    assert done.returncode == 1
    assert "Exception" not in done.stderr
    assert not (tmp_path / "ran").exists()
