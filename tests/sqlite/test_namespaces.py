"""Locks between processes that disagree about the boot clock or the boot itself: time namespaces, and a reboot."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, hold, processes
from helpers.sqlite import raw
from slothstate.engines.sqlite.locks import boot_clock

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces: Linux")

NEW_TIME = 0x80
NEW_MOUNTS = 0x20000
"""CLONE_NEWTIME and CLONE_NEWNS."""

AHEAD = 100_000
"""Seconds that the clocks of a time namespace are ahead of the machine's."""

BEHIND = -10
"""Not by more than the machine is up."""

TTL = 1.0
LATE = 3.0
"""Seconds that the end of a lock may be noticed late on a busy machine; wrong offsets are far larger."""

OTHER_BOOT = "00000000-0000-4000-8000-000000000001"


def unshare(kind: int) -> None:
    """Leave a namespace; see unshare(2). Raises: OSError where that is not allowed."""
    if ctypes.CDLL(None, use_errno=True).unshare(kind):
        raise OSError(ctypes.get_errno(), "unshare")


def in_time_namespace(channel: Channel, ahead: int, fn: Callable[..., Any], *args: Any) -> int:
    """Run a worker function in a process whose clocks are `ahead` seconds ahead; return its exit code."""
    unshare(NEW_TIME)
    Path("/proc/self/timens_offsets").write_text(f"monotonic {ahead} 0\nboottime {ahead} 0\n")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fn(channel, *args)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_another_boot(channel: Channel, directory: str, fn: Callable[..., Any], *args: Any) -> Any:
    """Run a worker function where the kernel seems to have another boot id."""
    unshare(NEW_MOUNTS)
    fake = Path(directory) / "boot_id"
    fake.write_text(f"{OTHER_BOOT}\n")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", str(fake), "/proc/sys/kernel/random/boot_id"], check=True)
    assert boot_clock.boot_id() == OTHER_BOOT
    return fn(channel, *args)


def report_clock(channel: Channel) -> None:
    channel.send((time.clock_gettime(time.CLOCK_BOOTTIME), boot_clock.boot_ms() / 1000))


@pytest.fixture(scope="module")
def offset_allowed() -> None:
    with processes() as start:
        worker = start(in_time_namespace, AHEAD, report_clock)
        try:
            theirs, corrected = worker.receive()
        except AssertionError as error:
            pytest.skip(f"a time namespace cannot be made here: {error}")
        here = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert theirs - here > AHEAD - 60, "the clock is ahead there"
        assert abs(corrected - here) < 60, "and is corrected"


@pytest.fixture(scope="module")
def mounts_allowed(tmp_path_factory: pytest.TempPathFactory) -> None:
    with processes() as start:
        worker = start(in_another_boot, str(tmp_path_factory.mktemp("boot")), report_clock)
        try:
            worker.receive()
        except AssertionError as error:
            pytest.skip(f"nothing can be mounted here: {error}")


def hold_with_ttl(channel: Channel, path: str) -> None:
    """Hold `short` and `long` with a TTL, and `job` without, until told to let go; say what is left of each."""
    with slothstate.open(path) as state:
        granted = time.time()
        assert state.try_lock("short", ttl=TTL)
        assert state.try_lock("long", ttl=3600)
        with state.locked("job", timeout=0) as lock:
            channel.send(granted)
            channel.receive()
            channel.send({"lost": lock.lost, "short": state.unlock("short"), "long": state.unlock("long")})
            channel.receive()


def take_what_is_free(channel: Channel, path: str) -> None:
    """Try for the locks of `hold_with_ttl`; say which are free, and when the short one was."""
    with slothstate.open(path) as state:
        free = [name for name in ("long", "job") if state.lock(name, timeout=0.2)]
        state.sweep()
        free += [name for name in ("long", "job") if state.lock(name, timeout=0)]
        acquired = state.lock("short", timeout=60)
        expires = {lock["name"]: lock["expires"] for lock in state.locks()}
        channel.send((free, acquired, time.time(), expires))
        channel.receive()


@pytest.mark.usefixtures("offset_allowed")
@pytest.mark.parametrize(
    ("holder_ahead", "taker_ahead"), [(AHEAD, 0), (0, AHEAD), (AHEAD, 2 * AHEAD), (BEHIND, 0), (0, BEHIND)]
)
def test_time_namespaces_share_locks(path: str, holder_ahead: int, taker_ahead: int) -> None:
    """Processes whose boot clocks differ agree when a lock ends: nobody gets it before its TTL is up, or long after."""
    with processes() as start:
        holder = start(in_time_namespace, holder_ahead, hold_with_ttl, path)
        granted = holder.receive()
        taker = start(in_time_namespace, taker_ahead, take_what_is_free, path)
        free, acquired, when, expires = taker.receive()
        assert free == []
        assert acquired is True
        assert granted + TTL - 0.05 <= when <= granted + TTL + LATE
        assert expires["long"] == pytest.approx(granted + 3600, abs=LATE)
        holder.send("let go")
        assert holder.receive() == {"lost": False, "short": False, "long": True}
        holder.send("end")
        taker.send("end")
        assert holder.result() == taker.result() == 0


def take_over(channel: Channel, path: str) -> None:
    """After what looks like a reboot: take every lock, and say which tokens they have."""
    with slothstate.open(path) as state:
        tokens = []
        for name in ("short", "long", "job"):
            with state.locked(name, timeout=0) as lock:
                tokens.append(lock.token)
        channel.send((tokens, state.locks(), state.check()))


@pytest.mark.usefixtures("mounts_allowed")
def test_reboot_frees_every_lock(path: str, tmp_path: Path) -> None:
    """After a reboot the locks that were held are free at once, tokens go on, and nothing is left over."""
    with processes() as start:
        holder = start(hold_with_ttl, path)
        holder.receive()
        holder.kill()
        last = max(token for (token,) in raw(path, "select token from locks"))
        tokens, locks, problems = start(in_another_boot, str(tmp_path), take_over, path).receive()
    assert tokens == sorted(set(tokens))
    assert tokens[0] > last
    assert locks == problems == []
    assert raw(path, "select count(*) from locks") == [(0,)]


@pytest.mark.usefixtures("mounts_allowed")
def test_another_boot_id_frees_no_lock_of_a_living_owner(path: str, tmp_path: Path) -> None:
    """A process that is told another boot id, as in some sandboxes, never takes a lock whose holder lives."""
    with processes() as start:
        holder = start(hold, path, 0.2)
        holder.receive()
        taker = start(in_another_boot, str(tmp_path), try_for, path)
        assert taker.receive() is False
        holder.kill()
        taker.send("again")
        assert taker.receive() is True


def try_for(channel: Channel, path: str) -> None:
    """Try for the lock `job` past any TTL of its holder, and again when told to."""
    with slothstate.open(path) as state:
        channel.send(state.lock("job", timeout=0.5))
        channel.receive()
        channel.send(state.lock("job", timeout=0))
