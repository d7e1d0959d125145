"""One store as one process uses it: `Store.read` and `Store.write` (see `lender`), and transactions.

Each operation borrows a connection of its own, so a transaction of one thread never takes another thread's write with
it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import apsw

from slothstate import native
from slothstate.caller import thread_ident
from slothstate.engines.sqlite import forking, read_cache
from slothstate.engines.sqlite.activity_publisher import Publisher
from slothstate.engines.sqlite.busy import BusyWait
from slothstate.engines.sqlite.connection import Connection
from slothstate.engines.sqlite.forkable_pool import ForkablePool
from slothstate.engines.sqlite.sweeper import Sweeper
from slothstate.engines.sqlite.transaction import MomentBlock, SnapshotBlock, TransactionBlock
from slothstate.engines.sqlite.translation import translate
from slothstate.errors import SlothStateError, StateClosed
from slothstate.hints import Any, Final, TypeVar, TypeVarTuple

__all__ = ["SOON", "Store"]

SOON: Final = 30.0
"""Seconds: a sweep that is due so soon gets its thread at once, others once more is done than opening and a read."""

A = TypeVarTuple("A")
R = TypeVar("R")


class Store(ForkablePool):
    """One store as one process uses it.

    `clock` returns seconds since the epoch; every operation reads it once and passes it to SQL in milliseconds. `vfs`
    names the SQLite VFS that its connections use: a disk that fails or loses power, in tests. `is_resting` is for one
    that is made while the process ends: see `rest`.
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
        is_resting: bool = False,
    ) -> None:
        super().__init__(path, syncs_commits=durability == "full", busy=BusyWait(busy_timeout), vfs=vfs)
        # The reading of the clock in milliseconds since the epoch, the one of an operation.
        self.is_real_time = clock is time.time
        self.now = native.now_ms if self.is_real_time else lambda: int(clock() * 1000)
        self.cache = read_cache.make(cache_size, None if self.is_real_time else clock, self._transactions)
        self.operations = defaultdict(int)
        self._sweep_interval = sweep_interval
        # What else the background sweep does, a weak reference: it must not keep its owner, and thereby us, alive.
        self.upkeep: Callable[[], Callable[[], object] | None] = lambda: None
        self._sweeper = Sweeper(self, sweep_interval)
        self._publisher = Publisher(path)
        with self._opening.hold():
            self._open()
        forking.register(self)
        self._is_resting = is_resting
        if sweep_interval < SOON:
            self._woken()

    def _woken(self) -> None:
        if not self._is_resting:
            self._sweeper.ensure_running()

    def end_thread(self, deadline: float) -> None:
        """End the thread of the background sweep, before a fork; the next one starts when it is needed."""
        self._sweeper.end(deadline)
        self._sweeper = Sweeper(self, self._sweep_interval, self._sweeper.due)

    def after_fork_in_child(self) -> None:
        """Begin anew: the parent's sweeper may have been copied half-way."""
        self._sweeper = Sweeper(self, self._sweep_interval)
        self._publisher = Publisher(self.path)
        super().after_fork_in_child()

    def _check_identity(self) -> None:
        super()._check_identity()
        self._publisher.publish(self)

    def _run_inside(self, operation: Callable[..., R], args: tuple[Any, ...]) -> R:
        """Run an operation on the connection of the caller's transaction."""
        own = self._transactions[thread_ident()]
        own.require_idle()
        try:
            own.working = True
            own.require_open()
            if own.moment is not None:
                return operation(own, own.moment, *args)
            own.step.begin()
            return operation(own, self.now(), *args)
        except (apsw.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from error
        finally:
            own.working = False

    def _write_inside(self, operation: Callable[..., R], args: tuple[Any, ...]) -> R:
        """The same for an operation that writes."""
        self.ensure_identity()
        self._transactions[thread_ident()].require_writable()
        return self._run_inside(operation, args)

    def _recover(self, connection: Connection, error: BaseException | None) -> Exception | None:
        """Take the connection of a failed operation back; return the error that one of SQLite stands for.

        Without an error it was struck in here by another.
        """
        if isinstance(error, apsw.Error | UnicodeDecodeError | SlothStateError):
            self._give_back(connection)
        else:
            # Ctrl-C between a statement's first row and its end: left alone it would hold on to the write lock.
            self._abandon(connection)
        if isinstance(error, apsw.Error | UnicodeDecodeError):
            return translate(error, self.path)
        return None

    def transaction(self, first: Callable[[], object] | None = None) -> AbstractContextManager[None]:
        """Hold a write transaction for the caller while the block runs; a savepoint inside one.

        `first` is called inside it, before the block.
        """
        block = TransactionBlock(self, first)
        return native.Scope(block.begin, block.end)

    def moment(self) -> AbstractContextManager[None]:
        """Let the caller read the store as it was at one moment, and write nothing, while the block runs."""
        block = MomentBlock(self)
        return native.Scope(block.begin, block.end)

    def snapshot(self) -> AbstractContextManager[tuple[Connection, int]]:
        """Lend a connection whose reads all see the store as it was at one moment, and the clock's reading then."""
        block = SnapshotBlock(self)
        return native.Scope(block.begin, block.end)

    @contextmanager
    def apart(self) -> Iterator[tuple[Connection, int]]:
        """Lend a connection beside the caller's transaction, which sees what is committed, and the clock's reading."""
        connection = self._lend()
        try:
            yield connection, self.now()
        except (apsw.Error, UnicodeDecodeError) as error:
            raise translate(error, self.path) from error
        finally:
            self._give_back(connection)

    def close(self) -> None:
        """Close the connections; those in use by other threads are closed when they are given back."""
        self._notice_fork()
        # A thread that opens a connection meanwhile would find the -wal deleted and take it for an accident.
        with self._opening.hold():
            native.to_the_end(self._close_all)

    def _close_all(self) -> None:
        self._refusal = self._refusal or StateClosed(f"the state on {self.path} is closed")
        self._let_go()

    def rest(self) -> None:
        """Let go of the connections because the process ends; whoever comes later opens its own and closes it."""
        self._notice_fork()
        with self._opening.hold():
            self._is_resting = True
            native.to_the_end(self._let_go)

    def _let_go(self) -> None:
        self._sweeper.stop()
        self._publisher.withdraw()
        if self._is_resting:
            self._dismiss_idle(self._new_idle())
        else:
            self._close_idle()
        self._drop_anchor()
