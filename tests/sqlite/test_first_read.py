"""A store that is opened, read once and closed; and what comes to it with any longer use."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import slothstate as package
from helpers.files import make_store
from helpers.sqlite import parts_of, store_of
from slothstate import State, UnsafeState


def write_in_a_transaction(state: State) -> None:
    with state.transaction():
        state.set("k", 2)


def follow(state: State) -> None:
    with state.watch("w*") as changes:
        state.set("w", 1)
        assert next(iter(changes)).key == "w"


def claim(state: State) -> None:
    state.list_push("jobs", "a")
    claimed = state.list_claim("jobs")
    assert claimed is not None
    with claimed as item:
        assert item == "a"
        assert len(state.claims("jobs")) == 1
    assert state.claims() == []


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize(
    "use",
    [
        lambda state: state.set("k", 2),
        lambda state: state.set_many({"k": 2}),
        lambda state: state.increment("n"),
        lambda state: state.lock("job"),
        write_in_a_transaction,
        lambda state: [state.get("k"), state.get("missing")],
        lambda state: [state.keys(), state.keys()],
        lambda state: [time.sleep(0.06), state.get("k")],
        lambda state: state.wait("k", 1, timeout=0.1),
        lambda state: state.list_claim("jobs"),
        claim,
        follow,
        lambda state: [state.claims(), state.watches(), state.locks()],
        lambda state: state.sweep(),
    ],
    ids=[
        "set",
        "set_many",
        "increment",
        "lock",
        "transaction",
        "two gets",
        "two listings",
        "a late get",
        "wait",
        "no claim",
        "claim",
        "watch",
        "descriptions",
        "sweep",
    ],
)
def test_one_read_opens_one_connection_and_no_thread(tmp_path: Path, use: Callable[[State], object]) -> None:
    """A store that is opened, read once and closed costs no more; any longer use has all that long use needs."""
    path = tmp_path / "state.db"
    make_store(path, k=1)
    with package.open(path) as state:
        assert state.get("k") == 1
        assert open_on(path) == 1
        assert not store_of(state)._sweeper.is_running
    with package.open(path) as state:
        use(state)
        assert store_of(state)._sweeper.is_running
        assert open_on(path) == 2
        assert store_of(state)._kept == []
    assert open_on(path) == 0
    assert {"state.db-wal", "state.db-shm"}.isdisjoint(os.listdir(tmp_path))


def open_on(path: Path) -> int:
    """Return how many descriptors of this process lead to a database."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.path.samestat(os.stat(f"/proc/self/fd/{name}"), os.stat(path))
    return found


def test_the_first_read_is_cut_short(tmp_path: Path) -> None:
    """Ctrl-C costs the only connection there is; the state goes on with another."""
    path = tmp_path / "state.db"
    make_store(path, k=1)
    with package.open(path) as state:
        store = store_of(state)
        connection = store._lend()
        store._abandon(connection)
        assert state.get("k") == 1
        assert state.increment("n") == 1


def test_a_file_replaced_after_opening(tmp_path: Path) -> None:
    """What replaces the file before the first write is noticed by it."""
    path = tmp_path / "state.db"
    make_store(path, k=1)
    make_store(tmp_path / "other.db", k="other")
    with package.open(path) as state:
        os.replace(tmp_path / "other.db", path)
        with pytest.raises(UnsafeState, match="replaced"):
            state.set("k", 2)
        with pytest.raises(UnsafeState, match="replaced"):
            state.get("k")


def test_what_is_never_asked_for_is_never_made(tmp_path: Path) -> None:
    """Keys alone need no table of locks, claims or watches, and closing does not make them; a fork does not either."""
    with package.open(tmp_path / "state.db") as state:
        state.set("k", 1)
        state._locks.forget()
        state.list_push("q", 1)
        parts = parts_of(state)
    assert list(parts.made) == ["lists"]


def test_a_part_is_made_once(tmp_path: Path) -> None:
    """Threads that ask for the first lock at the same moment are one owner, whose end frees all of them."""
    path = tmp_path / "state.db"
    for _ in range(20):
        with package.open(path) as state, ThreadPoolExecutor(8) as pool:
            barrier = threading.Barrier(8)

            def first(number: int, state: State = state, barrier: threading.Barrier = barrier) -> int:
                barrier.wait()
                assert state.lock(f"job {number}")
                return id(parts_of(state).made["locks"])

            assert len(set(pool.map(first, range(8)))) == 1
            assert len(state.locks()) == 8
    with package.open(path) as state:
        assert state.locks() == []
