"""Lists: replacing, inserting and removing items anywhere, and trimming.

In a list without gaps (`docs/file-format.md`) inserting and removing writes what comes after anew. In one with gaps an
insertion moves what comes after, claims too.
"""

from __future__ import annotations

from collections.abc import Sequence

from slothstate.engines.listing import bounds, matching
from slothstate.engines.sqlite.connection import Atomic, Connection
from slothstate.engines.sqlite.list_rows import (
    ADD,
    StoredList,
    find,
    items_between,
    open_for_change,
    position,
    remove_between,
    settle,
    size_of,
    unpack,
)
from slothstate.engines.sqlite.lists import push, unshift
from slothstate.hints import Final

__all__ = ["insert", "remove", "remove_at", "replace", "trim"]

FAR: Final = 2**40
"""Positions that nothing in a list is apart: what moves by one goes so far first, where nothing is in its way."""

_MOVE: Final = [
    f"update {table} set position = position {by} where list_id = ?1 and position >= {since}"
    for table in ("list_items", "claims")
    for by, since in (("+ ?3", "?2"), ("- ?3 + 1", "?2 + ?3"))
]

_REPLACE: Final = "update list_items set item = ?3 where list_id = ?1 and position = ?2"


def replace(connection: Connection, now: int, key: str, index: int, item: str) -> bool:
    """Replace the item at `index`, negative from the end; return whether there is one."""
    with Atomic(connection):
        found = find(connection, now, key, "set an item of")
        size = 0 if found is None else size_of(key, found)
        if found is None or not -size <= index < size:
            return False
        found = unpack(connection, key, found)
        connection.execute(_REPLACE, (found.identity, position(connection, found, index % size), item))
        return True


def insert(connection: Connection, now: int, key: str, index: int, item: str) -> int | None:
    """Let an item stand at `index` and return the new length; None unless that is 0 to the length."""
    with Atomic(connection):
        found = find(connection, now, key, "insert into")
        size = 0 if found is None else size_of(key, found)
        at = index if index >= 0 else index + size
        if not 0 <= at <= size:
            return None
        if at == size:
            return push(connection, now, key, [item])
        if at == 0:
            return unshift(connection, now, key, [item])
        found = open_for_change(connection, now, key, "insert into")
        if found.has_gaps:
            place = position(connection, found, at)
            for statement in _MOVE:
                connection.execute(statement, (found.identity, place, FAR))
            connection.execute(ADD, (found.identity, place, item))
            settle(connection, found.identity, size + 1)
        else:
            _rewrite(connection, found, at, [item, *items_between(connection, key, found, at, size - 1)])
        return size + 1


def remove(connection: Connection, now: int, key: str, item: object, count: int) -> int:
    """Remove items equal to `item`, at most `count`, from the front or with a negative one the end, with 0 all."""
    with Atomic(connection):
        found = find(connection, now, key, "remove from")
        if found is None:
            return 0
        texts = items_between(connection, key, found, 0, size_of(key, found) - 1)
        gone = set(matching(key, texts, item, count))
        if gone:
            _cut(connection, key, unpack(connection, key, found), gone)
        return len(gone)


def remove_at(connection: Connection, now: int, key: str, index: int) -> None:
    """Remove the item at `index` of a list, where there is one; for the caller's transaction."""
    found = find(connection, now, key, "remove from")
    assert found is not None
    found = unpack(connection, key, found)
    _cut(connection, key, found, {index % found.size})


def _cut(connection: Connection, key: str, found: StoredList, gone: set[int]) -> None:
    """Remove the items at some indexes of a list in rows."""
    if found.has_gaps:
        for index in sorted(gone, reverse=True):
            remove_between(connection, found, index, index)
    else:
        first = min(gone)
        rest = enumerate(items_between(connection, key, found, first + 1, found.size - 1), first + 1)
        _rewrite(connection, found, first, [text for index, text in rest if index not in gone])
    settle(connection, found.identity, found.size - len(gone))


def trim(connection: Connection, now: int, key: str, start: int, stop: int) -> int:
    """Keep the items from `start` to `stop`, as a range counts them; return the new length."""
    with Atomic(connection):
        found = find(connection, now, key, "trim")
        if found is None:
            return 0
        size = size_of(key, found)
        begin, end = bounds(size, start, stop)
        if begin > end:
            begin, end = size, size - 1
        if (begin, end) == (0, size - 1):
            return size
        found = unpack(connection, key, found)
        remove_between(connection, found, end + 1, size - 1)
        remove_between(connection, found, 0, begin - 1)
        settle(connection, found.identity, end - begin + 1)
        return end - begin + 1


def _rewrite(connection: Connection, found: StoredList, begin: int, items: Sequence[str]) -> None:
    """Put items in the place of those from `begin` on, in a list without gaps."""
    remove_between(connection, found, begin, found.size - 1)
    rows = ((found.identity, at, item) for at, item in enumerate(items, found.first + begin))
    connection.cursor.executemany(ADD, rows)
