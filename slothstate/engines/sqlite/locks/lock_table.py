"""How a lock is won, kept and given up: `protocol.LockTable` on the rows of `table`.

Whoever finds a lock taken looks whether its owner lives: a dead owner's lock is free at once.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from slothstate.caller import is_cooperative
from slothstate.engines.sqlite.busy import refuse_wait_for_itself
from slothstate.engines.sqlite.locks import table
from slothstate.engines.sqlite.locks.announcement import ANNOUNCE_AFTER, GRACE, Announcements
from slothstate.engines.sqlite.locks.boot_clock import boot_id, boot_ms
from slothstate.engines.sqlite.locks.owner import POLL, Ownership, host
from slothstate.errors import NotSupported, SlothStateError, StateBusy, StateIOError

if TYPE_CHECKING:
    from slothstate.descriptions import LockDescription
    from slothstate.engines.sqlite.store import Store

__all__ = ["LockTable"]

LIVENESS_INTERVAL: Final = 0.03
"""Seconds between two looks whether the owner lives."""

COOPERATIVE_PAUSE: Final = 0.005
"""Seconds between two looks at the row where greenlets share the thread."""


class LockTable:
    """The locks of a store, as the one owner sees them that its engine is once it takes its first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ownership = Ownership(store.path)
        self._announcements = Announcements(store, self._ownership)

    def acquire(
        self,
        name: str,
        nonce: int,
        timeout: float | None,
        ttl_ms: int | None,
        blocked: Callable[[int], None],
        /,
        *,
        shared: bool = False,
        slots: int = 1,
    ) -> int | None:
        self._require_usable(name)
        if shared or slots != 1:
            raise NotSupported(f"lock {name!r}: shared locks and slots are not supported yet")
        if timeout == 0:
            # Looked at first: a lock that is taken is found so without waiting for whoever is writing.
            row = self._store.read(table.find, name)
            if row is not None and not self._is_free(row):
                return None
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            token = self._attempt(name, nonce, ttl_ms, deadline)
            if token is None and timeout != 0:
                try:
                    token = self._wait(name, nonce, deadline, ttl_ms, blocked)
                finally:
                    self._announcements.end(nonce)
            return token
        except BaseException:
            # Ctrl-C after the row was written and before that is known would leave a lock that nobody can free.
            with suppress(SlothStateError):
                self._store.write(table.remove, name, nonce)
            raise

    def _wait(
        self, name: str, nonce: int, deadline: float | None, ttl_ms: int | None, blocked: Callable[[int], None]
    ) -> int | None:
        cache = self._store.cache
        holder = 0
        began = time.monotonic()
        look_at_owner = began + LIVENESS_INTERVAL
        announce_at = began + ANNOUNCE_AFTER
        while deadline is None or time.monotonic() < deadline:
            self._store.ensure_identity()
            seen = cache.sync()
            row = self._store.read(table.find, name)
            now, now_boot_ms = time.monotonic(), boot_ms()
            is_free = row is None or self._is_expired(row, now_boot_ms)
            if row is not None and not is_free:
                if row.nonce != holder:
                    holder = row.nonce
                    blocked(holder)
                if now >= look_at_owner:
                    look_at_owner = now + LIVENESS_INTERVAL
                    is_free = not self._ownership.is_alive(row.owner)
            if is_free:
                token = self._attempt(name, nonce, ttl_ms, deadline)
                if token is not None:
                    return token
            elif now >= announce_at:
                is_announced = self._announcements.announce(name, nonce, began)
                announce_at = math.inf if is_announced else now + ANNOUNCE_AFTER
            pause = LIVENESS_INTERVAL if deadline is None else min(LIVENESS_INTERVAL, deadline - now)
            if row is not None and row.expires_boot_ms is not None and row.boot_id == boot_id():
                pause = min(pause, (row.expires_boot_ms - now_boot_ms) / 1000)
            if is_cooperative():
                # The wait in C would keep all greenlets of the thread from running, the holder's as well.
                time.sleep(max(0.0, min(pause, COOPERATIVE_PAUSE)))
                continue
            if seen is not None:
                # Ends with the next commit of anybody, in C and without the GIL.
                cache.wait(seen, max(0.0, pause))
            # Not at each of the thousands of commits a second that the store may see; and jittered, so that many
            # waiters do not all look at the same moment. Without a wal-index this is all the waiting there is.
            rest = POLL * (0.5 + os.urandom(1)[0] / 256) - (time.monotonic() - now)
            if rest > 0:
                time.sleep(rest)
        return None

    def _attempt(self, name: str, nonce: int, ttl_ms: int | None, deadline: float | None) -> int | None:
        """Acquire a lock if it is free; None if it is not, or if the store stays busy past the deadline."""
        owner = self._ownership.become()
        began = boot_ms()
        expires_boot_ms = None if ttl_ms is None else began + ttl_ms
        claim = table.Claim(name, nonce, owner, host(), os.getpid(), boot_id(), expires_boot_ms)
        try:
            if deadline is None:
                token = self._store.write(table.acquire, claim, self._is_free)
            else:
                with self._store.busy.until(deadline + GRACE):
                    token = self._store.write(table.acquire, claim, self._is_free)
            if isinstance(token, table.LockRow):
                return None
            # The claim may have waited for another writer: its time runs from when it was granted.
            if ttl_ms is not None and boot_ms() - began > ttl_ms // 20:
                granted = boot_ms()
                # Also if its time was up by the time it was granted.
                self._store.write(table.extend, name, nonce, granted + ttl_ms, 0)
            return token
        except StateBusy:
            if deadline is None or time.monotonic() < deadline:
                # The next attempt, too, would be in the way of this very thread.
                refuse_wait_for_itself(self._store.path)
            return None

    def release(self, name: str, nonce: int, /) -> bool:
        self._require_usable(name)
        return self._release(name, nonce)

    def _release(self, name: str, nonce: int) -> bool:
        was_held = self._store.write(table.release, name, nonce, boot_ms())
        if self._announcements.left:
            self._announcements.tidy()
        return was_held

    def release_own(self, name: str, /) -> bool:
        self._require_usable(name)
        owner = self._ownership.name
        row = None if owner is None else self._store.read(table.find, name)
        return row is not None and row.owner == owner and self._release(name, row.nonce)

    def holds(self, name: str, nonce: int, /) -> bool:
        return self._store.read(table.holds, name, nonce, boot_ms())

    def holder(self, name: str, /) -> int | None:
        row = self._store.read(table.find, name)
        return None if row is None or self._is_free(row) else row.nonce

    def extend(self, name: str, nonce: int, ttl_ms: int, /) -> bool:
        now_boot_ms = boot_ms()
        return self._store.write(table.extend, name, nonce, now_boot_ms + ttl_ms, now_boot_ms)

    def remove(self, name: str, alive: bool, /) -> bool:
        self._require_usable(name)
        row = self._store.read(table.find, name)
        if row is None or not (alive or self._is_free(row)):
            return False
        # The very acquisition that was looked at: a new owner keeps its lock.
        return bool(self._store.write(table.remove, name, row.nonce))

    def describe(self) -> list[LockDescription]:
        now_ms, now_boot_ms = self._store.now(), boot_ms()
        held = [row for row in self._store.read(table.rows) if not self._is_expired(row, now_boot_ms)]
        waiting = self._announcements.rows() if held else []
        return [
            {
                "name": row.name,
                "owner": {"host": row.host, "pid": row.pid},
                "token": row.token,
                "since": row.since_ms / 1000,
                "expires": None if row.expires_boot_ms is None else (now_ms + row.expires_boot_ms - now_boot_ms) / 1000,
                "alive": self._is_alive(row.owner),
                # Whoever has just acquired it waits no longer, but may not have removed its row yet.
                "waiting": [
                    {"host": waiter.host, "pid": waiter.pid, "since": waiter.since_ms / 1000}
                    for waiter in waiting
                    if waiter.name == row.name and waiter.nonce != row.nonce
                ],
            }
            for row in held
        ]

    def sweep(self) -> int:
        removed = self._store.write(table.remove_expired, boot_ms(), boot_id())
        for row in self._store.read(table.rows):
            if self._is_expired(row, boot_ms()) or self._ownership.is_dead(row.owner):
                removed += self._store.write(table.remove, row.name, row.nonce)
        removed += self._announcements.sweep()
        self._ownership.sweep()
        return removed

    def forget(self) -> None:
        self._ownership.forget()
        self._announcements.forget()

    def end(self) -> None:
        owner = self._ownership.name
        with self._store.busy.until(time.monotonic() + GRACE):
            if owner is not None:
                # What cannot be written now is free all the same once its owner is gone.
                with suppress(SlothStateError):
                    self._store.write(table.remove_owner, owner)
            self._announcements.close()
        self._ownership.end()

    def _require_usable(self, name: str) -> None:
        if self._store.is_caller_writing():
            # The row would be part of the transaction: invisible until it commits, gone if it rolls back.
            raise SlothStateError(
                f"lock {name!r} cannot be taken or freed inside a transaction: lock first, then begin"
            )

    def _is_free(self, row: table.LockRow) -> bool:
        return self._is_expired(row, boot_ms()) or not self._ownership.is_alive(row.owner)

    def _is_alive(self, owner: str) -> bool | None:
        try:
            return self._ownership.is_alive(owner)
        except StateIOError:
            return None

    def _is_expired(self, row: table.LockRow, now_boot_ms: int) -> bool:
        # Of another boot only the owner's file can tell: the clocks do not compare.
        return row.expires_boot_ms is not None and row.boot_id == boot_id() and row.expires_boot_ms <= now_boot_ms
