"""`slothstate with-lock`: exit codes, who waits for whom, signals, and what becomes of lock and command in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.command import SECONDS, slothstate, start
from slothstate import State
from slothstate import open as open_state

# Says that it runs, then waits for its stdin to end, or for a signal.
READY = "echo ready; cat"


@contextmanager
def holding(home: Path, *command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command under the lock "deploy" that says "ready" first; end it afterwards."""
    process = start("with-lock", "deploy", "--", *command, home=home, stdin=subprocess.PIPE, **options)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SECONDS)


def is_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie, within some seconds: it closes its files a moment before."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def until_waiting(state: State, process: subprocess.Popen[bytes]) -> None:
    """Return when the store names a process among those that wait for a lock."""
    deadline = time.monotonic() + SECONDS
    while not any(waiter["pid"] == process.pid for lock in state.locks() for waiter in lock["waiting"]):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def free(state: State) -> bool:
    """Whether the lock can be had without waiting."""
    if not state.lock("deploy", timeout=0):
        return False
    return state.unlock("deploy")


@pytest.mark.parametrize("code", [0, 1, 3, 77, 255])
def test_exit_code(home: Path, code: int) -> None:
    """The command's exit code is passed on."""
    slothstate("with-lock", "deploy", "--", "sh", "-c", f"exit {code}", home=home, code=code)


def test_command_ended_by_a_signal(home: Path) -> None:
    """A command that signal n ends gives 128 + n, as in a shell."""
    slothstate("with-lock", "deploy", "--", "sh", "-c", "kill -KILL $$", home=home, code=128 + signal.SIGKILL)


def test_command_that_cannot_run(home: Path) -> None:
    """A missing command gives 127 and one that is no program 126, both named, and the lock is free."""
    assert "cannot run 'no-such-command'" in slothstate(
        "with-lock", "deploy", "--", "no-such-command", home=home, code=127
    )
    assert f"cannot run '{home}'" in slothstate("with-lock", "deploy", "--", home, home=home, code=126)
    with open_state(home / "state.db") as state:
        assert state.locks() == []


def test_misuse(home: Path) -> None:
    """A missing command, a bad name and a bad timeout are misuse, and nothing runs."""
    slothstate("with-lock", "deploy", home=home, code=2)
    slothstate("with-lock", "", "--", "touch", "ran", home=home, code=2)
    slothstate("with-lock", "deploy", "--timeout", "soon", "--", "touch", "ran", home=home, code=2)
    assert not (home / "ran").exists()


def test_store_that_cannot_be_used(home: Path) -> None:
    """With a store that cannot be opened the command does not run."""
    (home / "state.db").mkdir()
    assert "directory" in slothstate("with-lock", "deploy", "--", "touch", "ran", home=home, code=3)
    assert not (home / "ran").exists()


def test_the_lock_is_held_while_the_command_runs(home: Path) -> None:
    """Others find the lock taken until the command ends, then free."""
    with open_state(home / "state.db") as state, holding(home, "sh", "-c", READY) as process:
        (lock,) = state.locks()
        assert lock["name"] == "deploy"
        assert lock["owner"]["pid"] == process.pid
        assert not free(state)
        process.communicate(b"", SECONDS)
        assert process.returncode == 0
        assert state.locks() == []


def test_not_acquired(home: Path) -> None:
    """Whoever does not get the lock in time runs nothing, exits with 1 or the code it chose, and hears who has it."""
    with holding(home, "sh", "-c", READY) as process:
        arguments = ("with-lock", "deploy", "--timeout", "0")
        error = slothstate(*arguments, "--", "touch", "ran", home=home, code=1)
        assert f"process {process.pid} on " in error
        if sys.platform == "linux":
            assert "with-lock deploy" in error
        slothstate(*arguments, "-E", "75", "--", "touch", "ran", home=home, code=75)
        began = time.monotonic()
        slothstate("with-lock", "deploy", "--timeout", "300ms", "--", "touch", "ran", home=home, code=1)
        assert time.monotonic() - began >= 0.3
    assert not (home / "ran").exists()


def test_waiting(home: Path) -> None:
    """Commands under one lock run one after the other: none sees another's marker."""
    script = "mkdir busy && sleep 0.02 && rmdir busy"
    processes = [start("with-lock", "deploy", "--", "sh", "-c", script, home=home) for _ in range(6)]
    for process in processes:
        assert process.communicate(timeout=SECONDS) == (b"", b"")
        assert process.returncode == 0


def test_environment(home: Path) -> None:
    """The command finds the lock's name, its fencing token and the store; tokens rise."""
    tokens = []
    for _ in range(2):
        script = 'echo "$SLOTHSTATE_LOCK_NAME|$SLOTHSTATE_LOCK_TOKEN|$SLOTHSTATE_DB"'
        name, token, path = slothstate("with-lock", "deploy", "--", "sh", "-c", script, home=home).strip().split("|")
        assert (name, path) == ("deploy", str(home / "state.db"))
        tokens.append(int(token))
    assert 0 < tokens[0] < tokens[1]


def test_streams_and_arguments(home: Path) -> None:
    """The command has the streams of its caller, and its arguments as they were written."""
    assert slothstate("with-lock", "deploy", "--", "cat", home=home, stdin=b"through") == "through"
    script = "import sys; print(sys.argv[1:])"
    arguments = ["--timeout", "-x", "a b", "--", ""]
    printed = slothstate("with-lock", "deploy", "--", sys.executable, "-c", script, *arguments, home=home)
    assert printed == f"{arguments}\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_signals_reach_the_command(home: Path, name: str) -> None:
    """A signal sent to with-lock arrives at the command once; what the command makes of it is the outcome."""
    number = signal.Signals[name]
    script = f"trap 'echo caught; exit 9' {name.removeprefix('SIG')}; echo ready; while :; do sleep 0.01; done"
    with open_state(home / "state.db") as state, holding(home, "sh", "-c", script) as process:
        process.send_signal(number)
        out, _ = process.communicate(timeout=SECONDS)
        assert (out, process.returncode) == (b"caught\n", 9)
        assert free(state)


def test_ctrl_c_arrives_once(home: Path) -> None:
    """What the terminal sends to the whole group is not passed on a second time."""
    script = (
        "import signal, time\n"
        "count = 0\n"
        "def caught(*_):\n"
        "    global count\n"
        "    count += 1\n"
        "signal.signal(signal.SIGINT, caught)\n"
        "print('ready', flush=True)\n"
        "end = time.monotonic() + 0.5\n"
        "while time.monotonic() < end: time.sleep(0.01)\n"
        "print('caught', count, flush=True)\n"
    )
    pid, terminal = os.forkpty()
    if not pid:
        os.environ["SLOTHSTATE_DB"] = str(home / "state.db")
        os.execv(
            sys.executable,
            [sys.executable, "-m", "slothstate", "with-lock", "deploy", "--", sys.executable, "-c", script],
        )
    output = b""
    try:
        while b"ready" not in output:
            output += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        while b"caught" not in output or not output.endswith(b"\n"):
            output += os.read(terminal, 1000)
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert b"caught 1" in output
    assert os.waitstatus_to_exitcode(status) == 0


def test_signal_while_waiting(home: Path) -> None:
    """A signal ends the waiting at once, with 128 + n, and the command never runs."""
    with open_state(home / "state.db") as state, holding(home, "sh", "-c", READY):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            waiting = start("with-lock", "deploy", "--", "touch", "ran", home=home)
            until_waiting(state, waiting)
            waiting.send_signal(number)
            waiting.communicate(timeout=SECONDS)
            assert waiting.returncode == 128 + number
    assert not (home / "ran").exists()


def test_killed_with_its_command(home: Path) -> None:
    """When with-lock is killed the lock is free at once and the command is killed too."""
    script = "import os, time; print('ready', flush=True); os.write(2, str(os.getpid()).encode()); time.sleep(60)"
    with open_state(home / "state.db") as state, holding(home, sys.executable, "-c", script) as process:
        assert process.stderr is not None
        child = int(os.read(process.stderr.fileno(), 20))
        process.kill()
        process.wait(SECONDS)
        assert state.lock("deploy", timeout=SECONDS)
        assert process.stderr.read() == b""  # its end: nobody has the pipe open any more
        assert is_ended(child)


def test_killed_while_waiting(home: Path) -> None:
    """When with-lock is killed before its turn, the command never runs."""
    with open_state(home / "state.db") as state:
        assert state.lock("deploy")
        waiting = start("with-lock", "deploy", "--", "touch", "ran", home=home)
        until_waiting(state, waiting)
        waiting.kill()
        waiting.communicate(timeout=SECONDS)
        assert state.unlock("deploy")
        assert free(state)
    assert not (home / "ran").exists()


def test_background_processes_do_not_keep_the_lock(home: Path) -> None:
    """The lock is free when the command ends, whatever it left running."""
    with open_state(home / "state.db") as state:
        slothstate("with-lock", "deploy", "--", "sh", "-c", "sleep 5 >/dev/null 2>&1 </dev/null & exit 0", home=home)
        assert free(state)


NESTED = f"{sys.executable} -m slothstate with-lock deploy -- echo ran"


def test_command_that_would_wait_for_itself(home: Path) -> None:
    """A command that asks for the lock it runs under is refused at once, at any depth; other locks are not."""
    began = time.monotonic()
    then = "2>/dev/null || echo refused $?"
    out = slothstate("with-lock", "deploy", "--", "sh", "-c", f"{NESTED} {then}", home=home)
    assert out == "refused 1\n"
    inner = f"{sys.executable} -m slothstate with-lock other -- {NESTED} {then}"
    assert slothstate("with-lock", "deploy", "--", "sh", "-c", inner, home=home) == "refused 1\n"
    other = f"{sys.executable} -m slothstate with-lock other -- echo ran"
    assert slothstate("with-lock", "deploy", "--", "sh", "-c", other, home=home) == "ran\n"
    assert time.monotonic() - began < SECONDS


def test_refusal_of_oneself_has_the_code_of_a_conflict(home: Path) -> None:
    """It counts as not acquired, so -E gives its code, and says why."""
    inner = NESTED.replace("deploy", "-E 75 deploy")
    error = slothstate("with-lock", "deploy", "--", "sh", "-c", inner, home=home, code=75)
    assert "would wait for itself" in error


def test_variable_alone_refuses_nothing(home: Path) -> None:
    """What the environment says counts in the same store, and only while that very acquisition holds the lock."""
    stale = slothstate("with-lock", "deploy", "--", "sh", "-c", "echo $SLOTHSTATE_LOCKS_ABOVE", home=home).strip()
    assert stale
    rest = ("deploy", "--", "echo", "ran")
    for value in (stale, f" {stale} ", "x", "", " ", "@", "1@", "9" * 100):
        done = run_with(value, home, "with-lock", *rest)
        assert done.returncode == 0, (value, done)
    with holding(home, "sh", "-c", READY):
        # Somebody else's now: it is waited for.
        done = run_with(stale, home, "with-lock", "--timeout", "0.1", *rest)
        assert done.returncode == 1
        assert b"itself" not in done.stderr
    elsewhere = f"{sys.executable} -m slothstate --db {home}/elsewhere.db with-lock deploy -- echo ran"
    assert slothstate("with-lock", "deploy", "--", "sh", "-c", elsewhere, home=home) == "ran\n"


def run_with(value: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose environment names locks that it is to run under."""
    variables = os.environ | {"SLOTHSTATE_LOCKS_ABOVE": value, "SLOTHSTATE_DB": str(home / "state.db")}
    return subprocess.run(
        [sys.executable, "-m", "slothstate", *arguments],
        env=variables,
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
