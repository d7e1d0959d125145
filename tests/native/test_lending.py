"""How operations get their connections: lent, taken back, counted; a refused write never has one."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

import slothstate
from helpers.sqlite import store_of
from helpers.support import in_threads, in_time
from slothstate import State, UnsafeState, native
from slothstate.engines.sqlite import wal_hook
from slothstate.engines.sqlite.connection import WAL_CHECKPOINT_PAGES, Connection
from slothstate.engines.sqlite.schema import PAGE_SIZE


def test_wrong_use_is_an_error(state: State) -> None:
    """Without an operation, without a key, with too many arguments, or before it is set up: TypeError, no crash."""
    engine = store_of(state)
    for method in (engine.read, engine.write, engine.write_key):
        with pytest.raises(TypeError, match="an operation"):
            method()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="an operation"):
        engine.write_key(print)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="at most 8 arguments, got 9"):
        engine.read(print, *range(9))
    with pytest.raises(TypeError, match="not set up"):
        native.Lender().read(print)
    with pytest.raises(TypeError, match="not callable"):
        engine.read(7)  # type: ignore[arg-type]
    state.set("k", 1)
    assert state.get("k") == 1


def test_a_counter_has_no_last_number_and_its_error_is_raised(state: State) -> None:
    """What is counted goes on past 64 bits; a count that is none is an error, and the next call works."""
    engine = store_of(state)
    state.set("k", 1)
    engine.operations[print] = 2**63 - 1
    for count in (2**63, 2**63 + 1):
        engine.read(lambda *_: None)
        with pytest.raises(TypeError):
            engine.read(print, "x", sep=1)  # type: ignore[call-arg]
        engine.read(print)
        assert engine.operations[print] == count
    engine.operations[print] = "many"  # type: ignore[assignment]
    with pytest.raises(TypeError):
        engine.read(print)
    engine.operations[print] = -1
    engine.read(print)
    assert engine.operations[print] == 0
    assert state.increment("k") == 2


@pytest.mark.parametrize("member", ["operations", "_transactions", "_idle", "_refusal", "cache", "now"])
@pytest.mark.parametrize("value", ["gone", None, 7], ids=str)
@pytest.mark.parametrize("method", ["read", "write", "write_key"])
def test_a_member_may_change_while_an_operation_runs(path: str, member: str, value: object, method: str) -> None:
    """What an operation puts in the place of a member, or takes away, is at worst an error; nothing crashes."""

    class Pool(native.Lender):  # type: ignore[misc]
        def __init__(self) -> None:
            self.operations: dict[Any, int] = {}
            self._transactions: dict[int, Any] = {}
            self._idle: list[Any] = []
            self._refusal = None
            self.cache, self.now = self, lambda: 1
            self.log = native.Log(10)
            self._recover = self._check_identity = self.ensure_identity = self._trim = self.mark = self.settle = (
                self.use
            )

        def use(self, *_: object) -> int:
            return 0

        def _borrow(self) -> object:
            return self

    def operation(connection: Pool, now: int, key: str = "") -> str:
        if value == "gone":
            delattr(pool, member)
        else:
            setattr(pool, member, value)
        return "done"

    pool = Pool()
    with suppress(TypeError, AttributeError):
        assert getattr(pool, method)(operation, "key") == "done"
    pool.__dict__.clear()


def test_a_connection_comes_back_after_an_operation_and_after_its_error(state: State) -> None:
    """One connection serves one call after the other; an error of ours keeps it, any other exception closes it."""
    engine = store_of(state)

    def fail(connection: Connection, now: int, error: BaseException) -> None:
        raise error

    state.set("k", 1)
    (first,) = engine._idle
    with pytest.raises(slothstate.InvalidValue):
        engine.read(fail, slothstate.InvalidValue("no"))
    assert engine._idle == [first]
    with pytest.raises(KeyboardInterrupt) as caught:
        engine.write(fail, KeyboardInterrupt())
    assert engine._idle == []
    assert [entry.name for entry in caught.traceback][-1] == "fail"
    assert state.increment("k") == 2
    (second,) = engine._idle
    assert second is not first


def test_operations_may_nest(state: State) -> None:
    """An operation that runs another one gets a second connection for it; both come back."""
    engine = store_of(state)

    def outer(connection: Connection, now: int) -> int:
        return engine.read(inner, connection)

    def inner(connection: Connection, now: int, other: Connection) -> int:
        assert connection is not other
        return 7

    assert engine.read(outer) == 7
    assert len(engine._idle) == 2
    assert [engine.operations[outer], engine.operations[inner]] == [1, 1]


def test_idle_connections_are_bounded(state: State) -> None:
    """However many threads use it at once, a State keeps eight connections at most."""
    engine = store_of(state)
    barrier = threading.Barrier(12)

    def meet(connection: Connection, now: int) -> None:
        barrier.wait(60)

    in_threads([partial(engine.read, meet)] * 12)
    assert len(engine._idle) == 8


def test_an_engine_that_nobody_refers_to_is_collected(path: str) -> None:
    """The C base holds the engine's parts, and lets the collector see them."""
    state = slothstate.open(path)
    state.set("k", 1)
    engine = weakref.ref(store_of(state))
    store_of(state).__dict__["cycle"] = state
    state.close()
    del state
    gc.collect()
    assert engine() is None


@pytest.mark.damaged
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_refused_write_keeps_no_connection_from_a_fork(path: str) -> None:
    """A write that finds the file replaced has no connection yet: whoever keeps its error delays no fork."""
    state = slothstate.open(path)
    state.set("k", 1)
    os.rename(path, path + ".old")
    time.sleep(0.06)
    with pytest.raises(UnsafeState) as refused:
        state.set("k", 2)

    def fork() -> float:
        began = time.monotonic()
        if (child := os.fork()) == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        return time.monotonic() - began

    assert in_time(fork, 2)
    assert refused.value.args
    state.close()


@pytest.mark.parametrize("directly", [True, False])
def test_commits_are_noted_with_and_without_python(path: str, monkeypatch: pytest.MonkeyPatch, directly: bool) -> None:
    """Where SQLite loads no extensions the same is noted by a call of Python: each commit, and the log's length."""
    if not directly:
        monkeypatch.setattr(wal_hook, "_is_loaded", lambda: False)
    with slothstate.open(path) as state, slothstate.open(path) as other:
        state.set("k", 1)
        (connection,) = store_of(state)._idle
        noted = connection.log
        pages = noted.pages
        assert noted.committed is True
        assert pages > 0
        state.set("k", 1)
        assert noted.committed is False, "no byte was changed"
        state.set("k", 2)
        assert noted.committed is True
        assert noted.pages > pages
        other.set("k", 3)
        assert state.get("k") == 3


def test_a_log_refuses_what_is_no_connection() -> None:
    """An address of nothing, and wrong arguments: an error, no crash."""
    noted = native.Log(10)
    with pytest.raises(ValueError, match="address of an sqlite3"):
        noted.hook_directly(0)
    with pytest.raises(TypeError):
        noted.hook_directly("x")
    with pytest.raises(TypeError, match=r"hook\(\) takes 3 arguments, got 1"):
        noted.hook(1)
    with pytest.raises(TypeError):
        native.Log()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="keyword"):
        native.Log(limit=1)  # type: ignore[call-arg]
    assert (noted.pages, noted.committed) == (0, False)


def test_a_connection_keeps_its_log(path: str) -> None:
    """SQLite may call the hook for as long as the connection is open, whoever else has let go of the log."""
    with slothstate.open(path) as state:
        state.set("k", 1)
        (connection,) = store_of(state)._idle
        reference = weakref.ref(connection)
        db = connection.db
        store_of(state)._idle.clear()
        del connection
        gc.collect()
        assert reference() is None
        db.execute("update entries set value = 2")
        db.close()
        assert state.get("k") == 2


def test_a_long_log_is_copied_into_the_database(path: str) -> None:
    """A commit that leaves 7,000 pages or more in the log has them copied, and the next one begins the log anew."""
    size = 2**19
    with slothstate.open(path) as state:
        for number in range(6 * WAL_CHECKPOINT_PAGES * PAGE_SIZE // size):
            state.set(f"k{number % 8}", os.urandom(size // 2).hex())
        assert state.stats()["wal_size"] < 2 * WAL_CHECKPOINT_PAGES * PAGE_SIZE
