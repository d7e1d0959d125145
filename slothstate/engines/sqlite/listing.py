"""Listing keys: pages of the index, in the order of code points."""

from __future__ import annotations

from slothstate.engines.sqlite.connection import Connection, Snapshot, sql
from slothstate.hints import Final
from slothstate.native import KEY_SEPARATOR, glob_filter
from slothstate.patterns import key_range
from slothstate.values import damaged

__all__ = ["UNBOUNDED", "keys", "page_of_keys"]

PAGE_OF_KEYS: Final = 50_000
"""Keys that one statement gathers: enough to make its cost vanish, few enough to stay at some megabytes."""

FEW_KEYS: Final = 100
"""Keys that one statement gathers at least: a pattern may leave out most of them."""

UNBOUNDED: Final = b""
"""An upper bound above every key: in SQLite's order of types each BLOB comes after all TEXT."""

_ANY_EXPIRED: Final = "select 1 from entries where expires_at_ms <= ?1 limit 1"

# Answered by the index of keys alone, without reading a row of the table. A separator that is bound and not computed by
# SQLite's char() saves an eighth.
_PAGE: Final = """
select group_concat(key, ?4)
from (
  select key
  from entries
  where key >= ?1 and key < ?2{live}
  order by key{order}
  limit ?3
)
"""

_ORDERS: Final = {False: "", True: " desc"}
"""By whether a listing goes from the last key to the first."""

_PAGE_OF_ALL: Final = {reverse: sql(_PAGE.format(live="", order=order)) for reverse, order in _ORDERS.items()}

# The expired keys are few, and are subtracted. Looking each key up there is a third of the whole.
_NOT_EXPIRED: Final = " and id not in (select id from entries where expires_at_ms <= ?5)"

_PAGE_OF_LIVE: Final = {
    reverse: sql(_PAGE.format(live=_NOT_EXPIRED, order=order)) for reverse, order in _ORDERS.items()
}


def keys(
    connection: Connection, now: int, pattern: str | None, after: str, limit: int | None, reverse: bool
) -> list[str]:
    """Return the live keys that match, past `after` and at most `limit`, in code point order, from one snapshot."""
    found: list[str] = []
    following: str | None = after
    size = PAGE_OF_KEYS if limit is None else min(max(limit, FEW_KEYS), PAGE_OF_KEYS)
    with Snapshot(connection):
        while following is not None and (limit is None or len(found) < limit):
            page, following = page_of_keys(connection, now, pattern, following, size, reverse)
            found += page
    return found[:limit]


def page_of_keys(
    connection: Connection, now: int, pattern: str | None, after: str, limit: int, reverse: bool = False
) -> tuple[list[str], str | None]:
    """Return those of the next `limit` live keys past `after` ("": all) that match, and where to go on, or None."""
    lower, upper = ("", None) if pattern is None else key_range(pattern)
    if after and reverse:
        upper = after if upper is None else min(upper, after)
    elif after:
        # The least text above `after`: no key holds NUL.
        lower = max(lower, after + "\0")
    section = (lower, UNBOUNDED if upper is None else upper, limit, KEY_SEPARATOR)
    with Snapshot(connection):
        try:
            if connection.execute(_ANY_EXPIRED, (now,)).get:
                page = connection.execute(_PAGE_OF_LIVE[reverse], (*section, now)).get
            else:
                page = connection.execute(_PAGE_OF_ALL[reverse], section).get
        except UnicodeDecodeError as error:
            raise damaged(_key_at(error.object, error.start), f"it is not UTF-8 ({error.reason})") from error
    if page is None:
        return [], None
    found = page.split(KEY_SEPARATOR) if pattern is None else glob_filter(pattern, page)
    if page.count(KEY_SEPARATOR) + 1 < limit:
        return found, None
    return found, page.rpartition(KEY_SEPARATOR)[2]


def _key_at(page: bytes, index: int) -> bytes:
    """Return the key of a page that has a byte there."""
    separator = KEY_SEPARATOR.encode()
    return page[:index].rpartition(separator)[2] + page[index:].partition(separator)[0]
