"""Keys and their values: set, get, delete, compare and swap, time to live, listing.

Every function takes `(connection, now, ...)`. A key whose row is expired is treated as absent by each of them, and a
write to it starts from nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from slothstate.engines.protocol import NO_KEY, NO_TTL, Row, When
from slothstate.engines.sqlite.connection import EXPIRED, IN_ROWS, LIVE, NOT_IN_ROWS, Atomic, Connection, Snapshot, sql
from slothstate.hints import Final
from slothstate.native import row_getter
from slothstate.values import KINDS, Kind, Stored, as_python, damaged, decoded, verify

__all__ = [
    "copy",
    "count",
    "delete",
    "delete_scalar",
    "delete_text",
    "exists",
    "get",
    "get_many",
    "insert",
    "persist",
    "put",
    "put_many",
    "put_when",
    "remaining_ms",
    "remove",
    "rename",
    "set_expiry",
    "swap_scalar",
    "swap_text",
    "take",
]

# The guard leaves a list that is kept in rows to the slow path, which removes its items and ends its claims. A
# statement for each kind, because binding one more text costs as much as a step of SQLite; and without the names of all
# columns, because the text costs too (see `sql`). A list in a row is known as such only to those that put a list: for
# the others that would be a hundredth of a set, for what happens to few keys more than once.
_PUT_EXPIRING: Final[dict[Kind, str]] = {
    kind: sql(f"""
        insert into entries
        values (null, ?1, '{kind}', ?2, ?3)
        on conflict (key) do update
        set kind = '{kind}', value = ?2, expires_at_ms = ?3
        where {NOT_IN_ROWS if kind == "list" else "kind<>'list'"}
    """)
    for kind in KINDS
}

_PUT: Final = {kind: statement.replace("?3", "null") for kind, statement in _PUT_EXPIRING.items()}

_INSERT: Final = sql(f"""
insert into entries (key, kind, value, expires_at_ms)
values (?2, ?3, ?4, ?5)
on conflict (key) do update
set kind = ?3, value = ?4, expires_at_ms = ?5
where {NOT_IN_ROWS} and {EXPIRED}
""")

_GET: Final = "select kind, value, expires_at_ms from entries where key = ?1"

# The same for a list in rows: one statement and therefore one snapshot. A list that misses items becomes NULL, which
# `verify` refuses. Not the only statement, because apsw and SQLite take half as long again for it as for the short one.
_GET_LIST: Final = sql(f"""
select
  kind,
  iif({IN_ROWS}, (
    select case
      when count(*) = iif(entries.value >= 0, entries.value, max(position) - min(position) + 1)
      then '[' || group_concat(item, ',') || ']'
    end
    from (select position, item from list_items where list_id = entries.id order by position)
  ), value),
  expires_at_ms
from entries
where key = ?1
""")

_EXISTS: Final = f"select 1 from entries where key = ?2 and {LIVE}"

_EXPIRY: Final = f"select expires_at_ms from entries where key = ?2 and {LIVE}"

_REMOVE: Final = f"delete from entries where key = ?2 returning id, iif({IN_ROWS}, typeof(value), null), {LIVE}"

_REMOVE_ITEMS: Final = "delete from list_items where list_id = ?1"

_END_CLAIMS: Final = "delete from claims where list_id = ?1"

_IS_WATCHED: Final = "select 1 from sqlite_schema where type = 'trigger'"

_SWAP_SCALAR: Final = sql(f"""
update entries
set kind = ?5, value = ?6, expires_at_ms = ifnull(?7, expires_at_ms)
where key = ?2 and kind = ?3 and value = ?4 and {LIVE}
""")

_REPLACE: Final = """
update entries
set kind = ?2, value = ?3, expires_at_ms = ifnull(?4, expires_at_ms)
where key = ?1
returning id
"""

_DELETE_SCALAR: Final = f"delete from entries where key = ?2 and kind = ?3 and value = ?4 and {LIVE}"

_RENAME: Final = "update entries set key = ?2 where key = ?1"

# Without the claims, it has no claims before its first item.
_COPY: Final = f"""
insert into entries (key, kind, value, expires_at_ms)
select ?2, kind, iif(kind = 'list' and value = -1, null, value), expires_at_ms
from entries
where key = ?1
returning id, {IN_ROWS}
"""

_COPY_ITEMS: Final = """
insert into list_items (list_id, position, item)
select ?2, position, item
from list_items
where list_id = (select id from entries where key = ?1)
"""

_SET_EXPIRY: Final = f"update entries set expires_at_ms = ?3 where key = ?2 and {LIVE}"

_PERSIST: Final = f"update entries set expires_at_ms = null where key = ?2 and expires_at_ms is not null and {LIVE}"

_COUNT: Final = f"select count(*) from entries where {LIVE}"


def _get_any(connection: Connection, now: int, key: str) -> Row | None:
    """Return any live row of a key."""
    try:
        found = connection.execute(_GET, (key,)).get
        if found is not None and found[0] == "list" and not isinstance(found[1], str):
            found = connection.execute(_GET_LIST, (key,)).get
    except UnicodeDecodeError as error:
        raise damaged(key, error) from error
    if found is None:
        return None
    row: Row = found
    kind, stored, expires_at_ms = row
    if expires_at_ms is not None and expires_at_ms <= now:
        return None
    verify(key, kind, stored)
    return row


get: Final[Callable[[Connection, int, str], Row | None]] = row_getter(_GET, _get_any)
"""`get(connection, now, key)`: the live row of a key, None if it is missing or expired.

Raises: `StateCorrupt` for a damaged row.
"""


def get_many(connection: Connection, now: int, keys: Iterable[str]) -> dict[str, Row]:
    """Return the live rows of the keys that have one, from one snapshot."""
    with Snapshot(connection):
        rows = {key: get(connection, now, key) for key in keys}
    return {key: row for key, row in rows.items() if row is not None}


def exists(connection: Connection, now: int, key: str) -> bool:
    """Return whether the key is there."""
    return connection.execute(_EXISTS, (now, key)).get is not None


def put(connection: Connection, now: int, key: str, kind: Kind, stored: Stored, ttl_ms: int | None) -> None:
    """Set value, kind and time to live (None: none) of a key."""
    if ttl_ms is None:
        connection.execute(_PUT[kind], (key, stored))
    else:
        connection.execute(_PUT_EXPIRING[kind], (key, stored, now + ttl_ms))
    if not connection.changes():
        # A list kept in rows, whose items must go too.
        with Atomic(connection):
            remove(connection, now, key)
            put(connection, now, key, kind, stored, ttl_ms)


def put_when(
    connection: Connection,
    now: int,
    key: str,
    kind: Kind,
    stored: Stored,
    ttl_ms: int | None,
    when: When | None,
    keep_ttl: bool,
) -> bool:
    """Set a key if it is missing, or if it is live, as `when` says; return whether it was. See `protocol.Entries`."""
    with Atomic(connection):
        left_ms = remaining_ms(connection, now, key)
        if when is not None and (when == "present") != (left_ms != NO_KEY):
            return False
        put(connection, now, key, kind, stored, left_ms if keep_ttl and left_ms > 0 else ttl_ms)
        return True


def put_many(
    connection: Connection, now: int, rows: Mapping[Kind, Sequence[tuple[str, Stored]]], ttl_ms: int | None
) -> None:
    """Set many keys, given by kind, in one transaction."""
    with Atomic(connection):
        # What the triggers write counts as a change, too: then each row is asked for by itself.
        is_watched = bool(connection.execute(_IS_WATCHED).get)
        for kind, group in rows.items():
            if is_watched or not _put_all(connection, now, kind, group, ttl_ms):
                for key, stored in group:
                    put(connection, now, key, kind, stored, ttl_ms)


def _put_all(
    connection: Connection, now: int, kind: Kind, group: Sequence[tuple[str, Stored]], ttl_ms: int | None
) -> bool:
    """Set keys by one statement; return whether it was right for all of them: none is a list kept in rows."""
    before = connection.db.total_changes()
    if ttl_ms is None:
        connection.cursor.executemany(_PUT[kind], group)
    else:
        expires_at_ms = now + ttl_ms
        connection.cursor.executemany(_PUT_EXPIRING[kind], [(*row, expires_at_ms) for row in group])
    return connection.db.total_changes() - before == len(group)


def remove(connection: Connection, now: int, key: str) -> bool:
    """Delete a key's row, items and claims inside the caller's transaction; return whether it was live or claimed."""
    found = connection.execute(_REMOVE, (now, key)).get
    if found is None:
        return False
    identity, in_rows, live = found
    if in_rows is not None:
        connection.execute(_REMOVE_ITEMS, (identity,))
    if in_rows == "integer":
        connection.execute(_END_CLAIMS, (identity,))
        return bool(live) or connection.changes() > 0
    return bool(live)


def delete(connection: Connection, now: int, key: str) -> bool:
    """Delete a key; return whether it was there, or what was claimed of it."""
    with Atomic(connection):
        return remove(connection, now, key)


def take(connection: Connection, now: int, key: str) -> Row | None:
    """Delete a key and return the live row it had, None if there was none. A damaged one stays to be looked at."""
    with Atomic(connection):
        row = get(connection, now, key)
        if row is not None:
            decoded(as_python, key, row[0], row[1])
            remove(connection, now, key)
        return row


def rename(connection: Connection, now: int, key: str, to: str) -> bool:
    """Give a live key another name, in place of what that one held; return whether there is such a key."""
    with Atomic(connection):
        if not exists(connection, now, key):
            return False
        if key != to:
            remove(connection, now, to)
            connection.execute(_RENAME, (key, to))
        return True


def copy(connection: Connection, now: int, key: str, to: str) -> bool:
    """Put what a live key holds into another, in place of what that held; return whether there is such a key."""
    with Atomic(connection):
        if not exists(connection, now, key):
            return False
        if key != to:
            remove(connection, now, to)
            identity, in_rows = connection.execute(_COPY, (key, to)).get
            if in_rows:
                connection.execute(_COPY_ITEMS, (key, identity))
        return True


def insert(connection: Connection, now: int, key: str, kind: Kind, stored: Stored, ttl_ms: int | None) -> bool:
    """Set a key that is missing or expired; return whether it was."""
    connection.execute(_INSERT, (now, key, kind, stored, _end(now, ttl_ms)))
    if connection.changes():
        return True
    with Atomic(connection):
        if exists(connection, now, key):
            return False
        remove(connection, now, key)
        put(connection, now, key, kind, stored, ttl_ms)
        return True


def _end(now: int, ttl_ms: int | None) -> int | None:
    return None if ttl_ms is None else now + ttl_ms


def swap_scalar(
    connection: Connection, now: int, key: str, old: tuple[Kind, Stored], new: tuple[Kind, Stored], ttl_ms: int | None
) -> bool:
    """Replace the value of a live key that is a scalar equal to another; without `ttl_ms` its expiry stays.

    SQLite compares in one statement: to it, too, 1 equals 1.0, and text is bytes.
    """
    connection.execute(_SWAP_SCALAR, (now, key, *old, *new, _end(now, ttl_ms)))
    return bool(connection.changes())


def swap_text(
    connection: Connection, now: int, key: str, old: str, new: tuple[Kind, Stored], ttl_ms: int | None
) -> bool:
    """Replace the table or list of a live key whose JSON text is `old`; without `ttl_ms` its expiry stays."""
    with Atomic(connection):
        if not _has_text(connection, now, key, old):
            return False
        identity = connection.execute(_REPLACE, (key, *new, _end(now, ttl_ms))).get
        connection.execute(_REMOVE_ITEMS, (identity,))
        connection.execute(_END_CLAIMS, (identity,))
        return True


def delete_scalar(connection: Connection, now: int, key: str, old: tuple[Kind, Stored]) -> bool:
    """Delete a live key whose value is a scalar equal to another; return whether it did."""
    connection.execute(_DELETE_SCALAR, (now, key, *old))
    return bool(connection.changes())


def delete_text(connection: Connection, now: int, key: str, old: str) -> bool:
    """Delete a live key that holds a table or list whose JSON text is `old`; return whether it did."""
    with Atomic(connection):
        return _has_text(connection, now, key, old) and remove(connection, now, key)


def _has_text(connection: Connection, now: int, key: str, text: str) -> bool:
    row = get(connection, now, key)
    return row is not None and row[0] in ("table", "list") and row[1] == text


def set_expiry(connection: Connection, now: int, key: str, ttl_ms: int) -> bool:
    """Give a live key a new time to live; return whether there is such a key."""
    connection.execute(_SET_EXPIRY, (now, key, now + ttl_ms))
    return bool(connection.changes())


def remaining_ms(connection: Connection, now: int, key: str) -> int:
    """Return the milliseconds a key has left, `NO_TTL` or `NO_KEY`."""
    found = connection.execute(_EXPIRY, (now, key)).fetchall()
    if not found:
        return NO_KEY
    expires_at_ms = found[0][0]
    return NO_TTL if expires_at_ms is None else int(expires_at_ms) - now


def persist(connection: Connection, now: int, key: str) -> bool:
    """Take the expiry of a live key away; return whether it had one."""
    connection.execute(_PERSIST, (now, key))
    return bool(connection.changes())


def count(connection: Connection, now: int) -> int:
    """Return how many live keys there are."""
    return int(connection.execute(_COUNT, (now,)).get)
