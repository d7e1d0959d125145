"""The options of `slothstate run`: dry runs that change nothing, values, the graph, tracebacks, signs of life."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

import slothstate
from helpers.host import Recorder, slothstate_run
from slothstate.cli.terminal import TerminalReporter
from slothstate.lua import new_runtime
from slothstate.lua.binding import state_verbs
from slothstate.lua.host.host import Host, ScriptError
from slothstate.lua.host.report import TaskResult
from slothstate.lua.host.workflow import Task


def write(home: Path, source: str, name: str = "deploy.lua") -> str:
    """Write a script; returns its name."""
    (home / name).write_text(source, encoding="utf-8")
    return name


ACTING = """
local n = state.increment("n")
state.set("table", { port = 80 })
state.list_push("list", n, state.get("table").port)
local result = exec.run("touch ran")
os.execute("touch ran")
os.remove("kept")
os.rename("kept", "moved")
local file = io.open("written", "w")
if file then file:write("x") file:close() end
state.backup("copy.db")
assert(state.lock("l", 0))
print(n, result.success, io.open("kept"):read("*l"), state.list_length("list"))
"""


def test_a_dry_run_changes_nothing(lua: str, tmp_path: Path) -> None:
    """What a script does while it describes its tasks acts on a copy of the store and nowhere else; it is said."""
    (tmp_path / "kept").write_text("kept\n")
    with slothstate.open(tmp_path / "s.db") as state:
        state.set("n", 41)
        before = list(state.dump())
        done = slothstate_run(write(tmp_path, ACTING), "--dry-run", "--db", "s.db", "--lua", lua, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "42\ttrue\tkept\t2\ndeploy.lua: no workflow\n"
        assert done.stderr.splitlines() == [
            "info: dry run, not done: exec.run touch ran",
            "info: dry run, not done: os.execute touch ran",
            "info: dry run, not done: os.remove kept",
            "info: dry run, not done: os.rename kept",
            "info: dry run, not done: io.open written",
            "info: dry run, not done: state.backup copy.db",
        ]
        assert list(state.dump()) == before
        assert state.locks() == []
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["deploy.lua", "kept", *(p for p in os.listdir(tmp_path) if "s.db" in p)]
    )


def test_a_dry_run_creates_no_store(lua: str, tmp_path: Path) -> None:
    """Without a store a dry run has an empty one for itself, and leaves none; built tasks do not run either."""
    source = """
        state.set("k", 1)
        local t = task("t"):command("touch ran"):build()
        print(t:run())
        workflow.define("w"):tasks({ t })
    """
    done = slothstate_run(write(tmp_path, source), "--dry-run", "--db", "s.db", "--lua", lua, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "true\tnil\tnil\nw: 1 task\n  1. t\n")
    assert done.stderr == "info: dry run, not done: the task t\n"
    assert os.listdir(tmp_path) == ["deploy.lua"]


GRAPH = """
workflow.define("release", { config = { max_parallel_tasks = 2 }, tasks = {
    { name = "build", description = "Compile", command = "true", artifacts = "app", user = "nobody" },
    { name = 'say "hi"', depends_on = "build", command = "true", delegate_to = { "web-01", "web-02" } },
    { name = "ship", consumes = "app", run_if = "true", command = "true" },
} })
"""


def test_a_dry_run_shows_what_would_run(lua: str, tmp_path: Path) -> None:
    """The order, with where, as whom, whether and after what."""
    done = slothstate_run(write(tmp_path, GRAPH), "--dry-run", "--lua", lua, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "release: 3 tasks, 2 at a time",
        "  1. build as nobody: Compile",
        '  2. say "hi" on web-01, web-02 (after build)',
        "  3. ship (if its run_if says so) (after build)",
    ]


def test_mermaid(lua: str, tmp_path: Path) -> None:
    """--mermaid prints the graph, and runs nothing."""
    done = slothstate_run(write(tmp_path, GRAPH), "--mermaid", "--lua", lua, cwd=tmp_path)
    assert done.stdout.splitlines() == [
        "graph TD",
        '  subgraph w1["release"]',
        '    w1t1["build"]',
        '    w1t2["say #quot;hi#quot;"]',
        '    w1t3["ship"]',
        "    w1t1 --> w1t2",
        "    w1t1 --> w1t3",
        "  end",
    ]


def test_values(lua: str, tmp_path: Path) -> None:
    """--values gives a script a file of YAML or JSON."""
    name = write(tmp_path, "print(values.env, values.hosts[2], values.on)")
    for file, text in [
        ("v.yaml", "env: prod\nhosts:\n  - a\n  - b\non: yes\n"),
        ("v.json", '{"env": "prod", "hosts": ["a", "b"], "on": "yes"}'),
    ]:
        write(tmp_path, text, file)
        assert slothstate_run(name, "--values", file, "--lua", lua, cwd=tmp_path).stdout == "prod\tb\tyes\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "cannot read v.yaml: No such file or directory"),
        ("a: [", "v.yaml: line 1, column 5: expected the node content"),
        ("- a", "v.yaml: a table of values expected, got a list"),
        ("5", "v.yaml: a table of values expected, got a number"),
        ("abc", "v.yaml: a table of values expected, got a string"),
        ("a: 1\nb:\n  a: 1\n  a: 2", "v.yaml: line 4, column 3: the key 'a' twice"),
        ("8080: x", "v.yaml: line 1, column 1: a key must be text: put it in quotes"),
        ("a: 99999999999999999999", "v.yaml: value['a']: the int is past 64 bits"),
        ("a: !!python/object/apply:os.getcwd []", "v.yaml: line 1, column 4: could not determine a constructor"),
    ],
)
def test_values_that_are_none(text: str | None, error: str, tmp_path: Path) -> None:
    """What cannot be read as a table of values is misuse, with file and line; the script does not run."""
    name = write(tmp_path, "state.set('ran', true)")
    if text is not None:
        write(tmp_path, text, "v.yaml")
    done = slothstate_run(name, "--values", "v.yaml", "--db", "s.db", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"slothstate: {error}"), done.stderr
    assert not (tmp_path / "s.db").exists()


CHAIN = """
local helper = require("helper")
local function middle() helper.fail() end
local t = task("t"):command(function()
    state.with_lock("l", function()
        state.transaction(function() coroutine.wrap(function() pcall(print) middle() end)() end)
    end)
end):build()
workflow.define("w"):tasks({ t })
"""


@pytest.mark.parametrize(
    ("raised", "shown"),
    [("error({ code = 3 })", '{"code":3}'), ("error('boom')", "boom"), ("local x = nil; x()", "attempt")],
)
@pytest.mark.parametrize("option", [[], ["--traceback"]])
def test_traceback(option: list[str], raised: str, shown: str, lua: str, tmp_path: Path) -> None:
    """An error is one line with its place; asked for, the calls follow across files, verbs, tasks and coroutines."""
    write(tmp_path, f"local M = {{}}\nfunction M.fail()\n  {raised}\nend\nreturn M", "helper.lua")
    done = slothstate_run(write(tmp_path, CHAIN), "--lua", lua, *option, cwd=tmp_path)
    assert done.returncode == 1
    _, _, failed, *chain = done.stderr.splitlines()[:-1]
    assert re.search(rf"helper\.lua:3: {re.escape(shown)}", failed)
    found = "\n".join(chain)
    if not option:
        assert found == ""
        return
    assert chain[0] == "task t: calls, innermost first:"
    places = re.findall(
        r"helper.lua:3:|deploy.lua:3:|transaction'|deploy.lua:6:|with_lock'|in task 't' \(deploy.lua:4\)", found
    )
    order = ["helper.lua:3:", "deploy.lua:3:", "transaction'", "with_lock'", "in task 't' (deploy.lua:4)"]
    assert [place for place in places if place != "deploy.lua:6:"] == order
    assert "slothstate:" not in found


def test_traceback_of_the_script_itself(lua: str, tmp_path: Path) -> None:
    """$SLOTHSTATE_TRACEBACK does the same as --traceback, for an error of the script, too."""
    source = "local function f() error('boom') end\nlocal ok, problem = pcall(f)\nerror(problem, 0)"
    name = write(tmp_path, source)
    assert slothstate_run(name, "--lua", lua, cwd=tmp_path).stderr == "slothstate: deploy.lua:1: boom\n"
    done = slothstate_run(name, "--lua", lua, cwd=tmp_path, env={"SLOTHSTATE_TRACEBACK": "1"})
    assert done.stderr.startswith("slothstate: deploy.lua:1: boom\ncalls, innermost first:\n")
    assert re.findall(r"deploy\.lua:(\d): in", done.stderr)[0] == "1"


def test_traceback_through_every_verb(lua: str, tmp_path: Path) -> None:
    """Whichever verb called a function of the script, the calls in it that led to the error are there."""
    with slothstate.open(tmp_path / "state.db") as state:
        verbs = [verb for verb in state_verbs(new_runtime(lua), state) if "function" in verb.arguments.split()]
        assert len(verbs) >= 4
        for verb in verbs:
            kinds = [kind for kind in verb.arguments.split() if not kind.endswith("?")]
            given = ", ".join("f" if kind == "function" else "'k'" for kind in kinds)
            source = (
                "state.list_push('k', 1)\n"
                "local function inner() error('boom') end\n"
                "local function f() inner() return 1 end\n"
                f"state.{verb.name}({given})"
            )
            with pytest.raises(ScriptError) as raised:
                Host(state, Recorder(), lua, traced=True).run(source.encode(), "deploy.lua")
            calls = str(raised.value).partition("innermost first:")[2]
            assert re.findall(r"deploy\.lua:(\d):", calls) == ["2", "3", "4"], f"{verb.name}: {calls}"
            # LuaJIT has no name for a function of C.
            assert lua == "luajit" or f"'{verb.name}'" in calls


def test_a_traced_script_behaves_the_same(lua: str, tmp_path: Path) -> None:
    """Errors, misuse, results and coroutines are what they are without --traceback."""
    source = """
        print(pcall(error, "x", 0), pcall(error), select("#", pcall(function() return nil, nil end)))
        print(select(2, pcall(function() state.transaction(5) end)))
        print(state.transaction(function(...) return select("#", ...), "a", nil end))
        print(state.with_lock("l", function(token) return type(token) end), (pcall(state.with_lock, "l")))
        local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) error({ b }) end)
        print(coroutine.resume(co, 1))
        local ok, problem = coroutine.resume(co, 5)
        print(ok, problem[1], coroutine.status(co))
        print(xpcall(function() error("h", 0) end, function(problem) return problem .. "!" end))
    """
    name = write(tmp_path, source)
    plain = slothstate_run(name, "--lua", lua, cwd=tmp_path)
    traced = slothstate_run(name, "--lua", lua, "--traceback", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert traced.stdout == plain.stdout


def test_a_long_task_shows_that_it_is_alive(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal a task that runs for long says so now and then, until it ends; a short one does not."""
    reporter = TerminalReporter(beat_after=0.05)
    long, short = Task("long", "true"), Task("short", "true")
    reporter.task_started(short)
    reporter.task_finished(TaskResult(short, "ok"))
    reporter.task_started(long)
    time.sleep(0.4)
    reporter.task_finished(TaskResult(long, "interrupted", "", 0.4))
    shown = capsys.readouterr().err
    time.sleep(0.3)
    assert capsys.readouterr().err == ""
    assert 1 <= shown.count("long  still running  0.") <= 3
    assert "short  still" not in shown
    assert "long  0.400s  interrupted" in shown
