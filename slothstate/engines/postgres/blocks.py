"""A transaction and a snapshot: what holds on to a connection. Made for `native.Scope`, as those of SQLite are."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg

from slothstate.caller import current, thread_ident
from slothstate.engines.postgres.connection import Connection, ConnectionLost, translate
from slothstate.errors import SlothStateError, StateClosed, StateIOError
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.identity import new_nonce, process_id

if TYPE_CHECKING:
    from slothstate.engines.postgres.pool import Pool

__all__ = ["FREEZE", "SnapshotBlock", "TransactionBlock", "begin_moment"]

# One round trip. Whoever finds the answer to COMMIT lost looks for the nonce.
_BEGIN: Final = """
begin;
lock table gate in exclusive mode;
insert into outcomes values ({nonce}, clock_ms())
"""

_OUTCOME: Final = "delete from outcomes where nonce = %s"

FREEZE: Final = "select set_config('slothstate.now_ms', now_ms()::text, true)"


def begin_moment(pool: Pool, connection: Connection) -> None:
    """Let a connection read the store as it is now. Raises: `psycopg.Error`; `ConnectionLost`."""
    pool.set_clock(connection)
    connection.wait_for_locks(pool.patience())
    connection.command("begin isolation level repeatable read read only", seconds=pool.seconds())


class TransactionBlock:
    """A write transaction of the caller, or a savepoint inside one; the first error is never masked."""

    __slots__ = (
        "_connection",
        "_first",
        "_is_outermost",
        "_is_step",
        "_level",
        "_nonce",
        "_pool",
        "_serial",
        "_thread",
    )

    def __init__(self, pool: Pool, first: Callable[[], object] | None = None, *, is_step: bool = False) -> None:
        self._pool = pool
        self._first = first
        # Of one verb: what it does to a key is one change, however many statements it takes.
        self._is_step = is_step
        self._connection: Connection | None = None
        self._is_outermost = False
        self._thread = thread_ident()
        self._level = 0
        self._serial = -1
        self._nonce = 0

    def begin(self) -> None:
        pool = self._pool
        pool.require_usable()
        pool.require_writable()
        own = pool.own()
        if own is None:
            self._begin_outermost()
        else:
            self._connection = own
            self._level = own.depth
            self._serial = own.serial
            self._is_step = self._is_step and not own.is_step
            self._run(own, f"savepoint s{own.depth}{self._begin_step(own)}")
            own.depth += 1
        if self._first is not None:
            self._first()

    def _begin_step(self, connection: Connection) -> str:
        if not self._is_step:
            return ""
        connection.is_step = True
        return f"; select set_config('slothstate.step', '{os.urandom(8).hex()}', true)"

    def _begin_outermost(self) -> None:
        pool = self._pool
        pool.refuse_wait_for_itself()
        self._thread = thread_ident()
        self._is_outermost = True
        self._nonce = new_nonce()
        patience = pool.patience()
        holder = current()

        def begin() -> Connection:
            self._connection = connection = pool.borrow()
            # Before it begins: from now on `end` takes it back, wherever Ctrl-C strikes.
            connection.serial += 1
            self._serial = connection.serial
            connection.holder = holder
            pool.held[self._thread] = connection
            pool.set_clock(connection)
            connection.wait_for_locks(patience)
            began = time.monotonic()
            command = _BEGIN.format(nonce=self._nonce) + self._begin_step(connection)
            connection.command(command, seconds=pool.seconds())
            pool.note_wait(time.monotonic() - began)
            return connection

        # Nothing has been written where its connection is lost.
        connection = pool.retried(begin, is_write=True)
        connection.depth = 1
        pool.note_writer(holder)

    def _run(self, connection: Connection, statement: str) -> None:
        try:
            connection.command(statement, seconds=self._pool.seconds())
        except ConnectionLost as error:
            raise self._pool.lost(connection) from error
        except psycopg.Error as error:
            raise translate(error, self._pool.shown, is_write=True) from error

    def end(self, kind: type[BaseException] | None) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.process != process_id():
            self._connection = None
            if kind is None:
                raise StateClosed("this transaction belongs to the process that began it: a forked child cannot end it")
            return
        is_over = connection.serial != self._serial or connection.depth <= self._level
        try:
            if self._is_outermost:
                self._end_outermost(connection, kind, is_over)
            elif is_over:
                if kind is None:
                    raise StateIOError("the outer transaction has ended; nothing of it is kept")
            elif kind is None:
                step = "; select set_config('slothstate.step', '', true)" if self._is_step else ""
                self._run(connection, f"release savepoint s{self._level}{step}")
                connection.depth = self._level
            else:
                with suppress(SlothStateError):
                    self._run(connection, f"rollback to savepoint s{self._level}; release savepoint s{self._level}")
                # What was set inside is undone, too.
                connection.now = ""
                connection.depth = self._level
        finally:
            if self._is_step:
                connection.is_step = False
            self._connection = None

    def _end_outermost(self, connection: Connection, kind: type[BaseException] | None, is_over: bool) -> None:
        pool = self._pool
        try:
            if kind is None and (is_over or connection.depth != 1):
                raise StateIOError("an inner transaction was left open; nothing of this one is kept")
            connection.depth = 0
            if kind is None:
                self._commit(connection)
            elif not connection.db.closed:
                with suppress(psycopg.Error, ConnectionLost):
                    connection.command("rollback", seconds=pool.seconds())
                connection.now = ""
        finally:
            if connection.holder is not None:
                pool.forget_writer(connection.holder)
            if pool.held.get(self._thread) is connection:
                del pool.held[self._thread]
            pool.give_back(connection)
            pool.afterwards.run(self._thread)

    def _commit(self, connection: Connection) -> None:
        pool = self._pool
        try:
            status = connection.command("commit", seconds=pool.seconds())
        except ConnectionLost as error:
            if not self._is_committed(error):
                raise pool.lost(connection) from error
            return
        except psycopg.Error as error:
            raise translate(error, pool.shown, is_write=True) from error
        if status != "COMMIT":
            raise StateIOError(f"the server rolled the transaction back after an earlier error ({pool.shown})")

    def _is_committed(self, error: ConnectionLost) -> bool:
        """Return whether a transaction whose COMMIT was not answered is there; the gate waits for its end."""
        pool = self._pool
        unknown = translate(error, pool.shown, is_write=True)
        if error.is_late:
            raise unknown from error
        try:
            connection = pool.connect("outcome")
            try:
                connection.command("begin; lock table gate in exclusive mode", seconds=pool.seconds())
                if not connection.execute(_OUTCOME, (self._nonce,), seconds=pool.seconds()):
                    return False
                # Whoever confirms this COMMIT, the disk or a replica, has confirmed what came before it.
                connection.command("commit", seconds=pool.seconds())
                return True
            finally:
                connection.close()
        except (psycopg.Error, ConnectionLost, SlothStateError) as second:
            raise unknown from second


class SnapshotBlock:
    """What the caller reads is of one moment, the clock too, and it writes nothing; inside a transaction it is free."""

    __slots__ = ("_connection", "_is_outermost", "_pool", "_serial", "_sets_the_clock", "_thread")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None
        self._is_outermost = False
        self._sets_the_clock = False
        self._serial = -1
        self._thread = thread_ident()

    def begin(self) -> None:
        pool = self._pool
        pool.require_usable()
        own = pool.own()
        if own is None:
            own = self._begin_outermost()
        self._connection = own
        self._serial = own.serial
        if not own.moment:
            self._sets_the_clock = True
            self._freeze(own)
        if self._is_outermost:
            own.depth = 1

    def _freeze(self, connection: Connection) -> None:
        pool = self._pool
        try:
            pool.set_clock(connection)
            connection.execute(FREEZE, seconds=pool.seconds())
        except (psycopg.Error, ConnectionLost) as error:
            raise translate(error, pool.shown, is_write=False) from error
        connection.moment = True

    def _begin_outermost(self) -> Connection:
        pool = self._pool
        self._thread = thread_ident()
        self._is_outermost = True

        def begin() -> Connection:
            self._connection = connection = pool.borrow()
            connection.serial += 1
            self._serial = connection.serial
            connection.holder = current()
            pool.held[self._thread] = connection
            begin_moment(pool, connection)
            return connection

        return pool.retried(begin)

    def end(self, kind: type[BaseException] | None) -> None:
        connection = self._connection
        if connection is None:
            return
        self._connection = None
        if connection.process != process_id():
            if kind is None:
                raise StateClosed("this snapshot belongs to the process that began it: a forked child cannot end it")
            return
        pool = self._pool
        if self._is_outermost:
            connection.depth = 0
        is_current = connection.serial == self._serial and connection.moment
        if is_current and self._sets_the_clock:
            connection.moment = False
            if not self._is_outermost and not connection.db.closed:
                with suppress(psycopg.Error, ConnectionLost):
                    connection.execute("select set_config('slothstate.now_ms', %s, true)", (connection.now,))
        if self._is_outermost:
            if pool.held.get(self._thread) is connection:
                del pool.held[self._thread]
            with suppress(psycopg.Error, ConnectionLost):
                if not connection.db.closed:
                    connection.command("rollback", seconds=pool.seconds())
            connection.now = ""
            pool.give_back(connection)
            pool.afterwards.run(self._thread)
        if kind is None and not is_current:
            raise StateIOError("what this snapshot is inside of ended before it: not all that it read is of one moment")
