"""Looking at keys without loading their values: kind, size, length, the beginning of the text; and sums by prefix."""

from __future__ import annotations

from slothstate.descriptions import Entry, Usage
from slothstate.engines.sqlite import listing
from slothstate.engines.sqlite.connection import IN_ROWS, LIVE, Connection, Snapshot
from slothstate.engines.sqlite.interruptible import interruptible
from slothstate.engines.sqlite.listing import UNBOUNDED
from slothstate.hints import Final
from slothstate.native import json_decode
from slothstate.patterns import key_range, literal
from slothstate.values import VALUE_MAX_BYTES

__all__ = ["describe", "page", "usage"]

PREVIEW_ITEMS: Final = 20
"""Items of a list kept in rows that its preview is made of at most."""


_ITEMS_COUNT: Final = "(select count(*) from list_items where list_id = entries.id)"

# The JSON text of a list in rows: its items, a comma between each two, and the brackets.
_ITEMS_SIZE: Final = "(select sum(octet_length(item)) + count(*) + 1 from list_items where list_id = entries.id)"

_SIZE: Final = f"ifnull(case when {IN_ROWS} then {_ITEMS_SIZE} else octet_length(value) end, 0)"

_CLAIMED: Final = f"ifnull(iif({IN_ROWS}, (select {{}} from claims where list_id = entries.id), 0), 0)"

_CLAIMED_COUNT: Final = _CLAIMED.format("count(*)")

_CLAIMED_SIZE: Final = _CLAIMED.format("sum(octet_length(item))")

_ENTRY: Final = f"""
select
  key,
  kind,
  {_SIZE} + {_CLAIMED_SIZE},
  case when {IN_ROWS} then {_ITEMS_COUNT} end,
  case when kind = 'list' and typeof(value) = 'text' then cast(value as blob) end,
  expires_at_ms,
  cast(case
    when {IN_ROWS} then (
      select substr('[' || group_concat(item, ',') || iif({_ITEMS_COUNT} > {PREVIEW_ITEMS}, '', ']'), 1, ?3)
      from (
        select substr(item, 1, ?3) as item
        from list_items
        where list_id = entries.id
        order by position
        limit {PREVIEW_ITEMS}
      )
    )
    when typeof(value) in ('text', 'blob') then substr(cast(value as blob), 1, ?4)
    else cast(value as text)
  end as blob),
  {_CLAIMED_COUNT},
  case when kind = 'number' and typeof(value) in ('integer', 'real') then value end
from entries
where key = ?2 and {LIVE}
"""

_PREFIX: Final = (
    "substr(key, 1, ?4 + iif(instr(substr(key, ?4 + 1), ?5) > 0, instr(substr(key, ?4 + 1), ?5) + ?6 - 1, 0))"
)

# A key is counted under its text up to the first delimiter behind the prefix that all have in common; one that has no
# such delimiter under that prefix itself. ?4 is the length of the prefix, ?5 the delimiter, ?6 its length.
_USAGE: Final = f"""
select
  {_PREFIX} as prefix,
  sum({LIVE}),
  sum(iif({LIVE}, octet_length(key) + iif(typeof(value) = 'real', 0, {_SIZE}), 0) + {_CLAIMED_SIZE}) as size
from entries
where key >= ?2 and key < ?3 and ({LIVE} or {IN_ROWS} and value is not null)
group by prefix
having size > 0
"""

# Whose text SQLite writes otherwise than Python, in 15 digits.
_FLOATS: Final = f"""
select {_PREFIX}, value from entries where key >= ?2 and key < ?3 and {LIVE} and typeof(value) = 'real'
"""


def describe(connection: Connection, now: int, key: str, preview: int) -> Entry | None:
    """Return what there is to say about a key, None if it is missing; at most `preview` characters of its value.

    A damaged value is described as far as it can be: this is how to look at one, and it must not hide the others.
    """
    preview = min(preview, VALUE_MAX_BYTES)
    found = connection.execute(_ENTRY, (now, key, preview, 4 * preview)).get
    if found is None:
        return None
    key, kind, size, length, text, expires_at_ms, beginning, claimed, number = found
    if text is not None:
        length = _length(text)
    ttl = None if expires_at_ms is None else (expires_at_ms - now) / 1000
    shown: str | bytes = beginning or b""
    if number is not None:
        shown = repr(number)
        size = len(shown)
    elif kind != "bytes":
        # Four bytes for each character: with one that was cut in two there are more than enough.
        shown = shown.decode(errors="backslashreplace")  # type: ignore[union-attr]
    if kind == "boolean":
        shown = "true" if shown == "1" else "false"
    return Entry(key, kind, size, length, ttl, shown[:preview], claimed)


def _length(text: bytes) -> int | None:
    """Return how many items the list of a JSON text has; None if it is damaged."""
    try:
        items = json_decode(text)
    except ValueError:
        return None
    return len(items) if isinstance(items, list) else None


def page(
    connection: Connection, now: int, pattern: str | None, after: str, limit: int, preview: int
) -> tuple[list[Entry], str | None]:
    """Return those of the next `limit` keys past `after` ("": all) that match, and where to go on, or None."""
    with Snapshot(connection):
        found, following = listing.page_of_keys(connection, now, pattern, after, limit)
        entries = [describe(connection, now, key, preview) for key in found]
    return [entry for entry in entries if entry is not None], following


def usage(connection: Connection, now: int, prefix: str, delimiter: str) -> list[Usage]:
    """Return the sums of the keys that begin with `prefix`, by the part up to the next delimiter, the largest first."""
    lower, upper = key_range(literal(prefix) + "*")
    bounds = (lower, UNBOUNDED if upper is None else upper)
    parameters = (now, *bounds, len(prefix), delimiter, len(delimiter))
    with Snapshot(connection), interruptible(connection):
        sums = {name: [count, size] for name, count, size in connection.execute(_USAGE, parameters)}
        for name, number in connection.execute(_FLOATS, parameters):
            sums[name][1] += len(repr(number))
    rows = [Usage(name, count, size) for name, (count, size) in sums.items()]
    return sorted(rows, key=lambda row: (-row.size, row.prefix))
