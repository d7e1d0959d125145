"""Lists: replacing, inserting and removing items anywhere, and trimming.

Positions have no gaps (`docs/file-format.md`), so inserting and removing writes what comes after anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from slothstate.engines.sqlite import keys
from slothstate.engines.sqlite.connection import Atomic, Connection
from slothstate.engines.sqlite.lists import (
    ADD,
    REMOVE_BETWEEN,
    StoredList,
    bounds,
    find,
    items_between,
    open_for_change,
    push,
    size_of,
    unpack,
    unshift,
)
from slothstate.native import json_decode
from slothstate.values import damaged, same

__all__ = ["insert", "remove", "remove_at", "replace", "trim"]

_REPLACE: Final = "update list_items set item = ?3 where list_id = ?1 and position = ?2"


def replace(connection: Connection, now: int, key: str, index: int, item: str) -> bool:
    """Replace the item at `index`, negative from the end; return whether there is one."""
    with Atomic(connection):
        found = find(connection, now, key, "set an item of")
        size = 0 if found is None else size_of(key, found)
        if found is None or not -size <= index < size:
            return False
        found = unpack(connection, key, found)
        connection.execute(_REPLACE, (found.identity, found.first + index % size, item))
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
        _rewrite(connection, found, at, [item, *items_between(connection, key, found, at, size - 1)])
        return size + 1


def remove(connection: Connection, now: int, key: str, item: object, count: int) -> int:
    """Remove items equal to `item`, at most `count`, from the front or with a negative one the end, with 0 all."""
    with Atomic(connection):
        found = find(connection, now, key, "remove from")
        if found is None:
            return 0
        texts = items_between(connection, key, found, 0, size_of(key, found) - 1)
        matching = [index for index, text in enumerate(texts) if same(_value(key, text), item)]
        gone = set(matching[-count:] if count == 0 else matching[:count] if count > 0 else matching[count:])
        if gone and len(gone) == len(texts):
            keys.remove(connection, now, key)
        elif gone:
            first = min(gone)
            kept = [text for index, text in enumerate(texts) if index > first and index not in gone]
            _rewrite(connection, unpack(connection, key, found), first, kept)
        return len(gone)


def remove_at(connection: Connection, now: int, key: str, index: int) -> None:
    """Remove the item at `index` of a list, where there is one; for the caller's transaction."""
    found = find(connection, now, key, "remove from")
    assert found is not None
    found = unpack(connection, key, found)
    at = index % found.size
    if found.size == 1:
        keys.remove(connection, now, key)
    else:
        _rewrite(connection, found, at, items_between(connection, key, found, at + 1, found.size - 1))


def trim(connection: Connection, now: int, key: str, start: int, stop: int) -> int:
    """Keep the items from `start` to `stop`, as a range counts them; return the new length."""
    with Atomic(connection):
        found = find(connection, now, key, "trim")
        if found is None:
            return 0
        size = size_of(key, found)
        begin, end = bounds(size, start, stop)
        if begin > end:
            if size:
                keys.remove(connection, now, key)
            return 0
        if (begin, end) == (0, size - 1):
            return size
        found = unpack(connection, key, found)
        connection.execute(REMOVE_BETWEEN, (found.identity, found.first, found.first + begin - 1))
        connection.execute(REMOVE_BETWEEN, (found.identity, found.first + end + 1, found.last))
        return end - begin + 1


def _value(key: str, text: str) -> object:
    try:
        return json_decode(text)
    except ValueError as error:
        raise damaged(key, f"an item cannot be read: {error}") from error


def _rewrite(connection: Connection, found: StoredList, begin: int, items: Sequence[str]) -> None:
    """Put items in the place of those from `begin` on."""
    connection.execute(REMOVE_BETWEEN, (found.identity, found.first + begin, found.last))
    rows = ((found.identity, position, item) for position, item in enumerate(items, found.first + begin))
    connection.cursor.executemany(ADD, rows)
