"""Runs with a name: what is kept of them, how they go on after any end, and that two do not overlap."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import slothstate
from helpers.command import command, environment
from helpers.host import slothstate_run
from slothstate.lua.host import run_record

PIPELINE = """
local function note(name) exec.run("echo " .. name .. " >> ran") end
local a = task("a"):command(function(this, params)
    note("a")
    params.seen = 5
    return true, "said a", { v = "one" }
end):build()
local b = task("b"):depends_on("a"):command(function(params, deps)
    note("b:" .. deps.a.v)
    if not io.open("go") then exec.run("touch waiting; sleep 60") end
    return true, "said b"
end):build()
local c = task("c"):depends_on("b"):command(function(this, params, deps)
    note("c:" .. deps.a.v .. ":" .. params.seen)
end):build()
workflow.define("w"):tasks({ a, b, c }):on_complete(function(success) note("complete:" .. tostring(success)) end)
"""


def write(home: Path, source: str, name: str = "deploy.lua") -> str:
    """Write a script; returns its name."""
    (home / name).write_text(source, encoding="utf-8")
    return name


def run(home: Path, *arguments: str, code: int = 0) -> str:
    """Run deploy.lua as the run `nightly`; returns what it reported."""
    done = slothstate_run("deploy.lua", "--db", "s.db", "--name", "nightly", *arguments, cwd=home)
    assert done.returncode == code, done.stderr
    return done.stderr


def runs(home: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `slothstate runs`."""
    command = [sys.executable, "-m", "slothstate", "runs", "--db", "s.db", *arguments]
    done = subprocess.run(command, cwd=home, env=environment(home), capture_output=True, text=True, timeout=30)
    assert done.returncode == code, done.stderr
    return done


def start_and_wait(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the run and wait until its second task is under way."""
    words = command("run", "deploy.lua", "--db", "s.db", "--name", "nightly", *arguments)
    process = subprocess.Popen(words, cwd=home, env=environment(home), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (home / "waiting").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (home / "waiting").exists()
    return process


@pytest.mark.parametrize(("lua", "name"), [("luajit", "SIGKILL"), ("lua54", "SIGKILL"), ("luajit", "SIGINT")])
def test_a_run_that_was_ended_goes_on(lua: str, name: str, tmp_path: Path) -> None:
    """What had ended does not run again, what was under way does; outputs and params are as they were."""
    number = signal.Signals[name]
    write(tmp_path, PIPELINE)
    process = start_and_wait(tmp_path, "--lua", lua)
    process.send_signal(number)
    process.wait(20)
    (listed,) = json.loads(runs(tmp_path, "--json").stdout)
    status = "stopped" if number == signal.SIGKILL else "interrupted"
    assert (listed["name"], listed["status"], listed["done"], listed["tasks"]) == ("nightly", status, 1, 3)
    assert listed["under_way"] == ["b"]
    (tmp_path / "go").touch()
    reported = run(tmp_path, "--resume", "--lua", lua)
    assert "task a: done before, ok in " in reported
    assert (tmp_path / "ran").read_text().split() == ["a", "b:one", "b:one", "c:one:5", "complete:true"]
    assert "has ended well already" in run(tmp_path, "--resume")
    assert (tmp_path / "ran").read_text().split()[-1] == "complete:true"
    assert json.loads(runs(tmp_path, "--json").stdout)[0]["status"] == "ok"


def test_without_resume_a_run_begins_anew(tmp_path: Path) -> None:
    """--name alone keeps what ends, but takes nothing up."""
    write(tmp_path, PIPELINE)
    (tmp_path / "go").touch()
    for _ in range(2):
        assert "done before" not in run(tmp_path)
    assert (tmp_path / "ran").read_text().split().count("a") == 2
    run(tmp_path, "--task", "a")
    reported = run(tmp_path, "--resume")
    assert "task a: done before" in reported
    assert "task b: done before" not in reported


def test_failed_tasks_run_again(tmp_path: Path) -> None:
    """Only what ended well is done: a failed task and what it held up run again, also after the script was mended."""
    source = """
        workflow.define("w", { tasks = {
            { name = "a", command = "echo a >> ran" },
            { name = "no", run_if = "test -e yes", command = "echo no >> ran" },
            { name = "b", depends_on = "a", command = "echo b >> ran; exit 1" },
            { name = "c", depends_on = "b", command = "echo c >> ran" },
        } })
    """
    write(tmp_path, source)
    run(tmp_path, code=1)
    assert json.loads(runs(tmp_path, "--json").stdout)[0]["status"] == "failed"
    write(tmp_path, source.replace("exit 1", "exit 0"))
    (tmp_path / "yes").touch()
    reported = run(tmp_path, "--resume")
    assert "warn: since run nightly began, its script, arguments, values or tasks have changed" in reported
    assert "task no: done before, skipped: its run_if ended with code 1" in reported
    assert (tmp_path / "ran").read_text().split() == ["a", "b", "b", "c"]


def test_two_runs_of_one_name_do_not_overlap(tmp_path: Path) -> None:
    """The second is refused at once, and says who has the name; when the first is killed the name is free."""
    write(tmp_path, PIPELINE)
    process = start_and_wait(tmp_path)
    try:
        for option in ([], ["--resume"]):
            error = run(tmp_path, *option, code=1)
            assert error.startswith(f"slothstate: run 'nightly' is under way, in process {process.pid} on ")
        assert json.loads(runs(tmp_path, "--json").stdout)[0]["status"] == "running"
        assert "under way: it stays" in runs(tmp_path, "--remove", "nightly", code=1).stderr
    finally:
        process.kill()
        process.wait()
    (tmp_path / "go").touch()
    run(tmp_path, "--resume")


def test_workflows_that_ended_are_not_begun_again(tmp_path: Path) -> None:
    """Of several workflows those that ended well are passed over with their hooks."""
    source = """
        local function note(text) exec.run("echo " .. text .. " >> ran") end
        local a = task("first", { command = "echo a >> ran" })
        workflow.define("one", { tasks = { a }, on_start = function() note("start") end })
        workflow.define("two", { tasks = { a = { command = "echo b >> ran; test -e go" } } })
    """
    write(tmp_path, source)
    run(tmp_path, code=1)
    (tmp_path / "go").touch()
    assert "info: workflow one: done before" in run(tmp_path, "--resume")
    assert (tmp_path / "ran").read_text().split() == ["start", "a", "b", "b"]


def test_what_cannot_be_kept_fails_the_task(tmp_path: Path) -> None:
    """`params` with a function could not be had back: the task says so, and nothing is lost silently."""
    write(
        tmp_path, "workflow.define('w', { tasks = { a = { command = function(this, params) params.f = print end } } })"
    )
    assert "task a: failed in " in (reported := run(tmp_path, code=1))
    assert "params: value.f: a function cannot be stored" in reported


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["deploy.lua", "--resume"], "--resume needs --name NAME"),
        (["deploy.lua", "deploy.lua", "--name", "n"], "a run with a --name is one of one file, not of 2"),
        (["deploy.lua", "--name", "n", "--dry-run"], "--dry-run keeps nothing and resumes nothing"),
        (["deploy.lua", "--name", "a\nb\0"], "name"),
        (["deploy.lua", "--name", ""], "--name wants a name, got an empty one"),
    ],
)
def test_misuse(arguments: list[str], error: str, tmp_path: Path) -> None:
    """What does not go together is refused before anything runs."""
    write(tmp_path, "state.set('ran', true)")
    if "\0" in arguments[-1]:
        arguments = [*arguments[:-1], "n" * 5000]
    done = slothstate_run(*arguments, "--db", "s.db", cwd=tmp_path)
    assert (done.returncode, error in done.stderr) == (2, True), done.stderr
    if (tmp_path / "s.db").exists():
        with slothstate.open(tmp_path / "s.db") as state:
            assert "ran" not in state


def test_another_script_is_another_run(tmp_path: Path) -> None:
    """A name belongs to a file while it is resumed."""
    write(tmp_path, "workflow.define('w', { tasks = { a = { command = 'true' } } })")
    run(tmp_path)
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", "state.set('ran', true)")
    done = slothstate_run("sub/deploy.lua", "--db", "s.db", "--name", "nightly", "--resume", cwd=tmp_path)
    assert done.returncode == 2
    assert f"run 'nightly' is one of {tmp_path}/deploy.lua, not of {tmp_path}/sub/deploy.lua" in done.stderr


def test_a_part_of_a_run_that_is_resumed(tmp_path: Path) -> None:
    """Makes it neither whole nor ok: of all tasks there are as many as before, and what failed is to be done."""
    write(
        tmp_path,
        """workflow.define("w", { tasks = {
            { name = "a", command = "true" },
            { name = "b", command = "test -e go" },
            { name = "c", command = "true" },
        } })""",
    )

    def told() -> tuple[object, ...]:
        (listed,) = json.loads(runs(tmp_path, "--json").stdout)
        return listed["status"], listed["done"], listed["tasks"]

    run(tmp_path, code=1)
    assert told() == ("failed", 2, 3)
    run(tmp_path, "--resume", "--task", "c")
    assert told() == ("failed", 2, 3)
    (tmp_path / "go").touch()
    assert "task b: ok" in run(tmp_path, "--resume")
    assert told() == ("ok", 3, 3)


def test_runs_lists_and_removes(tmp_path: Path) -> None:
    """`slothstate runs` is a table, oldest first; runs are removed by name or age."""
    write(tmp_path, "workflow.define('w', { tasks = { a = { command = 'true' } } })")
    assert slothstate_run("deploy.lua", "--db", "s.db", cwd=tmp_path).returncode == 0
    assert (runs(tmp_path).stdout, runs(tmp_path, "--json").stdout) == ("", "[]\n")
    for name in ("one", "two"):
        assert slothstate_run("deploy.lua", "--db", "s.db", "--name", name, cwd=tmp_path).returncode == 0
    lines = [line.split("\t") for line in runs(tmp_path).stdout.splitlines()]
    assert [(line[0], line[1], line[5]) for line in lines] == [("ok", "1/1", "one"), ("ok", "1/1", "two")]
    assert "there is no run 'three'" in runs(tmp_path, "--remove", "one", "--remove", "three", code=1).stderr
    assert runs(tmp_path, "--remove", "one").stdout == "removed 1 run\n"
    assert runs(tmp_path, "--remove-older", "1h").stdout == "removed 0 runs\n"
    time.sleep(0.05)
    assert runs(tmp_path, "--remove-older", "10ms").stdout == "removed 1 run\n"
    with slothstate.open(tmp_path / "s.db") as state:
        assert state.keys() == []


def test_a_run_that_is_not_kept_leaves_nothing(tmp_path: Path) -> None:
    """Without a name the store has nothing of a run."""
    write(tmp_path, "workflow.define('w', { tasks = { a = { command = 'true' } } })")
    assert slothstate_run("deploy.lua", "--db", "s.db", cwd=tmp_path).returncode == 0
    with slothstate.open(tmp_path / "s.db") as state:
        assert state.keys() == []
        assert os.path.exists(state.stats()["path"])


def test_run_whose_process_cannot_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is called stopped only if its process is known to be dead, not where that cannot be told."""
    name = run_record.PREFIX + "nightly"
    table = {"workflows": {}, "status": "running", "file": "a.lua", "task_count": 1, "under_way": [], "began": 1.0}
    with slothstate.open(tmp_path / "state.db") as state:
        state.set(name, table)
        state.lock(name)
        (lock,) = state.locks()
        for alive, status in ((True, "running"), (None, "running"), (False, "stopped")):
            held: slothstate.LockDescription = {**lock, "alive": alive}
            monkeypatch.setattr(state, "locks", lambda held=held: [held])
            assert [run["status"] for run in run_record.runs(state)] == [status]
