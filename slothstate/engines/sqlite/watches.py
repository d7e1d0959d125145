"""The rows of those who watch, and the log of changes that they read."""

from __future__ import annotations

from collections.abc import Callable

from slothstate.engines.sqlite import sweep
from slothstate.engines.sqlite.connection import Atomic, Connection, Snapshot, sql
from slothstate.engines.sqlite.triggers import NAMES_AND_TEXTS
from slothstate.hints import Final, NamedTuple
from slothstate.native import glob_match

__all__ = [
    "WatchRow",
    "begin",
    "end",
    "end_owner",
    "handled",
    "is_run",
    "next_expiry",
    "page",
    "remove",
    "rows",
    "trim",
]

KEPT_MS: Final = 24 * 3600 * 1000
"""Milliseconds that a change is kept for a watch that is behind."""


class WatchRow(NamedTuple):
    """A row of the table, as stored; `owner` is None while nobody runs a watch that has a name.

    Behind what is stored: how many revisions it has not handled, and when the first of them was written.
    """

    nonce: int
    name: str | None
    pattern: str | None
    revision: int
    owner: str | None
    host: str | None
    pid: int | None
    since_ms: int
    behind: int = 0
    behind_since_ms: int | None = None


_ROWS: Final = sql("""
select
  nonce, name, pattern, revision, owner, host, pid, since_ms,
  (select ifnull(max(revision), 0) from changes) - abs(revision),
  (select at_ms from changes where changes.revision > abs(watches.revision) order by changes.revision limit 1)
from watches
order by id
""")

_FIND: Final = "select id from watches where name = ?1"

_RUN_BY: Final = "select owner from watches where name = ?1 and nonce <> ?2"

_LAST: Final = "select ifnull(max(revision), 0) from changes"

_ADD: Final = sql("""
insert into watches (name, pattern, revision, nonce, owner, host, pid, since_ms)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
""")

_GO_ON: Final = sql("""
update watches
set pattern = ?2, nonce = ?3, owner = ?4, host = ?5, pid = ?6, since_ms = ?7
where id = ?1
""")

_IS_WATCHED: Final = "select count(*) from sqlite_schema where type = 'trigger'"

_REVISION: Final = "select revision from watches where nonce = ?1"

_PAGE: Final = "select revision, key, op, step from changes where revision > ?1 order by revision limit ?2"

# A verb's rows follow each other: nobody else writes meanwhile.
_REST: Final = "select revision, key, op, step from changes where revision > ?1 and step = ?2 order by revision"

_HANDLED: Final = "update watches set revision = ?2 where nonce = ?1"

_LEAVE: Final = "update watches set owner = null, host = null, pid = null where nonce = ?1 and name is not null"

_REMOVE: Final = "delete from watches where nonce = ?1 and name is null"

# The newest stays: revisions rise for ever.
_TRIM: Final = sql("""
delete from changes
where revision < (select max(revision) from changes)
and revision <= ifnull((select min(abs(revision)) from watches), revision)
""")

_OLD: Final = "select max(revision) from changes where at_ms <= ?1"

_LOSE: Final = "update watches set revision = -?1 where abs(revision) < ?1"

_NEXT_EXPIRY: Final = "select min(expires_at_ms) from entries where expires_at_ms > 0"


def begin(connection: Connection, now: int, wanted: WatchRow, is_alive: Callable[[str], bool]) -> int | None:
    """Add a watch, or go on with one that has a name; return the revision it goes on from.

    None while somebody who lives runs the one of that name.
    """
    with Atomic(connection):
        if is_run(connection, now, wanted.name, wanted.nonce, is_alive):
            return None
        found = connection.execute(_FIND, (wanted.name,)).get
        # What has expired by now is no change that comes.
        while sweep.batch(connection, now)[1]:
            pass
        if not connection.execute(_IS_WATCHED).get:
            for statement in NAMES_AND_TEXTS.values():
                connection.execute(statement)
        if found is None:
            last = connection.execute(_LAST).get
            connection.execute(_ADD, (*wanted[1:3], last, wanted.nonce, *wanted[4:7], now))
        else:
            connection.execute(_GO_ON, (found, wanted.pattern, wanted.nonce, *wanted[4:7], now))
        revision: int = connection.execute(_REVISION, (wanted.nonce,)).get
        return revision


def is_run(connection: Connection, now: int, name: str | None, nonce: int, is_alive: Callable[[str], bool]) -> bool:
    """Return whether another one, whose owner lives, runs the watch of a name."""
    owner = connection.execute(_RUN_BY, (name, nonce)).get
    return owner is not None and is_alive(owner)


def page(
    connection: Connection, now: int, nonce: int, after: int, pattern: str | None, limit: int
) -> tuple[int | None, list[tuple[int, str, str]], int]:
    """Return the revision that the watch has, the changes that match among the next `limit`, and the last one seen."""
    with Snapshot(connection):
        revision: int | None = connection.execute(_REVISION, (nonce,)).get
        found = connection.execute(_PAGE, (after, limit)).fetchall()
        if found and found[-1][3] is not None:
            found += connection.execute(_REST, (found[-1][0], found[-1][3])).fetchall()
    last = {(key, step): number for number, key, _, step in found if step is not None}
    # One verb is one change of each key, its last; but that the key had expired before is one of its own.
    changes = [
        (number, key, op)
        for number, key, op, step in found
        if (step is None or op == "expire" or last[key, step] == number)
        and (pattern is None or glob_match(pattern, key))
    ]
    return revision, changes, found[-1][0] if found else after


def handled(connection: Connection, now: int, nonce: int, revision: int) -> bool:
    """Note that a watch has handled all up to a revision; return whether there is such a watch."""
    connection.execute(_HANDLED, (nonce, revision))
    return bool(connection.changes())


def end(connection: Connection, now: int, nonce: int) -> None:
    """Remove a watch, or let go of one that has a name; the last one takes the triggers with it."""
    with Atomic(connection):
        connection.execute(_REMOVE, (nonce,))
        connection.execute(_LEAVE, (nonce,))
        _tidy(connection)


def end_owner(connection: Connection, now: int, owner: str) -> None:
    """End all watches of an owner."""
    for row in rows(connection, now):
        if row.owner == owner:
            end(connection, now, row.nonce)


def remove(connection: Connection, now: int, name: str) -> bool:
    """Forget the watch of a name; return whether there was one."""
    with Atomic(connection):
        connection.execute("delete from watches where name = ?1", (name,))
        removed = bool(connection.changes())
        _tidy(connection)
        return removed


def _tidy(connection: Connection) -> None:
    if connection.execute("select count(*) from watches").get:
        return
    for name in NAMES_AND_TEXTS:
        connection.execute(f"drop trigger if exists {name}")
    connection.execute(_TRIM)


def rows(connection: Connection, now: int) -> list[WatchRow]:
    """Return all watches, in the order in which they began."""
    return [WatchRow(*row) for row in connection.execute(_ROWS)]


def trim(connection: Connection, now: int) -> None:
    """Remove changes that every watch has handled, and those that are too old to be kept for one that is behind."""
    with Atomic(connection):
        old = connection.execute(_OLD, (now - KEPT_MS,)).get
        if old is not None:
            connection.execute(_LOSE, (old,))
        connection.execute(_TRIM)


def next_expiry(connection: Connection, now: int) -> int | None:
    """Return the milliseconds until the next key expires, 0 or less if one has; None if there is none that will."""
    found: int | None = connection.execute(_NEXT_EXPIRY).get
    return None if found is None else found - now
