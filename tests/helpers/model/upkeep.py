"""Transfer and upkeep of the model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from helpers.model.entries import Part
from slothstate.descriptions import Activity, Finding, Health
from slothstate.engines.protocol import StoredRecord
from slothstate.errors import NotSupported
from slothstate.native import glob_match

__all__ = ["Transfer", "Upkeep"]


class Transfer(Part):
    """`slothstate.engines.protocol.Transfer`."""

    def records(self, pattern: str | None, /) -> Iterator[StoredRecord]:
        with self.engine.reading() as rows:
            whole = rows | self.engine.lists.wholes(rows)
            found = [(key, *whole[key]) for key in sorted(whole) if pattern is None or glob_match(pattern, key)]
        yield from found

    def load(self, records: Sequence[StoredRecord], /) -> int:
        with self.engine.writing() as rows:
            now = self.engine.now_ms()
            live = {record[0]: record[1:] for record in records if record[3] is None or record[3] > now}
            rows.update(live)
            return sum(record[3] is None or record[3] > now for record in records)


class Upkeep(Part):
    """`slothstate.engines.protocol.Upkeep`."""

    def sweep(self) -> int:
        with self.engine.writing() as rows:
            removed = len(self.engine.rows) - len(rows)
            for key in list(rows.places):
                self.engine.lists.bring_back(rows, key)
            return removed

    def check(self) -> list[str]:
        with self.engine.reading():
            return []

    def stats(self) -> dict[str, Any]:
        with self.engine.reading() as rows:
            return {
                "total_keys": len(rows),
                "total_size": sum(len(str(row[1])) for row in rows.values()),
                "wal_size": None,
                "expired_pending": len(self.engine.rows) - len(rows),
                "keys_by_kind": dict(Counter(row[0] for row in rows.values())),
                "path": self.engine.address,
                "backend": self.engine.name,
                "operations": {},
                "cache_hits": 0,
                "cache_misses": 0,
                "cache_used": 0,
                "busy_waits": 0,
                "longest_busy_wait": 0.0,
            }

    def health(self) -> Health:
        self.engine.require_usable()
        raise NotSupported("the model has no health")

    def examine(self) -> Iterator[Finding]:
        yield Finding("ok", "model", "everything is in memory")

    def activity(self, seconds: float, /) -> list[Activity]:
        return []

    def backup(self, path: str | os.PathLike[str], /) -> None:
        self.engine.require_usable()
        raise NotSupported("the model cannot be backed up")

    def compact(self) -> None:
        self.engine.require_usable()
        raise NotSupported("the model has nothing to compact")
