"""`protocol.Claims`: items that are out of their list, in the name of the engine's one owner."""

from __future__ import annotations

import math
from collections.abc import Sequence

from slothstate.descriptions import ClaimDescription
from slothstate.engines.claiming import Claimed, Waiter, dead_key
from slothstate.engines.postgres.lists import refusal_of
from slothstate.engines.postgres.owner import Owner, host
from slothstate.engines.postgres.rows import key_of, split
from slothstate.engines.postgres.schema import GATED
from slothstate.hints import TYPE_CHECKING, Any, Final
from slothstate.identity import process_id

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["ClaimTable"]

_TAKE: Final = "select taken, attempt, other_kind from list_claim_v1(%s, %s, %s, %s, %s, %s, %s, %s, %s)"

_HELD: Final = "nonce = %s and (%s or is_held(expires_ms))"

_DONE: Final = f"with {GATED} delete from claims where {_HELD}"

_EXTEND: Final = f"with {GATED} update claims set expires_ms = clock_ms() + %s where {_HELD}"

_ENDLESS: Final = "update claims set expires_ms = null where nonce = %s"

_HOLDS: Final = f"select 1 from claims where {_HELD}"

_RELEASE: Final = "select claim_release_v1(%s, %s)"

_END: Final = "select claims_end_v1(%s)"

_ROWS: Final = """
select
  coalesce(long_key, key), claims.owner, host, pid, since_ms, attempts,
  case when claims.owner is null then due_ms end, case when claims.owner is not null then not is_dead(claims.owner) end
from claims join entries on entries.id = list_id and kind = 'list'
where %s::text is null or key = %s
order by key, pos
"""

_IS_OWNER: Final = "select 1 from claims where owner = %s limit 1"


class ClaimTable:
    """The claims of a store. A claim is found by its nonce alone, wherever insertions have moved it."""

    def __init__(self, pool: Store, owner: Owner) -> None:
        self._pool = pool
        self._owner = owner

    def take(
        self, keys: Sequence[str], nonce: int, ttl_ms: int | None, max_attempts: int | None, dead: str | None, /
    ) -> Claimed | None:
        self._pool.require_writable()
        with self._owner.taking(nonce) as claimant:
            for key in keys:
                target = dead or dead_key(key) if max_attempts is not None else None
                parameters = (
                    *(key_of(key), nonce, claimant, host(), process_id(), ttl_ms, max_attempts),
                    *((None, None) if target is None else split(target)),
                )
                found = self._pool.write(_TAKE, parameters, verb="list_claim")
                if found:
                    item, attempt, kind = found[0]
                    if kind is not None:
                        verb = "claim from" if item is None else "push to"
                        raise refusal_of(verb, key if item is None else target or "", kind)
                    return Claimed(key, item, attempt, None)
        self._owner.kept.discard(nonce)
        return None

    def pause(self, keys: Sequence[str], waiter: Waiter, /) -> float:
        # `changes` tells of what is due.
        return math.inf

    def done(self, place: Any, nonce: int, fenced: bool, /) -> bool:
        with self._owner.giving_up(nonce):
            return bool(self._pool.write(_DONE, (nonce, fenced)))

    def release(self, place: Any, nonce: int, delay_ms: int, fenced: bool, /) -> bool:
        with self._owner.giving_up(nonce):
            if fenced:
                self._pool.write(_ENDLESS, (nonce,))
            return bool(self._pool.write(_RELEASE, (nonce, delay_ms))[0][0])

    def extend(self, place: Any, nonce: int, ttl_ms: int, fenced: bool, /) -> bool:
        return bool(self._pool.write(_EXTEND, (ttl_ms, nonce, fenced)))

    def holds(self, place: Any, nonce: int, fenced: bool, /) -> bool:
        self._owner.ensure()
        return bool(self._pool.read(_HOLDS, (nonce, fenced)))

    def abandon(self, nonce: int, /) -> None:
        self.release(None, nonce, 0, False)

    def describe(self, key: str | None, /) -> list[ClaimDescription]:
        name = None if key is None else key_of(key)
        return [
            {
                "key": each,
                "owner": None if owner is None else {"host": of_host or "", "pid": pid or 0},
                "since": since_ms / 1000,
                "attempt": attempt,
                "alive": is_alive,
                "due": None if due_ms is None else due_ms / 1000,
            }
            for each, owner, of_host, pid, since_ms, attempt, due_ms, is_alive in self._pool.read(_ROWS, (name, name))
        ]

    def end(self) -> None:
        self._owner.retire()
        with self._owner.ending() as owner:
            if owner is not None and self._pool.read(_IS_OWNER, (owner,)):
                self._pool.write(_END, (owner,))
