"""The rows of locks: acquiring, releasing and looking at them.

A row is a holder of a lock. Its token is the fencing number, its nonce a random number that no other acquisition has:
every statement that ends a lock matches the nonce, so it can never end another owner's. Deadlines are readings of the
machine's boot clock (see `boot_clock`) beside the boot they belong to, so a jump of the wall clock moves none.
"""

from __future__ import annotations

from collections.abc import Callable

from slothstate.engines.locking import mismatch
from slothstate.engines.sqlite.connection import Atomic, Connection, sql
from slothstate.hints import Final, NamedTuple

__all__ = [
    "SHARED",
    "Claim",
    "Holders",
    "LockRow",
    "acquire",
    "extend",
    "holds",
    "look",
    "release",
    "remove",
    "remove_expired",
    "remove_owner",
    "rows",
]


class Claim(NamedTuple):
    """What an acquisition writes. `slots`: how many may hold the lock at a time, 0 for one that is shared."""

    name: str
    nonce: int
    owner: str
    host: str
    pid: int
    boot_id: str
    expires_boot_ms: int | None
    slots: int = 1


class LockRow(NamedTuple):
    """A row of the table, as stored."""

    token: int
    name: str
    nonce: int
    slots: int
    owner: str
    host: str
    pid: int
    boot_id: str
    since_ms: int
    expires_boot_ms: int | None


_COLUMNS: Final = "token, name, nonce, slots, owner, host, pid, boot_id, since_ms, expires_boot_ms"

# Without the names of the columns: the text costs, too (see `sql`).
_INSERT: Final = "insert into locks values(null,?2,?3,?9,?4,?5,?6,?7,?1,?8) returning token"

# The usual case in one statement: nobody holds the lock. Else the name is NULL, and `or ignore` drops the row: SQLite
# copies an `insert ... select` from the same table through a temporary one.
_INSERT_FIRST: Final = _INSERT.replace("insert", "insert or ignore").replace(
    "?2", "iif(exists(select 1 from locks where name=?2),null,?2)"
)

_FIND: Final = f"select {_COLUMNS} from locks where name = ?1"

_ROWS: Final = f"select {_COLUMNS} from locks order by name, token"

_RELEASE: Final = "delete from locks where name = ?1 and nonce = ?2"

_RELEASE_HELD: Final = f"{_RELEASE} returning ifnull(expires_boot_ms > ?3, 1)"

_HOLDS: Final = sql("""
select 1
from locks
where name = ?1 and nonce = ?2 and (expires_boot_ms is null or expires_boot_ms > ?3)
""")

_EXTEND: Final = sql("""
update locks
set expires_boot_ms = ?3, boot_id = ?5
where name = ?1 and nonce = ?2 and (expires_boot_ms is null or expires_boot_ms > ?4)
""")

_REMOVE_OWNER: Final = "delete from locks where owner = ?1"

_REMOVE_EXPIRED: Final = "delete from locks where expires_boot_ms <= ?1 and boot_id = ?2"

_ALONE: Final = "select owner, nonce from lock_waiters where name = ?1 and slots = 1"


class Holders(NamedTuple):
    """Who has a lock, and who waits to have it alone: owner and nonce."""

    rows: list[LockRow]
    alone: list[tuple[str, int]]

    def may_join(self, claim_slots: int, is_ahead: Callable[[tuple[str, int]], bool]) -> bool:
        """Return whether one more that states these slots may hold it beside those who do, all of them alive.

        `is_ahead` decides, about one that waits to have it alone, whether it keeps this one out.
        """
        if claim_slots == SHARED:
            # Whoever waits for it alone would wait for ever if new ones came all the time.
            return all(row.slots == SHARED for row in self.rows) and not any(map(is_ahead, self.alone))
        return not self.rows or (claim_slots > 1 and len(self.rows) < claim_slots)


SHARED: Final = 0
"""What shared holders state as their slots: any number of them."""


def acquire(
    connection: Connection,
    now: int,
    claim: Claim,
    is_free: Callable[[LockRow], bool],
    is_ahead: Callable[[tuple[str, int]], bool],
) -> int | None:
    """Insert the claim and return its token, None if others have the lock.

    `is_free` decides, about a row that is in the way, whether its lock has expired or lost its owner; `is_ahead` is
    that of `Holders.may_join`.
    Raises: `InvalidValue` if they state other slots.
    """
    if claim.slots != SHARED:
        token: int | None = connection.execute(_INSERT_FIRST, (now, *claim)).get
        if token is not None:
            return token
        found = look(connection, now, claim.name, claim.slots)
        if not any(map(is_free, found.rows)):
            _require_same(claim, found.rows)
            if not found.may_join(claim.slots, is_ahead):
                return None
    with Atomic(connection):
        # Looked at anew: another waiter can have been faster.
        found = look(connection, now, claim.name, claim.slots)
        free = [row for row in found.rows if is_free(row)]
        found = Holders([row for row in found.rows if row not in free], found.alone)
        _require_same(claim, found.rows)
        for row in free:
            connection.execute(_RELEASE, (row.name, row.nonce))
        if not found.may_join(claim.slots, is_ahead):
            return None
        granted: int = connection.execute(_INSERT, (now, *claim)).get
        return granted


def _require_same(claim: Claim, rows: list[LockRow]) -> None:
    """Refuse a claim beside holders of other slots; alone and shared exclude each other by waiting."""
    for row in rows:
        if row.slots != claim.slots and {row.slots, claim.slots} != {1, SHARED}:
            raise mismatch(claim.name, (row.slots == SHARED, row.slots), (claim.slots == SHARED, claim.slots))


def look(connection: Connection, now: int, name: str, slots: int = 1) -> Holders:
    """Return who has a lock, and, for one that wants to share it, who waits to have it alone."""
    rows = [LockRow(*row) for row in connection.execute(_FIND, (name,))]
    return Holders(rows, connection.execute(_ALONE, (name,)).fetchall() if slots == SHARED else [])


def rows(connection: Connection, now: int) -> list[LockRow]:
    """Return the rows of all locks, by name and token."""
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


def extend(
    connection: Connection, now: int, name: str, nonce: int, expires_boot_ms: int, boot_ms: int, boot_id: str
) -> bool:
    """Let an acquisition that still has the lock end at another time; return whether it has."""
    connection.execute(_EXTEND, (name, nonce, expires_boot_ms, boot_ms, boot_id))
    return bool(connection.changes())


def remove_owner(connection: Connection, now: int, owner: str) -> None:
    """Delete all locks of an owner."""
    connection.execute(_REMOVE_OWNER, (owner,))


def remove_expired(connection: Connection, now: int, boot_ms: int, boot_id: str) -> int:
    """Delete the locks of this boot whose time is up; return how many."""
    connection.execute(_REMOVE_EXPIRED, (boot_ms, boot_id))
    return connection.changes()
