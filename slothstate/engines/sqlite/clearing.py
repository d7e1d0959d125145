"""Deleting many keys at once: all, or those that match; what is claimed of a list goes with it."""

from __future__ import annotations

from slothstate.engines.sqlite import keys, listing
from slothstate.engines.sqlite.connection import EXPIRED, IN_ROWS, LIVE, Atomic, Connection
from slothstate.errors import StateCorrupt
from slothstate.hints import Final
from slothstate.native import glob_match

__all__ = ["clear"]

# Lists that are not there, but whose claims are.
_CLAIMED_ALONE: Final = f"select key from entries where {EXPIRED} and {IN_ROWS} and value is not null"

_IS_CLAIMED: Final = "id in (select list_id from claims)"

_RAW_KEYS: Final = f"select id, cast(key as blob), {LIVE} or {_IS_CLAIMED} from entries"

_COUNT_CLAIMED_ALONE: Final = f"select count(*) from entries where {EXPIRED} and {_IS_CLAIMED}"

_REMOVE: Final = (
    "delete from list_items where list_id = ?1",
    "delete from claims where list_id = ?1",
    "delete from entries where id = ?1",
)


def clear(connection: Connection, now: int, pattern: str | None) -> int:
    """Delete all keys, or those that match, in one transaction; return how many were live or claimed."""
    with Atomic(connection):
        if pattern is not None:
            try:
                found = listing.keys(connection, now, pattern, "", None, False)
            except StateCorrupt:
                return _clear_raw(connection, now, pattern)
            claimed = [key for (key,) in connection.execute(_CLAIMED_ALONE, (now,)).fetchall()]
            found += [key for key in claimed if glob_match(pattern, key)]
            return sum(keys.remove(connection, now, key) for key in found)
        removed = keys.count(connection, now) + int(connection.execute(_COUNT_CLAIMED_ALONE, (now,)).get)
        connection.execute("delete from claims")
        connection.execute("delete from list_items")
        connection.execute("delete from entries")
        return removed


def _clear_raw(connection: Connection, now: int, pattern: str) -> int:
    """Do the same where there are keys that are not UTF-8; to the pattern what is not is U+FFFD."""
    removed = 0
    for identity, key, live in connection.execute(_RAW_KEYS, (now,)).fetchall():
        if glob_match(pattern, key.decode(errors="replace")):
            for statement in _REMOVE:
                connection.execute(statement, (identity,))
            removed += live
    return removed
