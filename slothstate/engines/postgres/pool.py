"""The connections of a State: lent for a statement, held for a transaction or a snapshot, closed around a fork.

One is in use per thread at work. psycopg_pool is not used because its threads do not survive a fork.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

import psycopg

from slothstate.caller import Caller, current, thread_ident
from slothstate.engines.afterwards import Afterwards
from slothstate.engines.postgres import forking, schema
from slothstate.engines.postgres.address import Address
from slothstate.engines.postgres.connection import GRACE, Connection, ConnectionLost, refusal_of, translate
from slothstate.engines.postgres.server import identify
from slothstate.errors import SlothStateError, StateBusy, StateClosed, StateIOError
from slothstate.hints import Any, Final, TypeVar
from slothstate.identity import process_id

__all__ = ["LONGEST_RECONNECT", "Pool"]

Result = TypeVar("Result")

IDLE_SECONDS: Final = 60.0
"""After so long a connection that nobody used is closed, when another one is given back."""

RECONNECT_PAUSE: Final = 0.05
"""Seconds between two tries to reach a server that is not there."""

LONGEST_RECONNECT: Final = 10.0

_INSIDE: Final = "it was forked inside a transaction or a snapshot; fork outside them, or open the store in the child"

NOTED_WAIT: Final = 0.05
"""Seconds of beginning a transaction that are counted as a wait."""


class Pool:
    """The base of `Store`: connections, lent and counted.

    `clock` (None: the server's own) tells the server the time, for tests.
    """

    def __init__(
        self,
        address: Address,
        *,
        durability: str,
        busy_timeout: float,
        clock: Callable[[], float] | None = None,
        creates: bool = True,
    ) -> None:
        self.address = address
        self.shown = address.shown
        self.durability = durability
        self.busy_timeout = busy_timeout
        self.refusal: SlothStateError | None = None
        self.operations: Counter[str] = Counter()
        self.busy_waits = 0
        self.longest_busy_wait = 0.0
        # Called whenever a connection has been made.
        self.connected: Callable[[], object] | None = None
        self._clock = clock
        self._creates = creates
        self._is_ready = False
        self._identity: tuple[Any, ...] | None = None
        self._idle: list[Connection] = []
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        # The transaction or snapshot of each thread.
        self.held: dict[int, Connection] = {}
        self.afterwards = Afterwards()
        self._within: dict[int, float] = {}
        self._process = process_id()
        forking.register(self)
        # Of a State that nobody closes.
        weakref.finalize(self, _close_all, self._idle).atexit = False

    # Whose turn it is.

    @property
    def in_transaction(self) -> bool:
        return thread_ident() in self.held

    def own(self) -> Connection | None:
        """Return the connection of the caller's transaction or snapshot, None if it has none.

        Raises: `StateBusy` if another task or greenlet of the thread holds one.
        """
        connection = self.held.get(thread_ident())
        if connection is None:
            return None
        # Without a depth its block is about to begin or to end.
        if connection.is_busy or not connection.depth:
            raise StateBusy(
                f"this thread is itself in the middle of a statement on {self.shown}: a signal handler cannot wait for "
                "it; set a flag instead"
            )
        caller = current()
        if connection.holder != caller:
            what = "snapshot" if connection.moment else "transaction"
            holder = connection.holder
            raise StateBusy(
                f"{caller.describe()} cannot use the state on {self.shown} while "
                f"{holder.describe() if holder else 'nobody'} holds a {what} on it in the same thread: let nobody "
                f"else run inside a {what} (no await, no sleep)"
            )
        return connection

    def require_usable(self) -> None:
        self.require_open()
        self.own()

    def require_open(self) -> None:
        if self._process != process_id():
            forking.notice_child()
        if self.refusal is not None:
            raise type(self.refusal)(*self.refusal.args)

    def require_writable(self) -> None:
        self.require_open()
        own = self.own()
        if own is not None and own.moment:
            raise SlothStateError("inside snapshot() nothing can be written: end it first; nothing was changed")

    def is_caller_writing(self) -> bool:
        self.require_usable()
        return self.own() is not None

    def would_wait_for_itself(self) -> bool:
        """Return whether the calling thread holds a transaction of this store through another State."""
        return self._own_writer() is not None

    def refuse_wait_for_itself(self) -> None:
        """Refuse to wait for a transaction that the calling thread itself holds through another State."""
        holder = self._own_writer()
        if holder is not None:
            raise StateBusy(
                f"this thread itself holds the write transaction on {self.shown} through another State "
                f"({holder.describe()}), nothing was written: write through that one, or end its transaction first"
            )

    def _own_writer(self) -> Caller | None:
        holder = _writers.get((self._identity, self.address.schema)) if _writers else None
        return holder if holder is not None and holder.shares_thread(current()) else None

    def note_writer(self, writer: Caller) -> None:
        """Note who holds the gate in this process."""
        _writers[self._identity, self.address.schema] = writer

    def forget_writer(self, writer: Caller) -> None:
        """Note that a writer has ended, unless the next one was noted already."""
        name = self._identity, self.address.schema
        if _writers.get(name) is writer:
            del _writers[name]

    # Waiting for others.

    def patience(self) -> float:
        """Return the seconds that the calling thread's writes wait for other writers."""
        if not self._within:
            return self.busy_timeout
        return min(self.busy_timeout, self._within.get(thread_ident(), self.busy_timeout))

    def seconds(self) -> float:
        """Return the seconds that the server gets for a statement."""
        return self.patience() + GRACE

    def note_wait(self, seconds: float) -> None:
        """Count a wait for another writer, as such if it was longer than a round trip."""
        if seconds > NOTED_WAIT:
            self.busy_waits += 1
            self.longest_busy_wait = max(self.longest_busy_wait, seconds)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let the calling thread's writes wait for other writers no longer than that."""
        thread = thread_ident()
        before = self._within.get(thread)
        self._within[thread] = seconds
        try:
            yield
        finally:
            if before is None:
                self._within.pop(thread, None)
            else:
                self._within[thread] = before

    # Connections.

    def lent(self) -> _Loan:
        """Lend a connection that is in no transaction; it comes back unless its state is not known."""
        return _Loan(self)

    def borrow(self) -> Connection:
        """Return an idle connection that the server has not ended, or a new one. Raises: as `translate`."""
        while True:
            # Without a mutex, which a signal handler could find held by its own thread: each step is one of the list.
            try:
                connection = self._idle.pop()
            except IndexError:
                return self.connect("worker")
            if connection.is_alive(alone=True):
                return connection
            connection.close()

    def give_back(self, connection: Connection) -> None:
        if connection.process != process_id():
            return
        connection.holder, connection.moment, connection.depth = None, False, 0
        if not connection.is_idle:
            connection.close()
            return
        now = connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self.refusal is not None:
            self.close_idle()
            return
        # The last is lent first: that which was not needed for the longest is the first. Others may take it just now.
        try:
            if now - self._idle[0].idle_since >= IDLE_SECONDS:
                self._idle.pop(0).close()
        except IndexError:
            pass

    def connect(self, role: str) -> Connection:
        """Open a connection to the server that is known, or is now; waits for one that is not there.

        Raises: `StateIOError`, `UnsafeState`, `StateReadOnly`, `StateBusy`.
        """
        self.require_open()
        patience = self.patience()
        deadline = time.monotonic() + min(patience, LONGEST_RECONNECT)
        while True:
            try:
                with forking.connecting():
                    connection = Connection(
                        self.address,
                        durability=self.durability,
                        lock_timeout=self.busy_timeout,
                        role=role,
                        connect_timeout=max(0.0, deadline - time.monotonic()),
                    )
                    self._all.add(connection)
                break
            except psycopg.Error as error:
                found = refusal_of(error, self.shown)
                if not isinstance(found, StateIOError | StateBusy) or time.monotonic() >= deadline:
                    raise found from None
            time.sleep(RECONNECT_PAUSE)
        try:
            self._identity = identify(connection, self._identity, self.durability, self.shown)
            if not self._is_ready:
                schema.ensure(connection, self.address.schema, self.shown, create=self._creates)
                self._is_ready = True
        except psycopg.Error as error:
            connection.close()
            raise translate(error, self.shown, is_write=False) from error
        except ConnectionLost as error:
            connection.close()
            raise translate(error, self.shown, is_write=False) from error
        except BaseException:
            connection.close()
            raise
        if self.connected is not None:
            self.connected()
        return connection

    def retried(self, attempt: Callable[[], Result], *, is_write: bool = False) -> Result:
        """Return the result of something that changes nothing; it is done again where its connection was lost.

        `is_write`: what it begins will write, for the name of an error.
        """
        deadline = time.monotonic() + min(self.patience(), LONGEST_RECONNECT)
        while True:
            try:
                return attempt()
            except ConnectionLost as error:
                if error.is_late or time.monotonic() >= deadline:
                    raise translate(error, self.shown, is_write=False) from error
            except psycopg.Error as error:
                raise translate(error, self.shown, is_write=is_write) from error

    def set_clock(self, connection: Connection) -> None:
        """Tell the server the time of this State's own clock, if it has one."""
        if self._clock is not None and not connection.moment:
            now = str(int(self._clock() * 1000))
            if connection.now != now:
                connection.execute("select set_config('slothstate.now_ms', %s, false)", (now,))
                connection.now = now

    # The end, and forks.

    def lost(self, connection: Connection) -> StateIOError:
        """Return the error for the connection of a transaction or snapshot that has ended."""
        what = "what the snapshot read" if connection.moment else "nothing of the transaction"
        is_kept = "may not be all" if connection.moment else "is kept"
        return StateIOError(f"the connection was lost; {what} {is_kept} ({self.shown})")

    def close(self) -> None:
        if self.refusal is None:
            self.refusal = StateClosed(f"the state on {self.shown} is closed")
        self.close_idle()

    def close_idle(self) -> None:
        """Close the connections that nobody uses now."""
        _close_all(self._idle)

    def forget(self, refusal: str | None) -> None:
        """Be a forked child, which has nothing of its parent's: neither its connections nor its transactions."""
        if refusal is None and thread_ident() in self.held:
            refusal = _INSIDE
        if refusal is not None and self.refusal is None:
            self.refusal = StateClosed(f"the state on {self.shown} cannot be used in this process: {refusal}")
        self._process = process_id()
        for connection in list(self._all):
            connection.abandon()
        self._all = weakref.WeakSet()
        self._idle.clear()
        self.held.clear()
        _writers.clear()
        self.afterwards.forget()
        self._within.clear()


class _Loan:
    """What `Pool.lent` returns."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __enter__(self) -> Connection:
        connection = self._connection = self._pool.borrow()
        try:
            self._pool.set_clock(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None or issubclass(kind, psycopg.Error):
            self._pool.give_back(self._connection)
        else:
            self._connection.close()


def _close_all(idle: list[Connection]) -> None:
    while idle:
        # In one expression: Ctrl-C strikes while nobody else knows the connection, which ends with it.
        with suppress(IndexError):
            idle.pop().close()


_writers: dict[tuple[tuple[Any, ...] | None, str], Caller] = {}
"""Who holds the gate of which store, of this process: by server and database, and schema."""
