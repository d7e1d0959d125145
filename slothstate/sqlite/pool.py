"""The connections of one store in one process: lent and given back, watched, and taken through a fork.

A connection that an exception keeps from being given back is simply closed when it is collected: nothing can stay
locked.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from threading import get_ident
from typing import Final

import apsw

from slothstate.errors import SlothStateError, StateClosed, UnsafeState
from slothstate.sqlite import creation, forking, guard, location, schema
from slothstate.sqlite.connection import BusyWait, Connection, translate
from slothstate.sqlite.lending import Lender

__all__ = ["IDENTITY_CHECK_INTERVAL", "IDLE_CONNECTIONS", "Pool"]

IDLE_CONNECTIONS: Final = 8
IDENTITY_CHECK_INTERVAL: Final = 0.05
CACHE_CLOCK_TICK: Final = 0.01


class Pool(Lender):
    """The base of `Engine`. `vfs` names the SQLite VFS of its connections: a failing disk, in tests."""

    def __init__(self, path: str, *, synchronous: str, busy: BusyWait, vfs: str | None) -> None:
        self.path = path
        self.busy = busy
        self._synchronous = synchronous
        self._vfs = vfs
        self._idle = []
        # References, and not a WeakSet: one that other threads change cannot be iterated over, but a set be copied.
        self._connections: set[weakref.ref[Connection]] = set()
        self._transactions = {}
        self._opening = threading.RLock()
        self._paused = False
        self._refusal = None
        self._identity: location.Identity = ()
        self._identity_until = 0.0
        # Never lent: while it is open nothing we close is the last connection, which would delete the -wal and -shm.
        # Only `_check_version` reads through it.
        self._anchor: Connection | None = None
        self._unguard: Callable[[], object] | None = None

    @property
    def in_transaction(self) -> bool:
        """Whether the calling thread holds a transaction."""
        return get_ident() in self._transactions

    @property
    def refusal(self) -> SlothStateError | None:
        """Why this engine takes no more operations, or None."""
        return self._refusal

    def require_usable(self) -> None:
        """Raise the error of an engine that takes no more operations."""
        if self._refusal is not None:
            raise _again(self._refusal)

    def _borrow(self) -> Connection:
        # Of an engine that refuses none is idle.
        try:
            return self._idle.pop()
        except IndexError:
            pass
        # Both under one lock: a fork holds it, and waits for whoever has a connection in use.
        with self._opening:
            if self._anchor is None:
                self._raise_anchor()
                self._woken()
            return self._connect()

    def _woken(self) -> None:
        """Do what the first use after a fork asks for."""

    def _raise_anchor(self, *, prepared: bool = True) -> None:
        """Open the anchor; the caller holds `_opening`."""
        anchor = self._connect(prepared=prepared)
        self.cache.attach(anchor.sqlite_file(), anchor)
        guard.protect(self._identity)
        # Also when nobody closes the engine: it must come before the collector closes the anchor.
        self._unguard = weakref.finalize(self, guard.release, self._identity)
        self._anchor = anchor

    def _drop_anchor(self) -> None:
        anchor, self._anchor = self._anchor, None
        self.cache.detach()
        if anchor is not None:
            if self._unguard is not None:
                self._unguard()
            self._close(anchor)

    def _give_back(self, connection: Connection) -> None:
        if connection.inherited:
            return
        if connection.depth or connection.db.in_transaction:
            # An exception struck between the steps of a transaction (Ctrl-C): the connection's state is not known.
            self._close(connection)
            return
        self._idle.append(connection)
        self._trim()

    def _trim(self) -> None:
        while self._idle and (self._refusal is not None or len(self._idle) > IDLE_CONNECTIONS):
            try:
                self._close(self._idle.pop())
            except IndexError:
                return

    def _close(self, connection: Connection) -> None:
        connection.close()
        # Not left to the garbage collector: the traceback of an error can keep it for long, and a fork waits for it.
        self._connections.discard(weakref.ref(connection))

    def _connect(self, *, prepared: bool = True) -> Connection:
        """Open a connection; the caller holds `_opening`."""
        if self._refusal is not None:
            raise _again(self._refusal)
        forking.refuse_inherited(self.path)
        try:
            if not prepared:
                creation.prepare(self.path)
            connection = Connection(self.path, synchronous=self._synchronous, busy=self.busy, vfs=self._vfs)
            try:
                schema.check(connection.db, self.path)
                self._identity = location.same_files(self.path, self._identity)
            except BaseException:
                connection.close()
                raise
        except (apsw.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from error
        self._connections.add(weakref.ref(connection, self._connections.discard))
        return connection

    def ensure_identity(self) -> None:
        """Look, at most every 50 ms, whether files and layout are still what was opened. Raises: `UnsafeState`."""
        if time.monotonic() >= self._identity_until:
            self._check_identity()

    def _check_identity(self) -> None:
        if self._refusal is None and self._anchor is not None:
            try:
                location.same_files(self.path, self._identity)
            except UnsafeState:
                self._latch()
            self._check_version()
        if self._refusal is not None:
            raise _again(self._refusal)
        # Due again by the time the cache stops hitting, up to a tick early: later, nothing would hit until then.
        self._identity_until = time.monotonic() + IDENTITY_CHECK_INTERVAL - CACHE_CLOCK_TICK
        self.cache.verified(IDENTITY_CHECK_INTERVAL)

    def _latch(self) -> None:
        """Refuse from now on if the store's files are not those it was opened with."""
        # A fork or a close in another thread takes the log away, too; neither can happen inside a transaction.
        with nullcontext() if self.in_transaction else self._opening:
            if self._refusal is None and self._anchor is not None:
                try:
                    location.same_files(self.path, self._identity)
                except UnsafeState as error:
                    # For good: a file that comes back is another file, and its log is not the one we know.
                    self._refusal = error
                    self.cache.detach()
                    self._trim()

    def _check_version(self) -> None:
        """Refuse from now on if a newer slothstate has changed the layout of the store meanwhile."""
        # Not waited for: whoever has it is opening, closing or looking itself.
        if self._opening.acquire(blocking=False):
            try:
                if self._refusal is None and self._anchor is not None:
                    with suppress(apsw.Error):
                        schema.check_version(self._anchor.execute("pragma user_version").get, self.path)
            except UnsafeState as error:
                self._refusal = error
                self.cache.detach()
                self._trim()
            finally:
                self._opening.release()

    # What slothstate.sqlite.forking calls around a fork.

    def before_fork(self, deadline: float) -> None:
        """Close the connections, so that the child inherits none; wait until `deadline` for those in use."""
        if self._opening.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._paused = True
        own = self._transactions.get(get_ident())
        # From now on a connection that is given back is closed, or threads that never pause would never be without.
        idle, self._idle = self._idle, _Departing(self._close)
        while idle:
            self._close(idle.pop())
        while any(connection not in (own, self._anchor) for connection in self._open_connections()):
            if time.monotonic() >= deadline:
                return
            time.sleep(0.0005)
        if own is None and self._anchor is not None:
            self._drop_anchor()

    def after_fork_in_parent(self) -> None:
        self._reopen_after_fork()
        self._idle = []
        if self._paused:
            self._paused = False
            self._opening.release()

    def after_fork_in_child(self) -> list[Connection]:
        """Forget the parent's connections. The caller keeps them alive: closing one would drop the parent's locks."""
        inherited = self._open_connections()
        for connection in inherited:
            connection.inherited = True
        self._opening = threading.RLock()
        self._paused = False
        self._idle = []
        self._connections.clear()
        self._transactions.clear()
        self._anchor = None
        self.cache.forked()
        if inherited:
            self._refusal = StateClosed(
                f"the state on {self.path} was forked inside a transaction: this process cannot use it; "
                "fork outside transactions, or open the store in a process started with spawn"
            )
        else:
            self._reopen_after_fork()
        return inherited

    def _open_connections(self) -> list[Connection]:
        return [connection for reference in list(self._connections) if (connection := reference()) is not None]

    def _reopen_after_fork(self) -> None:
        if self._anchor is None and not self._connections:
            # The last connection of all takes the -wal and -shm with it, so only the database itself stays known.
            self._identity = self._identity[:1]


class _Departing(list[Connection]):
    """The list of idle connections while a fork is under way: it closes what it is given and stays empty."""

    def __init__(self, close: Callable[[Connection], None]) -> None:
        super().__init__()
        self._close = close

    def append(self, connection: Connection) -> None:
        self._close(connection)


def _again(error: SlothStateError) -> SlothStateError:
    """Return a fresh copy of a latched error, so that tracebacks do not pile up on one object."""
    return type(error)(*error.args)
