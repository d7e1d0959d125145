"""Files that are moved, replaced or deleted under an open store: it refuses, and harms nobody."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import time
from pathlib import Path
from types import FrameType

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import store_of
from helpers.support import in_time
from slothstate.state import State

STALE = 0.06
"""Seconds after which a change of the files must be known: 50 ms and what a clock of 4 ms grain adds."""

pytestmark = pytest.mark.damaged

SUFFIXES = ("", "-wal", "-shm")


def move(path: str) -> None:
    os.rename(path, path + ".moved")


def delete(path: str) -> None:
    os.unlink(path)


def replace(path: str) -> None:
    """Put another file of the same content in its place, as restoring a copy does."""
    # Not by shutil.copy: this process has the store open, and closing a second descriptor would drop its locks.
    Path(path + ".new").write_bytes(b"")
    os.replace(path + ".new", path)


def write_then_wait(channel: Channel, path: str) -> None:
    with slothstate.open(path) as state:
        state.set("theirs", 1)
        channel.send("written")
        channel.receive()
        state.set("theirs", 2)
        channel.send(os.path.exists(path + "-wal"))
        channel.receive()
        assert state.get("theirs") == 2
        assert state.check() == []


def test_refusal_comes_within_fifty_milliseconds(path: str) -> None:
    """A handle that writes without pause is refused at most 50 ms after its file was replaced."""
    attempts = itertools.count()

    def refused() -> float:
        store = f"{path}-{next(attempts)}"
        state = slothstate.open(store)
        for number in range(100):
            state.set("key", number)
        replace(store)
        replaced = time.monotonic()
        with pytest.raises(slothstate.UnsafeState, match="replaced"):
            while time.monotonic() - replaced < 5:
                state.increment("counter")
        took = time.monotonic() - replaced
        state.close()
        return took

    assert in_time(refused, 2 * STALE)


def test_cached_value_is_not_served_for_ever(path: str) -> None:
    """A cached value of a store whose file is gone is not handed out for longer than 50 ms."""
    state = slothstate.open(path)
    state.set("key", 1)
    assert state.get("key") == state.get("key") == 1
    delete(path)
    time.sleep(STALE)
    with pytest.raises(slothstate.UnsafeState):
        state.get("key")
    state.close()


def test_transaction_is_not_committed_into_a_replaced_file(path: str) -> None:
    """A transaction during which the file was replaced raises at its end instead of acknowledging."""
    state = slothstate.open(path)
    state.set("key", 1)
    with pytest.raises(slothstate.UnsafeState), state.transaction():
        state.set("key", 2)
        replace(path)
        time.sleep(STALE)
    state.close()


def test_close_after_a_replacement_leaves_the_new_store_alone(path: str) -> None:
    """Closing a handle whose database was moved away never removes the log of the store that took its place."""
    state = slothstate.open(path)
    state.set("ours", 1)
    for suffix in SUFFIXES:
        move(path + suffix)
    with processes() as start:
        other = start(write_then_wait, path)
        assert other.receive() == "written"
        state.close()
        other.send("go on")
        assert other.receive() is True, "its -wal is gone"
        other.send("end")
        other.result()
    with slothstate.open(path) as again:
        assert again.get("theirs") == 2
        assert again.get("ours") is None
        assert again.check() == []


def test_directory_moved_while_open(tmp_path: Path) -> None:
    """A store whose whole directory was renamed is refused under the old name and whole under the new one."""
    path = str(tmp_path / "here" / "state.db")
    state = slothstate.open(path)
    state.set("key", 1)
    os.rename(tmp_path / "here", tmp_path / "there")
    time.sleep(STALE)
    with pytest.raises(slothstate.UnsafeState):
        state.set("key", 2)
    state.close()
    with slothstate.open(tmp_path / "there" / "state.db") as again:
        assert again.get("key") == 1
        assert again.check() == []


def test_moved_store_between_opens_is_no_matter(tmp_path: Path) -> None:
    """A closed store may be moved or copied; its locks' tokens go on."""
    first, second = str(tmp_path / "first.db"), str(tmp_path / "second.db")
    with slothstate.open(first) as state, state.locked("job") as lock:
        token = lock.token
    shutil.move(first, second)
    with slothstate.open(second) as state, state.locked("job") as lock:
        assert lock.token > token


def test_two_handles_see_the_change_alike(path: str) -> None:
    """Every handle of a process notices on its own."""
    first, second = slothstate.open(path), slothstate.open(path)
    first.set("key", 1)
    second.set("key", 2)
    delete(path)
    time.sleep(STALE)
    for state in (first, second):
        with pytest.raises(slothstate.UnsafeState):
            state.set("key", 3)
        state.close()


def test_refused_state_frees_its_locks(path: str) -> None:
    """Closing a handle that refuses the file lets its owner die: nobody waits for locks it held."""
    first: State = slothstate.open(path)
    first.lock("job")
    move(path + "-shm")
    time.sleep(STALE)
    with pytest.raises(slothstate.UnsafeState):
        first.set("key", 1)
    first.close()
    os.rename(path + "-shm.moved", path + "-shm")
    with slothstate.open(path) as second:
        assert second.lock("job", timeout=0) is True
        assert second.check() == []


@pytest.mark.parametrize("place", range(8))
def test_a_handler_that_strikes_a_look_at_the_version(path: str, place: int) -> None:
    """A signal handler may use the State in the middle of such a look, wherever in it."""
    with slothstate.open(path) as state:
        state.set("k", 1)
        store = store_of(state)
        places = itertools.count()

        def strike(frame: FrameType, event: str, _: object) -> None:
            if event.startswith("c_") and frame.f_code.co_name == "_check_version" and next(places) == place:
                sys.setprofile(None)
                store._check_version()

        sys.setprofile(strike)
        try:
            store._check_version()
        finally:
            sys.setprofile(None)
        assert next(places) > place, "there is no such place"
        assert state.set("k", 2)
