"""A second engine, a dict of rows: it proves that the protocol is not SQLite in disguise, and what an engine is.

Readers see the last commit, one writer at a time makes the next. One process only; nothing is kept on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from helpers.model.claims import Claims
from helpers.model.entries import Counters, Entries
from helpers.model.fields import Fields
from helpers.model.lists import Lists
from helpers.model.locks import Changes, LockTable
from helpers.model.memory import Memory, Rows
from helpers.model.upkeep import Transfer, Upkeep
from helpers.model.watches import Watches
from slothstate.caller import Caller, current
from slothstate.engines.protocol import Codec, FastPath, Limits
from slothstate.errors import SlothStateError, StateBusy, StateClosed
from slothstate.values import KEY_MAX_BYTES, VALUE_MAX_BYTES

__all__ = ["ModelEngine"]


class _Transaction:
    """What a caller has written and not committed yet."""

    def __init__(self, holder: Caller, rows: Rows) -> None:
        self.holder = holder
        self.rows = rows
        self.noted: list[tuple[str, str]] = []
        self.afterwards: list[Callable[[], object]] = []


class ModelEngine:
    """`slothstate.engines.protocol.Engine` in plain Python. `clock` returns seconds since the epoch."""

    name = "model"
    limits = Limits(KEY_MAX_BYTES, VALUE_MAX_BYTES)
    features: frozenset[str] = frozenset()

    def __init__(
        self,
        memory: Memory | None = None,
        *,
        address: str = "model",
        clock: Callable[[], float] = time.time,
        busy_timeout: float = 30.0,
    ) -> None:
        self.address = address
        self.memory = Memory() if memory is None else memory
        self.refusal: SlothStateError | None = None
        self.busy_timeout = busy_timeout
        self._clock = clock
        self._transactions: dict[int, _Transaction] = {}
        self._moments: dict[int, tuple[Caller, Rows, int]] = {}
        self._within: dict[int, float] = {}
        self._after_moment: dict[int, list[Callable[[], object]]] = {}
        self.entries = Entries(self)
        self.counters = Counters(self)
        self.lists = Lists(self)
        self.fields = Fields(self)
        self.locks = LockTable(self)
        self.claims = Claims(self)
        self.changes = Changes(self)
        self.watches = Watches(self)
        self.transfer = Transfer(self)
        self.upkeep = Upkeep(self)

    @property
    def in_transaction(self) -> bool:
        thread = threading.get_ident()
        return thread in self._transactions or thread in self._moments

    def now_ms(self) -> int:
        moment = self._moments.get(threading.get_ident())
        return int(self._clock() * 1000) if moment is None else moment[2]

    def require_usable(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self._own()

    def become_owner(self) -> None:
        """Refuse to take anything once it is being closed."""
        if self in self.memory.dead:
            raise StateClosed(f"the state on {self.address} is closed")

    def _own(self) -> _Transaction | None:
        """The caller's transaction. Raises: `StateBusy` if another task or greenlet of the thread holds one."""
        thread = threading.get_ident()
        own, moment = self._transactions.get(thread), self._moments.get(thread)
        holder, what = (moment[0], "snapshot") if moment else (own.holder, "transaction") if own else (current(), "")
        if holder != current():
            raise StateBusy(
                f"{current().describe()} cannot use the model while {holder.describe()} holds a {what} on it"
            )
        return own

    @property
    def rows(self) -> Rows:
        """All rows that the caller sees, those that have expired as well."""
        own = self._own()
        moment = self._moments.get(threading.get_ident())
        if moment is not None:
            return moment[1]
        return self.memory.rows if own is None else own.rows

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """Give the live rows, all of one moment."""
        self.require_usable()
        now = self.now_ms()
        yield self.rows.live(now)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self.require_usable()
        thread = threading.get_ident()
        before = self._moments.get(thread)
        self._moments[thread] = before or (current(), self.rows, self.now_ms())
        try:
            yield
        finally:
            del self._moments[thread]
            if before is not None:
                self._moments[thread] = before
            elif thread not in self._transactions:
                for callback in self._after_moment.pop(thread, []):
                    callback()

    def can_write(self) -> bool:
        return threading.get_ident() not in self._moments

    def require_writable(self) -> None:
        self.require_usable()
        if not self.can_write():
            raise SlothStateError("inside snapshot() nothing can be written")

    @contextmanager
    def writing(self) -> Iterator[Rows]:
        """Give the live rows to be changed; after an error nothing has changed."""
        self.require_writable()
        with self.exclusively(), self.reading() as live:
            before = self.rows
            yield live
            self._note(before, live)
            own = self._own()
            if own is not None:
                own.rows = live
            else:
                self.commit(live)

    def _note(self, before: Rows, after: Rows) -> None:
        """Write what one verb has changed, for those who watch."""
        now = self.now_ms()
        noted = [(key, "expire") for key, row in before.items() if row[2] is not None and row[2] <= now]
        noted += [(key, "delete") for key in before if key not in after and (key, "expire") not in noted]
        noted += [(key, "set") for key, row in after.items() if before.get(key) is not row]
        own = self._own()
        (self.memory.noted if own is None else own.noted).extend(noted)

    def commit(self, rows: Rows) -> None:
        """Let everybody see these rows. The caller is the writer."""
        # Not only if they differ: 1 equals 1.0.
        self.memory.rows = rows
        self.memory.log(self.now_ms())
        self.memory.commits += 1

    @contextmanager
    def exclusively(self, timeout: float | None = None) -> Iterator[None]:
        """Be the only writer, after waiting so long for others, or for `busy_timeout`. Raises: `StateBusy`."""
        self.require_usable()
        if self._own() is not None:
            yield
            return
        memory, caller = self.memory, current()
        holder = memory.writer
        if holder is not None and holder.shares_thread(caller):
            raise StateBusy(f"this thread itself holds the write transaction of another State: {holder.describe()}")
        allowed = self.busy_timeout if timeout is None else timeout
        if not memory.writing.acquire(timeout=min(allowed, self._within.get(threading.get_ident(), allowed))):
            raise StateBusy("another writer keeps the model") from TimeoutError()
        memory.writer = caller
        try:
            yield
        finally:
            memory.writer = None
            memory.writing.release()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let the thread wait for other writers no longer than that."""
        self._within[threading.get_ident()] = seconds
        try:
            yield
        finally:
            del self._within[threading.get_ident()]

    @contextmanager
    def transaction(self, first: Callable[[], object] | None = None, /) -> Iterator[None]:
        self.require_writable()
        self.require_usable()
        own = self._own()
        if own is not None:
            before, noted = own.rows, list(own.noted)
            try:
                if first is not None:
                    first()
                yield
            except BaseException:
                own.rows, own.noted = before, noted
                raise
            return
        own = _Transaction(current(), self.memory.rows)
        thread = threading.get_ident()
        try:
            with self.exclusively():
                own.rows = self.memory.rows
                self._transactions[thread] = own
                try:
                    if first is not None:
                        first()
                    yield
                    self.memory.noted += own.noted
                    self.commit(own.rows)
                finally:
                    del self._transactions[thread]
        finally:
            for callback in own.afterwards:
                callback()

    def after_transaction(self, callback: Callable[[], object], /) -> None:
        thread = threading.get_ident()
        own = self._transactions.get(thread)
        (self._after_moment.setdefault(thread, []) if own is None else own.afterwards).append(callback)

    def fast(self, codec: Codec, /) -> FastPath | None:
        return None

    def rest(self) -> None:
        pass

    def close(self) -> None:
        self.refusal = StateClosed(f"the state on {self.address} is closed")
