"""Waiting for the next commit of any process: the wal-index tells (see `read_cache`).

However many threads of this process wait, one of them looks at the wal-index, in C and without the GIL (`Lookout`).
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager

from slothstate import calling_off
from slothstate.caller import is_cooperative
from slothstate.engines.lookout import Lookout
from slothstate.engines.sqlite.log_events import LogEvents
from slothstate.hints import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slothstate.engines.sqlite.store import Store

__all__ = ["CommitWatch"]

PACE: Final = 0.001
"""Seconds between two looks of one waiter, half as long to half as long again: not one at each of thousands of commits
a second, and not all waiters at the same moment. Without a wal-index it is all the waiting there is."""

COOPERATIVE_PAUSE: Final = 0.005
"""Seconds between two looks where greenlets share the thread, which a wait in C would keep from running."""

SLICE: Final = 0.1
"""Seconds after which whoever watches looks at the wal-index though nobody woke it, and whether the State is closed."""

PAUSES: Final = (0.0, 0.0001, 0.0002, 0.0004, 0.0008)
"""Seconds between a write to the log and looks at the wal-index, where the commit shows a moment later."""


class CommitWatch:
    """`protocol.Changes`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events = LogEvents(f"{store.path}-wal")
        self.forget()

    def forget(self) -> None:
        self._events.close()
        self._lookout = Lookout()

    def close(self) -> None:
        """Let go of what the kernel keeps; who waits notices by itself."""
        self._events.close()

    def token(self) -> int | None:
        self._store.ensure_identity()
        return self._store.cache.sync()

    def within(self, seconds: float, /) -> AbstractContextManager[None]:
        return self._store.busy.until(time.monotonic() + seconds)

    def wait(self, token: int | None, seconds: float, /) -> bool:
        calling_off.look()
        seconds = calling_off.slice_of(seconds)
        began = time.monotonic()
        deadline = began + seconds
        if is_cooperative():
            time.sleep(max(0.0, min(seconds, COOPERATIVE_PAUSE)))
            return True
        changed = token is None or self._lookout.wait(
            deadline, lambda: self.token() != token, lambda: self._watch(token, deadline)
        )
        rest = PACE * (0.5 + os.urandom(1)[0] / 256) - (time.monotonic() - began)
        if changed and rest > 0:
            time.sleep(min(rest, max(0.0, seconds)))
        return changed

    def _watch(self, token: int, deadline: float) -> bool:
        """Wait for another state of the store than `token` stands for; False if there was none by the deadline."""
        cache, events = self._store.cache, self._events
        while (left := deadline - time.monotonic()) > 0:
            # Asked for last: whatever was committed before that has changed the state, or is an event.
            if self.token() != token:
                return True
            if events.wait(min(left, SLICE)) is None:
                return cache.wait(token, left)
            for pause in PAUSES:
                if cache.wait(token, min(left, pause)):
                    return True
        return False
