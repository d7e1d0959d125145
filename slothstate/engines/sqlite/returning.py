"""Claimed items that come back: their owner is dead, their time is up, or their delay is over.

Nobody waits for any of these, so whoever asks for an item next looks whether there is one to be brought back.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from slothstate.engines.sqlite import list_rows
from slothstate.engines.sqlite.connection import IN_ROWS, LIVE, Atomic, Connection, sql
from slothstate.engines.sqlite.locks.boot_clock import boot_id, boot_ms
from slothstate.hints import Final

__all__ = [
    "bring_back",
    "due",
    "end_owner",
    "end_owners",
    "has_due",
    "is_owner",
    "length",
    "pause",
    "put_back",
    "sweep",
]

SHORTEST_PAUSE: Final = 0.001


_CLAIMED: Final = sql(f"select id from entries where key = ?1 and {IN_ROWS} and value is not null")

# All but those that cannot be due: of an owner of this process without an end, and delayed ones before their time. That
# is one of the boot clock, which nobody can set, as long as the system runs that they were delayed on.
_SUSPECTS: Final = sql("""
select position, owner, boot_id, expires_boot_ms
from claims
where list_id = ?1
and case
  when owner is not null then owner is not ?3 or expires_boot_ms is not null
  when boot_id = ?4 then expires_boot_ms <= ?5
  else ifnull(due_ms, 0) <= ?2
end
""")

_UNCLAIM: Final = "delete from claims where list_id = ?1 and position = ?2 returning item, attempts"

_PUT_BACK: Final = "insert into list_items (list_id, position, item, attempts) values (?1, ?2, ?3, ?4)"

_SIZE: Final = sql(f"""
select
  case
    when not {LIVE} then -1
    when value >= 0 then value
    else (select max(position) from list_items where list_id = id)
      - (select min(position) from list_items where list_id = id) + 1
  end
from entries
where id = ?2
""")

_NEXT: Final = sql("""
select
  min(iif(boot_id = ?2, null, due_ms)),
  min(iif(boot_id = ?2, expires_boot_ms, null)),
  max(ifnull(owner <> ifnull(?3, ''), 0))
from claims
where list_id = ?1
""")

_LISTS: Final = "select distinct list_id from claims"

_OF_OWNER: Final = "select list_id, position from claims where owner = ?1"

_OF_OWNERS: Final = "select list_id, position from claims where owner is not null"

_REMOVE_UNCLAIMED: Final = sql("""
delete from entries
where expires_at_ms = 0 and not exists (select 1 from claims where list_id = entries.id)
""")


def has_due(connection: Connection, now: int, key: str) -> bool:
    """Return whether something of a list is to be brought back."""
    identity = connection.execute(_CLAIMED, (key,)).get
    return identity is not None and bool(due(connection, now, identity))


def bring_back(connection: Connection, now: int, identity: int) -> bool:
    """Bring the claimed items of a list back that are due; return whether there were any."""
    positions = due(connection, now, identity)
    if positions:
        put_back(connection, now, identity, positions)
    return bool(positions)


def due(connection: Connection, now: int, identity: int) -> list[int]:
    """Return the positions of the claimed items of a list that are due."""
    owners = connection.owners
    own = None if owners is None else owners.name
    now_boot_ms, boot = boot_ms(), boot_id()
    suspects = connection.execute(_SUSPECTS, (identity, now, own, boot, now_boot_ms)).fetchall()
    if not suspects:
        return []
    is_dead: Callable[[str], bool] = cache(_nobody if owners is None else owners.is_dead)
    return [
        position
        for position, owner, of_boot, expires_boot_ms in suspects
        if owner is None
        or (expires_boot_ms is not None and of_boot == boot and expires_boot_ms <= now_boot_ms)
        or is_dead(owner)
    ]


def _nobody(_: str) -> bool:
    return False


def put_back(connection: Connection, now: int, identity: int, positions: Sequence[int]) -> None:
    """Put claimed items of a list back to their positions; inside the caller's transaction."""
    with Atomic(connection):
        size = connection.execute(_SIZE, (now, identity)).get
        if size is None:
            # Of no list: damage, which an audit names.
            return
        if size < 0:
            list_rows.revive(connection, identity)
            size = 0
        for position in positions:
            item = connection.execute(_UNCLAIM, (identity, position)).get
            connection.execute(_PUT_BACK, (identity, position, *item))
        list_rows.settle(connection, identity, size + len(positions))


def pause(connection: Connection, now: int, keys: Sequence[str], until_look: Callable[[str], float]) -> float:
    """Return after how many seconds something of these lists may have to be brought back, infinity if never.

    `until_look` gives, for a list with claims of others, the seconds until the caller looks whether their owners live.
    """
    owners = connection.owners
    own = None if owners is None else owners.name
    shortest = math.inf
    for key in keys:
        identity = connection.execute(_CLAIMED, (key,)).get
        if identity is None:
            continue
        due_ms, expires_boot_ms, has_others = connection.execute(_NEXT, (identity, boot_id(), own)).get
        if has_others:
            shortest = min(shortest, until_look(key))
        if due_ms is not None:
            shortest = min(shortest, (due_ms - now) / 1000)
        if expires_boot_ms is not None:
            shortest = min(shortest, (expires_boot_ms - boot_ms()) / 1000)
    return max(shortest, SHORTEST_PAUSE)


def is_owner(connection: Connection, now: int, owner: str) -> bool:
    """Return whether an owner has claimed anything that is not done."""
    return connection.execute(f"{_OF_OWNER} limit 1", (owner,)).get is not None


def end_owner(connection: Connection, now: int, owner: str) -> None:
    """Bring everything back that an owner claimed."""
    with Atomic(connection):
        _put_back_all(connection, now, connection.execute(_OF_OWNER, (owner,)).fetchall())


def end_owners(connection: Connection, now: int) -> None:
    """Bring everything back that anybody claimed."""
    with Atomic(connection):
        _put_back_all(connection, now, connection.execute(_OF_OWNERS).fetchall())


def _put_back_all(connection: Connection, now: int, places: Iterable[tuple[int, int]]) -> None:
    positions = defaultdict(list)
    for identity, position in places:
        positions[identity].append(position)
    for identity in positions:
        put_back(connection, now, identity, positions[identity])


def length(connection: Connection, now: int, key: str) -> int:
    """Return the number of items of a list, after what is due has been brought back. Raises: `WrongType`."""
    with Atomic(connection):
        found = list_rows.find(connection, now, key, "measure", bring_back)
        return 0 if found is None else list_rows.size_of(key, found)


def sweep(connection: Connection, now: int) -> None:
    """Bring back what is due in all lists; remove the rows of lists that are not there and have no claims any more."""
    with Atomic(connection):
        for (identity,) in connection.execute(_LISTS).fetchall():
            bring_back(connection, now, identity)
        connection.execute(_REMOVE_UNCLAIMED)
