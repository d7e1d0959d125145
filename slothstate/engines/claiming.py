"""The part of the protocol that claims the items of lists (see `slothstate.engines.protocol`)."""

from __future__ import annotations

from collections.abc import Sequence

from slothstate.hints import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from slothstate.descriptions import ClaimDescription

__all__ = ["Claimed", "Claims", "Waiter", "dead_key"]


class Claimed(NamedTuple):
    """An item that was claimed, as JSON text. `attempt` counts this claim; `place` is for the engine alone."""

    key: str
    item: str
    attempt: int
    place: Any


class Waiter:
    """One wait, as long as its block lasts and anybody refers to it."""

    __slots__ = ("__weakref__", "is_over")

    def __init__(self) -> None:
        self.is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True


class Claims(Protocol):
    """Items that are out of their list and neither there nor gone. A claim is named by its nonce, as an acquisition is.

    What is claimed is back at its old place in its list as soon as its owner is dead, its time is up or its delay is
    over: for whoever looks first with `Lists.pop`, `shift`, the likes of these, `length`, or `take`. A key that is
    replaced or deleted as a whole loses its claims; one that is renamed takes them along.

    `fenced`: the claim was held when the caller's transaction looked, and so nobody else has had it since.
    """

    def take(
        self, keys: Sequence[str], nonce: int, ttl_ms: int | None, max_attempts: int | None, dead: str | None, /
    ) -> Claimed | None:
        """Claim the first item of the first list that has any; None where none has.

        An item that was claimed `max_attempts` times already goes to the end of the list `dead` (None: `dead_key`),
        and the next is looked at. Whoever does not learn of a claim, because an exception struck, has to `abandon` it.
        Raises: `WrongType`.
        """

    def pause(self, keys: Sequence[str], waiter: Waiter, /) -> float:
        """Return how many seconds whoever waits for an item of these lists need not look unless somebody commits.

        `waiter` stands for the wait. Of those of a process one looks for the others whether owners live.
        """

    def done(self, place: Any, nonce: int, fenced: bool, /) -> bool:
        """Let the item be gone for good; False if the claim was lost."""

    def release(self, place: Any, nonce: int, delay_ms: int, fenced: bool, /) -> bool:
        """Put the item back, after a delay if that is not 0; False if the claim was lost."""

    def extend(self, place: Any, nonce: int, ttl_ms: int, fenced: bool, /) -> bool:
        """Let the claim end so many milliseconds from now; False if it was lost."""

    def holds(self, place: Any, nonce: int, fenced: bool, /) -> bool:
        """Return whether the claim is still held; inside a transaction it then is until that ends."""

    def abandon(self, nonce: int, /) -> None:
        """Put back what was claimed with a nonce, if anything was."""

    def describe(self, key: str | None, /) -> list[ClaimDescription]:
        """Return the claims on a list, or all, by key and in the order of the items."""

    def end(self) -> None:
        """Put back all that this engine claimed; from now on it claims, locks and watches nothing more."""


def dead_key(key: str) -> str:
    """Return the list that gets the items of a list which too many claims have failed on."""
    return f"{key}:dead"
