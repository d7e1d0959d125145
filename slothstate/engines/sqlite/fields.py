"""Fields: parts of a table or list, read and written without building the value.

A value that is one JSON text is written anew with the part changed; of a list in rows only the item is touched.
"""

from __future__ import annotations

from slothstate import fields
from slothstate.engines.sqlite import edits, keys, list_rows
from slothstate.engines.sqlite.connection import LIVE, Atomic, Connection, Snapshot
from slothstate.engines.sqlite.operations import VERBS, reading, writing_key
from slothstate.fields import Path
from slothstate.hints import TYPE_CHECKING, Final, NamedTuple
from slothstate.native import json_encode
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, Kind, check_levels, damaged, verify

if TYPE_CHECKING:
    from slothstate.engines.sqlite.lender import Runner

__all__ = ["FieldOperations", "delete", "get", "increment", "put"]

_FIND: Final = f"select id, kind, value from entries where key = ?2 and {LIVE}"

_WRITE: Final = "update entries set value = ?2 where id = ?1"

_WRITE_ITEM: Final = "update list_items set item = ?3 where list_id = ?1 and position = ?2"


class _Text(NamedTuple):
    """A JSON text, the path inside it, and the one that led to it; where it is: a row, and in a list a position."""

    text: str
    path: Path
    base: Path
    where: tuple[int, ...]

    def write(self, connection: Connection, text: str) -> None:
        connection.execute(_WRITE if len(self.where) == 1 else _WRITE_ITEM, (*self.where, text))


def get(connection: Connection, now: int, key: str, path: Path) -> str | None:
    """Return the JSON text that a path leads to, None if there is nothing or it is not reached."""
    row = _row(connection, now, key)
    if row is None or row[1] != "list" or isinstance(row[2], str):
        # All of it was read by one statement, which is of one moment.
        found = _locate(connection, now, key, path, row)[1]
    else:
        with Snapshot(connection):
            found = _find(connection, now, key, path)[1]
    return fields.part(key, found.text, found.path) if isinstance(found, _Text) else None


def put(connection: Connection, now: int, key: str, path: Path, value: str) -> None:
    """Replace what a path leads to, or add it with the tables and the key it needs. The expiry stays."""
    with Atomic(connection):
        _put(connection, now, key, path, value, "set a field of")


def increment(connection: Connection, now: int, key: str, path: Path, delta: int | float) -> int | float:
    """Add to the number that a path leads to, a missing one is 0; return the sum."""
    with Atomic(connection):
        total = fields.add(key, get(connection, now, key, path), path, delta)
        _put(connection, now, key, path, json_encode(total, "sum"), "increment a field of")
        return total


def _put(connection: Connection, now: int, key: str, path: Path, value: str, verb: str) -> None:
    kind, found = _find(connection, now, key, path)
    if kind is None:
        text = fields.put(key, EMPTY_TABLE, path, value, verb) if isinstance(path[0], str) else None
        if text is None:
            raise fields.outside(key, path, 0)
        keys.put(connection, now, key, "table", text, None)
    elif isinstance(found, _Text):
        text = fields.put(key, found.text, found.path, value, verb, base=found.base) if found.path else value
        if found.base:
            check_levels(text, "value")
        found.write(connection, text)
    elif found == "outside":
        raise fields.outside(key, path, 0)
    else:
        raise fields.wrong_kind(verb, key, path, 0, kind)


def delete(connection: Connection, now: int, key: str, path: Path) -> bool:
    """Delete the field or item that a path leads to; return whether there was one. An emptied list disappears."""
    with Atomic(connection):
        kind, found = _find(connection, now, key, path)
        if kind is None or found == "outside":
            return False
        if not isinstance(found, _Text):
            raise fields.wrong_kind("delete a field of", key, path, 0, kind)
        if not found.path:
            edits.remove_at(connection, now, key, int(path[0]))
            return True
        text = fields.cut(key, found.text, found.path, base=found.base)
        if text is None:
            return False
        if text == EMPTY_LIST and len(path) == 1:
            keys.remove(connection, now, key)
        else:
            found.write(connection, text)
        return True


def _find(connection: Connection, now: int, key: str, path: Path) -> tuple[Kind | None, _Text | str]:
    """Return the kind of a live key, None if it is missing, and the text that a path is about.

    For want of one "other", when the value is of a kind that the path does not lead into, or "outside" the list.
    """
    return _locate(connection, now, key, path, _row(connection, now, key))


def _row(connection: Connection, now: int, key: str) -> tuple[int, Kind, str | None] | None:
    """Return id, kind and column value of a live key."""
    try:
        row: tuple[int, Kind, str | None] | None = connection.execute(_FIND, (now, key)).get
    except UnicodeDecodeError as error:
        raise damaged(key, error) from error
    return row


def _locate(
    connection: Connection, now: int, key: str, path: Path, row: tuple[int, Kind, str | None] | None
) -> tuple[Kind | None, _Text | str]:
    """Do what `_find` does with the row of a key."""
    if row is None:
        return None, "other"
    identity, kind, value = row
    if kind != "list" or isinstance(value, str):
        verify(key, kind, value)
        assert value is not None
        return kind, _Text(value, path, (), (identity,)) if kind in ("table", "list") else "other"
    index = path[0]
    if isinstance(index, str):
        return kind, "other"
    found = list_rows.find(connection, now, key, "look into")
    assert found is not None
    if not -found.size <= index < found.size:
        return kind, "outside"
    index %= found.size
    (item,) = list_rows.items_between(connection, key, found, index, index)
    return kind, _Text(item, path[1:], path[:1], (identity, list_rows.position(connection, found, index)))


VERBS.update({get: "get_field", put: "set_field", delete: "delete_field", increment: "increment_field"})


class FieldOperations:
    """`protocol.Fields`."""

    def __init__(self, store: Runner) -> None:
        self.get = reading(store, get)
        self.put = writing_key(store, put)
        self.delete = writing_key(store, delete)
        self.increment = writing_key(store, increment)
