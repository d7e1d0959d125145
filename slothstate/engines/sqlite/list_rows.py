"""Where the items of a list are: in its row as one JSON text, or in `list_items`, with gaps or without.

What is claimed is neither: it keeps its position, which no item takes. `docs/file-format.md` has the three states of a
list in rows. A list that claims made anything but a plain one is put into the right state by `settle` after a change.
"""

from __future__ import annotations

from collections.abc import Callable

from slothstate.engines.sqlite import keys
from slothstate.engines.sqlite.connection import IN_ROWS, LIVE, Connection, sql
from slothstate.errors import WrongType
from slothstate.hints import Any, Final, NamedTuple
from slothstate.native import json_encode
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, as_python, damaged, decoded

__all__ = [
    "ADD",
    "StoredList",
    "back",
    "find",
    "front",
    "items_between",
    "items_of",
    "length",
    "open_for_change",
    "position",
    "remove_between",
    "settle",
    "size_of",
    "unpack",
]


class StoredList(NamedTuple):
    """A list: its JSON text while it is kept in its row, else None, and where its items begin and end.

    `mark` is the value of its row otherwise: None or -1 without gaps, else the number of items.
    """

    identity: int
    text: str | None
    first: int
    last: int
    mark: int | None = None
    expires_at_ms: int | None = None

    @property
    def has_gaps(self) -> bool:
        return self.mark is not None and self.mark >= 0

    @property
    def size(self) -> int:
        return self.mark if self.mark is not None and self.mark >= 0 else self.last - self.first + 1


# The two ends as two scalar subqueries: SQLite answers max() and min() from the index only when each stands alone.
_FIND: Final = sql(f"""
select
  id,
  kind,
  value,
  case when {IN_ROWS} then (select min(position) from list_items where list_id = id) end,
  case when {IN_ROWS} then (select max(position) from list_items where list_id = id) end,
  {LIVE},
  expires_at_ms
from entries
where key = ?2
""")

# A list that is not there, whose row its claims keep.
_HIDDEN: Final = sql(f"""
select id
from entries
where key = ?2 and {IN_ROWS} and exists (select 1 from claims where list_id = id)
""")

_CREATE: Final = "insert into entries (key, kind) values (?1, 'list') on conflict (key) do nothing returning id"

_REVIVE: Final = "update entries set value = -1, expires_at_ms = null where id = ?1"

_HIDE: Final = "update entries set value = -1, expires_at_ms = 0 where id = ?1"

_UNPACK: Final = "update entries set kind = 'list', value = null where id = ?1"

_MARK: Final = "update entries set value = ?2 where id = ?1 and value is not ?2"

_REMOVE_ENTRY: Final = "delete from entries where id = ?1"

ADD: Final = "insert into list_items (list_id, position, item) values (?1, ?2, ?3)"

_REMOVE_ITEMS: Final = "delete from list_items where list_id = ?1"

_REMOVE_BETWEEN: Final = "delete from list_items where list_id = ?1 and position between ?2 and ?3"

_BETWEEN: Final = "select item from list_items where list_id = ?1 and position between ?2 and ?3 order by position"

_BY_RANK: Final = "select item from list_items where list_id = ?1 order by position limit ?3 - ?2 + 1 offset ?2"

_POSITION: Final = "select position from list_items where list_id = ?1 order by position limit 1 offset ?2"

_ENDS: Final = sql("""
select
  (select min(position) from list_items where list_id = ?1),
  (select max(position) from list_items where list_id = ?1),
  (select min(position) from claims where list_id = ?1),
  (select max(position) from claims where list_id = ?1)
""")


def find(
    connection: Connection,
    now: int,
    key: str,
    verb: str,
    bring_back: Callable[[Connection, int, int], bool] | None = None,
) -> StoredList | None:
    """Return the live list of a key, None if the key is missing. An empty table counts as an empty list.

    `bring_back` is called first with the identity of a list of which there may be claims; it returns whether it changed
    anything.
    """
    found = connection.execute(_FIND, (now, key)).get
    if found is None:
        return None
    identity, kind, value, first, last, is_live, expires_at_ms = found
    if bring_back is not None and kind == "list" and isinstance(value, int) and bring_back(connection, now, identity):
        return find(connection, now, key, verb)
    if not is_live:
        return None
    if kind != "list" and not (kind == "table" and value == EMPTY_TABLE):
        raise WrongType.of(verb, key, "list", kind)
    if isinstance(value, str):
        return StoredList(identity, value, 0, -1, None, expires_at_ms)
    if first is None:
        raise damaged(key, "items are missing")
    return StoredList(identity, None, first, last, value, expires_at_ms)


def open_for_change(connection: Connection, now: int, key: str, verb: str) -> StoredList:
    """Return the list of a key with its items in rows, a new one if the key is missing. Raises: `WrongType`.

    A new one goes on behind what is claimed of the former, whose row it takes over.
    """
    found = find(connection, now, key, verb)
    if found is not None:
        return unpack(connection, key, found)
    # The usual case; else there is a row under the key that nobody sees: it has expired, or its claims keep it.
    identity = connection.execute(_CREATE, (key,)).get
    if identity is not None:
        return StoredList(identity, None, 0, -1)
    identity = connection.execute(_HIDDEN, (now, key)).get
    if identity is None:
        keys.remove(connection, now, key)
        return StoredList(connection.execute(_CREATE, (key,)).get, None, 0, -1)
    revive(connection, identity)
    last = connection.execute(_ENDS, (identity,)).get[3]
    return StoredList(identity, None, last + 1, last, -1)


def revive(connection: Connection, identity: int) -> None:
    """Let a list that is not there exist, for an item that is about to come; it has no TTL, and nothing else in it."""
    connection.execute(_REMOVE_ITEMS, (identity,))
    connection.execute(_REVIVE, (identity,))


def settle(connection: Connection, identity: int, size: int) -> None:
    """Bring a list in rows into the state that its items, `size` of them, and its claims ask for.

    An emptied list disappears; if something of it is claimed, its row stays.
    """
    first, last, first_claim, last_claim = connection.execute(_ENDS, (identity,)).get
    if not size:
        connection.execute(_REMOVE_ENTRY if first_claim is None else _HIDE, (identity,))
    elif last - first + 1 != size or (last_claim is not None and last_claim > first):
        connection.execute(_MARK, (identity, size))
    else:
        connection.execute(_MARK, (identity, None if first_claim is None else -1))


def front(connection: Connection, found: StoredList) -> int:
    """Return the position before everything of a list, claims too."""
    if found.mark is None:
        return found.first - 1
    first_claim = connection.execute(_ENDS, (found.identity,)).get[2]
    return (found.first if first_claim is None else min(found.first, first_claim)) - 1


def back(connection: Connection, found: StoredList) -> int:
    """Return the position behind everything of a list, claims too."""
    if not found.has_gaps:
        return found.last + 1
    last_claim = connection.execute(_ENDS, (found.identity,)).get[3]
    return (found.last if last_claim is None else max(found.last, last_claim)) + 1


def position(connection: Connection, found: StoredList, index: int) -> int:
    """Return the position of an item in rows, counted from 0."""
    if not found.has_gaps:
        return found.first + index
    at: int = connection.execute(_POSITION, (found.identity, index)).get
    return at


def remove_between(connection: Connection, found: StoredList, begin: int, end: int) -> None:
    """Remove the items in rows from `begin` to `end`, both from 0; the list has to be settled then."""
    if begin <= end:
        span = position(connection, found, begin), position(connection, found, end)
        connection.execute(_REMOVE_BETWEEN, (found.identity, *span))


def items_between(connection: Connection, key: str, found: StoredList, begin: int, end: int) -> list[str]:
    """Return the JSON texts of the items of a list from `begin` to `end`, both from 0."""
    if found.text is not None:
        return [json_encode(item, "item") for item in items_of(key, found.text)[begin : end + 1]]
    start = 0 if found.has_gaps else found.first
    try:
        rows = connection.execute(
            _BY_RANK if found.has_gaps else _BETWEEN, (found.identity, start + begin, start + end)
        ).fetchall()
    except UnicodeDecodeError as error:
        raise damaged(key, error) from error
    if len(rows) != max(0, end - begin + 1):
        raise damaged(key, "items are missing")
    return [item for (item,) in rows]


def length(connection: Connection, now: int, key: str, verb: str = "measure") -> int:
    """Return the number of items, 0 if the key is missing. Raises: `WrongType`."""
    found = find(connection, now, key, verb)
    return 0 if found is None else size_of(key, found)


def size_of(key: str, found: StoredList) -> int:
    """Return the number of items of a list, wherever they are."""
    return found.size if found.text is None else len(items_of(key, found.text))


def items_of(key: str, text: str) -> list[Any]:
    """Return the items of a list that is kept in its row; an empty table counts as an empty list."""
    items: list[Any] = [] if text == EMPTY_TABLE else decoded(as_python, key, "list", text)
    return items


def unpack(connection: Connection, key: str, found: StoredList) -> StoredList:
    """Move the items of a list that is kept in its row to `list_items`; return the list as it is then."""
    if found.text is None:
        return found
    items = items_of(key, found.text or EMPTY_LIST)
    connection.execute(_UNPACK, (found.identity,))
    connection.cursor.executemany(
        ADD, ((found.identity, at, json_encode(item, "item")) for at, item in enumerate(items))
    )
    return StoredList(found.identity, None, 0, len(items) - 1)
