"""The part of the protocol that waits for commits and follows changes (see `slothstate.engines.protocol`)."""

from __future__ import annotations

from contextlib import AbstractContextManager

from slothstate.hints import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from slothstate.descriptions import WatchDescription

__all__ = ["Changes", "WatchPage", "Watches"]


class Changes(Protocol):
    """Waiting for a commit of anybody. Levels, not edges: take a token, look, wait with the token."""

    def token(self) -> int | None:
        """Return what stands for the present state of the store; None where it cannot be told apart from others."""

    def wait(self, token: int | None, seconds: float, /) -> bool:
        """Wait until the store is in another state than at `token`, at most so long; return whether it is, or may be.

        With None, and where nothing tells, it may return earlier: whoever waits looks again. Many threads that wait at
        once cost little more than one, and let other greenlets run.
        """

    def within(self, seconds: float, /) -> AbstractContextManager[None]:
        """Let the caller's writes in the block wait for other writers no longer than that, then it is `StateBusy`."""

    def forget(self) -> None:
        """Know of nobody who waits: what a forked child does."""


class WatchPage(NamedTuple):
    """What a watch reads. `revision` is what is stored of it: None if there is no such watch, negative if changes up to
    that number were lost. `changes` are `(revision, key, op)`, `seen` is the last revision that was looked at."""

    revision: int | None
    changes: list[tuple[int, str, str]]
    seen: int


class Watches(Protocol):
    """Who follows the changes of keys. A watch is named by its nonce, a random number of 63 bits."""

    def begin(self, nonce: int, pattern: str | None, name: str | None, /) -> int | None:
        """Begin to watch, or with a name go on; return the revision after which changes are to be read.

        Negative if changes up to that number were lost. Every change that is committed from now on is kept for it.
        What has expired by now is none. None while another watch, whose owner lives, has the name.
        Raises: `SlothStateError` inside a transaction or snapshot.
        """

    def page(self, nonce: int, after: int, pattern: str | None, limit: int, /) -> WatchPage:
        """Return those of the next `limit` committed changes past `after` whose keys match (None: all), in order."""

    def handled(self, nonce: int, revision: int, count: int, /) -> bool:
        """Note that all up to a revision, `count` more changes, is handled; return whether there is such a watch."""

    def end(self, nonce: int, /) -> None:
        """Remove a watch; one with a name stays, and nobody runs it."""

    def remove(self, name: str, /) -> bool:
        """Forget the watch of a name; return whether there was one."""

    def expire(self) -> float:
        """Remove keys that have expired, each an `expire`, outside transactions; return the seconds to the next one."""

    def describe(self) -> list[WatchDescription]:
        """Return all watches."""

    def sweep(self) -> None:
        """Remove what dead owners left, and changes that are kept for nobody."""

    def close(self) -> None:
        """End what this engine began."""
