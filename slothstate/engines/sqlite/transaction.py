"""The blocks that hold on to a connection: a transaction, and a snapshot.

Both are made for `native.Scope`: their `end` is called in any case, and again if an exception of a signal handler
(Ctrl-C) strikes it, so it can begin at any point of itself a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import apsw

from slothstate.caller import current, thread_ident
from slothstate.engines.sqlite.connection import Snapshot
from slothstate.engines.sqlite.translation import translate
from slothstate.errors import StateIOError
from slothstate.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from slothstate.engines.sqlite.connection import Connection
    from slothstate.engines.sqlite.pool import Pool

__all__ = ["MomentBlock", "SnapshotBlock", "TransactionBlock"]


class TransactionBlock:
    """A write transaction of the caller, or a savepoint inside one; the first error is never masked."""

    __slots__ = ("_connection", "_first", "_is_outermost", "_level", "_pool", "_serial", "_thread", "_was_struck")

    def __init__(self, pool: Pool, first: Callable[[], object] | None) -> None:
        self._pool = pool
        self._first = first
        self._connection: Connection | None = None
        self._is_outermost = False
        self._thread = thread_ident()
        self._level = 0
        # Of no transaction.
        self._serial = -1
        self._was_struck = False

    def begin(self) -> None:
        pool = self._pool
        own = pool.own_transaction()
        if own is None:
            pool._check_identity()
            self._is_outermost = True
            self._thread = thread_ident()
            connection = pool._lend()
            if self._thread in pool._transactions:
                # Another greenlet has begun one while this one waited for the connection.
                pool._give_back(connection)
                self.begin()
                return
            self._connection = connection
            connection.holder = current()
            # A signal handler must neither wait with another connection for this one, nor find it half begun: what it
            # wrote would be undone with the block, or the block would not know it.
            connection.working = True
            pool._transactions[self._thread] = connection
        else:
            own.require_idle()
            own.require_writable()
            own.working = True
            self._connection = connection = own
        self._level = connection.depth
        self._serial = connection.serial + self._is_outermost
        try:
            connection.begin()
        except apsw.Error as error:
            raise translate(error, pool.path) from error
        finally:
            connection.working = False
        if self._first is not None:
            self._first()

    def end(self, kind: type[BaseException] | None) -> None:
        connection = self._connection
        if connection is None:
            return
        self._pool._notice_fork()
        try:
            self._end_statement(connection, kind)
        except apsw.Error as error:
            raise translate(error, self._pool.path) from error
        if self._is_outermost:
            if kind is None:
                connection.sync()
            self._give_back(connection)
        else:
            connection.working = False
        self._connection = None

    def _end_statement(self, connection: Connection, kind: type[BaseException] | None) -> None:
        is_over = connection.serial != self._serial or connection.depth < self._level
        if kind is None and (is_over or connection.depth == self._level):
            # Maybe another one is under way: this block is an inner one that was left open.
            raise StateIOError("the outer transaction has ended; nothing of it is kept")
        if not is_over:
            connection.working = True
        if kind is None:
            # A long block: what is committed into a file that was replaced meanwhile would be lost.
            self._pool.ensure_identity()
            connection.commit(self._level)
        elif not is_over:
            # What cannot be undone so ends with the connection, and an outer transaction finds itself at another depth.
            with suppress(apsw.Error):
                connection.rollback(self._level)

    def _give_back(self, connection: Connection) -> None:
        pool = self._pool
        was_struck, self._was_struck = self._was_struck, True
        if pool._transactions.get(self._thread) is connection:
            del pool._transactions[self._thread]
        connection.working = False
        if was_struck:
            pool._abandon(connection)
        else:
            connection.holder = None
            # Of a snapshot inside it that was left open.
            connection.moment = None
            connection.checkpoint()
            pool._give_back(connection)
        pool.afterwards.run(self._thread)


class MomentBlock:
    """What the caller reads is of one moment, the clock too, and it writes nothing; inside a transaction it is free."""

    __slots__ = (
        "_connection",
        "_is_outermost",
        "_pool",
        "_serial",
        "_sets_the_clock",
        "_snapshot",
        "_thread",
        "_was_struck",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None
        self._is_outermost = False
        self._serial = -1
        self._sets_the_clock = False
        self._thread = thread_ident()
        self._was_struck = False

    def begin(self) -> None:
        pool = self._pool
        own = pool.own_transaction()
        if own is not None:
            own.require_idle()
            self._connection = own
            self._serial = own.serial
            if own.moment is None:
                self._sets_the_clock = True
                own.moment = pool.now()
            return
        pool._check_identity()
        self._thread = thread_ident()
        connection = pool._lend()
        if self._thread in pool._transactions:
            # Another greenlet has begun one while this one waited for the connection.
            pool._give_back(connection)
            self.begin()
            return
        self._is_outermost = self._sets_the_clock = True
        self._connection = connection
        connection.serial += 1
        self._serial = connection.serial
        connection.holder = current()
        connection.working = True
        pool._transactions[self._thread] = connection
        self._snapshot = Snapshot(connection)
        try:
            self._snapshot.__enter__()
            # SQLite takes the snapshot when it first reads.
            connection.execute("select 1 from entries limit 1").fetchall()
        except apsw.Error as error:
            raise translate(error, pool.path) from error
        connection.moment = pool.now()
        connection.working = False

    def end(self, kind: type[BaseException] | None) -> None:
        connection = self._connection
        if connection is None:
            return
        self._pool._notice_fork()
        if self._is_outermost:
            connection.working = True
        # Else blocks were left in another order than they were entered in, and it is somebody else's by now.
        is_current = connection.serial == self._serial and connection.moment is not None
        if is_current and self._sets_the_clock:
            connection.moment = None
        if self._is_outermost:
            self._give_back(connection, kind)
        self._connection = None
        if kind is None and not is_current:
            raise StateIOError("what this snapshot is inside of ended before it: not all that it read is of one moment")

    def _give_back(self, connection: Connection, kind: type[BaseException] | None) -> None:
        pool = self._pool
        was_struck, self._was_struck = self._was_struck, True
        if pool._transactions.get(self._thread) is connection:
            del pool._transactions[self._thread]
        connection.working = False
        if was_struck or (kind is not None and not issubclass(kind, Exception | GeneratorExit)):
            # Ctrl-C between a statement's first row and its end, or in here.
            pool._abandon(connection)
        elif not connection.inherited:
            connection.holder = None
            self._snapshot.__exit__()
            pool._give_back(connection)
        pool.afterwards.run(self._thread)


class SnapshotBlock:
    """A connection whose reads all see the store as it was at one moment; the caller's transaction if it is in one."""

    __slots__ = ("_connection", "_pool", "_snapshot", "_was_struck")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None
        self._was_struck = False

    def begin(self) -> tuple[Connection, int]:
        pool = self._pool
        pool.ensure_identity()
        own = pool.own_transaction()
        if own is not None:
            return own, pool.now() if own.moment is None else own.moment
        self._connection = connection = pool._lend()
        self._snapshot = Snapshot(connection)
        try:
            self._snapshot.__enter__()
        except apsw.Error as error:
            raise translate(error, pool.path) from error
        return connection, pool.now()

    def end(self, kind: type[BaseException] | None) -> None:
        connection = self._connection
        if connection is None:
            return
        was_struck, self._was_struck = self._was_struck, True
        if was_struck or (kind is not None and not issubclass(kind, Exception | GeneratorExit)):
            # Ctrl-C between a statement's first row and its end, or in here.
            self._pool._abandon(connection)
        else:
            self._snapshot.__exit__()
            self._pool._give_back(connection)
        self._connection = None
