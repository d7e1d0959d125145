"""Connections for any number of threads, and the two ways to use one: `Engine.read` and `Engine.write`.

Each operation borrows a connection, so a transaction of one thread never takes another thread's write with it. A
connection that an exception keeps from being given back is simply closed when it is collected: nothing can stay locked.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from threading import get_ident
from typing import Any, Final, TypeVar, TypeVarTuple

import apsw

from slothstate import read_cache
from slothstate.errors import SlothStateError, StateClosed, UnsafeState
from slothstate.read_cache import NO_MARK, UNVERIFIED
from slothstate.sqlite import forking, guard, location, schema
from slothstate.sqlite.connection import WAL_CHECKPOINT_PAGES, Atomic, BusyWait, Connection, Snapshot, translate
from slothstate.sqlite.sweeper import Sweeper

__all__ = ["SYNCHRONOUS", "Engine"]

SYNCHRONOUS: Final = {"process": "normal", "full": "full"}

IDLE_CONNECTIONS: Final = 8
IDENTITY_CHECK_INTERVAL: Final = 0.05
CACHE_CLOCK_TICK: Final = 0.01

A = TypeVarTuple("A")
R = TypeVar("R")


class Engine:
    """One store as one process uses it.

    `clock` returns seconds since the epoch; every operation reads it once and passes it to SQL in milliseconds. `vfs`
    names the SQLite VFS that its connections use: a disk that fails or loses power, in tests.
    """

    name: Final = "sqlite"

    def __init__(
        self,
        path: str,
        *,
        durability: str = "process",
        busy_timeout: float = 30.0,
        sweep_interval: float = 300.0,
        cache_size: int = 64 * 2**20,
        clock: Callable[[], float] = time.time,
        vfs: str | None = None,
    ) -> None:
        self.path = path
        self.clock = clock
        self.busy = BusyWait(busy_timeout)
        self._synchronous = SYNCHRONOUS[durability]
        self._vfs = vfs
        self._idle: list[Connection] = []
        # References, and not a WeakSet: one that other threads change cannot be iterated over, but a set be copied.
        self._connections: set[weakref.ref[Connection]] = set()
        self._transactions: dict[int, Connection] = {}
        self._afterwards: dict[int, list[Callable[[], object]]] = {}
        self.cache = read_cache.make(cache_size, None if clock is time.time else clock, self._transactions)
        self._opening = threading.RLock()
        self._paused = False
        self._refusal: SlothStateError | None = None
        self.operations: defaultdict[Callable[..., object], int] = defaultdict(int)
        self._sweep_interval = sweep_interval
        # What else the background sweep does, a weak reference: it must not keep its owner, and thereby us, alive.
        self.upkeep: Callable[[], Callable[[], object] | None] = lambda: None
        self._sweeper = Sweeper(self, sweep_interval)
        self._identity: location.Identity = ()
        self._identity_until = 0.0
        # Never lent: while it is open nothing we close is the last connection, which would delete the -wal and -shm.
        # Only `_check_version` reads through it.
        self._anchor: Connection | None = None
        self._unguard: Callable[[], object] | None = None
        with self._opening:
            self._raise_anchor(prepared=False)
        forking.register(self)
        self._sweeper.ensure_running()

    def now(self) -> int:
        """Return the clock's reading in milliseconds since the epoch."""
        return int(self.clock() * 1000)

    def read(self, operation: Callable[[Connection, int, *A], R], *args: *A) -> R:
        """Run `operation(connection, now, *args)`, inside this thread's transaction if it has one."""
        self.operations[operation] += 1
        thread = get_ident()
        if thread in self._transactions:
            return self._run_inside(operation, args)
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._borrow()
        connection.thread = thread
        try:
            result = operation(connection, int(self.clock() * 1000), *args)
        except BaseException as error:
            self._recover(connection, error)
            raise
        self._idle.append(connection)
        if self._refusal is not None or len(self._idle) > IDLE_CONNECTIONS:
            self._trim()
        return result

    def write(self, operation: Callable[[Connection, int, *A], R], *args: *A) -> R:
        """Like `read`, for an operation that is one statement or wraps itself in `Atomic`.

        Raises: `StateBusy` when another writer kept the store for `busy_timeout`; `UnsafeState` when the file was
        moved or replaced.
        """
        self.ensure_identity()
        if get_ident() in self._transactions:
            self.operations[operation] += 1
            return self._run_inside(operation, args)
        return self._write(operation, args, None)

    def write_key(self, operation: Callable[[Connection, int, str, *A], R], key: str, *args: *A) -> R:
        """Like `write`, for an operation that changes this key alone: what is cached of others stays valid."""
        if get_ident() in self._transactions:
            return self.write(operation, key, *args)
        return self._write(operation, (key, *args), key)

    def _write(self, operation: Callable[..., R], args: tuple[Any, ...], written: str | None) -> R:
        self.operations[operation] += 1
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._borrow()
        connection.thread = get_ident()
        log = connection.log
        mark = NO_MARK
        if written is not None:
            log.committed = False
            mark = self.cache.mark()
            if mark == UNVERIFIED:
                self._check_identity()
        try:
            result = operation(connection, int(self.clock() * 1000), *args)
        except BaseException as error:
            self._recover(connection, error)
            raise
        if written is not None:
            self.cache.settle(mark if log.committed else NO_MARK, written)
        if log.pages >= WAL_CHECKPOINT_PAGES:
            connection.checkpoint()
        self._idle.append(connection)
        if self._refusal is not None or len(self._idle) > IDLE_CONNECTIONS:
            self._trim()
        return result

    def _run_inside(self, operation: Callable[..., R], args: tuple[Any, ...]) -> R:
        """Run an operation on the connection of this thread's transaction."""
        own = self._transactions[get_ident()]
        own.require_idle()
        try:
            own.working = True
            own.require_open()
            return operation(own, self.now(), *args)
        except (apsw.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from error
        finally:
            own.working = False

    def _recover(self, connection: Connection, error: BaseException) -> None:
        """Take the connection of a failed operation back, and raise what an error of SQLite stands for."""
        if isinstance(error, apsw.Error | UnicodeDecodeError):
            self._give_back(connection)
            raise translate(error, self.path) from error
        if isinstance(error, SlothStateError):
            self._give_back(connection)
        else:
            # Ctrl-C between a statement's first row and its end: left alone it would hold on to the write lock.
            self._close(connection)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold a write transaction for this thread while the block runs; a savepoint inside one."""
        thread = get_ident()
        own = self._transactions.get(thread)
        if own is None:
            self._check_identity()
            connection = self._borrow()
            connection.thread = thread
        else:
            own.require_idle()
            connection = own
        try:
            if own is None:
                # Before it begins: a signal handler must not wait with another connection for this one.
                self._transactions[thread] = connection
            with Atomic(connection):
                yield
                # A long block: what is committed into a file that was replaced meanwhile would be lost.
                self.ensure_identity()
        except apsw.Error as error:
            raise translate(error, self.path) from error
        finally:
            if own is None:
                # One call, which an exception of a signal handler cannot split. It is another's only when a block that
                # such an exception left unended is collected as garbage.
                ended = self._transactions.pop(thread, None)
                if ended is not None and ended is not connection:
                    self._transactions[thread] = ended
                connection.checkpoint()
                self._give_back(connection)
                for callback in self._afterwards.pop(thread, ()):
                    callback()

    def after_transaction(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the transaction of the calling thread has ended, whichever way."""
        self._afterwards.setdefault(get_ident(), []).append(callback)

    @contextmanager
    def snapshot(self) -> Iterator[tuple[Connection, int]]:
        """Lend a connection whose reads all see the store as it was at one moment, and the clock's reading then."""
        self.ensure_identity()
        own = self._transactions.get(get_ident())
        connection = own or self._borrow()
        try:
            with Snapshot(connection):
                yield connection, self.now()
        except apsw.Error as error:
            raise translate(error, self.path) from error
        finally:
            if own is None:
                self._give_back(connection)

    @property
    def in_transaction(self) -> bool:
        """Whether the calling thread holds a transaction."""
        return get_ident() in self._transactions

    def close(self) -> None:
        """Close the connections; those in use by other threads are closed when they are given back."""
        # A thread that opens a connection meanwhile would find the -wal deleted and take it for an accident.
        with self._opening:
            self._refusal = self._refusal or StateClosed(f"the state on {self.path} is closed")
            self._sweeper.stop()
            while self._idle:
                self._close(self._idle.pop())
            self._drop_anchor()

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
                self._sweeper.ensure_running()
            return self._connect()

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
                location.prepare(self.path)
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
        # The parent's has no thread here, and its event may have been copied while locked.
        self._sweeper = Sweeper(self, self._sweep_interval)
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
