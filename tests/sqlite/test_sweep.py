"""The sweep: what expired goes, in batches, whoever else is at work; nothing else does."""

from __future__ import annotations

import _thread
import gc
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

import slothstate
from helpers.sqlite import dump, store_of, unchanged
from helpers.support import Clock, run_python, until
from slothstate import State, StateIOError
from slothstate.engines.sqlite import sweep
from slothstate.engines.sqlite.connection import Atomic
from slothstate.engines.sqlite.engine import SqliteEngine


def test_sweep(state: State, clock: Clock, path: str) -> None:
    """`sweep` removes the rows of what has expired, lists with their items, and returns how many keys went."""
    state.set_many({"a": 1, "b": [1], "c": "x"}, ttl=10)
    state.list_push("rows", 1, 2, 3)
    state.set_ttl("rows", 10)
    state.set_many({"later": 1}, ttl=11)
    state.set_many({"never": 1})
    state.list_push("never-rows", 1)
    with unchanged(path):
        assert state.sweep() == 0
    clock.advance(10)
    assert state.stats()["expired_pending"] == 4
    assert state.sweep() == 4
    assert (state.sweep(), state.stats()["expired_pending"]) == (0, 0)
    assert [row[1] for row in dump(path)["entries"]] == ["later", "never", "never-rows"]
    assert len(dump(path)["list_items"]) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_batches(state: State, clock: Clock, path: str, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """However many rows a batch holds, everything goes, and no transaction removes more than a batch."""
    monkeypatch.setattr(sweep, "BATCH", size)
    state.set_many({f"k{number}": number for number in range(6)}, ttl=1)
    for name in ("list", "other"):
        state.list_push(name, *range(5))
        state.set_ttl(name, 1)
    clock.advance(1)
    steps = []
    more = True
    while more:
        before = dump(path)
        removed, more = store_of(state).write(sweep.batch)
        after = dump(path)
        assert len(before["entries"]) - len(after["entries"]) == removed
        assert len(before["list_items"]) - len(after["list_items"]) <= size
        assert removed <= size
        steps.append(removed)
        assert state.keys() == []
    assert sum(steps) == 8
    assert dump(path)["entries"] == dump(path)["list_items"] == []


def test_write_between_two_batches(
    state: State, clock: Clock, monkeypatch: pytest.MonkeyPatch, open_state: Callable[[], State]
) -> None:
    """A key that is written anew while a sweep runs stays, as does a list that took an expired one's place."""
    monkeypatch.setattr(sweep, "BATCH", 2)
    state.list_push("a", *range(10))
    state.set_many({"b": 1, "c": 1}, ttl=1)
    state.set_ttl("a", 0.5)
    clock.advance(1)
    with open_state() as other:
        removed, more = store_of(state).write(sweep.batch)
        assert (removed, more) == (0, True)
        other.list_push("a", "new")
        other.set("b", 2)
        while more:
            more = store_of(state).write(sweep.batch)[1]
        assert other.get_many(["a", "b", "c"]) == {"a": ["new"], "b": 2}


def test_key_that_is_set_again_as_a_sweep_begins(
    state: State, open_state: Callable[[], State], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process sets in the moment before the sweep's transaction stays, whatever it replaced."""

    class AfterAnothersWrite(Atomic):
        def __enter__(self) -> None:
            other.set("value", "new")
            other.list_push("rows", "new")
            super().__enter__()

    with open_state() as other:
        state.set("value", "old", ttl=1)
        state.list_push("rows", "old")
        state.set_ttl("rows", 1)
        clock.advance(1)
        monkeypatch.setattr(sweep, "Atomic", AfterAnothersWrite)
        assert state.sweep() == 0
        assert (state.get("value"), state.list_range("rows")) == ("new", ["new"])


def test_sweep_in_a_transaction(state: State, clock: Clock, path: str) -> None:
    """A sweep inside a transaction is part of it."""
    state.set("k", 1, ttl=1)
    clock.advance(1)
    with unchanged(path), pytest.raises(LookupError), state.transaction():
        assert state.sweep() == 1
        raise LookupError
    assert state.sweep() == 1


def test_background_sweep(tmp_path: Path) -> None:
    """Every `sweep_interval` what has expired goes by itself."""
    path = tmp_path / "state.db"
    with slothstate.open(path, sweep_interval=0.01) as state:
        state.set("keep", 1)
        state.set_many({f"k{number}": 1 for number in range(300)}, ttl=0.001)
        until(lambda: len(dump(path)["entries"]) == 1)


def test_one_process_at_a_time_sweeps(tmp_path: Path) -> None:
    """Whoever finds the sweep's lock taken leaves this turn to its holder."""
    path = tmp_path / "state.db"
    with slothstate.open(path, sweep_interval=0.01) as state:
        turn = slothstate.engines.sqlite.location.lock_file(str(path), "sweep.lock")
        with turn:
            state.set("k", 1, ttl=0.001)
            time.sleep(0.1)
            assert len(dump(path)["entries"]) == 1
        until(lambda: dump(path)["entries"] == [])


def test_sweeper_ends_with_its_state(tmp_path: Path) -> None:
    """Closing a State ends its thread; so does forgetting it."""
    state = State(SqliteEngine(str(tmp_path / "closed.db")))
    sweeper = store_of(state)._sweeper
    state.set("k", 1)
    assert sweeper.is_running
    state.close()
    until(lambda: not sweeper.is_running)

    state = State(SqliteEngine(str(tmp_path / "forgotten.db")))
    sweeper = store_of(state)._sweeper
    state.set("k", 1)
    assert sweeper.is_running
    gone = weakref.ref(state)
    del state
    gc.collect()
    assert gone() is None
    until(lambda: not sweeper.is_running)


def test_sweeper_does_not_keep_the_interpreter_alive(tmp_path: Path) -> None:
    """A program that never closes its State ends at once, and its store is sound."""
    began = time.monotonic()
    code = "import slothstate, sys; s = slothstate.open(sys.argv[1]); s.set('k', 1); print(s.get('k'))"
    assert run_python(code, tmp_path / "state.db", options=("-X", "dev", "-W", "error")) == "1\n"
    assert time.monotonic() - began < 20
    assert sorted(item.name for item in tmp_path.iterdir()) == ["state.db", "state.db-locks"]


def test_no_thread_for_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, the first use that needs one is `StateIOError` with its cause; later it works."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with slothstate.open(tmp_path / "state.db") as state:
        assert state.get("key") is None
        with monkeypatch.context() as patch:
            patch.setattr(store_of(state)._sweeper, "_start", refuse)
            for _ in range(2):
                with pytest.raises(StateIOError, match="background sweep") as caught:
                    state.set("key", 0)
                assert isinstance(caught.value.__cause__, RuntimeError)
        assert state.get("key") is None
        assert state.set("key", 1)
        assert store_of(state)._sweeper.is_running
    with monkeypatch.context() as patch, pytest.raises(StateIOError, match="background sweep"):
        patch.setattr(_thread, "start_new_thread", refuse)
        slothstate.open(tmp_path / "state.db", sweep_interval=1)
    with slothstate.open(tmp_path / "state.db") as state:
        assert state.set("key", 1)
        assert store_of(state)._sweeper.is_running
