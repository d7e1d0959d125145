"""Nine bugs to plant in the package, and for each the test that must find it: the tests are tested.

With SLOTHSTATE_PLANTED set to a name below, a test run and its worker processes have that bug (`test_planted.py`).
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from helpers.stand_in import StandIn, through
from slothstate import locks
from slothstate.engines.sqlite import counters, engine, keys, read_cache, store, sweep
from slothstate.engines.sqlite.connection import Atomic, Connection
from slothstate.engines.sqlite.locks import table

VARIABLE: Final = "SLOTHSTATE_PLANTED"


def stamp_read_after_the_row() -> None:
    """The cache takes the store's stamp only after the row was read: what was committed in between stays unseen."""
    load = engine._load_value

    def late(below: store.Store, decode: Any, key: str, default: Any) -> Any:
        return load(_Late(below), decode, key, default)

    class _Late:
        """A store whose cache gives out its token when a value is kept, not when it is asked for."""

        def __init__(self, below: store.Store) -> None:
            self._store = below
            self.cache = self

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        def sync(self) -> None:
            return None

        def store(self, token: None, *what: Any) -> None:
            cache = self._store.cache
            cache.store(None if self._store.in_transaction else cache.sync(), *what)

    engine._load_value = late  # type: ignore[misc]


def no_second_look_at_the_stamp() -> None:
    """The cache keeps what was read without asking whether the stamp is still the one from before."""
    make = read_cache.make

    class Trusting(StandIn):
        def store(self, token: int | None, *what: Any) -> None:
            self._cache.store(None if token is None else self._cache.sync(), *what)

    read_cache.make = lambda *arguments: Trusting(make(*arguments))
    engine.SqliteEngine.fast = through  # type: ignore[method-assign]


def increment_in_two_steps() -> None:
    """An increment reads, adds and writes, without a transaction around it."""

    def increment(connection: Connection, now: int, key: str, delta: float, ttl_ms: int | None = None) -> float:
        row = keys.get(connection, now, key)
        total: float = delta if row is None else row[1] + delta  # type: ignore[operator]
        keys.put(connection, now, key, "number", total, ttl_ms)
        return total

    counters.increment = increment


def release_of_anybodys_lock() -> None:
    """Releasing deletes the row of a name, whoever holds it."""

    def release(connection: Connection, now: int, name: str, nonce: int, boot_ms: int) -> bool:
        connection.execute("delete from locks where name = ?1", (name,))
        return connection.changes() > 0

    table.release = release


def lease_checked_before_the_wait() -> None:
    """A lock's transaction checks that the lock is held, and only then waits for the right to write."""

    @contextmanager
    def transaction(self: locks.Lock) -> Iterator[None]:
        self.ensure_held()
        with self._engine.transaction():
            yield

    locks.Lock.transaction = transaction  # type: ignore[method-assign]


def sweep_without_a_second_look() -> None:
    """A sweep looks for what is expired outside the transaction that removes it."""

    def batch(connection: Connection, now: int) -> tuple[int, bool]:
        expired = connection.execute(sweep._EXPIRED, (now, sweep.BATCH)).fetchall()
        with Atomic(connection):
            for identity, _ in expired:
                connection.execute("delete from list_items where list_id = ?1", (identity,))
                connection.execute("delete from entries where id = ?1", (identity,))
        return len(expired), len(expired) == sweep.BATCH

    sweep.batch = batch


def acknowledged_before_commit() -> None:
    """An increment answers what it is going to be, and is written a moment later."""
    write_key: Any = store.Store.write_key
    waiting: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def write_later() -> None:
        while True:
            write = waiting.get()
            time.sleep(0.001)
            write_key(*write)

    def promise(self: store.Store, operation: Any, key: str, *arguments: Any) -> Any:
        if operation is not counters.increment or self.in_transaction:
            return write_key(self, operation, key, *arguments)
        if waiting.empty():
            threading.Thread(target=write_later, daemon=True).start()
        row = self.read(keys.get, key)
        waiting.put((self, operation, key, *arguments))
        return (row[1] if row else 0) + arguments[0]

    store.Store.write_key = promise  # type: ignore[assignment]


def acknowledged_before_the_sync() -> None:
    """With `durability="full"` a write is acknowledged when it is committed, and its sync is left to a later one."""
    Connection.sync = lambda self: None  # type: ignore[method-assign]


def uncommitted_values_are_cached() -> None:
    """What a transaction reads is kept in the cache, and stays there when it is rolled back."""
    make = read_cache.make
    # A cache that is never told which threads hold a transaction.
    read_cache.make = lambda limit, clock, transactions: make(limit, clock, {})


@dataclass(frozen=True)
class Bug:
    """What plants a bug, and the test that finds it."""

    plant: Callable[[], None]
    found_by: str


BUGS: Final = {
    bug.plant.__name__: bug
    for bug in (
        Bug(
            stamp_read_after_the_row,
            "sqlite/test_read_cache.py::test_a_commit_in_any_gap_of_a_read_is_seen_by_the_next_one",
        ),
        Bug(
            no_second_look_at_the_stamp,
            "sqlite/test_read_cache.py::test_a_commit_in_any_gap_of_a_read_is_seen_by_the_next_one",
        ),
        Bug(increment_in_two_steps, "sqlite/test_rows.py::test_another_writer_between_any_two_statements"),
        Bug(release_of_anybodys_lock, "sqlite/test_lock_rows.py::test_unlock_after_expiry_never_frees_the_next_owner"),
        Bug(
            lease_checked_before_the_wait,
            "sqlite/test_lock_rows.py::test_lock_that_expires_while_its_transaction_waits_to_begin",
        ),
        Bug(sweep_without_a_second_look, "sqlite/test_sweep.py::test_key_that_is_set_again_as_a_sweep_begins"),
        Bug(acknowledged_before_commit, "faults/test_crash.py::test_nothing_acknowledged_is_lost_by_kill"),
        Bug(acknowledged_before_the_sync, "faults/test_synced_commits.py::test_power_loss_with_several_writers"),
        Bug(
            uncommitted_values_are_cached,
            "sqlite/test_read_cache.py::test_a_transaction_reads_its_own_writes_and_leaves_nothing_cached",
        ),
    )
}


_done: list[str] = []


def plant() -> None:
    """Plant the bug that the environment names, if it names one and the process does not have it yet."""
    name = os.environ.get(VARIABLE)
    if name and not _done:
        _done.append(name)
        BUGS[name].plant()
