"""Verbs that wait: until a value changes, until there is something to take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from slothstate.engines.protocol import Engine, Row
from slothstate.errors import SlothStateError, StateBusy
from slothstate.hints import Any, Final, TypeVar
from slothstate.values import Seconds, as_python, check_key, decoded, encode, same
from slothstate.verbs.base import MISSING, Verbs, check_timeout

__all__ = ["WaitingVerbs", "wait_until"]

T = TypeVar("T")

LONGEST: Final = 0.5
"""Seconds after which whoever waits looks again in any case: what has happened to the files is noticed by a look."""

GRACE: Final = 0.05
"""Seconds that a wait may take longer in a busy store."""


def wait_until(
    engine: Engine, look: Callable[[], T | None], timeout: float | None, *, pause: Callable[[], float] | None = None
) -> T | None:
    """Return what `look` returns as soon as that is not None; None after `timeout` seconds (None: never, 0: one look).

    It looks again after each commit of anybody, and `pause()` seconds later at the latest: what comes about by time
    alone, or by a death. In a store that is too busy to write to it ends in time, too.
    Raises: `SlothStateError` inside a transaction or a snapshot unless `timeout` is 0, whatever there is.
    """
    if timeout == 0:
        return look()
    if engine.in_transaction:
        # One of another task of this thread is refused as such, or is over by then.
        engine.require_usable()
    if engine.in_transaction:
        raise SlothStateError(
            "nobody could end a wait inside transaction() or snapshot(): wait before it, or with a timeout of 0"
        )
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while True:
        token = engine.changes.token()
        left = deadline - time.monotonic()
        try:
            if timeout is None:
                found = look()
            else:
                with engine.changes.within(max(0.0, left) + GRACE):
                    found = look()
        except StateBusy:
            if time.monotonic() < deadline:
                raise
            return None
        left = deadline - time.monotonic()
        if found is not None or left <= 0:
            return found
        engine.changes.wait(token, min(left, LONGEST, math.inf if pause is None else pause()))


class WaitingVerbs(Verbs):
    """The verb that waits for a value."""

    def _wait_until(self, look: Callable[[], T | None], timeout: Seconds | None) -> T | None:
        """Call `wait_until`; for the languages that bring verbs of their own."""
        return wait_until(self._engine, look, check_timeout(timeout))

    def wait(self, key: str, seen: Any = None, timeout: Seconds | None = None) -> Any:
        """Return the value of a key as soon as it differs from `seen`, deeply, as `compare_swap` compares.

        None stands for a missing key, before and after. At once if it differs already; after `timeout` seconds (None:
        for ever, 0: at once) the value, which is then equal to `seen`. What changes and changes back between two looks
        may go unnoticed, the last state never does.
        Raises: `InvalidValue`; `StateBusy` if it could not be read in time; `SlothStateError` inside a transaction or
        snapshot unless `timeout` is 0.

        >>> state.set("color", "green")
        True
        >>> state.wait("color", "red")
        'green'
        >>> state.wait("color", "green", timeout=0.01)
        'green'
        """
        check_key(key)
        seconds = check_timeout(timeout)
        # As it would come back: a tuple as a list, a subclass as its base.
        before = MISSING if seen is None else as_python(*encode(seen, "seen"))
        row: Row | None = None
        has_looked = False

        def look() -> bool | None:
            nonlocal row, has_looked
            row = self._engine.entries.get(key)
            has_looked = True
            value = MISSING if row is None else decoded(as_python, key, row[0], row[1])
            return None if value is before or same(value, before) else True

        def pause() -> float:
            left_ms = self._engine.entries.remaining_ms(key)
            return left_ms / 1000 if left_ms > 0 else math.inf

        wait_until(self._engine, look, seconds, pause=pause)
        if not has_looked:
            raise StateBusy(f"{key!r} could not be read within {seconds} s: another keeps the store for itself")
        return None if row is None else decoded(self._codec.decode, key, row[0], row[1])
