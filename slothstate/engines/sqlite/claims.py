"""Claims: items that are taken out of their list, and are gone only once whoever took them says so.

A claim is a row that knows the item's list and position (`docs/file-format.md`). What ends it names its nonce, a random
number, so nobody ends another's.
"""

from __future__ import annotations

from collections.abc import Sequence

from slothstate.engines.claiming import Claimed, dead_key
from slothstate.engines.listing import check_item
from slothstate.engines.sqlite import keys, list_rows, lists, returning
from slothstate.engines.sqlite.connection import LIVE, Atomic, Connection, sql
from slothstate.engines.sqlite.locks.boot_clock import boot_id
from slothstate.hints import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, INTEGER_MAX

if TYPE_CHECKING:
    from slothstate.engines.sqlite.locks.owner import Ownership

__all__ = ["ClaimRow", "Claimant", "Place", "abandon", "done", "extend", "holds", "release", "rows", "take"]


Place: TypeAlias = tuple[int, int]
"""The list and the position of a claim when it was made."""


Claimant: TypeAlias = tuple[str, int, str, int, str, int | None]
"""What a claim writes about whoever makes it: owner, nonce, host, pid, boot id, end by the boot clock in ms."""


class ClaimRow(NamedTuple):
    """What there is to say about a claim, as stored; `owner` is None while its item is delayed."""

    key: str
    host: str | None
    pid: int | None
    since_ms: int
    attempts: int
    owner: str | None
    due_ms: int | None


_PLACE: Final = "list_id = ?1 and position = ?2 and nonce = ?3"

# Something was inserted before it.
_MOVED: Final = "list_id = ?1 and nonce = ?2"

# The usual case: a list that has been claimed from, and nothing that may have to be brought back.
_FIRST: Final = sql(f"""
select list_id, position
from list_items
where list_id = (
  select id
  from entries
  where key = ?2 and value = -1 and kind = 'list' and {LIVE}
  and not exists (select 1 from claims where list_id = id and (owner is not ?3 or expires_boot_ms is not null))
)
order by position
limit 1
""")

_REMOVE_FIRST: Final = sql(f"""
delete from list_items
where (list_id, position) = ({_FIRST}) and attempts < ?4
returning
  list_id, position, item, attempts,
  exists (
    select 1 from list_items as other where other.list_id = list_items.list_id and position > list_items.position
  )
""")

_CLAIM: Final = sql("""
insert into claims (list_id, position, item, attempts, since_ms, owner, nonce, host, pid, boot_id, expires_boot_ms)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
""")

_REMOVE: Final = "delete from list_items where list_id = ?1 and position = ?2 returning item, attempts"

_HELD: Final = "(expires_boot_ms is null or expires_boot_ms > ?4)"

_DONE: Final = f"delete from claims where {_PLACE} and {_HELD}"

_HOLDS: Final = f"select 1 from claims where {_PLACE} and {_HELD}"

_EXTEND: Final = f"update claims set expires_boot_ms = ?5 where {_PLACE} and {_HELD}"

_DELAY: Final = sql("""
update claims
set owner = null, host = null, pid = null, boot_id = ?4, expires_boot_ms = ?5, nonce = 0, due_ms = ?3
where list_id = ?1 and position = ?2
""")

_POSITION: Final = f"select position from claims where {_MOVED}"

_BY_NONCE: Final = "select list_id, position from claims where nonce = ?1"

_ROWS: Final = sql("""
select
  key, host, pid, since_ms, attempts, owner,
  iif(owner is null and boot_id = ?3, ?2 + expires_boot_ms - ?4, due_ms)
from claims join entries on entries.id = list_id
where ifnull(key = ?1, 1)
order by key, position
""")


def take(
    connection: Connection,
    now: int,
    names: Sequence[str],
    claimant: Claimant,
    max_attempts: int | None,
    dead: str | None,
    likely: str | None,
    ownership: Ownership,
) -> Claimed | None:
    """Claim the first item of the first list that has any; None where none has.

    An item that was claimed `max_attempts` times already goes to the list `dead`, or that of its key, instead. A list
    that is not `likely` to have an item is looked at first: who waits looks often, and must not be in the way of those
    who write.
    """
    for key in names:
        if key == likely or keys.exists(connection, now, key) or returning.has_due(connection, now, key):
            with Atomic(connection):
                if ownership.is_retired:
                    # Since this take began: what is here now was given back by the closing State itself, for others.
                    raise ownership.closed()
                claimed = _take_first(connection, now, key, claimant, max_attempts)
                if claimed is None:
                    claimed = _take(connection, now, key, claimant, max_attempts, dead or dead_key(key))
            if claimed is not None:
                return claimed
    return None


def _take_first(
    connection: Connection, now: int, key: str, claimant: Claimant, max_attempts: int | None
) -> Claimed | None:
    """Claim the first item of a list in the usual case, None in any other."""
    owner = claimant[0]
    most = INTEGER_MAX if max_attempts is None else max_attempts
    found = connection.execute(_REMOVE_FIRST, (now, key, owner, most)).get
    if found is None:
        return None
    identity, position, item, attempts, is_more = found
    claimed = _keep(connection, now, key, claimant, (identity, position), item, attempts)
    if not is_more:
        list_rows.settle(connection, identity, 0)
    return claimed


def _take(
    connection: Connection, now: int, key: str, claimant: Claimant, max_attempts: int | None, dead: str
) -> Claimed | None:
    while True:
        found = list_rows.find(connection, now, key, "claim from", returning.bring_back)
        if found is None or found.text in (EMPTY_LIST, EMPTY_TABLE):
            return None
        found = list_rows.unpack(connection, key, found)
        place = found.identity, found.first
        item, attempts = connection.execute(_REMOVE, place).get
        if max_attempts is None or attempts < max_attempts:
            claimed = _keep(connection, now, key, claimant, place, item, attempts)
            list_rows.settle(connection, found.identity, found.size - 1)
            return claimed
        list_rows.settle(connection, found.identity, found.size - 1)
        lists.push(connection, now, dead, [item])


def _keep(
    connection: Connection, now: int, key: str, claimant: Claimant, place: Place, item: str, attempts: int
) -> Claimed:
    """Write the claim on an item that was taken out of its list."""
    check_item(key, item)
    connection.execute(_CLAIM, (*place, item, attempts + 1, now, *claimant))
    return Claimed(key, item, attempts + 1, place)


def done(connection: Connection, now: int, place: Place, nonce: int, moment: int) -> bool:
    """End a claim, its item is gone; return whether it was still held."""
    return _change(connection, _DONE, place, nonce, moment)


def extend(connection: Connection, now: int, place: Place, nonce: int, moment: int, expires_boot_ms: int) -> bool:
    """Let a claim that is still held end at another time; return whether it is."""
    return _change(connection, _EXTEND, place, nonce, moment, expires_boot_ms)


def _change(connection: Connection, statement: str, place: Place, nonce: int, *times: int) -> bool:
    connection.execute(statement, (*place, nonce, *times))
    if connection.changes():
        return True
    with Atomic(connection):
        now_at = _moved(connection, place, nonce)
        if now_at is None:
            return False
        connection.execute(statement, (*now_at, nonce, *times))
        return bool(connection.changes())


def _moved(connection: Connection, place: Place, nonce: int) -> Place | None:
    """Return where a claim is that is not at its place any more, because something was inserted before it."""
    position = connection.execute(_POSITION, (place[0], nonce)).get
    return None if position in (None, place[1]) else (place[0], position)


def _held_at(connection: Connection, place: Place, nonce: int, moment: int) -> Place | None:
    """Return where a claim is that is still held, None if it is lost."""
    if connection.execute(_HOLDS, (*place, nonce, moment)).get:
        return place
    now_at = _moved(connection, place, nonce)
    is_held = now_at is not None and connection.execute(_HOLDS, (*now_at, nonce, moment)).get
    return now_at if is_held else None


def holds(connection: Connection, now: int, place: Place, nonce: int, moment: int) -> bool:
    """Return whether a claim is still held."""
    return _held_at(connection, place, nonce, moment) is not None


def release(
    connection: Connection, now: int, place: Place, nonce: int, moment: int, due_boot_ms: int, delay_ms: int, boot: str
) -> bool:
    """Give an item back, to be seen only after a delay; return whether the claim was still held.

    The delay is one of the boot clock of `boot`, until the system is booted anew; without, of the wall clock.
    """
    with Atomic(connection):
        held_at = _held_at(connection, place, nonce, moment)
        if held_at is None:
            return False
        if delay_ms:
            ends = (boot, due_boot_ms) if boot else (None, None)
            connection.execute(_DELAY, (*held_at, now + delay_ms, *ends))
        else:
            returning.put_back(connection, now, held_at[0], [held_at[1]])
        return True


def abandon(connection: Connection, now: int, nonce: int) -> None:
    """Give back what was claimed with a nonce, if anything was."""
    with Atomic(connection):
        for identity, position in connection.execute(_BY_NONCE, (nonce,)).fetchall():
            returning.put_back(connection, now, identity, [position])


def rows(connection: Connection, now: int, key: str | None, now_boot_ms: int) -> list[ClaimRow]:
    """Return the claims on a list, or all, by key and then in the order of the items."""
    found = connection.execute(_ROWS, (key, now, boot_id(), now_boot_ms))
    return [ClaimRow(*row) for row in found.fetchall()]
