"""`protocol.Transfer` and `protocol.Upkeep`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from slothstate.descriptions import Activity, Finding, Health
from slothstate.engines.postgres.listing import stored_range
from slothstate.engines.postgres.moments import moment_apart
from slothstate.engines.postgres.rows import LIVE, STORED, columns, is_deep, row_of, split, stem
from slothstate.engines.postgres.schema import GATED, VERSION
from slothstate.engines.postgres.sweep import sweep_all
from slothstate.engines.protocol import StoredRecord
from slothstate.errors import NotSupported, importing
from slothstate.hints import TYPE_CHECKING, Any, Final
from slothstate.native import glob_match

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Transfer", "Upkeep"]

PAGE_OF_ROWS: Final = 1000

PAGE_OF_OCTETS: Final = 16 * 2**20
"""Of values that one statement brings, and of one value that is longer."""

# A list that has claims leaves as one that has not: what is claimed of it is an item of it.
_WHOLE: Final = f"""
case when e.kind = 'list' and e.t is null then (
  select '[' || string_agg(item, ',' order by pos) || ']' from (
    select pos, item from items where list_id = e.id and {LIVE}
    union all
    select pos, item from claims where list_id = e.id
  ) whole
) end
"""

_OCTETS: Final = """
case
  when e.kind = 'list' and e.t is null then coalesce((
    select sum(octet_length(item))::bigint from (
      select item from items where list_id = e.id
      union all
      select item from claims where list_id = e.id
    ) whole
  ), 0)
  else coalesce(octet_length(e.t), octet_length(e.b), 0)
end
"""

# The rows from a key on, as many as fit a page; the first of them in any case. Where they end is asked for outside:
# with two bounds the server takes the rows for few, and sorts all the rest of the store for each page.
_RECORDS: Final = f"""
select e.key, e.long_key, {STORED}, {_WHOLE}, {LIVE}
from (
  select *, sum(octets) over (order by key) - octets as before
  from (
    select e.*, {_OCTETS} as octets
    from entries e
    where key >= %s
    and ({LIVE} or e.kind = 'list' and e.t is null and exists (select from claims where list_id = e.id))
    order by key
    limit {PAGE_OF_ROWS}
  ) page
) e
where (before = 0 or before + octets <= {PAGE_OF_OCTETS}) and (%s::text is null or key < %s)
order by key
"""

_LOAD: Final = f"""
with {GATED}
insert into entries as e (key, long_key, kind, n, f, t, b, expires_at_ms)
select key, long_key, kind, n, f, t, b, ends
from unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::float8[], %s::text[], %s::bytea[], %s::bigint[])
as new (key, long_key, kind, n, f, t, b, ends)
where is_live(ends)
order by key
on conflict (key) do update
set kind = excluded.kind, n = excluded.n, f = excluded.f, t = excluded.t, b = excluded.b, first = null, last = null,
    expires_at_ms = excluded.expires_at_ms
returning 1
"""

_FIGURES: Final = f"""
select
  coalesce(sum(({LIVE})::int), 0),
  pg_total_relation_size('entries') + pg_total_relation_size('items') + pg_total_relation_size('claims'),
  count(*) filter (where expires_at_ms > 0 and not {LIVE}), current_setting('server_version')
from entries e
"""

_KINDS: Final = f"select kind, count(*) from entries e where {LIVE} group by kind order by kind"

_SETTINGS: Final = """
select name, setting from pg_settings
where name in (
  'server_version', 'synchronous_commit', 'synchronous_standby_names', 'fsync', 'full_page_writes', 'max_connections',
  'wal_level', 'shared_buffers', 'autovacuum'
)
order by name
"""


class Transfer:
    """Whole keys, out of one store and into another."""

    def __init__(self, pool: Store) -> None:
        self._pool = pool

    def records(self, pattern: str | None, /) -> Iterator[StoredRecord]:
        # Deep keys that may be stored in another order than their own.
        held: list[StoredRecord] = []
        for record in self._stored(pattern):
            if held and not (is_deep(record[0]) and stem(record[0]) == stem(held[0][0])):
                yield from sorted(held)
                held.clear()
            if is_deep(record[0]):
                held.append(record)
            else:
                yield record
        yield from sorted(held)

    def _stored(self, pattern: str | None) -> Iterator[StoredRecord]:
        found = stored_range(pattern)
        if found is None:
            return
        lower, upper = found
        self._pool.count("dump")
        with moment_apart(self._pool) as read:
            while page := read(_RECORDS, (lower, upper, upper)):
                for name, long_key, kind, n, f, t, b, end, whole, is_live in page:
                    key = long_key or name
                    if pattern is None or glob_match(pattern, key):
                        text = t if whole is None else whole
                        yield key, *row_of(key, (kind, n, f, text, b, end if is_live else None))
                # The least text above it that can be stored: no key holds NUL.
                lower = page[-1][0] + "\1"

    def load(self, records: Sequence[StoredRecord], /) -> int:
        # One statement takes a key once: the last of several counts, and each is counted.
        if not records:
            self._pool.require_writable()
            return 0
        last = {record[0]: record for record in records}
        new = [(*split(key), *columns(kind, stored), end) for key, kind, stored, end in last.values()]
        arrays = [list(column) for column in zip(*new, strict=True)]
        stored = len(self._pool.write(_LOAD, arrays, verb="load", bulk=True))
        return stored if len(last) == len(records) else stored + len(records) - len(last)


class Upkeep:
    """Looking into a store and after it."""

    def __init__(self, pool: Store) -> None:
        self._pool = pool

    def sweep(self) -> int:
        return sweep_all(self._pool)

    def check(self) -> list[str]:
        with importing():
            from slothstate.engines.postgres import audit

        self._pool.count("check")
        return audit.problems(self._pool)

    def stats(self) -> dict[str, Any]:
        pool = self._pool
        with pool.snapshot():
            ((keys, size, pending, version),) = pool.read(_FIGURES, bulk=True)
            kinds: dict[str, int] = dict(pool.read(_KINDS, bulk=True))
        return {
            "total_keys": int(keys),
            "total_size": int(size),
            "schema_version": VERSION,
            "server_version": version,
            "wal_size": None,
            "expired_pending": pending,
            "keys_by_kind": kinds,
            "path": pool.shown,
            "backend": "postgresql",
            "operations": dict(pool.operations),
            "cache_hits": 0,
            "cache_misses": 0,
            "cache_used": 0,
            "busy_waits": pool.busy_waits,
            "longest_busy_wait": pool.longest_busy_wait,
        }

    def health(self) -> Health:
        pool = self._pool
        return {
            "settings": dict(pool.read(_SETTINGS)),
            "file_system": None,
            "wal_pages": 0,
            "wal_pages_copied": 0,
            # The server counts those of all its databases and schemas together.
            "commits": -1,
            # Sessions of the server are not processes of this machine.
            "users": None,
        }

    def examine(self) -> Iterator[Finding]:
        with importing():
            from slothstate.engines.postgres import examination

        return examination.examine(self._pool)

    def activity(self, seconds: float, /) -> list[Activity]:
        self._pool.require_usable()
        return []

    def backup(self, path: str | os.PathLike[str], /) -> None:
        self._pool.require_usable()
        raise NotSupported("a store on PostgreSQL is backed up by pg_dump; dump() and load() copy keys")

    def compact(self) -> None:
        self._pool.require_usable()
        raise NotSupported("a store on PostgreSQL is not compacted: autovacuum uses its space again")
