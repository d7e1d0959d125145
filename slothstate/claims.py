"""`Claim`: an item of a list that whoever claimed it has to say is done."""

from __future__ import annotations

from contextlib import AbstractContextManager

from slothstate import native
from slothstate.caller import thread_ident
from slothstate.engines.claiming import Claimed
from slothstate.engines.protocol import Engine
from slothstate.errors import LockLost, SlothStateError
from slothstate.hints import TYPE_CHECKING, Any
from slothstate.identity import process_id
from slothstate.values import Seconds, check_seconds
from slothstate.verbs.base import milliseconds

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Claim"]


class Claim:
    """An item that `State.list_claim` took out of its list. Any thread may use it.

    As a context manager it gives the item; it is done when the block ends, and released when the block raises.

    What it does not promise: code that acts on something outside the store can go on after the claim was lost (a `ttl`
    that passed, a process that was stopped, a key that was deleted). What is written through `transaction()`, with
    `done()` inside it, is kept exactly once.
    """

    __slots__ = (
        "__weakref__",
        "_engine",
        "_fenced_by",
        "_is_ended",
        "_nonce",
        "_place",
        "_process",
        "attempt",
        "item",
        "key",
    )

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
        self._process = process_id()
        self._is_ended = False
        # The thread whose transaction found it held.
        self._fenced_by: int | None = None

    def done(self) -> bool:
        """Let the item be gone for good; False if the claim was lost. Inside a transaction it is part of that."""
        self._is_ended = True
        return self._is_ours() and self._engine.claims.done(self._place, self._nonce, self._is_fenced())

    def release(self, delay: Seconds = 0) -> bool:
        """Put the item back to its old place, where it is invisible for `delay` seconds; False if the claim was lost.

        Raises: `InvalidValue`.
        """
        delay_ms = milliseconds(delay, "delay") if check_seconds(delay, "delay", zero=True) else 0
        self._is_ended = True
        return self._is_ours() and self._engine.claims.release(self._place, self._nonce, delay_ms, self._is_fenced())

    def extend(self, seconds: Seconds) -> bool:
        """Let the claim end so many seconds from now; False if it was lost. Raises: `InvalidValue`."""
        ttl_ms = milliseconds(seconds, "seconds")
        return self._is_ours() and self._engine.claims.extend(self._place, self._nonce, ttl_ms, self._is_fenced())

    @property
    def lost(self) -> bool:
        """Whether the item is no longer claimed by this. Asked of the store each time."""
        return not (self._is_ours() and self._engine.claims.holds(self._place, self._nonce, self._is_fenced()))

    def ensure_held(self) -> None:
        """Raise `LockLost` if the claim is lost."""
        if self.lost:
            raise LockLost(f"the claim on an item of {self.key!r} (attempt {self.attempt}) is lost")

    def transaction(self) -> AbstractContextManager[None]:
        """Hold a write transaction that begins only if the item is still claimed.

        Nobody else can get the item while it is open, and the claim is held until it ends, also where its `ttl` passes
        meanwhile; `done()` in it and what it writes are kept together or not.
        Raises: `LockLost` before the block runs.
        """
        return self._engine.transaction(self._fence)

    def _fence(self) -> None:
        self.ensure_held()
        self._fenced_by = thread_ident()
        self._engine.after_transaction(self._end_fence)

    def _end_fence(self) -> None:
        # The next transaction of another thread may have begun.
        if self._is_fenced():
            self._fenced_by = None

    def _is_fenced(self) -> bool:
        """Whether it was held as the caller's transaction began, and is until that ends."""
        return self._fenced_by is not None and self._fenced_by == thread_ident()

    def _is_ours(self) -> bool:
        return self._process == process_id()

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
