"""Lists: adding and taking at both ends, length and ranges, each O(1) or O(items asked for).

A list that was `set` is one JSON text in its row; the first verb that changes it moves its items to `list_items`,
where each has an integer position and both ends can be found, added to and removed in O(log n). A list that was
pushed is there from its first item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import apsw

from slothstate.engines.listing import bounds, check_item
from slothstate.engines.sqlite import keys, list_rows, returning
from slothstate.engines.sqlite.connection import LIVE, Atomic, Connection, Snapshot, sql
from slothstate.engines.sqlite.list_rows import (
    ADD,
    back,
    find,
    front,
    items_between,
    items_of,
    open_for_change,
    remove_between,
    settle,
    size_of,
    unpack,
)
from slothstate.hints import Final, NamedTuple
from slothstate.native import json_check, json_encode
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, damaged, unreadable

__all__ = [
    "measure",
    "pop",
    "pop_first",
    "pop_many",
    "push",
    "section",
    "shift",
    "shift_first",
    "shift_many",
    "unshift",
]


# The usual case in one statement: a live list in rows, to which one item is added. `or ignore` drops the row when
# there is no such list (a NULL id), and the slow path finds out why. VALUES with subqueries, because SQLite copies an
# `insert … select` from the same table through a temporary one.
_ROWS: Final = f"select id from entries where key = ?2 and value is null and {LIVE}"

# The same for one whose claims are all before its first item, or were.
_CLAIMED_ROWS: Final = f"select id from entries where key = ?2 and value = -1 and kind = 'list' and {LIVE}"

# Of whatever is under the key: `_ROWS` beside them says that it is such a list, and saying it once is quicker.
_ID: Final = "select id from entries where key = ?2"

_LAST: Final = f"select max(position) from list_items where list_id = ({_ID})"

_FIRST: Final = f"select min(position) from list_items where list_id = ({_ID})"

_PUSH: Final = f"""
insert or ignore into list_items (list_id, position, item)
values (({{rows}}), ({_LAST}) + 1, ?3)
returning position - (select min(position) from list_items l where l.list_id = list_items.list_id) + 1
"""

_PUSH_ONE: Final = sql(_PUSH.format(rows=_ROWS))

_PUSH_ONE_CLAIMED: Final = sql(_PUSH.format(rows=_CLAIMED_ROWS))

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

_TAKE: Final = "delete from list_items where list_id = ?1 and position = ?2 returning item"

_REMOVE_ENTRY: Final = "delete from entries where id = ?1"

_TEXT: Final = "select case when count(*) = ?3 - ?2 + 1 then '[' || group_concat(item, ',') || ']' end from"

_SECTION: Final = sql(f"""
{_TEXT} (
  select item
  from list_items
  where list_id = ?1 and position between ?2 and ?3
  order by position
)
""")

_SECTION_BY_RANK: Final = sql(f"""
{_TEXT} (
  select item
  from list_items
  where list_id = ?1
  order by position
  limit ?3 - ?2 + 1
  offset ?2
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
        size = connection.execute(_PUSH_ONE_CLAIMED, (now, key, items[0])).get
        if size is not None:
            return size
    elif not items:
        return list_rows.length(connection, now, key, "push to")
    return _add(connection, now, key, items, at_front=False)


def unshift(connection: Connection, now: int, key: str, items: Sequence[str]) -> int:
    """Add items (JSON texts) to the front of a list, the first of them first of all; else as `push`."""
    if len(items) == 1:
        size: int | None = connection.execute(_UNSHIFT_ONE, (now, key, items[0])).get
        if size is not None:
            return size
    elif not items:
        return list_rows.length(connection, now, key, "unshift to")
    return _add(connection, now, key, items, at_front=True)


def _add(connection: Connection, now: int, key: str, items: Sequence[str], *, at_front: bool) -> int:
    with Atomic(connection):
        found = open_for_change(connection, now, key, "unshift to" if at_front else "push to")
        size = found.size + len(items)
        first = front(connection, found) - len(items) + 1 if at_front else back(connection, found)
        for position, item in enumerate(items, first):
            connection.execute(ADD, (found.identity, position, item))
        if found.mark is not None:
            settle(connection, found.identity, size)
        return size


def pop(connection: Connection, now: int, key: str) -> str | None:
    """Remove the last item and return its JSON text; None if there is none. An emptied list disappears."""
    item = _take_one(connection, now, key, _POP_ONE)
    return _take(connection, now, key, "pop from", last=True) if item is None else item


def shift(connection: Connection, now: int, key: str) -> str | None:
    """Remove the first item and return its JSON text; None if there is none. An emptied list disappears."""
    item = _take_one(connection, now, key, _SHIFT_ONE)
    return _take(connection, now, key, "shift from", last=False) if item is None else item


def pop_first(connection: Connection, now: int, keys: Sequence[str]) -> tuple[str, str] | None:
    """Remove the last item of the first list that has any; return its key and the item's JSON text, or None."""
    return _take_first(connection, now, keys, pop)


def shift_first(connection: Connection, now: int, keys: Sequence[str]) -> tuple[str, str] | None:
    """Remove the first item of the first list that has any; return its key and the item's JSON text, or None."""
    return _take_first(connection, now, keys, shift)


def _take_first(
    connection: Connection, now: int, names: Sequence[str], take: Callable[[Connection, int, str], str | None]
) -> tuple[str, str] | None:
    for key in names:
        # Looked at first: who waits looks often, and must not be in the way of those who write.
        is_there = keys.exists(connection, now, key) or returning.has_due(connection, now, key)
        item = take(connection, now, key) if is_there else None
        if item is not None:
            return key, item
    return None


def pop_many(connection: Connection, now: int, key: str, count: int) -> list[str]:
    """Remove the last `count` items and return their JSON texts, the last one first. An emptied list disappears."""
    return _take_many(connection, now, key, "pop from", -count, -1)[::-1]


def shift_many(connection: Connection, now: int, key: str, count: int) -> list[str]:
    """Remove the first `count` items and return their JSON texts. An emptied list disappears."""
    return _take_many(connection, now, key, "shift from", 0, count - 1)


def _take_many(connection: Connection, now: int, key: str, verb: str, start: int, stop: int) -> list[str]:
    with Atomic(connection):
        found = find(connection, now, key, verb, returning.bring_back)
        # A count of 0: the range would be the whole list.
        if found is None or (start, stop) == (0, -1):
            return []
        begin, end = bounds(size_of(key, found), start, stop)
        if begin > end:
            return []
        found = unpack(connection, key, found)
        items = items_between(connection, key, found, begin, end)
        for item in items:
            check_item(key, item)
        remove_between(connection, found, begin, end)
        settle(connection, found.identity, found.size - len(items))
        return items


class Measured(NamedTuple):
    """How many items a list has, None if the key is missing, and until when.

    `may_have_claims`: the number may change without a commit, when an owner dies; `is_due`: something must be brought
    back before it is known.
    """

    size: int | None
    expires_at_ms: int | None
    may_have_claims: bool
    is_due: bool


def measure(connection: Connection, now: int, key: str) -> Measured:
    """Return the number of items of a list. Raises: `WrongType`."""
    may_have_claims = is_due = False

    def look(connection: Connection, now: int, identity: int) -> bool:
        nonlocal may_have_claims, is_due
        may_have_claims = True
        # Inside `snapshot()` nothing can be written.
        is_due = connection.moment is None and bool(returning.due(connection, now, identity))
        return False

    with Snapshot(connection):
        found = find(connection, now, key, "measure", look)
        size, expires_at_ms = (None, None) if found is None else (size_of(key, found), found.expires_at_ms)
    return Measured(size, expires_at_ms, may_have_claims, is_due)


def section(connection: Connection, now: int, key: str, start: int, stop: int) -> str:
    """Return the items from `start` to `stop` as the JSON text of a list.

    Both are inclusive and count from 0; negative ones count from the end (-1 is the last item), as in Redis' LRANGE.
    """
    with Snapshot(connection):
        found = find(connection, now, key, "read a range of")
        if found is None:
            return EMPTY_LIST
        items = None if found.text is None else items_of(key, found.text)
        size = found.size if items is None else len(items)
        begin, end = bounds(size, start, stop)
        if begin > end:
            return EMPTY_LIST
        if items is not None:
            return json_encode(items[begin : end + 1], key)
        statement, start = (_SECTION_BY_RANK, 0) if found.has_gaps else (_SECTION, found.first)
        try:
            text: str | None = connection.execute(statement, (found.identity, start + begin, start + end)).get
        except UnicodeDecodeError as error:
            raise damaged(key, error) from error
        if text is None:
            raise damaged(key, "items are missing")
        return text


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
        raise unreadable(key, error) from error
    return item


def _take(connection: Connection, now: int, key: str, verb: str, *, last: bool) -> str | None:
    with Atomic(connection):
        found = find(connection, now, key, verb, returning.bring_back)
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
            raise unreadable(key, error) from error
        if found.mark is not None:
            settle(connection, found.identity, found.size - 1)
        elif found.size == 1:
            connection.execute(_REMOVE_ENTRY, (found.identity,))
        return item
