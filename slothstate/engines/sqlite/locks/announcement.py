"""Who waits for a lock, told to others by rows of the store (slothstate/engines/sqlite/locks/waiters.py).

`State.locks()` shows them, and one that waits to have a lock alone keeps new shared holders out. Nothing may fail or
wait for want of a row: where the store is busy, full or read-only there is none.
"""

from __future__ import annotations

import _thread
import time
import weakref
from contextlib import suppress

from slothstate import native
from slothstate.engines.sqlite.locks import waiters
from slothstate.engines.sqlite.locks.owner import Ownership, host
from slothstate.errors import SlothStateError
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.identity import process_id

if TYPE_CHECKING:
    from slothstate.engines.sqlite import Store

__all__ = ["ANNOUNCE_AFTER", "GRACE", "Announcements"]

ANNOUNCE_AFTER: Final = 0.1
"""Seconds of waiting after which it is worth a write to say so; also between two tries in a busy store."""

LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries to remove rows that are left, at most; at first a tenth of that."""

GRACE: Final = 0.05
"""Seconds that the end of a wait may take longer in a busy store, to remove its row."""


class Announcements:
    """The waiting of one State, in all its threads."""

    def __init__(self, store: Store, ownership: Ownership) -> None:
        self._store = store
        self._ownership = ownership
        self.forget()

    def forget(self) -> None:
        """Wait for nothing; what a forked child does."""
        self._tidying = native.Mutex()
        self._running: set[int] = set()
        self.left: set[int] = set()
        """Acquisitions that wait no longer, but whose rows the store was too busy to remove."""

    def announce(self, name: str, nonce: int, slots: int, began: float) -> bool:
        """Write the row of an acquisition that waits since `began` (`time.monotonic`); False if it cannot be now."""
        try:
            owner = self._ownership.become()
            # Before the write, which an exception of a signal handler can strike at its very end.
            self._running.add(nonce)
            now = time.monotonic()
            with self._store.busy.until(now):
                waited = round((now - began) * 1000)
                self._store.write(waiters.add, nonce, name, slots, owner, host(), process_id(), waited)
        except SlothStateError:
            return False
        return True

    def end(self, nonce: int) -> None:
        """Remove the row of an acquisition that waits no longer, if it has one."""
        if nonce in self._running:
            # In this order it is in one of the two at any moment, whatever strikes.
            self.left.add(nonce)
            self._running.discard(nonce)
            self.tidy()
            if self.left:
                # Not at the end of the process: then its rows are a dead owner's.
                with suppress(RuntimeError):
                    native.without_signals(_thread.start_new_thread, _tidy_later, (weakref.ref(self),))

    def tidy(self) -> None:
        """Remove the rows that are left, now or, if the store is busy, another time."""
        ended = set(self.left)
        with suppress(SlothStateError):
            with self._store.busy.until(time.monotonic() + GRACE):
                self._store.write(waiters.remove, ended)
            self.left -= ended

    def tidy_later(self, pause: float) -> bool:
        """Remove the rows that are left after a pause, unless another thread does; return whether to go on."""
        with self._tidying.hold(0) as is_held:
            if not is_held or self._store.refusal is not None:
                return False
            time.sleep(pause)
            self.tidy()
        # Asked last: whoever was refused the turn meanwhile had added its own before.
        return bool(self.left)

    def close(self) -> None:
        """Remove all rows of this State."""
        if self._running or self.left:
            self.left |= self._running
            self.tidy()

    def rows(self) -> list[waiters.WaiterRow]:
        """Return the rows of those who wait and live, whoever has waited for longest first."""
        rows = [row for row in self._store.read(waiters.rows) if row.nonce not in self.left]
        dead = {owner for owner in {row.owner for row in rows} if self._ownership.is_dead(owner)}
        return [row for row in rows if row.owner not in dead]

    def sweep(self) -> int:
        """Remove the rows of dead owners, and what is left of our own; return how many were of the dead."""
        if self.left:
            self.tidy()
        owners = {row.owner for row in self._store.read(waiters.rows)}
        dead = [owner for owner in owners if self._ownership.is_dead(owner)]
        return sum(self._store.write(waiters.remove_owner, owner) for owner in dead)


def _tidy_later(reference: weakref.ref[Announcements]) -> None:
    """What a thread does until nothing is left: a row of one that waits no longer would keep shared holders out."""
    pause = LONGEST_PAUSE / 10
    while (each := reference()) is not None and each.tidy_later(pause):
        del each
        pause = min(LONGEST_PAUSE, 2 * pause)
