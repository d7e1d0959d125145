"""Claims: items of lists that are not lost when whoever took them dies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from slothstate import native
from slothstate.descriptions import ClaimDescription
from slothstate.engines.claiming import Claimed, dead_key
from slothstate.engines.protocol import Engine
from slothstate.errors import InvalidValue, LockLost, OutcomeUnknown, SlothStateError
from slothstate.values import Seconds, check_key, check_seconds, describe
from slothstate.verbs.base import Verbs, check_keys, check_timeout, milliseconds
from slothstate.verbs.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Claim", "ClaimVerbs"]


class Claim:
    """An item that `State.list_claim` took out of its list. Any thread may use it.

    As a context manager it gives the item; it is done when the block ends, and released when the block raises.

    What it does not promise: code that acts on something outside the store can go on after the claim was lost (a `ttl`
    that passed, a process that was stopped, a key that was deleted). What is written through `transaction()`, with
    `done()` inside it, is kept exactly once.
    """

    key: str
    """The list it was taken from, as that was called then."""

    item: Any

    attempt: int
    """1 when it was claimed for the first time, and one more each time it comes back without being done."""

    def __init__(self, engine: Engine, claimed: Claimed, nonce: int, item: Any) -> None:
        self.key = claimed.key
        self.item = item
        self.attempt = claimed.attempt
        self._engine = engine
        self._place = claimed.place
        self._nonce = nonce
        # A forked child owns none of its parent's claims.
        self._process = os.getpid()
        self._is_ended = False

    def done(self) -> bool:
        """Let the item be gone for good; False if the claim was lost. Inside a transaction it is part of that."""
        self._is_ended = True
        return self._is_ours() and self._engine.claims.done(self._place, self._nonce)

    def release(self, delay: Seconds = 0) -> bool:
        """Put the item back to its old place, where it is invisible for `delay` seconds; False if the claim was lost.

        Raises: `InvalidValue`.
        """
        delay_ms = milliseconds(delay, "delay") if check_seconds(delay, "delay", zero=True) else 0
        self._is_ended = True
        return self._is_ours() and self._engine.claims.release(self._place, self._nonce, delay_ms)

    def extend(self, seconds: Seconds) -> bool:
        """Let the claim end so many seconds from now; False if it was lost. Raises: `InvalidValue`."""
        ttl_ms = milliseconds(seconds, "seconds")
        return self._is_ours() and self._engine.claims.extend(self._place, self._nonce, ttl_ms)

    @property
    def lost(self) -> bool:
        """Whether the item is no longer claimed by this. Asked of the store each time."""
        return not (self._is_ours() and self._engine.claims.holds(self._place, self._nonce))

    def ensure_held(self) -> None:
        """Raise `LockLost` if the claim is lost."""
        if self.lost:
            raise LockLost(f"the claim on an item of {self.key!r} (attempt {self.attempt}) is lost")

    def transaction(self) -> AbstractContextManager[None]:
        """Hold a write transaction that begins only if the item is still claimed.

        Nobody else can get the item while it is open; `done()` in it and what it writes are kept together or not.
        Raises: `LockLost` before the block runs.
        """
        return self._engine.transaction(self.ensure_held)

    def _is_ours(self) -> bool:
        return self._process == os.getpid()

    def __enter__(self) -> Any:
        return self.item

    def _leave(self, kind: type[BaseException] | None) -> None:
        try:
            # What the block ended in a transaction that was undone is not ended.
            if kind is not None:
                self.release()
            elif not (self._is_ended and self.lost) and not self.done():
                raise LockLost(f"the claim on an item of {self.key!r} was lost before its block ended")
        except SlothStateError:
            # The first one counts, and what cannot be released now ends with the process.
            if kind is None:
                raise

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None: ...
    else:
        # A method written in Python can be struck before its first step, and would end nothing.
        __exit__ = native.exit_method_with_kind(_leave)

    def __repr__(self) -> str:
        return f"<slothstate.Claim on an item of {self.key!r}, attempt {self.attempt}>"


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
        _check_attempts(keys, max_attempts, dead)
        engine = self._engine.claims
        nonce = int.from_bytes(os.urandom(8)) >> 1
        claimed: Claimed | None = None
        try:
            claimed = wait_until(
                self._engine,
                lambda: engine.take(keys, nonce, ttl_ms, max_attempts, dead),
                seconds,
                pause=lambda: engine.pause(keys),
            )
            if claimed is None:
                return None
            return Claim(self._engine, claimed, nonce, self._part(claimed.key, claimed.item))
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


def _check_attempts(keys: Sequence[str], max_attempts: int | None, dead: str | None) -> None:
    if max_attempts is None:
        if dead is not None:
            raise InvalidValue("dead is for items that were claimed max_attempts times: give that, too")
        return
    if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
        raise InvalidValue(f"max_attempts must be an int >= 1, got {describe(max_attempts)}")
    for key in keys:
        # Also refuses a key that the addition makes too long.
        target = check_key(dead_key(key) if dead is None else dead, "dead")
        if target in keys:
            raise InvalidValue(f"dead: {target!r} is claimed from itself")
