"""The part of the protocol that says who holds which lock (see `slothstate.engines.protocol`)."""

from __future__ import annotations

from collections.abc import Callable

from slothstate.errors import InvalidValue
from slothstate.hints import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from slothstate.descriptions import LockDescription

__all__ = ["LockTable", "Wanted", "mismatch"]


class Wanted(Protocol):
    """An acquisition. Up to `slots` may hold its lock at a time, any number that are `shared`."""

    name: str
    nonce: int
    shared: bool
    slots: int


class LockTable(Protocol):
    """Who holds which lock, of all processes. An acquisition is named by its nonce, a random number of 63 bits.

    Not to be used inside a transaction: its row would be part of it.
    """

    def acquire(
        self, wanted: Wanted, timeout: float | None, ttl_ms: int | None, blocked: Callable[[int], None], /
    ) -> int | None:
        """Acquire a lock, waiting up to `timeout` seconds (None: for ever); return the fencing token, or None.

        The token is higher than that of every earlier acquisition of the name. A lock whose owner died is free at once,
        and so is one whose time is up, counted from when it was granted. An exception that strikes in here leaves
        nothing held. `blocked(nonce)` is called before it waits for a holder, who may change; what it raises ends the
        wait. Whoever waits for it alone keeps new shared ones out, but not those who began to wait before it did: a
        stream of such would for ever.
        Raises: `InvalidValue` beside holders that state other slots.
        """

    def attempt(self, wanted: Wanted, ttl_ms: int | None, blocked: Callable[[int], None], /) -> int | None:
        """Do what `acquire` does at each look of its wait, for a caller that waits by itself.

        The wait goes on until the lock is acquired, or until `end_wait`.
        """

    def pause(self, nonce: int, /) -> float:
        """Return after how many seconds whoever makes attempts makes the next, though nobody commits."""

    def end_wait(self, nonce: int, /) -> None:
        """Wait no longer."""

    def release(self, name: str, nonce: int, /) -> bool:
        """End an acquisition; return whether it still held the lock."""

    def release_own(self, name: str, /) -> bool:
        """End whichever acquisition made through this engine holds a lock; return whether there was one."""

    def holders(self, name: str, /) -> list[int]:
        """Return the nonces of the acquisitions that hold a lock."""

    def holds(self, name: str, nonce: int, /) -> bool:
        """Return whether an acquisition still holds the lock; inside a transaction it then does until that ends."""

    def extend(self, name: str, nonce: int, ttl_ms: int, /) -> bool:
        """Let an acquisition end so many milliseconds from now; False if it was lost."""

    def remove(self, name: str, alive: bool, /) -> bool:
        """Take a lock away that is free but not released, or with `alive` any; return whether it was there."""

    def describe(self) -> list[LockDescription]:
        """Return the locks that are held, by name, with who waits for them."""

    def sweep(self) -> int:
        """Remove what expired locks and dead owners left; return how many locks."""

    def forget(self) -> None:
        """Hold nothing and own nothing: what a forked child does, before it uses the engine."""

    def end(self) -> None:
        """Stop being an owner: whatever this engine still holds is free."""


def mismatch(name: str, held: tuple[bool, int], asked: tuple[bool, int]) -> InvalidValue:
    """Return the error for a lock that is held and asked for by who state other things: each `(shared, slots)`."""
    return InvalidValue(
        f"lock {name!r} is held with {_stated(*held)}, and asked for with {_stated(*asked)}: all who use a lock state "
        "the same"
    )


def _stated(shared: bool, slots: int) -> str:
    return "shared=True" if shared else f"slots={slots}"
