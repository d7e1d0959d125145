"""Snapshots and the connections that they hold on to: orders, threads, forks, closing, the read cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, Child, processes
from slothstate import SlothStateError, State, StateClosed, StateIOError


def enter(block: AbstractContextManager[None]) -> Callable[[], object]:
    """Enter a block and return how to leave it."""
    block.__enter__()
    return lambda: block.__exit__(None, None, None)


@pytest.mark.parametrize("outer", ["snapshot", "transaction"])
def test_blocks_that_are_left_in_another_order(state: State, outer: str) -> None:
    """The one that is left too late says so, and what comes afterwards writes as ever, in transactions too."""
    leave = enter(getattr(state, outer)())
    leave_inner = enter(state.snapshot())
    leave()
    with pytest.raises(StateIOError, match="ended before it"):
        leave_inner()
    with state.transaction():
        state.set("k", 1)
    assert state.get("k") == 1


@pytest.mark.parametrize("outer", ["snapshot", "transaction"])
def test_a_block_that_is_left_late_ends_nobody_elses(state: State, outer: str) -> None:
    """What has begun on the same connection meanwhile goes on as it was."""
    leave = enter(getattr(state, outer)())
    leave_inner = enter(state.snapshot())
    leave()
    with state.snapshot():
        with pytest.raises(StateIOError):
            leave_inner()
        with pytest.raises(SlothStateError, match="snapshot"):
            state.set("k", 1)
    with state.transaction():
        state.set("k", 2)


def test_a_generator_holds_its_snapshot(state: State) -> None:
    """One that stops inside its block keeps the moment until it goes on, or is thrown away."""

    def look() -> Iterator[Any]:
        with state.snapshot():
            while True:
                yield state.get("k")

    state.set("k", 1)
    looking = look()
    assert next(looking) == 1
    with ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(state.set, "k", 2).result()
        assert elsewhere.submit(state.get, "k").result() == 2
    assert next(looking) == 1
    with pytest.raises(SlothStateError, match="snapshot"):
        state.set("k", 3)
    del looking
    assert state.get("k") == 2
    assert state.set("k", 3)


def test_left_in_another_thread(state: State) -> None:
    """A block that another thread leaves is over for the thread that entered it."""
    leave = enter(state.snapshot())
    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(leave).result()
    with state.transaction():
        assert state.set("k", 1)


def test_the_read_cache_knows_nothing_of_it(state: State, path: str) -> None:
    """What is cached is not seen in the block if it is newer, nor kept after it if it is older."""
    state.set_many({"cached": 1, "read": 1})
    state.get("cached")
    with slothstate.open(path) as other, ThreadPoolExecutor(1) as elsewhere, state.snapshot():
        other.set_many({"cached": 2, "read": 2})
        for key in ("cached", "read"):
            assert state.get(key) == 1
            assert [elsewhere.submit(state.get, key).result() for _ in range(2)] == [2, 2]
            assert state.get(key) == 1
    assert (state.get("cached"), state.get("read")) == (2, 2)


def test_closed_inside(path: str) -> None:
    """A State that is closed inside its snapshot is closed afterwards, and the store is let go of."""
    state = slothstate.open(path)
    state.set("k", 1)
    with state.snapshot():
        state.close()
    with pytest.raises(StateClosed):
        state.get("k")
    with pytest.raises(StateClosed):
        state.snapshot().__enter__()
    with slothstate.open(path) as again:
        assert again.set("k", 2)
        assert not os.path.exists(f"{path}-journal")


def fork_inside(channel: Channel, path: str) -> list[Any]:
    with slothstate.open(path) as state:
        state.set("k", 1)

        def child(_: Channel) -> list[str]:
            seen = []
            for use in (lambda: state.get("k"), lambda: state.set("k", 2), lambda: state.snapshot().__enter__()):
                with pytest.raises(StateClosed) as caught:
                    use()
                seen.append(type(caught.value).__name__)
            return seen

        with state.snapshot():
            forked = Child(child)
            seen = forked.receive()
            forked.join()
            assert state.get("k") == 1
        return [seen, state.set("k", 3), state.get("k")]


def test_forked_inside(path: str) -> None:
    """A child of the thread in a snapshot is refused, as in a transaction; the parent goes on."""
    with processes() as start:
        assert start(fork_inside, path).result() == [["StateClosed"] * 3, True, 3]


def write(channel: Channel, path: str) -> None:
    with slothstate.open(path) as other:
        for number in range(20):
            other.set_many({"a": number, "b": number})


def test_another_process_writes_meanwhile(state: State, path: str) -> None:
    """Another process commits while a snapshot lasts; it is seen after it."""

    state.set_many({"a": -1, "b": -1})
    with processes() as start, state.snapshot():
        start(write, path).result()
        assert (state.get("a"), state.get("b")) == (-1, -1)
    assert (state.get("a"), state.get("b")) == (19, 19)


@pytest.mark.parametrize("verb", ["lock", "try_lock", "unlock", "break_lock"])
def test_locks(state: State, verb: str) -> None:
    """Locks are neither taken nor freed in it, and the message speaks of the snapshot; one that is held stays held."""
    with state.locked("held") as lock:
        with state.snapshot():
            for name in ("held", "free"):
                # Who waits for a lock of his own is told that, as everywhere.
                says = "'held'" if (verb, name) == ("lock", "held") else r"snapshot\(\)"
                with pytest.raises(SlothStateError, match=says):
                    getattr(state, verb)(name)
            assert not lock.lost
            assert [description["name"] for description in state.locks()] == ["held"]
        assert not lock.lost


def test_looking_after_the_store(state: State, tmp_path: Any) -> None:
    """A backup in it is of its moment; what would write is refused in clear words."""
    state.set("k", 1)
    with state.snapshot():
        with ThreadPoolExecutor(1) as elsewhere:
            elsewhere.submit(state.set, "k", 2).result()
        state.backup(tmp_path / "copy.db")
        for refused in (state.sweep, state.compact):
            with pytest.raises(SlothStateError, match="snapshot"):
                refused()
        assert state.check() == []
        assert state.health()["users"]
    with slothstate.open(tmp_path / "copy.db") as copy:
        assert copy.get("k") == 1
