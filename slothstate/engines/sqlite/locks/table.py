"""The rows of locks: acquiring, releasing and looking at them.

A row is a held lock. Its token is the fencing number, its nonce a random number that no other acquisition has: every
statement that ends a lock matches the nonce, so it can never end another owner's. Deadlines are readings of the
machine's boot clock (see `boot_clock`) beside the boot they belong to, so a jump of the wall clock moves none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from slothstate.engines.sqlite.connection import Atomic, Connection, sql

__all__ = [
    "Claim",
    "LockRow",
    "acquire",
    "extend",
    "find",
    "holds",
    "release",
    "remove",
    "remove_expired",
    "remove_owner",
    "rows",
]


class Claim(NamedTuple):
    """What an acquisition writes."""

    name: str
    nonce: int
    owner: str
    host: str
    pid: int
    boot_id: str
    expires_boot_ms: int | None


class LockRow(NamedTuple):
    """A row of the table, as stored."""

    token: int
    name: str
    nonce: int
    owner: str
    host: str
    pid: int
    boot_id: str
    since_ms: int
    expires_boot_ms: int | None


_COLUMNS: Final = "token, name, nonce, owner, host, pid, boot_id, since_ms, expires_boot_ms"

_INSERT: Final = sql("""
insert into locks (since_ms, name, nonce, owner, host, pid, boot_id, expires_boot_ms, slots)
select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1
where not exists (select 1 from locks where name = ?2)
returning token
""")

_FIND: Final = f"select {_COLUMNS} from locks where name = ?1"

_ROWS: Final = f"select {_COLUMNS} from locks order by name"

_RELEASE: Final = "delete from locks where name = ?1 and nonce = ?2"

_RELEASE_HELD: Final = f"{_RELEASE} returning ifnull(expires_boot_ms > ?3, 1)"

_HOLDS: Final = sql("""
select 1
from locks
where name = ?1 and nonce = ?2 and (expires_boot_ms is null or expires_boot_ms > ?3)
""")

_EXTEND: Final = sql("""
update locks
set expires_boot_ms = ?3
where name = ?1 and nonce = ?2 and (expires_boot_ms is null or expires_boot_ms > ?4)
""")

_REMOVE_OWNER: Final = "delete from locks where owner = ?1"

_REMOVE_EXPIRED: Final = "delete from locks where expires_boot_ms <= ?1 and boot_id = ?2"


def acquire(connection: Connection, now: int, claim: Claim, is_free: Callable[[LockRow], bool]) -> int | LockRow:
    """Insert the claim and return its token, or return the row of who has the lock.

    `is_free` decides, about a row that is in the way, whether its lock has expired or lost its owner.
    """
    token: int | None = connection.execute(_INSERT, (now, *claim)).get
    if token is not None:
        return token
    holder = find(connection, now, claim.name)
    if holder is not None and not is_free(holder):
        return holder
    with Atomic(connection):
        # Only the very row that was judged may go: another waiter can have been faster.
        if holder is not None:
            connection.execute(_RELEASE, (holder.name, holder.nonce))
        token = connection.execute(_INSERT, (now, *claim)).get
        if token is not None:
            return token
        winner = find(connection, now, claim.name)
    assert winner is not None
    return winner


def find(connection: Connection, now: int, name: str) -> LockRow | None:
    """Return the row of a lock, None if nobody holds it."""
    found = connection.execute(_FIND, (name,)).get
    return None if found is None else LockRow(*found)


def rows(connection: Connection, now: int) -> list[LockRow]:
    """Return the rows of all locks, by name."""
    return [LockRow(*row) for row in connection.execute(_ROWS)]


def holds(connection: Connection, now: int, name: str, nonce: int, boot_ms: int) -> bool:
    """Return whether the acquisition `nonce` still has the lock and its time is not up."""
    return connection.execute(_HOLDS, (name, nonce, boot_ms)).get is not None


def release(connection: Connection, now: int, name: str, nonce: int, boot_ms: int) -> bool:
    """Delete the row of an acquisition; return whether it still had the lock and its time was not up."""
    return bool(connection.execute(_RELEASE_HELD, (name, nonce, boot_ms)).get)


def remove(connection: Connection, now: int, name: str, nonce: int) -> int:
    """Delete the row of an acquisition, whatever its time; return how many rows went."""
    connection.execute(_RELEASE, (name, nonce))
    return connection.changes()


def extend(connection: Connection, now: int, name: str, nonce: int, expires_boot_ms: int, boot_ms: int) -> bool:
    """Let an acquisition that still has the lock end at another time; return whether it has."""
    connection.execute(_EXTEND, (name, nonce, expires_boot_ms, boot_ms))
    return bool(connection.changes())


def remove_owner(connection: Connection, now: int, owner: str) -> None:
    """Delete all locks of an owner."""
    connection.execute(_REMOVE_OWNER, (owner,))


def remove_expired(connection: Connection, now: int, boot_ms: int, boot_id: str) -> int:
    """Delete the locks of this boot whose time is up; return how many."""
    connection.execute(_REMOVE_EXPIRED, (boot_ms, boot_id))
    return connection.changes()
