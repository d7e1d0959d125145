"""What the processes run that hold locks, wait for them, or have the store open."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.command import SECONDS, start
from helpers.support import until
from helpers.terminal import STYLE, in_terminal, output
from slothstate import Owner, State
from slothstate.processes import LONGEST, Commands, command_line

RUNS = "-m slothstate lock job"

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="this system has no /proc")


def test_a_command_line() -> None:
    """The words as a shell would take them, the program without its directory; cut when it is very long."""
    words = ["/bin/sleep", "60"]
    with subprocess.Popen(words) as process:
        while not (found := command_line(process.pid)):
            pass  # it is on its way to become another program
        process.kill()
        assert found == "sleep 60"
        process.wait(SECONDS)
        assert command_line(process.pid) is None
    script = "import sys; print(flush=True); sys.stdin.read()"
    for arguments, shown in ((["a b", "", "$x"], "'a b' '' '$x'"), (["x" * 5000], "x")):
        with subprocess.Popen(
            [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            found = command_line(process.pid)
            process.kill()
        assert found is not None
        assert found.startswith(os.path.basename(sys.executable) + " -c ")
        assert shown in found
        assert len(found) <= LONGEST


def test_whose_command_it_is(state: State) -> None:
    """Only a process of this machine that has the store open: a pid of another container is somebody else's."""
    own, parent = Owner(host=os.uname().nodename, pid=os.getpid()), Owner(host=os.uname().nodename, pid=os.getppid())
    state["a"] = 1
    commands = Commands(state.health()["users"])
    assert commands.of(own) == command_line(os.getpid())
    assert commands.of(Owner(host="elsewhere", pid=os.getpid())) is None
    assert commands.of(parent) is None
    assert Commands(None).of(parent) == command_line(os.getppid())


def test_locks_and_top_and_doctor(home: Path, state: State) -> None:
    """`locks`, `top` and `doctor` show what an owner runs, and who waits; a dead owner's pid is not looked up."""
    with ExitStack() as running:
        process = running.enter_context(start("lock", "job", home=home))
        assert process.stdout is not None
        # Only then: of two that start at once either may get it.
        process.stdout.readline()
        waiting = running.enter_context(start("lock", "job", "--timeout", "60", home=home))
        until(lambda: state.locks()[0]["waiting"])
        (lock,) = json.loads(output("locks", "--json", home=home))
        assert RUNS in lock["owner"]["command"]
        assert RUNS in lock["waiting"][0]["command"]
        shown = STYLE.sub("", in_terminal("locks", home=home)).splitlines()
        assert [line.split()[0] for line in shown[1::2]] == ["alive", "waits"]
        assert all(re.match(rf" +\S+ {RUNS}", line) for line in shown[2::2])
        assert len(output("locks", home=home).splitlines()[0].split("\t")) == 7
        assert RUNS in output("top", "--once", "--interval", "10ms", home=home)
        examined = json.loads(output("doctor", "--quick", "--json", home=home))
        found = [finding["text"] for finding in examined if finding["subject"] == "process"]
        assert any(re.search(rf"^{process.pid} runs .*{RUNS}", text) for text in found)
        assert RUNS in in_terminal("unlock", "job", home=home, code=1, columns=400)
        waiting.kill()
        process.kill()
        process.wait(SECONDS)
    (lock,) = json.loads(output("locks", "--json", home=home))
    assert lock["owner"]["command"] is None


@pytest.mark.parametrize("arguments", [["with-lock", "L"], ["claim", "q"], ["watch"]])
def test_a_signal_while_the_server_is_away(home: Path, arguments: list[str]) -> None:
    """Who waits for a server, before there is anything to run the command for, is ended by a signal."""
    pytest.importorskip("psycopg")
    address = f"postgresql://postgres@/postgres?host={home}/away"
    with start(*arguments, "--db", address, "--", "true", home=home) as process:
        deadline = time.monotonic() + SECONDS / 6
        while process.poll() is None and time.monotonic() < deadline:
            # Again and again: the first may come before anybody has a handler for it.
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
        took = process.poll()
        process.kill()
    assert took in (128 + signal.SIGTERM, -signal.SIGTERM)
