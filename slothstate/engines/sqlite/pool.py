"""The connections of one store in one process: lent and given back, and watched.

A connection that an exception keeps from being given back is closed when it is collected: nothing can stay locked.
"""

from __future__ import annotations

import time
import weakref
from contextlib import nullcontext, suppress

import apsw

from slothstate import native
from slothstate.caller import current, thread_ident
from slothstate.engines.afterwards import Afterwards
from slothstate.engines.sqlite import foreign_sqlite, forking, location, schema
from slothstate.engines.sqlite.busy import BusyWait, can_wait_for
from slothstate.engines.sqlite.connection import Connection
from slothstate.engines.sqlite.idle import Departing, Fresh, close_last
from slothstate.engines.sqlite.lender import Lender
from slothstate.engines.sqlite.translation import again, translate
from slothstate.errors import SlothStateError, StateBusy, StateIOError, UnsafeState
from slothstate.hints import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slothstate.engines.sqlite.owners import Owners

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
        self.owners: Owners | None = None
        self._syncs_commits = syncs_commits
        self._vfs = vfs
        self._idle = []
        # What was idle when a fork or the end of the process began.
        self._dismissed: list[Connection] = []
        # The connection that opened the store, until `_settle` makes the anchor of it.
        self._kept: list[Connection] = []
        self._kept_until = 0.0
        # References, and not a WeakSet: one that other threads change cannot be iterated over, but a set be copied.
        self._connections: set[weakref.ref[Connection]] = set()
        self._transactions = {}
        self.afterwards = Afterwards()
        self._opening = native.Mutex()
        self._paused: native.Holding | None = None
        self._is_resting = False
        self._refusal = None
        self._identity: location.Identity = ()
        self._identity_until = 0.0
        # Never lent: while it is open nothing we close is the last connection, which would delete the -wal and -shm.
        # Only `_check_version` reads through it. A store that is opened for one read and closed again has none.
        self._anchor: Connection | None = None
        self._guard = foreign_sqlite.Guard()
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

    @property
    def refusal(self) -> SlothStateError | None:
        """Why this engine takes no more operations, or None."""
        return self._refusal

    def require_usable(self) -> None:
        """Raise the error of an engine that takes no more operations, or none from the caller now."""
        if self._refusal is not None:
            raise again(self._refusal)
        self.own_transaction()

    def require_writable(self) -> None:
        """Refuse to write inside `snapshot()`. Raises: `SlothStateError`; as `require_usable`."""
        if self.is_caller_writing() and (own := self.own_transaction()) is not None:
            own.require_writable()

    def is_caller_writing(self) -> bool:
        """Return whether the caller is inside a transaction. Raises: as `require_usable`.

        One call, because a lock asks it each time; nearly always no thread is in any.
        """
        if self._refusal is not None:
            raise again(self._refusal)
        return bool(self._transactions) and self.own_transaction() is not None

    def _notice_fork(self) -> None:
        """Forget the parent's connections if C code forked this process behind Python's back."""
        if native.take_fork():
            forking.notice_child()

    def _borrow(self) -> Connection:
        # All under one lock: a fork holds it, and waits for whoever has a connection in use.
        with self._opening.hold():
            if time.monotonic() < self._kept_until:
                # Once: who comes a second time uses the store for more than a look into it.
                self._kept_until = 0.0
                with suppress(IndexError):
                    return self._kept.pop()
            self._settle()
            # Of an engine that refuses none is idle.
            with suppress(IndexError):
                return self._idle.pop()
            return self._connect()

    def _open(self) -> None:
        """Open the store with one connection, which serves the first read, too; the caller holds `_opening`."""
        try:
            connection = self._connect(prepared=False)
            self._kept.append(connection)
            self.cache.attach(connection.sqlite_file(), connection)
            self._guard.keep(self, self._identity)
            self._idle = Fresh(weakref.WeakMethod(self._keep))
            self._kept_until = time.monotonic() + IDENTITY_CHECK_INTERVAL - CACHE_CLOCK_TICK
        except BaseException:
            native.to_the_end(self._drop_anchor)
            raise

    def recognise(self, owners: Owners) -> None:
        """Ask `owners` which owners of claims live."""
        self.owners = owners
        for connection in self._kept:
            connection.owners = owners

    def settle(self) -> None:
        """Make ready for long use, if the store was only just opened."""
        if isinstance(self._idle, Fresh) and self._refusal is None:
            with self._opening.hold():
                self._settle()

    def unforked(self) -> native.Holding:
        """Begin a block; until it ends no thread of this process forks."""
        return self._opening.hold()

    def settled(self) -> native.Holding:
        """The same, and make ready for long use."""
        self.settle()
        return self._opening.hold()

    def _settle(self) -> None:
        """Do what using the store for more than a read after opening it, or after a fork, asks for.

        The caller holds `_opening`.
        """
        if self._anchor is None and self._kept:
            self._anchor = self._kept[0]
        elif self._anchor is None:
            # After a fork, or another thread reads through what was kept.
            self._raise_anchor()
        # If there can be no thread, the next use asks again.
        self._woken()
        self._kept_until = 0.0
        if isinstance(self._idle, Fresh):
            self._idle = self._new_idle()
        self._kept.clear()

    def _woken(self) -> None:
        """Do what does not depend on connections then."""

    def _raise_anchor(self) -> None:
        """Open the anchor; the caller holds `_opening`."""
        # Ctrl-C can have cost the only connection there was.
        self._forget_log()
        try:
            self._anchor = self._connect()
            self.cache.attach(self._anchor.sqlite_file(), self._anchor)
            self._guard.keep(self, self._identity)
            self._verified()
        except BaseException:
            native.to_the_end(self._undo_anchor)
            raise

    def _drop_anchor(self) -> None:
        """Close the anchor, or what is kept in place of it; run to the end, and the caller holds `_opening`."""
        self.cache.detach()
        self._guard.end()
        while self._kept:
            close_last(self._kept)
        self._undo_anchor()

    def _undo_anchor(self) -> None:
        """Close the anchor; what is kept in place of it serves on."""
        self.cache.detach()
        if not self._kept:
            self._guard.end()
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

    def _keep(self, connection: Connection) -> None:
        """Take the connection back that the first read, or a first write, was done with."""
        if connection.log.committed and isinstance(self._idle, Fresh):
            # What is written is to be swept, even if nothing is done from now on. It was written, whatever fails here.
            with suppress(SlothStateError, apsw.Error), self._opening.hold(0) as is_held:
                if is_held and self._refusal is None:
                    self._settle()
        # Another list, if somebody settles, forks or closes the store.
        (self._kept if isinstance(self._idle, Fresh) else self._idle).append(connection)

    def _abandon(self, connection: Connection) -> None:
        """Close a connection, unless it was given back before an exception struck."""
        # Lent to another thread by now, it bears that one's number; a signal handler of this one has given it back.
        is_ours = connection.thread in (0, thread_ident()) and not connection.inherited
        if is_ours and connection not in (self._anchor, *self._idle, *self._kept):
            self._close(connection)

    def _trim(self) -> None:
        while self._kept and self._refusal is not None:
            close_last(self._kept)
        while self._idle and (self._refusal is not None or len(self._idle) > IDLE_CONNECTIONS):
            close_last(self._idle)

    def _close(self, connection: Connection) -> None:
        if self._anchor is None:
            self.cache.detach()
        connection.close()
        # Not left to the garbage collector: the traceback of an error can keep it for long, and a fork waits for it.
        self._connections.discard(weakref.ref(connection))

    def _close_idle(self) -> None:
        """Close all connections that are idle now; run to the end."""
        if self._kept and self._anchor is None:
            self.cache.detach()
            self._guard.end()
        for idle in (self._dismissed, self._idle, self._kept):
            while idle:
                close_last(idle)

    def _dismiss_idle(self, departing: list[Connection]) -> None:
        """Close what is idle; `departing` takes what is given back from now on. Run to the end."""
        if not isinstance(self._idle, Departing):
            self._dismissed, self._idle = self._idle, departing
        self._close_idle()

    def _connect(self, *, prepared: bool = True) -> Connection:
        """Open a connection; the caller holds `_opening`."""
        if self._refusal is not None:
            raise again(self._refusal)
        forking.refuse_inherited(self.path)
        try:
            prepare = None if prepared else self._prepare
            if prepare is not None and not location.size(self.path):
                prepare()
            connection = Connection(
                self.path, synchronous="normal", wait=self.busy, vfs=self._vfs, now=self.now, prepare=prepare
            )
            connection.owners = self.owners
            try:
                # What was just looked at through the anchor needs no second look.
                if self._anchor is None or self._syncs_commits or time.monotonic() >= self._identity_until:
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

    def _prepare(self) -> None:
        """Create the store, or bring it to our version, or refuse what is not ours."""
        # Imported here: nearly always the store is there.
        from slothstate.engines.sqlite import creation

        creation.prepare(self.path, self.busy.timeout)

    def ensure_identity(self) -> None:
        """Look, at most every 50 ms, whether files and layout are still what was opened. Raises: `UnsafeState`."""
        now = time.monotonic()
        if now >= self._identity_until:
            if now < self._kept_until:
                self.cache.verified(self._kept_until - now)
            else:
                self._check_identity()

    def _check_identity(self) -> None:
        self.settle()
        if self._refusal is None and self._anchor is not None:
            try:
                location.same_files(self.path, self._identity)
            except UnsafeState:
                self._latch()
            self._check_version()
        if self._refusal is not None:
            raise again(self._refusal)
        self._verified()

    def _verified(self) -> None:
        """Note that the files and the layout are those that were opened."""
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
        # Not waited for: whoever has it opens, closes or looks. So may a handler: each pragma has a cursor of its own.
        with self._opening.hold(0) as is_held:
            if is_held and self._refusal is None and self._anchor is not None:
                try:
                    self._anchor.require_descriptors()
                    with suppress(apsw.Error):
                        schema.check_version(self._anchor.db.pragma("user_version"), self.path)
                        cookie = self._anchor.db.pragma("schema_version")
                        if cookie != self._cookie:
                            # Whoever watches brings triggers; others would run as well.
                            schema.check_tables(self._anchor.db, self.path)
                            self._cookie = cookie
                except UnsafeState as error:
                    self._refusal = error
                    self.cache.detach()
                    self._trim()

    def _new_idle(self) -> list[Connection]:
        return Departing(self._close_resting) if self._is_resting else []

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
