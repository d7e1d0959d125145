"""`protocol.Watches`: a trigger of the schema notes what a verb has done, while anybody watches.

A sequence is not the order of commits: a change gets its revision only once it is committed (`number_changes_v1`).
Whoever reads gives them out; the order within a key is that of its commits.
"""

from __future__ import annotations

import math

from slothstate.descriptions import WatchDescription
from slothstate.engines.postgres.owner import Owner, host
from slothstate.engines.postgres.rows import key_of, packed, split, unpacked
from slothstate.engines.postgres.sweep import sweep_all
from slothstate.engines.watching import WatchPage
from slothstate.errors import SlothStateError
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.identity import process_id
from slothstate.native import glob_match

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["WatchTable"]

KEPT_MS: Final = 24 * 3600 * 1000
"""Milliseconds that a change is kept for a watch that is behind."""

TRIM_EVERY: Final = 256

# Changes are noted from the first watch on, until a sweep finds that there is none.
_BEGIN_NOTING: Final = "select setval('watched', 1, true)"

_END_NOTING: Final = "select setval('watched', 1, false) where not exists (select from watches)"

_IS_NOTING_FOR_NOBODY: Final = (
    "select 1 where pg_sequence_last_value('watched') is not null and not exists (select from watches)"
)

_IS_RUN: Final = "select 1 from watches where name = %s and nonce <> %s and owner is not null and not is_dead(owner)"

_NUMBER_ALL: Final = "select number_changes_v1(true)"

_NUMBER: Final = "select number_changes_v1(false)"

_ADD: Final = """
insert into watches (nonce, name, long_name, pattern, revision, owner, host, pid, since_ms)
values (%s, %s, %s, %s, (select coalesce(max(revision), 0) from changes), %s, %s, %s, clock_ms())
returning revision
"""

_GO_ON: Final = """
update watches set nonce = %s, pattern = %s, owner = %s, host = %s, pid = %s, since_ms = clock_ms()
where name = %s
returning revision
"""

_PAGE: Final = """
select w.revision, c.revision, c.key, c.op
from (select (select revision from watches where nonce = %s) as revision) w
left join lateral (
  select revision, key, op from changes where revision > %s order by revision limit %s
) c on true
order by c.revision
"""

_HANDLED: Final = "update watches set revision = %s where nonce = %s"

_END: Final = """
with ended as (delete from watches where nonce = %s and name is null)
update watches set owner = null, host = null, pid = null where nonce = %s and name is not null
"""

_END_OWNER: Final = """
with ended as (delete from watches where owner = %s and name is null)
update watches set owner = null, host = null, pid = null where owner = %s and name is not null
"""

_REMOVE: Final = "delete from watches where name = %s"

_END_DEAD: Final = """
with dead as (select nonce from watches where owner is not null and is_dead(owner)),
ended as (delete from watches where nonce in (select nonce from dead) and name is null)
update watches set owner = null, host = null, pid = null where nonce in (select nonce from dead) and name is not null
"""

# The newest stays: revisions rise for ever.
_TRIM: Final = """
delete from changes
where revision < (select max(revision) from changes)
and revision <= coalesce((select min(abs(revision)) from watches), revision)
"""

_LOSE_OLD: Final = f"""
update watches w set revision = -old.revision
from (select max(revision) as revision from changes where at_ms <= clock_ms() - {KEPT_MS}) old
where abs(w.revision) < old.revision
"""

_NEXT_EXPIRY: Final = (
    "select min(expires_at_ms) - now_ms() from entries where expires_at_ms is not null and expires_at_ms > 0"
)

_ROWS: Final = """
select
  coalesce(long_name, name), pattern, host, pid, since_ms, abs(w.revision),
  case when owner is not null then not is_dead(owner) end,
  count(c.id), min(c.at_ms)
from watches w left join changes c on c.revision is null or c.revision > abs(w.revision)
group by w.nonce
order by w.id
"""

_OWNS: Final = "select 1 from watches where owner = %s limit 1"


class WatchTable:
    """The watches of a store, as the one owner sees them that its engine is once it needs to be one."""

    def __init__(self, pool: Store, owner: Owner) -> None:
        self._pool = pool
        self._owner = owner
        self._since_trim = 0

    def begin(self, nonce: int, pattern: str | None, name: str | None, /) -> int | None:
        pool = self._pool
        if pool.is_caller_writing():
            raise SlothStateError("a watch cannot begin inside transaction() or snapshot(): begin it before")
        owner = self._owner.become()
        stored = (None, None) if name is None else split(name)
        # Looked at first: who waits for a name looks often, and must not be in the way of those who write.
        if self._is_run(stored[0], nonce):
            return None
        # What has expired by now is no change that comes.
        sweep_all(pool)
        # Nobody else is writing: all that was committed comes before, and all that will be after.
        with pool.transaction():
            if self._is_run(stored[0], nonce):
                return None
            pool.write(_BEGIN_NOTING)
            pool.write(_NUMBER_ALL)
            # A pattern may have NUL, which no key matches and no text of the server holds.
            wanted = None if pattern is None else packed(pattern)
            who = owner, host(), process_id()
            rows = [] if name is None else pool.write(_GO_ON, (nonce, wanted, *who, stored[0]))
            if not rows:
                rows = pool.write(_ADD, (nonce, *stored, wanted, *who))
            return int(rows[0][0])

    def _is_run(self, name: str | None, nonce: int) -> bool:
        """Return whether another one, whose owner lives, runs the watch of a name."""
        return name is not None and bool(self._pool.read(_IS_RUN, (name, nonce)))

    def page(self, nonce: int, after: int, pattern: str | None, limit: int, /) -> WatchPage:
        # Apart from the caller's own transaction, whose writes are not committed.
        pool = self._pool
        pool.require_usable()
        pool.apart(_NUMBER)
        rows = pool.apart(_PAGE, (nonce, after, limit))
        revision = rows[0][0]
        found = [(number, key, op) for _, number, key, op in rows if number is not None]
        changes = [change for change in found if pattern is None or glob_match(pattern, change[1])]
        return WatchPage(revision, changes, found[-1][0] if found else after)

    def handled(self, nonce: int, revision: int, count: int, /) -> bool:
        self._since_trim += count
        is_there = bool(self._pool.write(_HANDLED, (revision, nonce)))
        if self._since_trim >= TRIM_EVERY:
            self._since_trim = 0
            self._pool.write(_TRIM)
        return is_there

    def end(self, nonce: int, /) -> None:
        self._pool.write(_END, (nonce, nonce))
        self._pool.write(_TRIM)

    def remove(self, name: str, /) -> bool:
        removed = bool(self._pool.write(_REMOVE, (key_of(name),)))
        self._pool.write(_TRIM)
        return removed

    def expire(self) -> float:
        left_ms = self._pool.read(_NEXT_EXPIRY)[0][0]
        if left_ms is not None and left_ms <= 0 and not self._pool.in_transaction:
            sweep_all(self._pool)
            left_ms = self._pool.read(_NEXT_EXPIRY)[0][0]
        return math.inf if left_ms is None else max(0, left_ms) / 1000

    def describe(self) -> list[WatchDescription]:
        return [_described(*row) for row in self._pool.read(_ROWS)]

    def sweep(self) -> None:
        self._pool.write(_NUMBER)
        self._pool.write(_END_DEAD)
        self._pool.write(_LOSE_OLD)
        self._pool.write(_TRIM)
        if self._pool.read(_IS_NOTING_FOR_NOBODY):
            # Nobody begins to watch meanwhile: that is a transaction, too.
            with self._pool.transaction():
                self._pool.write(_END_NOTING)

    def close(self) -> None:
        with self._owner.ending() as owner:
            if owner is not None and self._pool.read(_OWNS, (owner,)):
                self._pool.write(_END_OWNER, (owner, owner))


def _described(
    name: str | None,
    pattern: str | None,
    host: str | None,
    pid: int | None,
    since_ms: int,
    revision: int,
    is_alive: bool | None,
    behind: int,
    behind_since_ms: int | None,
) -> WatchDescription:
    return {
        "name": name,
        "pattern": None if pattern is None else unpacked(pattern),
        # Nobody runs it.
        "owner": None if is_alive is None else {"host": host or "", "pid": pid or 0},
        "since": since_ms / 1000,
        "revision": revision,
        "alive": is_alive,
        "behind": behind,
        "behind_since": None if behind_since_ms is None else behind_since_ms / 1000,
    }
