"""`protocol.Changes`: waiting for a commit of anybody, by looking again. A notification would cost every writer."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager

from slothstate import calling_off
from slothstate.hints import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Changes"]

FIRST: Final = 0.005
"""Seconds between two looks of whoever has waited for less than `PATIENCE` seconds."""

LATER: Final = 0.02

PATIENCE: Final = 1.0

APART: Final = 0.5
"""Seconds between two looks after which a thread has begun another wait."""


class Changes:
    """Every wait is a short sleep; there is no token for a state of the store."""

    def __init__(self, pool: Store) -> None:
        self._pool = pool
        self._local = threading.local()

    def token(self) -> int | None:
        return None

    def wait(self, token: int | None, seconds: float, /) -> bool:
        calling_off.look()
        now = time.monotonic()
        if now - getattr(self._local, "last", 0.0) > APART:
            self._local.began = now
        time.sleep(max(0.0, min(seconds, FIRST if now - self._local.began < PATIENCE else LATER)))
        self._local.last = time.monotonic()
        return True

    def within(self, seconds: float, /) -> AbstractContextManager[None]:
        return self._pool.within(seconds)

    def forget(self) -> None:
        pass
