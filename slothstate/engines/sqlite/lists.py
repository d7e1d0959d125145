"""Lists: adding and taking at both ends, length and ranges, each O(1) or O(items asked for).

A list that was `set` is one JSON text in its row; the first verb that changes it moves its items to `list_items`,
where each has an integer position and both ends can be found, added to and removed in O(log n). A list that was
pushed is there from its first item.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

import apsw

from slothstate.engines.sqlite import keys
from slothstate.engines.sqlite.connection import LIVE, Atomic, Connection, Snapshot, sql
from slothstate.errors import StateCorrupt, WrongType
from slothstate.native import json_check, json_encode
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, as_python, damaged, decoded

__all__ = [
    "ADD",
    "REMOVE_BETWEEN",
    "StoredList",
    "bounds",
    "find",
    "items_between",
    "length",
    "measure",
    "open_for_change",
    "pop",
    "pop_many",
    "push",
    "section",
    "shift",
    "shift_many",
    "size_of",
    "unpack",
    "unshift",
]


class StoredList(NamedTuple):
    """A live list: its JSON text while it is kept in its row, else None, and where its items begin and end."""

    identity: int
    text: str | None
    first: int
    last: int
    expires_at_ms: int | None = None

    @property
    def size(self) -> int:
        return self.last - self.first + 1


# The two ends as two scalar subqueries: SQLite answers max() and min() from the index only when each stands alone.
_FIND: Final = sql(f"""
select
  id,
  kind,
  value,
  case when value is null then (select min(position) from list_items where list_id = id) end,
  case when value is null then (select max(position) from list_items where list_id = id) end,
  expires_at_ms
from entries
where key = ?2 and {LIVE}
""")

# The usual case in one statement: a live list in rows, to which one item is added. `or ignore` drops the row when
# there is no such list (a NULL id), and the slow path finds out why. VALUES with subqueries, because SQLite copies an
# `insert … select` from the same table through a temporary one.
_ROWS: Final = f"select id from entries where key = ?2 and value is null and {LIVE}"

# Of whatever is under the key: `_ROWS` beside them says that it is such a list, and saying it once is quicker.
_ID: Final = "select id from entries where key = ?2"

_LAST: Final = f"select max(position) from list_items where list_id = ({_ID})"

_FIRST: Final = f"select min(position) from list_items where list_id = ({_ID})"

_PUSH_ONE: Final = sql(f"""
insert or ignore into list_items (list_id, position, item)
values (({_ROWS}), ({_LAST}) + 1, ?3)
returning position - (select min(position) from list_items l where l.list_id = list_items.list_id) + 1
""")

# A list's only item is left to the slow path, which also removes the emptied list.
_TAKE_ONE: Final = f"""
delete from list_items
where list_id = ({_ROWS}) and position = ({{end}})
and exists (
  select 1
  from list_items l
  where l.list_id = list_items.list_id and l.position {{beside}} list_items.position
)
returning item
"""

_POP_ONE: Final = sql(_TAKE_ONE.format(end=_LAST, beside="<"))

_SHIFT_ONE: Final = sql(_TAKE_ONE.format(end=_FIRST, beside=">"))

_UNSHIFT_ONE: Final = sql(f"""
insert or ignore into list_items (list_id, position, item)
values (({_ROWS}), ({_FIRST}) - 1, ?3)
returning (select max(position) from list_items l where l.list_id = list_items.list_id) - position + 1
""")

_CREATE: Final = "insert into entries (key, kind) values (?1, 'list') returning id"

_UNPACK: Final = "update entries set kind = 'list', value = null where id = ?1"

ADD: Final = "insert into list_items (list_id, position, item) values (?1, ?2, ?3)"

_TAKE: Final = "delete from list_items where list_id = ?1 and position = ?2 returning item"

REMOVE_BETWEEN: Final = "delete from list_items where list_id = ?1 and position between ?2 and ?3"

_BETWEEN: Final = "select item from list_items where list_id = ?1 and position between ?2 and ?3 order by position"

_REMOVE_ENTRY: Final = "delete from entries where id = ?1"

_SECTION: Final = sql("""
select case when count(*) = ?3 - ?2 + 1 then '[' || group_concat(item, ',') || ']' end
from (
  select item
  from list_items
  where list_id = ?1 and position between ?2 and ?3
  order by position
)
""")


def push(connection: Connection, now: int, key: str, items: Sequence[str]) -> int:
    """Add items (JSON texts) to the end of a list, which is created if the key is missing; return the new length.

    Raises: `WrongType` unless the key holds a list or an empty table.
    """
    if len(items) == 1:
        size: int | None = connection.execute(_PUSH_ONE, (now, key, items[0])).get
        if size is not None:
            return size
    elif not items:
        return length(connection, now, key)
    with Atomic(connection):
        found = open_for_change(connection, now, key, "push to")
        position = found.last
        for item in items:
            position += 1
            connection.execute(ADD, (found.identity, position, item))
        return position - found.first + 1


def unshift(connection: Connection, now: int, key: str, items: Sequence[str]) -> int:
    """Add items (JSON texts) to the front of a list, the first of them first of all; else as `push`."""
    if len(items) == 1:
        size: int | None = connection.execute(_UNSHIFT_ONE, (now, key, items[0])).get
        if size is not None:
            return size
    elif not items:
        return length(connection, now, key)
    with Atomic(connection):
        found = open_for_change(connection, now, key, "unshift to")
        first = found.first - len(items)
        for position, item in enumerate(items, first):
            connection.execute(ADD, (found.identity, position, item))
        return found.last - first + 1


def open_for_change(connection: Connection, now: int, key: str, verb: str) -> StoredList:
    """Return the list of a key with its items in rows, a new one if the key is missing. Raises: `WrongType`."""
    found = find(connection, now, key, verb)
    if found is None:
        keys.remove(connection, now, key)
        return StoredList(connection.execute(_CREATE, (key,)).get, None, 0, -1)
    return unpack(connection, key, found)


def pop(connection: Connection, now: int, key: str) -> str | None:
    """Remove the last item and return its JSON text; None if there is none. An emptied list disappears."""
    item = _take_one(connection, now, key, _POP_ONE)
    return _take(connection, now, key, "pop from", last=True) if item is None else item


def shift(connection: Connection, now: int, key: str) -> str | None:
    """Remove the first item and return its JSON text; None if there is none. An emptied list disappears."""
    item = _take_one(connection, now, key, _SHIFT_ONE)
    return _take(connection, now, key, "shift from", last=False) if item is None else item


def pop_many(connection: Connection, now: int, key: str, count: int) -> list[str]:
    """Remove the last `count` items and return their JSON texts, the last one first. An emptied list disappears."""
    return _take_many(connection, now, key, "pop from", -count, -1)[::-1]


def shift_many(connection: Connection, now: int, key: str, count: int) -> list[str]:
    """Remove the first `count` items and return their JSON texts. An emptied list disappears."""
    return _take_many(connection, now, key, "shift from", 0, count - 1)


def _take_many(connection: Connection, now: int, key: str, verb: str, start: int, stop: int) -> list[str]:
    with Atomic(connection):
        found = find(connection, now, key, verb)
        # A count of 0: the range would be the whole list.
        if found is None or (start, stop) == (0, -1):
            return []
        begin, end = bounds(size_of(key, found), start, stop)
        if begin > end:
            return []
        found = unpack(connection, key, found)
        items = items_between(connection, key, found, begin, end)
        try:
            for item in items:
                json_check(item)
        except ValueError as error:
            raise _unreadable(key, error) from error
        if len(items) == found.size:
            keys.remove(connection, now, key)
        else:
            connection.execute(REMOVE_BETWEEN, (found.identity, found.first + begin, found.first + end))
        return items


def bounds(size: int, start: int, stop: int) -> tuple[int, int]:
    """Return where a range of a list of `size` items begins and ends, both from 0; empty if the first is greater."""
    return max(0, start + size if start < 0 else start), min(size - 1, stop + size if stop < 0 else stop)


def items_between(connection: Connection, key: str, found: StoredList, begin: int, end: int) -> list[str]:
    """Return the JSON texts of the items of a list from `begin` to `end`, both from 0."""
    if found.text is not None:
        return [json_encode(item, "item") for item in _items(key, found.text)[begin : end + 1]]
    try:
        rows = connection.execute(_BETWEEN, (found.identity, found.first + begin, found.first + end)).fetchall()
    except UnicodeDecodeError as error:
        raise damaged(key, error) from error
    if len(rows) != max(0, end - begin + 1):
        raise damaged(key, "items are missing")
    return [item for (item,) in rows]


def length(connection: Connection, now: int, key: str) -> int:
    """Return the number of items, 0 if the key is missing. Raises: `WrongType`."""
    found = measure(connection, now, key)
    return 0 if found is None else found[0]


def measure(connection: Connection, now: int, key: str) -> tuple[int, int | None] | None:
    """Return the number of items and `expires_at_ms`, None if the key is missing. Raises: `WrongType`."""
    found = find(connection, now, key, "measure")
    return None if found is None else (size_of(key, found), found.expires_at_ms)


def size_of(key: str, found: StoredList) -> int:
    """Return the number of items of a list, wherever they are."""
    return found.size if found.text is None else len(_items(key, found.text))


def section(connection: Connection, now: int, key: str, start: int, stop: int) -> str:
    """Return the items from `start` to `stop` as the JSON text of a list.

    Both are inclusive and count from 0; negative ones count from the end (-1 is the last item), as in Redis' LRANGE.
    """
    with Snapshot(connection):
        found = find(connection, now, key, "read a range of")
        if found is None:
            return EMPTY_LIST
        items = None if found.text is None else _items(key, found.text)
        size = found.size if items is None else len(items)
        begin, end = bounds(size, start, stop)
        if begin > end:
            return EMPTY_LIST
        if items is not None:
            return json_encode(items[begin : end + 1], key)
        try:
            text: str | None = connection.execute(
                _SECTION, (found.identity, found.first + begin, found.first + end)
            ).get
        except UnicodeDecodeError as error:
            raise damaged(key, error) from error
        if text is None:
            raise damaged(key, "items are missing")
        return text


def find(connection: Connection, now: int, key: str, verb: str) -> StoredList | None:
    """Return the live list of a key, None if the key is missing. An empty table counts as an empty list."""
    found = connection.execute(_FIND, (now, key)).get
    if found is None:
        return None
    identity, kind, text, first, last, expires_at_ms = found
    if kind != "list" and not (kind == "table" and text == EMPTY_TABLE):
        raise WrongType.of(verb, key, "list", kind)
    if text is None and first is None:
        raise damaged(key, "items are missing")
    if text is not None:
        first, last = 0, -1
    return StoredList(identity, text, first, last, expires_at_ms)


def _items(key: str, text: str) -> list[Any]:
    """Return the items of a list that is kept in its row; an empty table counts as an empty list."""
    items: list[Any] = [] if text == EMPTY_TABLE else decoded(as_python, key, "list", text)
    return items


def unpack(connection: Connection, key: str, found: StoredList) -> StoredList:
    """Move the items of a list that is kept in its row to `list_items`; return the list as it is then."""
    if found.text is None:
        return found
    items = _items(key, found.text or EMPTY_LIST)
    connection.execute(_UNPACK, (found.identity,))
    connection.cursor.executemany(
        ADD, ((found.identity, position, json_encode(item, "item")) for position, item in enumerate(items))
    )
    return StoredList(found.identity, None, 0, len(items) - 1)


def _take_one(connection: Connection, now: int, key: str, statement: str) -> str | None:
    """Take an item by one statement and return its JSON text; None where it takes more than that.

    An item that cannot be read stays where it is, to be looked at. Raises: `StateCorrupt`.
    """
    if connection.depth:
        # What undoes the statement below would undo the caller's transaction with it.
        return None
    item: str | None = None
    try:
        for (item,) in connection.execute(statement, (now, key)):
            json_check(item)
    except ValueError as error:
        # It has returned its row and is not committed; run to its end or let go of, it would be.
        connection.db.interrupt()
        with suppress(apsw.InterruptError):
            connection.cursor.fetchall()
        raise _unreadable(key, error) from error
    return item


def _take(connection: Connection, now: int, key: str, verb: str, *, last: bool) -> str | None:
    with Atomic(connection):
        found = find(connection, now, key, verb)
        if found is None:
            return None
        if found.text in (EMPTY_LIST, EMPTY_TABLE):
            return None
        found = unpack(connection, key, found)
        try:
            item: str = connection.execute(_TAKE, (found.identity, found.last if last else found.first)).get
            # Before it is gone for good: a damaged item must be there to look at.
            json_check(item)
        except ValueError as error:
            raise _unreadable(key, error) from error
        if found.size == 1:
            connection.execute(_REMOVE_ENTRY, (found.identity,))
        return item


def _unreadable(key: str, error: ValueError) -> StateCorrupt:
    return damaged(key, f"an item cannot be read: {error}")
