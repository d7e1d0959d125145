"""`check()`: an audit of every invariant of the file, and the figures of `stats()`."""

from __future__ import annotations

import apsw

from slothstate.engines.sqlite.connection import IN_ROWS, LIVE, Connection, Snapshot
from slothstate.engines.sqlite.interruptible import interruptible
from slothstate.engines.sqlite.schema import SCHEMA_VERSION
from slothstate.errors import InvalidKey, StateCorrupt
from slothstate.hints import Any, Final
from slothstate.native import json_check
from slothstate.values import LEVELS_MAX, as_python, check_key, check_levels, damaged, decoded, shorten, verify

__all__ = ["figures", "problems"]

PROBLEMS_MAX: Final = 100

_ENTRIES: Final = """
select
  id,
  cast(key as blob),
  kind,
  case typeof(value) when 'text' then cast(value as blob) else value end,
  typeof(value)
from entries
where id > ?1
order by id
limit 1000
"""

# A list that is not there is one that only its claims are left of, or were.
_ITEMS: Final = f"""
select
  cast(key as blob),
  value,
  ifnull(expires_at_ms = 0, 0),
  (select count(*) from list_items where list_id = id),
  (select min(position) from list_items where list_id = id),
  (select max(position) from list_items where list_id = id),
  (select max(position) from claims where list_id = id)
from entries
where {IN_ROWS}
"""

_ORPHANS: Final = (
    f"select count(*) from {{table}} where list_id not in (select id from entries where {IN_ROWS}{{marked}})"
)

_TWICE: Final = """
select cast(key as blob), position
from list_items join claims using (list_id, position) join entries on entries.id = list_id
"""

_CLAIMS: Final = """
select cast(key as blob), cast(item as blob), claims.owner is null and due_ms is null
from claims join entries on entries.id = list_id
"""

_LIST_ITEMS: Final = """
select cast(key as blob), cast(item as blob)
from list_items join entries on entries.id = list_id
"""

_LOCKS: Final = "select name, owner from locks"

_WAITERS: Final = "select name, owner from lock_waiters"

_KINDS: Final = f"select kind, count(*) from entries where {LIVE} group by kind order by kind"


def problems(connection: Connection, now: int) -> list[str]:
    """Return a sentence for everything that is wrong with the store, none when it is sound."""
    found: list[str] = []
    with Snapshot(connection):
        for check in (_integrity, _entries, _lists, _lock_rows):
            try:
                found += check(connection)
            except (apsw.CorruptError, apsw.NotADBError) as error:
                found.append(f"a page of the database is damaged: {error}")
            except UnicodeDecodeError as error:
                found.append(f"a text of the database is damaged: {error}")
    return found[:PROBLEMS_MAX]


def _integrity(connection: Connection) -> list[str]:
    with interruptible(connection):
        rows = connection.execute(f"pragma integrity_check({PROBLEMS_MAX})").fetchall()
    return [] if rows == [("ok",)] else [f"SQLite: {text}" for (text,) in rows]


def _entries(connection: Connection) -> list[str]:
    found: list[str] = []
    last = -(2**63)
    while page := connection.execute(_ENTRIES, (last,)).fetchall():
        last = page[-1][0]
        for _, raw_key, kind, stored, column_type in page:
            try:
                key = check_key(raw_key.decode() if raw_key is not None else "")
            except (InvalidKey, UnicodeDecodeError) as error:
                found.append(f"key {shorten(raw_key)} is damaged: {error}")
                continue
            try:
                value = stored.decode() if column_type == "text" else stored
                if kind == "list" and column_type in ("null", "integer"):
                    continue
                verify(key, kind, value)
                if kind in ("table", "list"):
                    decoded(as_python, key, kind, value)
            except StateCorrupt as error:
                found.append(str(error))
            except UnicodeDecodeError as error:
                found.append(str(damaged(key, error)))
    return found


def _lists(connection: Connection) -> list[str]:
    found = [
        f"list {_text(key)} is damaged: {problem}"
        for key, *list_row in connection.execute(_ITEMS)
        if (problem := _gaps(*list_row))
    ]
    for what, table, marked in (("list items", "list_items", ""), ("claims", "claims", " and value is not null")):
        orphans = connection.execute(_ORPHANS.format(table=table, marked=marked)).get
        if orphans:
            found.append(f"{orphans} {what} belong to no list")
    found += [
        f"list {_text(key)} is damaged: its item at {position} is claimed, and there"
        for key, position in connection.execute(_TWICE)
    ]
    for key, raw_item in connection.execute(_LIST_ITEMS):
        problem = _unreadable(raw_item)
        if problem:
            found.append(f"list {_text(key)} is damaged: an item cannot be read: {problem}")
    for key, raw_item, is_lost in connection.execute(_CLAIMS):
        problem = _unreadable(raw_item) or ("it has no owner and is never due" if is_lost else "")
        if problem:
            found.append(f"list {_text(key)} is damaged: a claimed item cannot be read or returned: {problem}")
    return found


def _gaps(
    mark: Any, is_hidden: int, count: int, first: int | None, last: int | None, last_claim: int | None
) -> str | None:
    """Return what is wrong with the positions of a list; `mark` is the value of its row."""
    if is_hidden:
        return f"it is not there and has {count} items" if count or mark is None else None
    span = 0 if first is None or last is None else last - first + 1
    if not count or (count != span if mark in (None, -1) else count != mark):
        expected = "" if mark in (None, -1) else f", not {mark}"
        return f"{count} items at positions {first} to {last}{expected}"
    if mark == -1 and last_claim is not None and first is not None and last_claim > first:
        return f"it is claimed from behind its first item, at {last_claim}"
    return None


def _unreadable(raw_item: bytes) -> str | None:
    try:
        item = raw_item.decode()
        json_check(item)
        check_levels(item, "item", LEVELS_MAX - 1)
    except ValueError as error:
        return str(error)
    return None


def _text(raw: bytes) -> str:
    return repr(raw.decode(errors="backslashreplace"))


def _lock_rows(connection: Connection) -> list[str]:
    return [
        f"lock {name!r} is damaged: it names no owner"
        for name, owner in connection.execute(_LOCKS)
        if not name or not owner
    ] + [
        f"a waiter for lock {name!r} is damaged: it names no {'owner' if name else 'lock'}"
        for name, owner in connection.execute(_WAITERS)
        if not name or not owner
    ]


def figures(connection: Connection, now: int) -> dict[str, Any]:
    """Return the part of `stats()` that the file itself answers."""
    with Snapshot(connection):
        kinds = dict(connection.execute(_KINDS, (now,)).fetchall())
        pages = connection.execute("pragma page_count").get
        return {
            "total_keys": sum(kinds.values()),
            "total_size": pages * connection.execute("pragma page_size").get,
            "keys_by_kind": kinds,
            "schema_version": SCHEMA_VERSION,
            "sqlite_version": apsw.sqlite_lib_version(),
        }
