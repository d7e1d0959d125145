"""The connections of one store in one process: lent and given back, watched, and taken through a fork.

A connection that an exception keeps from being given back is simply closed when it is collected: nothing can stay
locked.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any, Final

import apsw

from slothstate import native
from slothstate.caller import current, thread_ident
from slothstate.engines.sqlite import creation, foreign_sqlite, forking, location, schema
from slothstate.engines.sqlite.busy import BusyWait, can_wait_for
from slothstate.engines.sqlite.connection import Connection, Owners, translate
from slothstate.engines.sqlite.lender import Lender
from slothstate.errors import SlothStateError, StateBusy, StateClosed, StateIOError, UnsafeState

__all__ = ["IDENTITY_CHECK_INTERVAL", "IDLE_CONNECTIONS", "Pool"]

IDLE_CONNECTIONS: Final = 8
IDENTITY_CHECK_INTERVAL: Final = 0.05
CACHE_CLOCK_TICK: Final = 0.01

GREENLET_PAUSE: Final = 0.001
"""Seconds between two looks at whether another greenlet's transaction has begun or ended."""


class Pool(Lender):
    """The base of `Store`. `vfs` names the SQLite VFS of its connections: a failing disk, in tests."""

    def __init__(self, path: str, *, syncs_commits: bool, busy: BusyWait, vfs: str | None) -> None:
        self.path = path
        self.busy = busy
        # Set once the file is there, and so not known to the anchor, which is never lent.
        self.owners: Owners | None = None
        self._syncs_commits = syncs_commits
        self._vfs = vfs
        self._idle = []
        # What was idle when a fork or the end of the process began.
        self._dismissed: list[Connection] = []
        # References, and not a WeakSet: one that other threads change cannot be iterated over, but a set be copied.
        self._connections: set[weakref.ref[Connection]] = set()
        self._transactions = {}
        self._afterwards: dict[int, list[Callable[[], object]]] = {}
        self._opening = native.Mutex()
        self._paused: native.Holding | None = None
        self._is_resting = False
        self._refusal = None
        self._identity: location.Identity = ()
        self._identity_until = 0.0
        # Never lent: while it is open nothing we close is the last connection, which would delete the -wal and -shm.
        # Only `_check_version` reads through it.
        self._anchor: Connection | None = None
        self._unguard: weakref.finalize[Any, Any] | None = None
        self._protected: location.Identity = ()
        # That of the layout that was found to be ours last.
        self._cookie = -1

    @property
    def in_transaction(self) -> bool:
        """Whether there is a transaction in the calling thread, whichever of its tasks or greenlets holds it."""
        return thread_ident() in self._transactions

    def own_transaction(self) -> Connection | None:
        """Return the connection of the caller's transaction, None if it holds none.

        Raises: `StateBusy` if another task or greenlet of this thread holds one. A greenlet that waits for its turn to
        begin one is waited for where that is possible: who asked it to yield is somebody else's writer.
        """
        connection = self._transactions.get(thread_ident())
        if connection is None:
            return None
        self._notice_fork()
        caller = current()
        deadline = time.monotonic() + self.busy.timeout
        while connection is not None and connection.holder is not None and connection.holder != caller:
            is_busy = connection.depth or connection.moment is not None
            if is_busy or not can_wait_for(connection.holder) or time.monotonic() >= deadline:
                what = "transaction" if connection.moment is None else "snapshot"
                raise StateBusy(
                    f"{caller.describe()} cannot use the state on {self.path} while {connection.holder.describe()} "
                    f"holds a {what} on it in the same thread: let nobody else run inside a {what} (no await, no sleep)"
                )
            time.sleep(GREENLET_PAUSE)
            connection = self._transactions.get(thread_ident())
        return connection

    def after_transaction(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the transaction of the calling thread has ended, whichever way."""
        self._afterwards.setdefault(thread_ident(), []).append(callback)

    def _run_afterwards(self, thread: int) -> None:
        callbacks = self._afterwards.get(thread, [])
        while callbacks:
            try:
                callbacks[0]()
            except Exception:
                del callbacks[0]
                raise
            # Only now: one that Ctrl-C strikes is called again.
            del callbacks[0]
        self._afterwards.pop(thread, None)

    @property
    def refusal(self) -> SlothStateError | None:
        """Why this engine takes no more operations, or None."""
        return self._refusal

    def require_usable(self) -> None:
        """Raise the error of an engine that takes no more operations, or none from the caller now."""
        if self._refusal is not None:
            raise _again(self._refusal)
        self.own_transaction()

    def require_writable(self) -> None:
        """Refuse to write inside `snapshot()`. Raises: `SlothStateError`."""
        own = self.own_transaction()
        if own is not None:
            own.require_writable()

    def is_caller_writing(self) -> bool:
        """Return whether the caller is inside a transaction. Raises: as `require_usable`.

        One call, because a lock asks it each time; nearly always no thread is in any.
        """
        if self._refusal is not None:
            raise _again(self._refusal)
        return bool(self._transactions) and self.own_transaction() is not None

    def _notice_fork(self) -> None:
        """Forget the parent's connections if C code forked this process behind Python's back."""
        if native.take_fork():
            forking.notice_child()

    def _borrow(self) -> Connection:
        # Of an engine that refuses none is idle.
        try:
            return self._idle.pop()
        except IndexError:
            pass
        # Both under one lock: a fork holds it, and waits for whoever has a connection in use.
        with self._opening.hold():
            if self._anchor is None:
                self._raise_anchor()
            self._woken()
            return self._connect()

    def _woken(self) -> None:
        """Do what the first use after a fork asks for."""

    def _raise_anchor(self, *, prepared: bool = True) -> None:
        """Open the anchor; the caller holds `_opening`."""
        try:
            self._anchor = self._connect(prepared=prepared)
            self.cache.attach(self._anchor.sqlite_file(), self._anchor)
            # A tuple of its own.
            protected = (*self._identity,)
            # Also when nobody closes the engine: it must come before the collector closes the anchor.
            self._unguard = weakref.finalize(self, foreign_sqlite.release, protected)
            # The engine's own end at the end of the process is `rest`.
            self._unguard.atexit = False
            self._protected = protected
            foreign_sqlite.protect(protected)
        except BaseException:
            native.to_the_end(self._drop_anchor)
            raise

    def _drop_anchor(self) -> None:
        """Close the anchor; run to the end, and the caller holds `_opening`."""
        self.cache.detach()
        if self._unguard is not None:
            foreign_sqlite.release(self._protected)
            self._unguard.detach()
            self._unguard = None
        if self._anchor is not None:
            self._close(self._anchor)
            self._anchor = None
        self._forget_log()

    def _give_back(self, connection: Connection) -> None:
        if connection.inherited:
            return
        if connection.depth or connection.db.in_transaction:
            # An exception struck between the steps of a transaction (Ctrl-C): the connection's state is not known.
            self._close(connection)
            return
        # A fork inside a transaction leaves its connection, and whoever borrows that wakes nobody.
        with suppress(StateIOError):
            self._woken()
        connection.thread = 0
        self._idle.append(connection)
        self._trim()

    def _abandon(self, connection: Connection) -> None:
        """Close a connection, unless it was given back before an exception struck."""
        # Lent to another thread by now, it bears that one's number; a signal handler of this one has given it back.
        if connection.thread in (0, thread_ident()) and connection not in self._idle and not connection.inherited:
            self._close(connection)

    def _trim(self) -> None:
        while self._idle and (self._refusal is not None or len(self._idle) > IDLE_CONNECTIONS):
            _close_last(self._idle)

    def _close(self, connection: Connection) -> None:
        connection.close()
        # Not left to the garbage collector: the traceback of an error can keep it for long, and a fork waits for it.
        self._connections.discard(weakref.ref(connection))

    def _close_idle(self) -> None:
        """Close all connections that are idle now; run to the end."""
        for idle in (self._dismissed, self._idle):
            while idle:
                _close_last(idle)

    def _dismiss_idle(self, departing: list[Connection]) -> None:
        """Close what is idle; `departing` takes what is given back from now on. Run to the end."""
        if not isinstance(self._idle, _Departing):
            self._dismissed, self._idle = self._idle, departing
        self._close_idle()

    def _connect(self, *, prepared: bool = True) -> Connection:
        """Open a connection; the caller holds `_opening`."""
        if self._refusal is not None:
            raise _again(self._refusal)
        forking.refuse_inherited(self.path)
        try:
            if not prepared:
                creation.prepare(self.path, self.busy.timeout)
            connection = Connection(self.path, synchronous="normal", wait=self.busy, vfs=self._vfs, now=self.now)
            connection.owners = self.owners
            try:
                schema.check(connection.db, self.path)
                if self._syncs_commits:
                    connection.sync_commits()
                self._identity = location.same_files(self.path, self._identity)
                self._connections.add(weakref.ref(connection, self._connections.discard))
            except BaseException:
                self._close(connection)
                raise
        except (apsw.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from error
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
        with nullcontext() if self.in_transaction else self._opening.hold():
            if self._refusal is None and self._anchor is not None:
                try:
                    location.same_files(self.path, self._identity)
                except UnsafeState as error:
                    # For good: a file that comes back is another file, and its log is not the one we know.
                    self._refusal = error
                    self.cache.detach()
                    self._trim()

    def _check_version(self) -> None:
        """Refuse from now on if the layout of the store has changed meanwhile, but for triggers of those who watch."""
        # Not waited for: whoever has it is opening, closing or looking itself.
        with self._opening.hold(0) as is_held:
            if is_held and self._refusal is None and self._anchor is not None:
                try:
                    with suppress(apsw.Error):
                        schema.check_version(self._anchor.execute("pragma user_version").get, self.path)
                        cookie = self._anchor.execute("pragma schema_version").get
                        if cookie != self._cookie:
                            # Whoever watches brings triggers; others would run as well.
                            schema.check_tables(self._anchor.db, self.path)
                            self._cookie = cookie
                except UnsafeState as error:
                    self._refusal = error
                    self.cache.detach()
                    self._trim()

    # What slothstate.engines.sqlite.forking calls around a fork, each run to the end.

    def before_fork(self, deadline: float) -> None:
        """Close the connections, so that the child inherits none; wait until `deadline` for those in use."""
        if not self._paused:
            self._paused = self._opening.hold(deadline - time.monotonic())
        own = self._transactions.get(thread_ident())
        # From now on a connection that is given back is closed, or threads that never pause would never be without.
        self._dismiss_idle(_Departing(self._close))
        while any(connection not in (own, self._anchor) for connection in self._open_connections()):
            if time.monotonic() >= deadline:
                return
            time.sleep(0.0005)
        if own is None:
            self._drop_anchor()

    def after_fork_in_parent(self) -> None:
        """Go on, with connections that are opened when they are needed."""
        self._forget_log()
        self._idle = self._new_idle()
        self._paused = None

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections, and refuse to go on if there are any."""
        inherited = self._open_connections()
        for connection in inherited:
            connection.inherited = True
            forking.keep(connection)
        self._opening = native.Mutex()
        self._paused = None
        self._idle = self._new_idle()
        self._transactions.clear()
        self._anchor = None
        self.cache.forked()
        if inherited:
            self._refusal = StateClosed(f"the state on {self.path} cannot be used in this process: {forking.reason()}")
        # For a second run not before this.
        self._connections.clear()
        self._forget_log()

    def _new_idle(self) -> list[Connection]:
        return _Departing(self._close_resting) if self._is_resting else []

    def _close_resting(self, connection: Connection) -> None:
        """Close what is given back while the process ends, and with the last one the anchor."""
        self._close(connection)
        with self._opening.hold():
            if all(other is self._anchor for other in self._open_connections()):
                native.to_the_end(self._drop_anchor)

    def _open_connections(self) -> list[Connection]:
        # A closed one can live on in the traceback of an error.
        known = [reference() for reference in list(self._connections)]
        return [connection for connection in known if connection is not None and connection.is_open()]

    def _forget_log(self) -> None:
        if self._anchor is None and not self._open_connections():
            # The last connection of all takes the -wal and -shm with it, so only the database itself stays known.
            self._identity = self._identity[:1]


class _Departing(list[Connection]):
    """The list of idle connections while a fork is under way or the process ends: it stays empty."""

    def __init__(self, close: Callable[[Connection], None]) -> None:
        super().__init__()
        self._close = close

    def append(self, connection: Connection) -> None:
        self._close(connection)


def _close_last(idle: list[Connection]) -> None:
    # In one expression, in which Ctrl-C can strike only while nobody else knows the connection, which closes it, too.
    with suppress(IndexError):
        idle.pop().db.close()


def _again(error: SlothStateError) -> SlothStateError:
    """Return a fresh copy of a latched error, so that tracebacks do not pile up on one object."""
    return type(error)(*error.args)
