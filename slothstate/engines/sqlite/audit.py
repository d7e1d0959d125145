"""`check()`: an audit of every invariant of the file, and the figures of `stats()`."""

from __future__ import annotations

from typing import Any, Final

import apsw

from slothstate.engines.sqlite.connection import LIVE, Connection, Snapshot
from slothstate.engines.sqlite.schema import SCHEMA_VERSION
from slothstate.errors import InvalidKey, StateCorrupt
from slothstate.native import json_check
from slothstate.values import as_python, check_key, check_levels, damaged, decoded, shorten, verify

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

_ITEMS: Final = """
select cast(entries.key as blob), count(position), min(position), max(position)
from entries left join list_items on list_id = entries.id
where entries.value is null
group by entries.id
"""

_ORPHANS: Final = "select count(*) from list_items where list_id not in (select id from entries where value is null)"

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
                if value is None and kind == "list":
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
        f"list {_text(key)} is damaged: {count} items at positions {first} to {last}"
        for key, count, first, last in connection.execute(_ITEMS)
        if not count or last - first + 1 != count
    ]
    orphans = connection.execute(_ORPHANS).get
    if orphans:
        found.append(f"{orphans} list items belong to no list")
    for key, raw_item in connection.execute(_LIST_ITEMS):
        try:
            item = raw_item.decode()
            json_check(item)
            check_levels(item)
        except ValueError as error:
            found.append(f"list {_text(key)} is damaged: an item cannot be read: {error}")
    return found


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
