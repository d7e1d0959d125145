"""Real file systems that fail under a store: they lose power, are full, or turn read-only."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

import slothstate
from helpers.mounts import PAGE, cut_power, loop_ext4, make_ext4, mounted, remount, require, run, small_tmpfs
from helpers.numbered import PROMISES, contents, state_after, write_number
from helpers.processes import AckLog, Channel, processes
from helpers.sqlite import raw
from helpers.support import quick_and_long
from slothstate import SlothStateError, State, StateFull, StateIOError, StateReadOnly
from slothstate.engines.sqlite import connection, store
from slothstate.engines.sqlite.schema import PAGE_SIZE

MIB = 2**20
DISK = 32
SMALL_DISK = 8
SHUTDOWNS = 1
SHUTDOWNS_LONG = 10
"""Power cuts for each durability."""

EARLIEST, LATEST = 0.02, 0.6
"""Seconds after its first write at which a process loses its disk."""

CHECKPOINT_PAGES = 300
"""Small, so that power fails during checkpoints too."""

VALUE = "x" * 20_000
INDEX_BLOCK = 32 * 1024
"""Bytes by which the -shm grows: one block for the first 4,062 pages in the log, one for each 4,096 more."""

TIMES_FULL = 5
LOG = 6000 * PAGE_SIZE
LOGGED_PAGES = 5000


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    directory = tmp_path / "disk"
    directory.mkdir()
    return directory


@contextmanager
def new_ext4(tmp_path: Path, directory: Path, block: int = PAGE) -> Iterator[None]:
    """Have a new small file system on `directory`."""
    make_ext4(tmp_path / "image", SMALL_DISK, block)
    with loop_ext4(tmp_path / "image", directory):
        yield


def write_until_the_disk_fails(channel: Channel, path: str, log: str, durability: str) -> str:
    """Write numbers, and acknowledge each on another disk; return the name of the error that ends it."""
    for module in (connection, store):
        module.WAL_CHECKPOINT_PAGES = CHECKPOINT_PAGES  # type: ignore[attr-defined]
    acks = AckLog(log)
    state = slothstate.open(path, durability=durability)
    number = state.get("last", 0)
    channel.send("started")
    try:
        while True:
            number += 1
            write_number(state, number)
            acks.acknowledge(b"w")
    except SlothStateError as error:
        return type(error).__name__


def lose_power(tmp_path: Path, directory: Path, durability: str, shutdowns: int, seed: int) -> str:
    """Cut the power of a store's disk again and again; each time compare what is there with what was acknowledged."""
    random = Random(seed)
    image, log = tmp_path / "image", tmp_path / "acknowledged"
    make_ext4(image, DISK)
    total = lost = last = 0
    with processes() as start:
        for _ in range(shutdowns):
            log.unlink(missing_ok=True)
            with loop_ext4(image, directory):
                writer = start(write_until_the_disk_fails, f"{directory}/state.db", str(log), durability)
                writer.receive()
                time.sleep(random.uniform(EARLIEST, LATEST))
                # A sync that the shutdown strikes can end well without having synced, of a plain file too (one of four
                # on Linux 6): what counts is what was acknowledged before.
                acknowledged = log.stat().st_size
                cut_power(directory)
                assert writer.result() in ("StateIOError", "OutcomeUnknown", "StateReadOnly")
                writer.kill()
                writer.end()
            with loop_ext4(image, directory), slothstate.open(f"{directory}/state.db") as state:
                assert state.check() == []
                found = contents(state)
                before, last = last, found.get("last", 0)
                assert found == state_after(last), "no earlier state"
            heard = log.stat().st_size
            counts = range(before + acknowledged, before + heard + 1)
            assert any(PROMISES[durability](last, count) for count in counts), f"{last} of {counts} (seed {seed})"
            # The writer began with what an earlier cut had left, which is on the disk.
            assert last >= before
            total += heard
            lost += max(0, before + acknowledged - last)
    return f"{durability}: {shutdowns} shutdowns of ext4, {total} acknowledged, {lost} lost, 0 damaged (seed {seed})"


@quick_and_long("shutdowns, seed", (SHUTDOWNS, 1), (SHUTDOWNS_LONG, int(time.time())), timeout=600)
@pytest.mark.parametrize("durability", PROMISES)
def test_power_loss_of_a_file_system(
    tmp_path: Path, mount_point: Path, durability: str, shutdowns: int, seed: int, figure: Callable[[str], None]
) -> None:
    """A file system that stops without flushing keeps all that "full" acknowledged, of "process" an earlier state."""
    figure(lose_power(tmp_path, mount_point, durability, shutdowns, seed))


def fill(state: State) -> int:
    """Set keys until there is no room; return how many were acknowledged."""
    for number in range(10_000):
        try:
            state.set(f"key:{number}", VALUE)
        except StateFull:
            return number
    raise AssertionError("there is no end of room")


def verify(state: State, acknowledged: int) -> None:
    assert all(state.get(f"key:{number}") == VALUE for number in range(acknowledged))
    assert len(state.keys("key:*")) - acknowledged in (0, 1)
    assert state.check() == []


def test_full_ext4(tmp_path: Path, mount_point: Path) -> None:
    """On a full ext4 writes are StateFull and reads go on; with room again the handle goes on, and nothing is lost."""
    with new_ext4(tmp_path, mount_point):
        filler = mount_point / "filler"
        filler.write_bytes(bytes(2 * MIB))
        with slothstate.open(mount_point / "state.db", durability="full") as state:
            acknowledged = fill(state)
            assert acknowledged > 10
            verify(state, acknowledged)
            with pytest.raises(StateFull):
                state.set_many({f"torn:{number}": VALUE for number in range(30)})
            assert state.keys("torn*") == []
            filler.unlink()
            assert state.set("after", 1)
            verify(state, acknowledged)
        with slothstate.open(mount_point / "state.db") as state:
            assert state.get("after") == 1
            verify(state, acknowledged)


def fill_and_reopen(channel: Channel, path: str) -> None:
    while True:
        with suppress(SlothStateError), slothstate.open(path) as state:
            first = len(state.keys("key:*"))
            for number in range(first, first + 1000):
                state.set(f"key:{number}", VALUE)
                channel.send(number)
        channel.send("full")


def test_full_ext4_with_small_blocks(tmp_path: Path, mount_point: Path) -> None:
    """Where blocks are smaller than a page of memory a full disk may end the process (SIGBUS), and loses nothing."""
    path = str(mount_point / "state.db")
    with new_ext4(tmp_path, mount_point, PAGE // 4), processes() as start:
        filler = mount_point / "filler"
        filler.write_bytes(bytes(2 * MIB))
        writer = start(fill_and_reopen, path)
        messages: list[Any] = []
        with suppress(AssertionError):
            while messages.count("full") < TIMES_FULL:
                messages.append(writer.receive())
        writer.process.join(0)
        assert writer.process.exitcode in (None, -signal.SIGBUS)
        writer.kill()
        acknowledged = [message for message in [*messages, *writer.acknowledged()] if message != "full"]
        filler.unlink()
        with slothstate.open(path) as state:
            assert acknowledged[-1] > 10
            verify(state, acknowledged[-1] + 1)


def leave_a_long_log(channel: Channel, path: str) -> None:
    """Leave a log that is long but has little in it, so that it takes writes for a while without growing."""
    state = slothstate.open(path)
    state.set("large", b"x" * LOG)
    state.delete("large")
    # Copies the whole log and begins it anew; `compact` would cut it off.
    raw(path, "pragma wal_checkpoint(restart)")
    state.set("number", 0)
    channel.send("written")
    channel.receive()


def write_past_the_index(channel: Channel, path: str) -> int:
    """Write until the index of the log cannot grow; go on when there is room again; return the last write."""
    with slothstate.open(path) as state:
        fill_up(Path(path).with_name("filler"))
        assert os.stat(path + "-shm").st_size == INDEX_BLOCK
        number, error = 0, None
        while error is None:
            assert number < LOGGED_PAGES, "the index never had to grow"
            try:
                state.increment("number")
                number += 1
            except (StateFull, StateIOError) as caught:
                error = caught
        assert os.stat(path + "-shm").st_size < 2 * INDEX_BLOCK
        assert state.get("number") == number
        os.unlink(Path(path).with_name("filler"))
        assert state.increment("number") == number + 1
        assert os.stat(path + "-shm").st_size == 2 * INDEX_BLOCK
        assert state.check() == []
        return number + 1


def fill_up(path: Path) -> None:
    """Leave no room at all on a file system."""
    with pytest.raises(OSError, match="No space"), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_shared_memory_that_cannot_grow(mount_point: Path) -> None:
    """No room for the index of the log is an error of ours and not the end of the process (SIGBUS); then it goes on."""
    path = str(mount_point / "state.db")
    with small_tmpfs(mount_point, 48), processes() as start:
        writer = start(leave_a_long_log, path)
        writer.receive()
        writer.kill()
        assert os.stat(path + "-wal").st_size > LOG
        number = start(write_past_the_index, path).result()
        with slothstate.open(path) as state:
            assert state.get("number") == number
            assert state.check() == []


# The kernel refuses to make a file system read-only that has files open for writing. What a store can meet: ext4 that
# gives itself up after an error, files made immutable, a read-only mount over the directory.


def test_file_system_that_gives_itself_up(tmp_path: Path, mount_point: Path) -> None:
    """When ext4 turns read-only after an error, writes are named errors and reads go on; mounted anew, all is there."""
    path = mount_point / "state.db"
    image = tmp_path / "image"
    make_ext4(image, SMALL_DISK)
    with loop_ext4(image, mount_point, "errors=remount-ro"), slothstate.open(path, durability="full") as state:
        state.set("key", 1)
        remount(mount_point, "abort")
        for _ in range(2):
            with pytest.raises((StateReadOnly, StateIOError)):
                state.set("key", 2)
            assert state.get("key") == 1
            assert state.keys() == ["key"]
        with slothstate.open(path) as other:
            assert other.get("key") == 1
            with pytest.raises(StateReadOnly):
                other.set("key", 2)
    with loop_ext4(image, mount_point), slothstate.open(path) as state:
        assert state.get("key") == 1
        assert state.increment("key") == 2
        assert state.check() == []


def test_files_that_turn_immutable(tmp_path: Path, mount_point: Path) -> None:
    """While nothing may be written to its files reads of a store go on, writes are named errors; then they go on."""
    require("chattr")
    path = mount_point / "state.db"
    files = [path, f"{path}-wal"]
    with new_ext4(tmp_path, mount_point), slothstate.open(path) as state:
        state.set("key", 1)
        run("chattr", "+i", *files)
        try:
            for _ in range(2):
                with pytest.raises((StateReadOnly, StateIOError)):
                    state.set("key", 2)
                assert state.get("key") == 1
            with slothstate.open(path) as other, pytest.raises(StateReadOnly):
                other.set("key", 2)
        finally:
            run("chattr", "-i", *files)
        assert state.increment("key") == 2
        with slothstate.open(path) as other:
            assert other.increment("key") == 3
        assert state.check() == []


def test_read_only_mount_over_an_open_store(mount_point: Path) -> None:
    """What is opened through a read-only mount reads and is StateReadOnly; what was open before goes on writing."""
    path = mount_point / "state.db"
    with slothstate.open(path) as state:
        state.set("key", 1)
        with mounted(mount_point, "--bind", mount_point):
            remount(mount_point, "ro,bind")
            with slothstate.open(path) as other:
                assert other.get("key") == 1
                with pytest.raises(StateReadOnly), other.transaction():
                    other.set("key", 2)
                with pytest.raises(StateReadOnly):
                    other.set("key", 2)
                assert state.increment("key") == 2
                assert other.get("key") == 2
        with slothstate.open(path) as other:
            assert other.increment("key") == 3


@pytest.mark.parametrize("log", [False, True], ids=["closed", "with a log"])
def test_read_only_file_system(mount_point: Path, log: bool) -> None:
    """A store on a read-only file system, and a new one, are refused by name; nothing changes, later it opens."""
    path = mount_point / "state.db"
    with small_tmpfs(mount_point, 4):
        with processes() as start:
            writer = start(write_and_wait, str(path), log)
            writer.receive()
            writer.kill()
        before = {file.name: file.stat().st_mtime_ns for file in mount_point.iterdir()}
        assert ("state.db-wal" in before) is log
        remount(mount_point, "ro")
        with pytest.raises((StateReadOnly, StateIOError)), slothstate.open(path) as state:
            state.set("key", 2)
        with pytest.raises((StateReadOnly, StateIOError)):
            slothstate.open(mount_point / "new.db")
        assert {file.name: file.stat().st_mtime_ns for file in mount_point.iterdir()} == before
        remount(mount_point, "rw")
        with slothstate.open(path) as state:
            assert state.increment("key") == 2
            assert state.check() == []


def write_and_wait(channel: Channel, path: str, stay_open: bool) -> None:
    state = slothstate.open(path)
    state.set("key", 1)
    if not stay_open:
        state.close()
    channel.send("written")
    channel.receive()
