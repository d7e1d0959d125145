"""A connection of psycopg that does not wait for ever, and can be gone on with when a wait was given up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import psycopg
from psycopg import waiting
from psycopg.pq import TransactionStatus

from slothstate import calling_off
from slothstate.hints import Any, Final, TypeAlias

__all__ = ["Bounded", "Late", "Parameters", "Row"]

SLICE: Final = 0.05
"""Seconds between two looks at the deadline of a statement."""

LAST_WORDS: Final = 0.5
"""Seconds that the server gets to say what has become of a statement that was cancelled."""

Row: TypeAlias = tuple[Any, ...]

Parameters: TypeAlias = Sequence[object] | Mapping[str, object]


class Late(Exception):
    """The deadline of a statement has passed."""


class Bounded(psycopg.Connection[Row]):
    """A connection of psycopg whose waits end at `until` (`time.monotonic`; None: never).

    What is late, or struck by Ctrl-C, is cancelled. If the server then tells in time what became of it, the connection
    can be used on; else it is closed, by whoever gets `Late`, or here.
    """

    until: float | None = None

    def __del__(self, _warn: Any = None) -> None:
        """Say nothing: what Ctrl-C kept from being closed is closed now, by psycopg's own object of libpq."""

    def wait(self, gen: Any, *_: Any, **__: Any) -> Any:
        yielded: list[Any] = []
        try:
            driven = _bounded(gen, yielded, self.until, calling_off.look)
            return waiting.wait(driven, self.pgconn.socket, interval=SLICE)
        except psycopg.Error:
            raise
        except Late:
            return self._last_words(gen, yielded)
        except BaseException:
            self.give_up(gen, yielded)
            raise

    def give_up(self, gen: Any, yielded: list[Any]) -> None:
        """Cancel what nobody waits for any more; close the connection if the server does not say what became of it."""
        try:
            # Also a result, which nobody hears of any more.
            with suppress(psycopg.Error, Late):
                self._last_words(gen, yielded)
        finally:
            if self.info.transaction_status == TransactionStatus.ACTIVE:
                self.close()

    def _last_words(self, gen: Any, yielded: list[Any]) -> Any:
        """Cancel what is under way, and return or raise what it ends with."""
        until = time.monotonic() + LAST_WORDS
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=LAST_WORDS)
        return waiting.wait(_bounded(gen, yielded, until, lambda: None), self.pgconn.socket, interval=SLICE)


def _bounded(generator: Any, yielded: list[Any], until: float | None, look: Callable[[], None]) -> Any:
    """Go on with what psycopg drives its connections by; what it waits for stays in `yielded`.

    `look()` raises if nobody wants its result any more.
    """
    try:
        if not yielded:
            yielded.append(next(generator))
        while True:
            ready = yield yielded[0]
            if not ready:
                look()
            if not ready and until is not None and time.monotonic() >= until:
                raise Late
            yielded[0] = generator.send(ready)
    except StopIteration as end:
        return end.value
