"""Errors that the kernel gives to system calls, below SQLite: strace puts them in the place of the calls."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import slothstate
from helpers.mounts import require
from helpers.numbered import contents, state_after, write_number
from helpers.processes import REPLY, Channel, processes
from slothstate import SlothStateError, State

NAMED = (SlothStateError, MemoryError)

FAULTS = {
    "pwrite64": "EIO",
    "fdatasync": "EIO",
    "ftruncate": "EIO",
    "pread64": "EIO",
    "mmap": "ENOMEM",
    "openat": "EMFILE",
    "fcntl": "EINTR",
}
"""System calls that a store makes, and how each fails. It never calls fsync: SQLite has fdatasync."""

INTERRUPTED = "fcntl"
"""The call that fails once only: Python itself would repeat an interrupted call for ever.

No local file system interrupts a lock that is not waited for. If one did while SQLite lets go of a lock, the lock would
stay until the process has closed the store, and reads that meet it give up after 10 s.
"""

POINTS = 3
POINTS_LONG = 40
POINTS_INTERRUPTED = 12
"""Calls of each kind that fail, one a run, evenly spread."""

WRITES = 9
HEARTBEAT = 0.005
PATIENCE = 0.2
"""Seconds that a writer waits for a lock that it is never given."""


def write_under_faults(channel: Channel, path: str, interrupted: bool) -> list[str]:
    """Write, compact, open and create while calls fail; then go on with none failing; return the errors met."""
    state = slothstate.open(path, durability="full", busy_timeout=PATIENCE)
    number = state.get("last", 0)
    channel.send("ready")
    # What strace shows of this tells that it has taken hold.
    while not channel.waiting(HEARTBEAT):
        pass
    channel.receive()
    met: list[str] = []
    try:
        for _ in range(WRITES):
            write_number(state, number + 1)
            channel.send(number + 1)
            number += 1
            if number % 3 == 0:
                for another in (path, path.replace("state.db", f"new{number}.db")):
                    attempt(partial(open_and_use, another), met)
                attempt(state.compact, met)
    except NAMED as error:
        met.append(type(error).__name__)
        for use in (state.sweep, state.keys, lambda: state.set("noise", number), state.check, state.stats):
            attempt(use, met)
    channel.send("done")
    channel.receive()
    if interrupted:
        attempt(lambda: write_number(state, number + 1), met)
        state.close()
        state = slothstate.open(path)
    go_on(state, number)
    state.close()
    return met


def open_and_use(path: str) -> None:
    with slothstate.open(path, busy_timeout=PATIENCE) as state:
        state.set("other", state.get("last", 0))
        if state.try_lock("job"):
            state.unlock("job")


def attempt(use: Callable[[], object], met: list[str]) -> None:
    try:
        use()
    except NAMED as error:
        met.append(type(error).__name__)


def go_on(state: State, number: int) -> None:
    """Check that the handle has what it acknowledged and perhaps one write more, and goes on writing."""
    found = state.get("last", 0)
    assert found in (number, number + 1), f"{found} after {number} acknowledged writes"
    for following in range(found + 1, found + 4):
        write_number(state, following)
        assert state.get("last") == following
    assert state.check() == []


@contextmanager
def traced(pid: int, output: Path, *options: str) -> Iterator[None]:
    """Have strace attached to a process in the block."""
    command = ["strace", "-f", "-qq", "-o", str(output), "-p", str(pid), *options]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + REPLY
        # Earlier strace may take the end of a call for the beginning of the next, and make the wrong one fail.
        while not output.exists() or output.read_text().count(" = 0 (Timeout)\n") < 2:
            if strace.poll() is not None and strace.stderr is not None:
                pytest.skip(f"strace cannot attach to a process here: {strace.stderr.read().strip()}")
            assert time.monotonic() < deadline, "strace does not attach"
            time.sleep(0.001)
        yield
    finally:
        # On SIGTERM strace lets go of the process, which runs on.
        strace.terminate()
        strace.communicate()


def run_traced(directory: Path, call: str, *options: str) -> tuple[list[str], str]:
    """Run the writer under strace; return the errors it met, and what strace wrote about its calls."""
    path, output = str(directory / "state.db"), directory / "calls"
    output.unlink(missing_ok=True)
    with processes() as start:
        writer = start(write_under_faults, path, call == INTERRUPTED)
        writer.receive()
        acknowledged = []
        with traced(writer.pid, output, "-e", f"trace=poll,{call}", *options):
            writer.send("go")
            while (message := writer.receive()) != "done":
                acknowledged.append(message)
        writer.send("go on")
        met = writer.result()
    with slothstate.open(path) as state:
        assert state.check() == []
        found = {key: value for key, value in contents(state).items() if key not in ("noise", "other")}
        last = found.get("last", 0)
        assert found == state_after(last)
        assert last >= max(acknowledged, default=0) + 3
        assert "SlothStateError" not in met, "an error without a name of its own"
        state.clear()
    for new in directory.glob("new*.db"):
        with slothstate.open(new) as state:
            assert state.check() == []
            assert state.get("other", 0) == 0
        new.unlink()
    return met, output.read_text()


def inject(directory: Path, call: str, points: int) -> str:
    """Let one call after the other fail, once and from then on; return how often, and which errors came of it."""
    require("strace")
    _, calls = run_traced(directory, call)
    count = calls.count(f"{call}(")
    assert count > 0, f"a store never calls {call}"
    failed = 0
    named: set[str] = set()
    for point in sorted({1 + count * step // points for step in range(points)}):
        for when in (f"{point}",) if call == INTERRUPTED else (f"{point}", f"{point}+"):
            met, calls = run_traced(directory, call, "-e", f"inject={call}:error={FAULTS[call]}:when={when}")
            failed += calls.count("(INJECTED)")
            named.update(met)
    assert failed > 0
    return f"{call} {FAULTS[call]}: {failed} of its calls failed, 0 lost; {', '.join(sorted(named)) or 'no error'}"


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
def test_failing_system_calls(tmp_path: Path, call: str, figure: Callable[[str], None]) -> None:
    """A call that fails in the kernel is a named error; nothing acknowledged is lost, and the handle goes on."""
    figure(inject(tmp_path, call, POINTS))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("call", FAULTS)
def test_failing_system_calls_at_length(tmp_path: Path, call: str, figure: Callable[[str], None]) -> None:
    """The same for all kinds of calls, at many places."""
    figure(inject(tmp_path, call, POINTS_INTERRUPTED if call == INTERRUPTED else POINTS_LONG))
