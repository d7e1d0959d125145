"""Who watches, and what they read: `protocol.Watches` on the rows of `watches`."""

from __future__ import annotations

import math
from contextlib import suppress

from slothstate.engines.sqlite import watches
from slothstate.engines.sqlite.locks.owner import Ownership, host
from slothstate.engines.sqlite.sweeper import sweep_all
from slothstate.engines.watching import WatchPage
from slothstate.errors import SlothStateError
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.identity import process_id

if TYPE_CHECKING:
    from slothstate.descriptions import WatchDescription
    from slothstate.engines.sqlite.store import Store

__all__ = ["WatchTable"]

TRIM_EVERY: Final = 256
"""Changes that are handled between two looks at what nobody needs any more."""


class WatchTable:
    """The watches of a store, as the one owner sees them that its engine is once it needs to be one."""

    def __init__(self, store: Store, ownership: Ownership) -> None:
        self._store = store
        self._ownership = ownership
        self._since_trim = 0

    def begin(self, nonce: int, pattern: str | None, name: str | None, /) -> int | None:
        if self._store.is_caller_writing():
            raise SlothStateError("a watch cannot begin inside transaction() or snapshot(): begin it before")
        owner = self._ownership.become()
        is_alive = self._ownership.is_alive
        # Looked at first: who waits for a name looks often, and must not be in the way of those who write.
        if self._store.read(watches.is_run, name, nonce, is_alive):
            return None
        # By batches, before one transaction does the rest.
        sweep_all(self._store)
        row = watches.WatchRow(nonce, name, pattern, 0, owner, host(), process_id(), 0)
        return self._store.write(watches.begin, row, is_alive)

    def page(self, nonce: int, after: int, pattern: str | None, limit: int, /) -> WatchPage:
        if not self._store.in_transaction:
            return WatchPage(*self._store.read(watches.page, nonce, after, pattern, limit))
        # What the caller's own transaction has written is not committed.
        with self._store.apart() as (connection, now):
            return WatchPage(*watches.page(connection, now, nonce, after, pattern, limit))

    def handled(self, nonce: int, revision: int, count: int, /) -> bool:
        self._since_trim += count
        is_there = self._store.write(watches.handled, nonce, revision)
        if self._since_trim >= TRIM_EVERY:
            self._since_trim = 0
            self._store.write(watches.trim)
        return is_there

    def end(self, nonce: int, /) -> None:
        self._store.write(watches.end, nonce)

    def remove(self, name: str, /) -> bool:
        return self._store.write(watches.remove, name)

    def expire(self) -> float:
        left_ms = self._store.read(watches.next_expiry)
        if left_ms is not None and left_ms <= 0 and not self._store.in_transaction:
            sweep_all(self._store)
            left_ms = self._store.read(watches.next_expiry)
        return math.inf if left_ms is None else max(0, left_ms) / 1000

    def describe(self) -> list[WatchDescription]:
        return [
            {
                "name": row.name,
                "pattern": row.pattern,
                "owner": None if row.owner is None else {"host": row.host or "", "pid": row.pid or 0},
                "since": row.since_ms / 1000,
                "revision": abs(row.revision),
                "alive": None if row.owner is None else self._ownership.is_known_alive(row.owner),
                "behind": max(0, row.behind),
                "behind_since": None if row.behind_since_ms is None else row.behind_since_ms / 1000,
            }
            for row in self._store.read(watches.rows)
        ]

    def sweep(self) -> None:
        rows = self._store.read(watches.rows)
        for owner in {row.owner for row in rows if row.owner is not None}:
            if self._ownership.is_dead(owner):
                self._store.write(watches.end_owner, owner)
        if rows:
            self._store.write(watches.trim)

    def close(self) -> None:
        owner = self._ownership.name
        # What cannot be written now is ended by the next sweep: its owner is dead then.
        with suppress(SlothStateError):
            if owner is not None and any(row.owner == owner for row in self._store.read(watches.rows)):
                self._store.write(watches.end_owner, owner)
