"""Watches of the model: every commit is written to a list that each of them reads from where it is."""

from __future__ import annotations

import math
import os
import platform
import time

from helpers.model.entries import Part
from helpers.model.memory import WatchEntry
from slothstate.descriptions import WatchDescription
from slothstate.engines.watching import WatchPage
from slothstate.errors import SlothStateError
from slothstate.native import glob_match

__all__ = ["Watches"]


class Watches(Part):
    """`slothstate.engines.protocol.Watches`."""

    def begin(self, nonce: int, pattern: str | None, name: str | None, /) -> int | None:
        self.engine.require_usable()
        if self.engine.in_transaction:
            raise SlothStateError("a watch cannot begin inside a transaction")
        memory = self.engine.memory
        if self._is_run(name, nonce):
            return None
        self._remove_expired()
        with self.engine.exclusively():
            self.engine.become_owner()
            found = next((item for item in memory.watches.items() if name is not None and item[1].name == name), None)
            if found is None:
                memory.watches[nonce] = WatchEntry(name, pattern, self.engine, memory.revision, time.time())
                return memory.revision
            if self._is_run(name, nonce):
                return None
            entry = memory.watches[nonce] = memory.watches.pop(found[0])
            entry.pattern, entry.owner = pattern, self.engine
            return entry.revision

    def _is_run(self, name: str | None, nonce: int) -> bool:
        entries = list(self.engine.memory.watches.items())
        return name is not None and any(
            entry.name == name and entry.owner is not None and other != nonce for other, entry in entries
        )

    def _remove_expired(self) -> None:
        now = self.engine.now_ms()
        if any(row[2] is not None and row[2] <= now for row in self.engine.rows.values()):
            with self.engine.writing():
                pass

    def page(self, nonce: int, after: int, pattern: str | None, limit: int, /) -> WatchPage:
        memory = self.engine.memory
        self.engine.require_usable()
        entry = memory.watches.get(nonce)
        page = [change for change in memory.changes if change[0] > after][:limit]
        found = [change[:3] for change in page if pattern is None or glob_match(pattern, change[1])]
        return WatchPage(None if entry is None else entry.revision, found, page[-1][0] if page else after)

    def handled(self, nonce: int, revision: int, count: int, /) -> bool:
        with self.engine.exclusively():
            entry = self.engine.memory.watches.get(nonce)
            if entry is None:
                return False
            entry.revision = revision
            self._trim()
            return True

    def _trim(self) -> None:
        memory = self.engine.memory
        first = min((entry.revision for entry in memory.watches.values()), default=memory.revision)
        memory.changes = [change for change in memory.changes if change[0] > first]

    def end(self, nonce: int, /) -> None:
        with self.engine.exclusively():
            entry = self.engine.memory.watches.get(nonce)
            if entry is not None and entry.name is None:
                del self.engine.memory.watches[nonce]
            elif entry is not None:
                entry.owner = None
            self._trim()

    def remove(self, name: str, /) -> bool:
        with self.engine.exclusively():
            watches = self.engine.memory.watches
            found = [nonce for nonce, entry in watches.items() if entry.name == name]
            for nonce in found:
                del watches[nonce]
            self._trim()
            return bool(found)

    def expire(self) -> float:
        if not self.engine.in_transaction:
            self._remove_expired()
        now = self.engine.now_ms()
        left = [row[2] - now for row in self.engine.rows.values() if row[2] is not None and row[2] > now]
        return min(left) / 1000 if left else math.inf

    def describe(self) -> list[WatchDescription]:
        self.engine.require_usable()
        memory = self.engine.memory
        return [
            {
                "name": entry.name,
                "pattern": entry.pattern,
                "owner": None if entry.owner is None else {"host": platform.node(), "pid": os.getpid()},
                "since": entry.since,
                "revision": entry.revision,
                "alive": None if entry.owner is None else True,
                "behind": memory.revision - entry.revision,
                "behind_since": next(
                    (change[3] / 1000 for change in memory.changes if change[0] > entry.revision), None
                ),
            }
            for entry in memory.watches.values()
        ]

    def sweep(self) -> None:
        self._trim()

    def close(self) -> None:
        for nonce, entry in list(self.engine.memory.watches.items()):
            if entry.owner is self.engine:
                self.end(nonce)
