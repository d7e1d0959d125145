"""Keys as they leave one store and come into another: with their kind, value and moment of expiry.

What is claimed of a list leaves as an item of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from slothstate.engines.protocol import Row
from slothstate.engines.sqlite.connection import LIVE, Atomic, Connection, sql
from slothstate.engines.sqlite.keys import get, put
from slothstate.engines.sqlite.listing import page_of_keys
from slothstate.hints import Final
from slothstate.native import glob_match
from slothstate.values import Kind, Stored, damaged

__all__ = ["load", "rows"]

PAGE_OF_ROWS: Final = 1000


_CLAIMED: Final = f"select key, {LIVE} from entries where id in (select list_id from claims)"

# Of a list that has expired only what is claimed has not.
_WHOLE: Final = sql(f"""
select '[' || group_concat(item, ',' order by position) || ']', iif({LIVE}, expires_at_ms, null)
from entries join (
  select list_id, position, item, 1 as is_claimed from claims
  union all
  select list_id, position, item, 0 from list_items
) on list_id = id
where key = ?2 and ({LIVE} or is_claimed)
""")


def rows(connection: Connection, now: int, pattern: str | None) -> Iterator[tuple[str, Row]]:
    """Yield the live rows whose keys match, in the order of keys; the caller holds the snapshot they come from."""
    claimed = dict(connection.execute(_CLAIMED, (now,)).fetchall())
    absent = sorted(key for key, is_live in claimed.items() if not is_live and _matches(pattern, key))
    for key in heapq.merge(_live(connection, now, pattern), absent):
        row = _whole(connection, now, key) if key in claimed else get(connection, now, key)
        if row is not None:
            yield key, row


def _matches(pattern: str | None, key: str) -> bool:
    return pattern is None or glob_match(pattern, key)


def _live(connection: Connection, now: int, pattern: str | None) -> Iterator[str]:
    after: str | None = ""
    while after is not None:
        page, after = page_of_keys(connection, now, pattern, after, PAGE_OF_ROWS)
        yield from page


def _whole(connection: Connection, now: int, key: str) -> Row:
    try:
        text, expires_at_ms = connection.execute(_WHOLE, (now, key)).get
    except UnicodeDecodeError as error:
        raise damaged(key, error) from error
    return "list", text, expires_at_ms


def load(connection: Connection, now: int, new: Sequence[tuple[str, Kind, Stored, int | None]]) -> int:
    """Store rows of key, kind, value and expiry in one transaction, each replacing its key.

    Returns how many, without those that have expired.
    """
    stored = 0
    with Atomic(connection):
        for key, kind, value, expires_at_ms in new:
            if expires_at_ms is not None and expires_at_ms <= now:
                continue
            put(connection, now, key, kind, value, None if expires_at_ms is None else expires_at_ms - now)
            stored += 1
    return stored
