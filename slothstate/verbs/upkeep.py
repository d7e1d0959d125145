"""Looking into a store and looking after it.

What only this module needs is imported when it is asked for: a program that just reads and writes starts sooner.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from slothstate.engines.sqlite import (
    activity_publisher,
    activity_reader,
    audit,
    backup,
    compact,
    entries,
    health,
    location,
    sweep,
    transfer,
)
from slothstate.engines.sqlite.naming import check_path
from slothstate.engines.sqlite.sweeper import sweep_all
from slothstate.errors import InvalidValue, SlothStateError
from slothstate.values import INTEGER_MAX, check_key, check_seconds, decoded, describe, encode
from slothstate.verbs.base import SCAN_PAGE, Verbs, check_pattern

if TYPE_CHECKING:
    from slothstate.engines.sqlite.activity_reader import Activity
    from slothstate.engines.sqlite.entries import Entry, Usage
    from slothstate.engines.sqlite.health import Health
    from slothstate.record import Record

__all__ = ["UpkeepVerbs"]


class UpkeepVerbs(Verbs):
    """The verbs of whoever operates a store."""

    def stats(self) -> dict[str, Any]:
        """Return figures of the store and of this process's use of it; sizes in bytes, waits in seconds.

        docs/verbs.md lists them.

        >>> state.stats()["total_keys"]
        0
        """
        engine = self._engine
        cache = engine.cache.figures()
        return {
            **engine.read(audit.figures),
            "wal_size": location.size(engine.path + "-wal"),
            "expired_pending": engine.read(sweep.pending),
            "locks_held": sum(lock["alive"] is not False for lock in self._locks.describe()),
            "path": engine.path,
            "backend": engine.name,
            "operations": activity_publisher.operations(engine),
            "cache_hits": cache["hits"],
            "cache_misses": cache["misses"],
            "cache_used": cache["bytes"],
            "busy_waits": engine.busy.count,
            "longest_busy_wait": engine.busy.longest,
        }

    def entry(self, key: str, preview: int = 0) -> Entry | None:
        """Return kind, size, length and TTL of a key, and the first `preview` characters of its value; None if missing.

        The value is not built. Raises: `InvalidValue` unless `preview` is an int >= 0.

        >>> state.set("site", "example.org")
        True
        >>> state.entry("site", preview=3)
        Entry(key='site', kind='string', size=11, length=None, ttl=None, preview='exa')
        """
        return self._engine.read(entries.describe, check_key(key), _check_count(preview, "preview"))

    def entries(self, pattern: str | None = None, preview: int = 0) -> Iterator[Entry]:
        """Iterate over what `entry` says of the keys that match, in the order and in the manner of `scan`.

        Raises: `PatternError`, `InvalidValue`.

        >>> state.set("site", "example.org")
        True
        >>> [(entry.key, entry.kind) for entry in state.entries("s*")]
        [('site', 'string')]
        """
        check_pattern(pattern)
        return self._entries(pattern, _check_count(preview, "preview"))

    def _entries(self, pattern: str | None, preview: int) -> Iterator[Entry]:
        after: str | None = ""
        while after is not None:
            page, after = self._engine.read(entries.page, pattern, after, SCAN_PAGE, preview)
            yield from page

    def usage(self, prefix: str = "", delimiter: str = ":") -> list[Usage]:
        """Return how many keys begin with `prefix`, and their bytes, by the part up to the next delimiter.

        Keys without a delimiter behind `prefix` are counted under `prefix` itself. The largest come first.
        Raises: `InvalidValue` unless both are str, and the delimiter is not empty.

        >>> state.set_many({"user:1": "ab", "user:2": "cd", "site": "e"})
        True
        >>> state.usage()
        [Usage(prefix='user:', keys=2, size=16), Usage(prefix='', keys=1, size=5)]
        """
        for name, text in (("prefix", prefix), ("delimiter", delimiter)):
            if not isinstance(text, str):
                raise InvalidValue(f"{name} must be a str, got {describe(text)}")
            # Refuses a lone surrogate.
            encode(text, name)
        if not delimiter:
            raise InvalidValue("delimiter must not be empty")
        return self._engine.read(entries.usage, prefix, delimiter)

    def health(self) -> Health:
        """Return how the store is doing: settings as read back, file system, log, the processes that have it open.

        >>> state.health()["settings"]["journal_mode"]
        'wal'
        """
        engine = self._engine
        engine.ensure_identity()
        pages, copied = engine.read(health.wal)
        return {
            "settings": engine.read(health.settings),
            "file_system": location.file_system(engine.path),
            "wal_pages": pages,
            "wal_pages_copied": copied,
            "commits": engine.cache.commits(),
            "users": health.users(engine.path),
        }

    def activity(self, seconds: float = 2.0) -> list[Activity]:
        """Return what the processes that use the store have just done, this one included.

        They publish it only on request, twice a second or so as long as they do anything, and this is one for the next
        `seconds`; 0 withdraws it. So the first call returns nothing. Raises: `InvalidValue`.

        >>> state.activity(0)
        []
        """
        self._engine.require_usable()
        return activity_reader.watch(self._engine.path, check_seconds(seconds, "seconds", zero=True))

    def sweep(self) -> int:
        """Remove now what has expired, keys and locks; return how many keys went.

        >>> state.sweep()
        0
        """
        self._locks.sweep()
        return sweep_all(self._engine)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a consistent copy of the store to a new file (0600) while others go on using it.

        Raises: `UnsafeState` when `path` exists; `StateIOError` when it cannot be written.
        """
        self._engine.read(backup.copy, self._engine.path, check_path(path))

    def dump(self, pattern: str | None = None) -> Iterator[Record]:
        """Iterate over the keys that match as `Record`s, sorted, all as they were at one moment.

        Until the iterator is exhausted or closed the log of the store grows with every write: be quick.
        Raises: `PatternError`; `StateCorrupt` at a damaged key, naming it.

        >>> state.set("answer", 42)
        True
        >>> list(state.dump())
        [Record(key='answer', kind='number', value=42, expires_at_ms=None)]
        """
        return self._dump(check_pattern(pattern))

    def _dump(self, pattern: str | None) -> Iterator[Record]:
        from slothstate.record import Record

        with self._engine.snapshot() as (connection, now):
            for key, row in transfer.rows(connection, now, pattern):
                kind, stored, expires_at_ms = row
                yield Record(key, kind, decoded(self._decode, key, kind, stored), expires_at_ms)

    def load(self, records: Iterable[Record]) -> int:
        """Store records in one transaction, each replacing its key; return how many, without those already expired.

        Raises: `InvalidValue` for what is no record, a value that is not of the record's kind, or one that cannot be
        stored; `InvalidKey`; `OutOfRange`. Nothing is then stored.

        >>> from slothstate import Record
        >>> state.load([Record("answer", "number", 42), Record("gone", "string", "x", expires_at_ms=1)])
        1
        """
        from slothstate.record import encode_record

        if not isinstance(records, Iterable):
            raise InvalidValue(f"records must be an iterable of Records, got {describe(records)}")
        return self._engine.write(transfer.load, [encode_record(record) for record in records])

    def compact(self) -> None:
        """Remove what has expired and rewrite the file without the space that deleted keys left in it.

        Others can read meanwhile, and write once it is done. It needs about twice the size of the store in free disk
        space.
        Raises: `SlothStateError` inside a transaction; `StateFull`.
        """
        self._engine.require_usable()
        if self._engine.in_transaction:
            raise SlothStateError("a store cannot be compacted inside a transaction")
        self.sweep()
        self._engine.write(compact.compact)

    def check(self) -> list[str]:
        """Return a sentence for everything that is wrong with the store; an empty list when it is sound.

        >>> state.check()
        []
        """
        return self._engine.read(audit.problems)


def _check_count(number: int, name: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= INTEGER_MAX:
        raise InvalidValue(f"{name} must be an int >= 0, got {describe(number)}")
    return number
