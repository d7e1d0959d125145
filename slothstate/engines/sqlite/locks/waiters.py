"""The rows of those who wait for a lock: for people, and to keep new shared holders out (see `table`)."""

from __future__ import annotations

from collections.abc import Iterable

from slothstate.engines.sqlite.connection import Connection, sql
from slothstate.hints import Final, NamedTuple

__all__ = ["WaiterRow", "add", "remove", "remove_owner", "rows"]


class WaiterRow(NamedTuple):
    """A row of the table, as stored. `nonce` is the one that the acquisition will have."""

    nonce: int
    name: str
    owner: str
    host: str
    pid: int
    since_ms: int


_ADD: Final = sql("""
insert into lock_waiters (nonce, name, slots, owner, host, pid, since_ms)
values (?1, ?2, ?7, ?3, ?4, ?5, ?6)
on conflict (nonce) do nothing
""")

_ROWS: Final = "select nonce, name, owner, host, pid, since_ms from lock_waiters order by since_ms"

_REMOVE: Final = "delete from lock_waiters where nonce in (select value from json_each(?1))"

_REMOVE_OWNER: Final = "delete from lock_waiters where owner = ?1"


def add(
    connection: Connection, now: int, nonce: int, name: str, slots: int, owner: str, host: str, pid: int, waited: int
) -> None:
    """Say that an acquisition has waited for `waited` milliseconds."""
    connection.execute(_ADD, (nonce, name, owner, host, pid, now - waited, slots))


def rows(connection: Connection, now: int) -> list[WaiterRow]:
    """Return everybody who waits, whoever has waited for longest first."""
    return [WaiterRow(*row) for row in connection.execute(_ROWS)]


def remove(connection: Connection, now: int, nonces: Iterable[int]) -> None:
    """Delete the rows of acquisitions that wait no longer."""
    connection.execute(_REMOVE, (f"[{','.join(map(str, nonces))}]",))


def remove_owner(connection: Connection, now: int, owner: str) -> int:
    """Delete the rows of an owner; return how many."""
    connection.execute(_REMOVE_OWNER, (owner,))
    return connection.changes()
