"""`protocol.Claims` on the rows of `claims`, in the name of the engine's one owner."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from slothstate.engines.claiming import Waiter
from slothstate.engines.lookout import Lookers
from slothstate.engines.sqlite import claims, returning
from slothstate.engines.sqlite.locks.boot_clock import boot_id, boot_ms
from slothstate.engines.sqlite.locks.owner import LIVENESS_INTERVAL, Ownership, host
from slothstate.engines.sqlite.operations import VERBS
from slothstate.errors import SlothStateError
from slothstate.hints import TYPE_CHECKING
from slothstate.identity import process_id

if TYPE_CHECKING:
    from slothstate.descriptions import ClaimDescription
    from slothstate.engines.claiming import Claimed
    from slothstate.engines.sqlite.claims import Place
    from slothstate.engines.sqlite.store import Store

__all__ = ["ClaimTable"]

VERBS[claims.take] = "list_claim"


class ClaimTable:
    """The claims of a store, as the one owner sees them that its engine is once it makes its first."""

    def __init__(self, store: Store, ownership: Ownership) -> None:
        self._store = store
        self._ownership = ownership
        self._lookers = Lookers()
        # The list that had an item last.
        self._likely: str | None = None

    def take(
        self, keys: Sequence[str], nonce: int, ttl_ms: int | None, max_attempts: int | None, dead: str | None, /
    ) -> Claimed | None:
        expires_boot_ms = None if ttl_ms is None else boot_ms() + ttl_ms
        claimant = self._ownership.become(), nonce, host(), process_id(), boot_id(), expires_boot_ms
        found = self._store.write(claims.take, keys, claimant, max_attempts, dead, self._likely, self._ownership)
        self._likely = None if found is None else found.key
        return found

    def pause(self, keys: Sequence[str], waiter: Waiter, /) -> float:
        return self._store.read(returning.pause, keys, lambda key: self._lookers.pause(waiter, key, LIVENESS_INTERVAL))

    def done(self, place: Place, nonce: int, fenced: bool, /) -> bool:
        return self._store.write(claims.done, place, nonce, _moment(fenced))

    def release(self, place: Place, nonce: int, delay_ms: int, fenced: bool, /) -> bool:
        # A clock that the caller brought is the only one that counts.
        boot = boot_id() if self._store.is_real_time else ""
        return self._store.write(claims.release, place, nonce, _moment(fenced), boot_ms() + delay_ms, delay_ms, boot)

    def extend(self, place: Place, nonce: int, ttl_ms: int, fenced: bool, /) -> bool:
        return self._store.write(claims.extend, place, nonce, _moment(fenced), boot_ms() + ttl_ms)

    def holds(self, place: Place, nonce: int, fenced: bool, /) -> bool:
        return self._store.read(claims.holds, place, nonce, _moment(fenced))

    def abandon(self, nonce: int, /) -> None:
        self._store.write(claims.abandon, nonce)

    def describe(self, key: str | None, /) -> list[ClaimDescription]:
        return [
            {
                "key": row.key,
                "owner": None if row.owner is None else {"host": row.host or "", "pid": row.pid or 0},
                "since": row.since_ms / 1000,
                "attempt": row.attempts,
                "alive": None if row.owner is None else self._ownership.is_known_alive(row.owner),
                "due": None if row.due_ms is None else row.due_ms / 1000,
            }
            for row in self._store.read(claims.rows, key, boot_ms())
        ]

    def end(self) -> None:
        self._ownership.retire()
        owner = self._ownership.name
        # What cannot be written now comes back all the same once its owner is gone.
        with suppress(SlothStateError):
            if owner is not None and self._store.read(returning.is_owner, owner):
                self._store.write(returning.end_owner, owner)


def _moment(fenced: bool) -> int:
    """Return the moment of the boot clock at which a claim must not have ended; the first one for what is fenced."""
    return 0 if fenced else boot_ms()
