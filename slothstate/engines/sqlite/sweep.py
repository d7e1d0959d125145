"""Removing what has expired, in batches small enough that no other writer waits for long."""

from __future__ import annotations

from slothstate.engines.sqlite import list_rows
from slothstate.engines.sqlite.connection import IN_ROWS, Atomic, Connection
from slothstate.hints import Final

__all__ = ["batch", "pending"]

BATCH: Final = 200
"""Rows or items that one transaction removes: a few milliseconds."""

# Not 0: what the row of a list that is not there waits for is the end of its claims.
_EXPIRED: Final = f"""
select id, {IN_ROWS}
from entries
where expires_at_ms between 1 and ?1
order by expires_at_ms
limit ?2
"""

_PENDING: Final = "select count(*) from entries where expires_at_ms between 1 and ?1"

_REMOVE_ITEMS: Final = """
delete from list_items
where list_id = ?1 and position in (select position from list_items where list_id = ?1 limit ?2)
"""

_HAS_ITEMS: Final = "select 1 from list_items where list_id = ?1 limit 1"

_REMOVE: Final = "delete from entries where id = ?1"


def batch(connection: Connection, now: int) -> tuple[int, bool]:
    """Remove some expired keys in one transaction; return how many, and whether there may be more.

    A long expired list goes piecemeal: it is invisible already, and only its last batch removes the key.
    """
    removed = 0
    room = BATCH
    with Atomic(connection):
        expired = connection.execute(_EXPIRED, (now, BATCH)).fetchall()
        for identity, in_rows in expired:
            if in_rows:
                connection.execute(_REMOVE_ITEMS, (identity, room))
                room -= connection.changes()
                if room <= 0 and connection.execute(_HAS_ITEMS, (identity,)).get:
                    return removed, True
                list_rows.settle(connection, identity, 0)
            else:
                connection.execute(_REMOVE, (identity,))
            removed += 1
        return removed, len(expired) == BATCH


def pending(connection: Connection, now: int) -> int:
    """Return how many keys are expired and not yet removed."""
    return int(connection.execute(_PENDING, (now,)).get)
