"""`protocol.LockTable`: a row says who holds a lock, the session of its owner that the owner lives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress

from slothstate.descriptions import LockDescription
from slothstate.engines.claiming import Waiter
from slothstate.engines.locking import Wanted, mismatch
from slothstate.engines.lookout import Lookers
from slothstate.engines.postgres.changes import Changes
from slothstate.engines.postgres.lock_functions import FREED
from slothstate.engines.postgres.owner import Owner, host
from slothstate.engines.postgres.rows import key_of, split
from slothstate.engines.postgres.schema import GATED
from slothstate.errors import SlothStateError, StateBusy
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.identity import process_id

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["LockTable"]

LEAST_PATIENCE: Final = 0.05
"""Seconds that a lock which is not waited for gives a writer who is just done."""

KEPT_MS: Final = 60_000
"""Milliseconds that the place of a lock which nobody holds is kept for the next one."""

_ACQUIRE: Final = """
select token, nonces, others_slots, others_shared from lock_acquire_v1(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

_HELD: Final = "l.nonce is not null and is_held(l.expires_ms) and not is_dead(l.owner)"

_RELEASE: Final = "select lock_release_v1(%s, %s)"

_OWN: Final = f"select nonce from locks l where name = %s and owner = %s and {_HELD} order by token limit 1"

_HOLDERS: Final = f"select nonce from locks l where name = %s and {_HELD} order by token"

_HOLDS: Final = f"select 1 from locks l where nonce = %s and name = %s and {_HELD}"

_EXTEND: Final = f"""
with {GATED}
update locks l set expires_ms = clock_ms() + %s where nonce = %s and name = %s and {_HELD}
"""

_REMOVE: Final = f"""
with {GATED}
update locks l set {FREED} where name = %s and nonce is not null and (%s or not ({_HELD}))
"""

_DESCRIBE: Final = """
select coalesce(long_name, name), host, pid, token, shared, slots, since_ms, expires_ms, not is_dead(owner)
from locks
where nonce is not null and is_held(expires_ms)
order by 1, token
"""

_WAITING: Final = """
select coalesce(long_name, name), host, pid, since_ms from waiters where not is_dead(owner) order by turn
"""

_WAIT: Final = """
insert into waiters (nonce, name, long_name, owner, host, pid, alone, since_ms)
values (%s, %s, %s, %s, %s, %s, %s, clock_ms())
on conflict do nothing
"""

_END_WAIT: Final = "delete from waiters where nonce = %s"

_SWEEP: Final = f"with {GATED} update locks l set {FREED} where nonce is not null and not ({_HELD}) returning 1"

_SWEEP_WAITERS: Final = "delete from waiters where is_dead(owner)"

_IS_FREE: Final = f"nonce is null and since_ms < clock_ms() - {KEPT_MS}"

_HAS_FREE: Final = f"select exists (select from locks where {_IS_FREE})"

# While nobody takes a lock, who would miss the token.
_SWEEP_FREE: Final = f"""
with free as (delete from locks where {_IS_FREE} returning name, token)
insert into tokens as kept select name, max(token) from free group by name
on conflict (name) do update set token = greatest(kept.token, excluded.token)
"""

# By then the clock is ahead of their tokens.
_SWEEP_TOKENS: Final = "delete from tokens where token < clock_ms() - 86400000"

_IS_OWNER: Final = "select exists (select from locks where owner = %s) or exists (select from waiters where owner = %s)"

_END_OWNER: Final = f"with {GATED} update locks set {FREED} where owner = %s"

_END_WAITS: Final = "delete from waiters where owner = %s"


class _Wait(Waiter):
    """A wait of which others know; of those for the same lock one looks whether its owner lives."""

    def __init__(self, what: tuple[str, bool]) -> None:
        super().__init__()
        self.what = what


class LockTable:
    """The locks of a store, as the one owner sees them that its engine is once it takes its first."""

    def __init__(self, pool: Store, owner: Owner, changes: Changes) -> None:
        self._pool = pool
        self._owner = owner
        self._changes = changes
        self._lookers = Lookers()
        # Those of whom others know.
        self._waits: dict[int, _Wait] = {}

    def acquire(
        self, wanted: Wanted, timeout: float | None, ttl_ms: int | None, blocked: Callable[[int], None], /
    ) -> int | None:
        self._require_usable(wanted.name)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        if timeout == 0:
            if self._pool.would_wait_for_itself():
                return None
            # A server that is away is waited for as by every verb.
            self._owner.become()
        try:
            while True:
                seen = None if timeout == 0 else self._changes.token()
                left = max(0.0, deadline - time.monotonic())
                # A transaction of somebody else keeps a lock from being granted, too.
                within = nullcontext() if timeout is None else self._changes.within(max(left, LEAST_PATIENCE))
                try:
                    with within:
                        token = self._look(wanted, ttl_ms, blocked, waits=left > 0)
                except StateBusy:
                    if time.monotonic() < deadline:
                        raise
                    return None
                if token is not None:
                    return token
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changes.wait(seen, min(left, self.pause(wanted.nonce)))
        finally:
            self.end_wait(wanted.nonce)

    def attempt(self, wanted: Wanted, ttl_ms: int | None, blocked: Callable[[int], None], /) -> int | None:
        self._require_usable(wanted.name)
        token = self._look(wanted, ttl_ms, blocked, waits=True)
        if token is not None:
            self.end_wait(wanted.nonce)
        return token

    def _look(self, wanted: Wanted, ttl_ms: int | None, blocked: Callable[[int], None], *, waits: bool) -> int | None:
        name, nonce, shared, slots = wanted.name, wanted.nonce, wanted.shared, wanted.slots
        with self._owner.taking(nonce) as owner:
            is_waiter = nonce in self._waits
            parameters = (*split(name), nonce, owner, host(), process_id(), ttl_ms, shared, slots, is_waiter)
            token, nonces, others_slots, others_shared = self._pool.write(_ACQUIRE, parameters, verb="lock")[0]
        if token is not None:
            self._end_wait(nonce)
            return int(token)
        self._owner.kept.discard(nonce)
        for other_slots, is_shared in zip(others_slots, others_shared, strict=True):
            if (is_shared, other_slots) != (shared, slots) and {other_slots, slots} != {1}:
                raise mismatch(name, (is_shared, other_slots), (shared, slots))
        if waits:
            for other in nonces:
                blocked(other)
            self._announce(wanted, owner)
        return None

    def _announce(self, wanted: Wanted, owner: int) -> None:
        """Tell others who waits, and since when: who comes later to have it alone does not keep this one out."""
        if wanted.nonce not in self._waits:
            self._waits[wanted.nonce] = _Wait((wanted.name, wanted.shared))
            alone = not wanted.shared and wanted.slots == 1
            self._pool.write(_WAIT, (wanted.nonce, *split(wanted.name), owner, host(), process_id(), alone))

    def pause(self, nonce: int, /) -> float:
        wait, pace = self._waits.get(nonce), self._changes.pace()
        return pace if wait is None else self._lookers.pause(wait, wait.what, pace)

    def end_wait(self, nonce: int, /) -> None:
        if self._end_wait(nonce):
            # A dead owner's waits are not counted, and the next sweep removes them.
            with suppress(SlothStateError):
                self._pool.write(_END_WAIT, (nonce,))

    def _end_wait(self, nonce: int) -> bool:
        wait = self._waits.pop(nonce, None)
        if wait is not None:
            wait.is_over = True
        return wait is not None

    def _require_usable(self, name: str) -> None:
        if self._pool.is_caller_writing():
            self._pool.require_writable()
            raise SlothStateError(
                f"lock {name!r} cannot be taken or freed inside a transaction: lock first, then begin"
            )

    def release(self, name: str, nonce: int, /) -> bool:
        self._require_usable(name)
        if self._owner.number is None:
            return False
        with self._owner.giving_up(nonce):
            return bool(self._pool.write(_RELEASE, (key_of(name), nonce), verb="unlock")[0][0])

    def release_own(self, name: str, /) -> bool:
        self._require_usable(name)
        owner = self._owner.number
        found = [] if owner is None else self._pool.read(_OWN, (key_of(name), owner), verb="unlock")
        return bool(found) and self.release(name, found[0][0])

    def holders(self, name: str, /) -> list[int]:
        self._owner.ensure()
        return [nonce for (nonce,) in self._pool.read(_HOLDERS, (key_of(name),))]

    def holds(self, name: str, nonce: int, /) -> bool:
        self._owner.ensure()
        return bool(self._pool.read(_HOLDS, (nonce, key_of(name))))

    def extend(self, name: str, nonce: int, ttl_ms: int, /) -> bool:
        self._owner.ensure()
        return bool(self._pool.write(_EXTEND, (ttl_ms, nonce, key_of(name))))

    def remove(self, name: str, alive: bool, /) -> bool:
        self._require_usable(name)
        return bool(self._pool.write(_REMOVE, (key_of(name), alive)))

    def describe(self) -> list[LockDescription]:
        self._pool.require_usable()
        waiting = self._pool.read(_WAITING)
        return [
            {
                "name": name,
                "owner": {"host": of_host or "", "pid": pid or 0},
                "token": token,
                "shared": shared,
                "slots": None if shared else slots,
                "since": since_ms / 1000,
                "expires": None if expires_ms is None else expires_ms / 1000,
                "alive": is_alive,
                "waiting": [
                    {"host": other_host or "", "pid": other_pid or 0, "since": began_ms / 1000}
                    for lock, other_host, other_pid, began_ms in waiting
                    if lock == name
                ],
            }
            for name, of_host, pid, token, shared, slots, since_ms, expires_ms, is_alive in self._pool.read(_DESCRIBE)
        ]

    def sweep(self) -> int:
        removed = len(self._pool.write(_SWEEP))
        self._pool.write(_SWEEP_WAITERS)
        if self._pool.read(_HAS_FREE)[0][0]:
            with self._pool.transaction():
                self._pool.write(_SWEEP_FREE)
        self._pool.write(_SWEEP_TOKENS)
        return removed

    def forget(self) -> None:
        self._owner.forget()
        self._waits.clear()

    def end(self) -> None:
        with self._owner.ending() as owner:
            if owner is not None and self._pool.read(_IS_OWNER, (owner, owner))[0][0]:
                self._pool.write(_END_OWNER, (owner,))
                self._pool.write(_END_WAITS, (owner,))
        self._owner.end()
