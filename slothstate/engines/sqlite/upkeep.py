"""Looking into a store and after it; what each part needs is imported when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator

from slothstate.engines.sqlite import activity_publisher, location, sweep
from slothstate.engines.sqlite.naming import check_path
from slothstate.engines.sqlite.sweeper import sweep_all
from slothstate.errors import importing
from slothstate.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slothstate.descriptions import Activity, Finding, Health
    from slothstate.engines.sqlite.store import Store

__all__ = ["UpkeepOperations"]


class UpkeepOperations:
    """`protocol.Upkeep`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def sweep(self) -> int:
        return sweep_all(self._store)

    def check(self) -> list[str]:
        with importing():
            from slothstate.engines.sqlite import audit

        return self._store.read(audit.problems)

    def stats(self) -> dict[str, Any]:
        with importing():
            from slothstate.engines.sqlite import audit

        store = self._store
        cache = store.cache.figures()
        return {
            **store.read(audit.figures),
            "wal_size": location.size(store.path + "-wal"),
            "expired_pending": store.read(sweep.pending),
            "path": store.path,
            "backend": "sqlite",
            "operations": activity_publisher.operations(store),
            "cache_hits": cache["hits"] + cache["many_hits"] + cache["length_hits"],
            "cache_misses": cache["misses"],
            "cache_used": cache["bytes"],
            "busy_waits": store.busy.count,
            "longest_busy_wait": store.busy.longest,
        }

    def health(self) -> Health:
        with importing():
            from slothstate.engines.sqlite import health

        store = self._store
        store.ensure_identity()
        with store.apart() as (connection, _):
            pages, copied = health.wal(connection)
        return {
            "settings": store.read(health.settings),
            "file_system": location.file_system(store.path),
            "wal_pages": pages,
            "wal_pages_copied": copied,
            "commits": store.cache.commits(),
            "users": health.users(store.path),
        }

    def examine(self) -> Iterator[Finding]:
        with importing():
            from slothstate.engines.sqlite import examination

        self._store.ensure_identity()
        return examination.examine(self._store)

    def activity(self, seconds: float, /) -> list[Activity]:
        with importing():
            from slothstate.engines.sqlite import activity_reader

        self._store.require_usable()
        return activity_reader.watch(self._store.path, seconds)

    def backup(self, path: str | os.PathLike[str], /) -> None:
        with importing():
            from slothstate.engines.sqlite import backup

        self._store.read(backup.copy, self._store.path, check_path(path))

    def compact(self) -> None:
        with importing():
            from slothstate.engines.sqlite import compact

        self._store.write(compact.compact)
