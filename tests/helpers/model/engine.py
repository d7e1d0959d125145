"""A second engine, a dict of rows: it proves that the protocol is not SQLite in disguise, and what an engine is.

Everything happens under one mutex, so every member is atomic. One process only; nothing is kept on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from helpers.model.entries import Counters, Entries, Lists
from helpers.model.locks import Changes, LockTable
from helpers.model.upkeep import Transfer, Upkeep

from slothstate.engines.protocol import Codec, FastPath, Limits, Row
from slothstate.errors import SlothStateError, StateClosed
from slothstate.values import KEY_MAX_BYTES, VALUE_MAX_BYTES

__all__ = ["ModelEngine"]


class ModelEngine:
    """`slothstate.engines.protocol.Engine` in plain Python. `clock` returns seconds since the epoch."""

    name = "model"
    limits = Limits(KEY_MAX_BYTES, VALUE_MAX_BYTES)
    features: frozenset[str] = frozenset()

    def __init__(self, address: str = "model", clock: Callable[[], float] = time.time) -> None:
        self.address = address
        self.rows: dict[str, Row] = {}
        self.refusal: SlothStateError | None = None
        self.mutex = threading.RLock()
        self.owner: int | None = None
        self.commits = 0
        self._clock = clock
        self._afterwards: list[Callable[[], object]] = []
        self.entries = Entries(self)
        self.counters = Counters(self)
        self.lists = Lists(self)
        self.locks = LockTable(self)
        self.changes = Changes(self)
        self.transfer = Transfer(self)
        self.upkeep = Upkeep(self)

    @property
    def in_transaction(self) -> bool:
        return self.owner == threading.get_ident()

    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    @contextmanager
    def reading(self) -> Iterator[dict[str, Row]]:
        """Give the live rows."""
        with self.mutex:
            if self.refusal is not None:
                raise self.refusal
            now = self.now_ms()
            yield {key: row for key, row in self.rows.items() if row[2] is None or row[2] > now}

    @contextmanager
    def writing(self) -> Iterator[dict[str, Row]]:
        """Give all rows to be changed, those that have expired left out; after an error nothing has changed."""
        with self.mutex, self.reading() as live:
            yield live
            if live != self.rows:
                self.rows = live
                self.commits += 1

    @contextmanager
    def transaction(self, first: Callable[[], object] | None = None, /) -> Iterator[None]:
        with self.mutex:
            if self.refusal is not None:
                raise self.refusal
            outer, before = self.owner, dict(self.rows)
            self.owner = threading.get_ident()
            try:
                if first is not None:
                    first()
                yield
            except BaseException:
                self.rows = before
                raise
            finally:
                self.owner = outer
                if outer is None:
                    callbacks, self._afterwards = self._afterwards, []
                    for callback in callbacks:
                        callback()

    def after_transaction(self, callback: Callable[[], object], /) -> None:
        self._afterwards.append(callback)

    def fast(self, codec: Codec, /) -> FastPath | None:
        return None

    def require_usable(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def rest(self) -> None:
        pass

    def close(self) -> None:
        self.refusal = StateClosed(f"the state on {self.address} is closed")
