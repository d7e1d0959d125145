"""One store as one process uses it: `Engine.read` and `Engine.write` (slothstate.sqlite.lending), and transactions.

Each operation borrows a connection of its own, so a transaction of one thread never takes another thread's write with
it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Final, TypeVar, TypeVarTuple

import apsw

from slothstate import read_cache
from slothstate.errors import SlothStateError, StateClosed
from slothstate.native import now_ms
from slothstate.sqlite import forking
from slothstate.sqlite.activity import Publisher
from slothstate.sqlite.connection import Atomic, BusyWait, Connection, Snapshot, translate
from slothstate.sqlite.pool import Pool
from slothstate.sqlite.sweeper import Sweeper

__all__ = ["SYNCHRONOUS", "Engine"]

SYNCHRONOUS: Final = {"process": "normal", "full": "full"}

A = TypeVarTuple("A")
R = TypeVar("R")


class Engine(Pool):
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
        super().__init__(path, synchronous=SYNCHRONOUS[durability], busy=BusyWait(busy_timeout), vfs=vfs)
        # The reading of the clock in milliseconds since the epoch, the one of an operation.
        self.now = now_ms if clock is time.time else lambda: int(clock() * 1000)
        self._afterwards: dict[int, list[Callable[[], object]]] = {}
        self.cache = read_cache.make(cache_size, None if clock is time.time else clock, self._transactions)
        self.operations = defaultdict(int)
        self._sweep_interval = sweep_interval
        # What else the background sweep does, a weak reference: it must not keep its owner, and thereby us, alive.
        self.upkeep: Callable[[], Callable[[], object] | None] = lambda: None
        self._sweeper = Sweeper(self, sweep_interval)
        self._publisher = Publisher(path)
        with self._opening:
            self._raise_anchor(prepared=False)
        forking.register(self)
        self._sweeper.ensure_running()

    def _woken(self) -> None:
        self._sweeper.ensure_running()

    def after_fork_in_child(self) -> list[Connection]:
        """Begin anew, with a sweeper too: the parent's has no thread here, and may have been copied half-way."""
        self._sweeper = Sweeper(self, self._sweep_interval)
        self._publisher = Publisher(self.path)
        return super().after_fork_in_child()

    def _check_identity(self) -> None:
        super()._check_identity()
        self._publisher.publish(self)

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

    def close(self) -> None:
        """Close the connections; those in use by other threads are closed when they are given back."""
        # A thread that opens a connection meanwhile would find the -wal deleted and take it for an accident.
        with self._opening:
            self._refusal = self._refusal or StateClosed(f"the state on {self.path} is closed")
            self._sweeper.stop()
            self._publisher.withdraw()
            while self._idle:
                self._close(self._idle.pop())
            self._drop_anchor()
