"""Claims: items of lists that are not lost when whoever took them dies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from slothstate.errors import InvalidValue, OutcomeUnknown, SlothStateError, importing
from slothstate.hints import TYPE_CHECKING
from slothstate.identity import new_nonce
from slothstate.values import Seconds, check_key
from slothstate.verbs.base import Verbs, check_count, check_keys, check_timeout, milliseconds
from slothstate.verbs.waiting import wait_until

if TYPE_CHECKING:
    from slothstate.claims import Claim
    from slothstate.descriptions import ClaimDescription
    from slothstate.engines.claiming import Claimed

__all__ = ["ClaimVerbs"]


class ClaimVerbs(Verbs):
    """The verbs of queues."""

    def list_claim(
        self,
        key: str | Sequence[str],
        timeout: Seconds | None = 0,
        *,
        ttl: Seconds | None = None,
        max_attempts: int | None = None,
        dead: str | None = None,
    ) -> Claim | None:
        """Take the first item of a list and keep it aside until it is done; None if there is none.

        An item that is not done is back at its old place as soon as its process is dead, its claim is released or
        `ttl` seconds are over. It waits `timeout` seconds for an item (None: for ever); of several keys it takes from
        the first that has one, in their order. An item that was claimed `max_attempts` times already goes to the end of
        the list `dead` (default: the key with `:dead`), and the next is taken.
        Raises: `WrongType`; `InvalidKey`, `InvalidValue`; `SlothStateError` inside a transaction or snapshot unless
        `timeout` is 0.

        >>> state.list_push("jobs", "a", "b")
        2
        >>> with state.list_claim("jobs") as job:
        ...     print(job)
        a
        >>> state.list_range("jobs")
        ['b']
        """
        keys = check_keys(key)
        seconds = check_timeout(timeout)
        ttl_ms = None if ttl is None else milliseconds(ttl, "ttl")
        make = _claim_class()
        if max_attempts is not None or dead is not None:
            _check_attempts(keys, max_attempts, dead)
        engine = self._engine.claims
        nonce = new_nonce()
        claimed: Claimed | None = None
        try:
            if seconds == 0:
                claimed = engine.take(keys, nonce, ttl_ms, max_attempts, dead)
            else:
                with importing():
                    from slothstate.engines.claiming import Waiter

                with Waiter() as waiter:
                    claimed = wait_until(
                        self._engine,
                        lambda: engine.take(keys, nonce, ttl_ms, max_attempts, dead),
                        seconds,
                        pause=lambda: engine.pause(keys, waiter),
                    )
            if claimed is None:
                return None
            return make(self._engine, claimed, nonce, self._part(claimed.key, claimed.item))
        except BaseException as error:
            # Ctrl-C after it was claimed, or an item that this language cannot hold: nobody else has it by now.
            if claimed is not None or not isinstance(error, SlothStateError) or isinstance(error, OutcomeUnknown):
                with suppress(SlothStateError):
                    engine.abandon(nonce)
            raise

    def claims(self, key: str | None = None) -> list[ClaimDescription]:
        """Return what is claimed of a list, or of all, and what is delayed: key, owner, since, attempt, alive, due.

        The order is that of the keys, and then of the items. Raises: `InvalidKey`.

        >>> state.claims()
        []
        """
        return self._engine.claims.describe(None if key is None else check_key(key))


@cache
def _claim_class() -> type[Claim]:
    # Imported here: few programs claim. Once, for whoever does claims often.
    with importing():
        from slothstate.claims import Claim
    return Claim


def _check_attempts(keys: Sequence[str], max_attempts: int | None, dead: str | None) -> None:
    if max_attempts is None:
        if dead is not None:
            raise InvalidValue("dead is for items that were claimed max_attempts times: give that, too")
        return
    check_count(max_attempts, "max_attempts", 1)
    with importing():
        from slothstate.engines.claiming import dead_key

    for key in keys:
        # Also refuses a key that the addition makes too long.
        target = check_key(dead_key(key) if dead is None else dead, "dead")
        if target in keys:
            raise InvalidValue(f"dead: {target!r} is claimed from itself")
