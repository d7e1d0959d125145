"""Bugs to plant in the package, and for each the test that must find it: the tests are tested.

With SLOTHSTATE_PLANTED set to a name below, a test run and its worker processes have that bug (`test_planted.py`).
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from helpers.stand_in import StandIn, through
from slothstate import locks
from slothstate.engines.sqlite import (
    claims,
    counters,
    engine,
    keys,
    read_cache,
    returning,
    store,
    sweep,
    triggers,
    watch_table,
    watches,
)
from slothstate.engines.sqlite.connection import Atomic, Connection
from slothstate.engines.sqlite.locks import lock_table, table
from slothstate.engines.watching import WatchPage
from slothstate.verbs import waiting

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

    def increment(connection: Connection, now: int, key: str, delta: float, *ttl_ms: int | None) -> float:
        row = keys.get(connection, now, key)
        total: float = delta if row is None else row[1] + delta  # type: ignore[operator]
        keys.put(connection, now, key, "number", total, *(ttl_ms or (None,)))
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


def watch_that_begins_before_its_triggers() -> None:
    """A watch is there before anything notes the changes for it: the triggers come when it first reads."""
    page = watches.page

    def begin(connection: Connection, now: int, wanted: watches.WatchRow, is_alive: Any) -> int | None:
        with Atomic(connection):
            last: int = connection.execute(watches._LAST).get
            row = (wanted.name, wanted.pattern, last, wanted.nonce, wanted.owner, wanted.host, wanted.pid, now)
            connection.execute(watches._ADD, row)
            return last

    def late(self: watch_table.WatchTable, nonce: int, after: int, pattern: str | None, limit: int, /) -> Any:
        def first(connection: Connection, now: int) -> None:
            with Atomic(connection):
                if not connection.execute(watches._IS_WATCHED).get:
                    for statement in triggers.NAMES_AND_TEXTS.values():
                        connection.execute(statement)

        self._store.write(first)
        return WatchPage(*self._store.read(page, nonce, after, pattern, limit))

    watches.begin = begin
    watch_table.WatchTable.page = late  # type: ignore[method-assign]


def wait_that_looks_only_for_edges() -> None:
    """A wait looks, and only then asks what it is to be told about."""

    def wait_until(owner: Any, look: Callable[[], Any], timeout: float | None, *, pause: Any = None) -> Any:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (found := look()) is None and (deadline is None or time.monotonic() < deadline):
            owner.changes.wait(owner.changes.token(), waiting.LONGEST)
        return found

    waiting.wait_until = wait_until  # type: ignore[assignment]


def claim_that_is_not_returned() -> None:
    """Nobody asks whether the owners of claims live."""
    returning.due = lambda connection, now, identity: []


def claim_that_is_returned_to_two() -> None:
    """What comes back is put into its list, and stays claimed."""
    returning._UNCLAIM = "select item, attempts from claims where list_id = ?1 and position = ?2"  # type: ignore[misc]


def done_that_ignores_its_nonce() -> None:
    """The end of a claim deletes whatever is claimed at its place."""
    claims._DONE = "delete from claims where list_id = ?1 and position = ?2 and ?3 <> ?4"  # type: ignore[misc]


def shared_beside_one_that_waits_alone() -> None:
    """Whoever wants to share a lock looks only at those who hold it."""
    may_join = table.Holders.may_join

    def join(self: table.Holders, claim_slots: int, is_ahead: Callable[[tuple[str, int]], bool]) -> bool:
        return may_join(self, claim_slots, lambda _: False)

    table.Holders.may_join = join  # type: ignore[method-assign]


def one_more_than_there_are_slots() -> None:
    """The holders are counted without the one that comes."""
    may_join = table.Holders.may_join

    def join(self: table.Holders, claim_slots: int, is_ahead: Callable[[tuple[str, int]], bool]) -> bool:
        return may_join(self, claim_slots + 1 if claim_slots > 1 else claim_slots, is_ahead)

    table.Holders.may_join = join  # type: ignore[method-assign]


def whoever_waits_alone_is_first() -> None:
    """One that waits to have a lock alone keeps out who has waited for longer to share it."""
    lock_table.LockTable._is_ahead = lambda self, ahead, waiter: True  # type: ignore[method-assign]


def write_without_the_gate() -> None:
    """A statement of the server does not wait for a transaction."""
    from slothstate.engines.postgres.connection import Connection
    from slothstate.engines.postgres.schema import GATED

    execute = Connection.execute

    def run(self: Connection, statement: str, *arguments: Any, **named: Any) -> Any:
        return execute(self, statement.replace(GATED, "gated as (select 1)"), *arguments, **named)

    Connection.execute = run  # type: ignore[method-assign]


def child_that_keeps_its_sockets() -> None:
    """A forked child leaves the connections of its parent as they are."""
    from slothstate.engines.postgres.connection import Connection

    Connection.abandon = lambda self: None  # type: ignore[method-assign]


def transaction_that_is_sent_again() -> None:
    """A COMMIT whose answer is lost is taken for none, whatever the server has done."""
    from slothstate.engines.postgres.blocks import TransactionBlock

    TransactionBlock._is_committed = lambda self, error: False  # type: ignore[method-assign]


def _change_functions(before: str, after: str) -> None:
    """Let new stores of a server have other functions."""
    from slothstate.engines.postgres import schema

    functions = vars(schema)["FUNCTIONS"]
    changed = tuple(text.replace(before, after) for text in functions)
    assert changed != functions
    vars(schema)["FUNCTIONS"] = changed


def clock_of_the_statement() -> None:
    """The server's clock stands still while a statement waits."""
    _change_functions("clock_timestamp()", "now()")


def take_without_the_row_lock() -> None:
    """Whoever changes a list does not keep others from it."""
    _change_functions("from entries where key = k for update", "from entries where key = k")


def release_without_the_nonce() -> None:
    """Whoever releases a lock frees it, whosever it is."""
    _change_functions("where name = lock_name and nonce = mine", "where name = lock_name")


def token_without_the_clock() -> None:
    """A token is the last one that is known and one."""
    _change_functions("greatest(newest + 1, clock_ms(), 1)", "coalesce(newest, 0) + 1")


def write_that_is_sent_again() -> None:
    """A write whose answer is lost is taken for one that was not sent."""
    from slothstate.engines.postgres.connection import ConnectionLost

    ConnectionLost.was_sent = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]


class Bug(NamedTuple):
    """What plants a bug, and the test that finds it; `is_simulated`: the simulation has what it breaks, too."""

    plant: Callable[[], None]
    found_by: str
    is_simulated: bool


_CACHE: Final = "sqlite/test_read_cache.py::"
_GAP: Final = f"{_CACHE}test_a_commit_in_any_gap_of_a_read_is_seen_by_the_next_one"
_LOCK: Final = "sqlite/test_lock_rows.py::"
_SHARED: Final = "conformance/test_shared_locks.py::"

_SIMULATED: Final = {
    stamp_read_after_the_row: _GAP,
    no_second_look_at_the_stamp: _GAP,
    increment_in_two_steps: "sqlite/test_rows.py::test_another_writer_between_any_two_statements",
    release_of_anybodys_lock: f"{_LOCK}test_unlock_after_expiry_never_frees_the_next_owner",
    lease_checked_before_the_wait: f"{_LOCK}test_lock_that_expires_while_its_transaction_waits_to_begin",
    sweep_without_a_second_look: "sqlite/test_sweep.py::test_key_that_is_set_again_as_a_sweep_begins",
    acknowledged_before_commit: "faults/test_crash.py::test_nothing_acknowledged_is_lost_by_kill",
    acknowledged_before_the_sync: "faults/test_synced_commits.py::test_power_loss_with_several_writers",
    uncommitted_values_are_cached: f"{_CACHE}test_a_transaction_reads_its_own_writes_and_leaves_nothing_cached",
}

_NOT_SIMULATED: Final = {
    watch_that_begins_before_its_triggers: "conformance/test_watch.py::test_own_writes_and_patterns",
    wait_that_looks_only_for_edges: "conformance/test_wait.py::test_nothing_is_missed_between_a_look_and_the_wait",
    claim_that_is_not_returned: "conformance/test_claims.py::test_whoever_asks_first",
    claim_that_is_returned_to_two: "conformance/test_claims.py::test_released_at_its_place",
    done_that_ignores_its_nonce: "sqlite/test_claim_rows.py::test_claim_of_another_nonce",
    shared_beside_one_that_waits_alone: f"{_SHARED}test_who_waits_alone_keeps_new_ones_out",
    one_more_than_there_are_slots: f"{_SHARED}test_slots",
    whoever_waits_alone_is_first: f"{_SHARED}test_who_comes_later_to_have_it_alone_keeps_nobody_out_who_waits",
    write_without_the_gate: "postgres/test_stopped.py::test_a_client_that_stands_still_in_a_transaction",
    child_that_keeps_its_sockets: "postgres/test_forks.py::test_a_child_that_outlives_its_parent",
    transaction_that_is_sent_again: "postgres/test_restart.py::test_a_crash_at_commit",
    clock_of_the_statement: "postgres/test_races.py::test_a_counter_that_expires_while_its_increment_waits",
    take_without_the_row_lock: "postgres/test_races.py::test_items_are_taken_once",
    release_without_the_nonce: "postgres/test_races.py::test_who_lost_a_lock_does_not_free_it",
    token_without_the_clock: "postgres/test_races.py::test_tokens_rise_where_their_row_is_lost",
    write_that_is_sent_again: "postgres/test_restart.py::test_a_write_that_waits",
}

BUGS: Final = {
    plant.__name__: Bug(plant, found_by, bugs is _SIMULATED)
    for bugs in (_SIMULATED, _NOT_SIMULATED)
    for plant, found_by in bugs.items()
}


_done: list[str] = []


def plant() -> None:
    """Plant the bug that the environment names, if it names one and the process does not have it yet."""
    name = os.environ.get(VARIABLE)
    if name and not _done:
        _done.append(name)
        BUGS[name].plant()
