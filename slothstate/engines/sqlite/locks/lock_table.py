"""How a lock is won, kept and given up: `protocol.LockTable` on the rows of `table`.

Whoever finds a lock taken looks whether its owner lives: a dead owner's lock is free at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from slothstate.engines.claiming import Waiter
from slothstate.engines.lookout import SELDOM, Lookers
from slothstate.engines.sqlite.busy import refuse_wait_for_itself
from slothstate.engines.sqlite.locks import table
from slothstate.engines.sqlite.locks.announcement import ANNOUNCE_AFTER, GRACE, Announcements
from slothstate.engines.sqlite.locks.boot_clock import boot_id, boot_ms
from slothstate.engines.sqlite.locks.owner import LIVENESS_INTERVAL, Ownership, host
from slothstate.errors import SlothStateError, StateBusy
from slothstate.hints import TYPE_CHECKING
from slothstate.identity import process_id

if TYPE_CHECKING:
    from slothstate.descriptions import LockDescription
    from slothstate.engines.locking import Wanted
    from slothstate.engines.sqlite.changes import CommitWatch
    from slothstate.engines.sqlite.store import Store

__all__ = ["LockTable"]


class _Wait(Waiter):
    """A wait for a lock: what it has seen so far, and when it looks and tells next (`time.monotonic`).

    `ahead`: who waited to have the lock alone when this began. Whoever comes later does not keep it out, or else a
    stream of those would for ever. `pause`: seconds after which the lock may be free though nobody commits.
    """

    def __init__(self, wanted: Wanted, ttl_ms: int | None, blocked: Callable[[int], None]) -> None:
        super().__init__()
        self.name = wanted.name
        self.nonce = wanted.nonce
        self.slots = table.SHARED if wanted.shared else wanted.slots
        self.ttl_ms = ttl_ms
        self.blocked = blocked
        self.began = self.look_at_owners = time.monotonic()
        self.announce_at = self.began + ANNOUNCE_AFTER
        self.holders: set[int] = set()
        self.ahead: set[int] | None = None
        self.pause = 0.0


class LockTable:
    """The locks of a store, as the one owner sees them that its engine is once it takes its first."""

    def __init__(self, store: Store, ownership: Ownership, changes: CommitWatch) -> None:
        self._store = store
        self._changes = changes
        self._boot_id = boot_id()
        self._ownership = ownership
        self._announcements = Announcements(store, self._ownership)
        # For the first look of all: whoever waits then is ahead. Not a method, which costs each lock.
        self._waits_alone: Callable[[tuple[str, int]], bool] = lambda waiter: ownership.is_alive(waiter[0])
        self._lookers = Lookers()
        # Of those who wait by themselves.
        self._waits: dict[int, _Wait] = {}

    def acquire(
        self, wanted: Wanted, timeout: float | None, ttl_ms: int | None, blocked: Callable[[int], None], /
    ) -> int | None:
        name, slots = wanted.name, (table.SHARED if wanted.shared else wanted.slots)
        self._require_usable(name)
        if timeout == 0:
            # Looked at first: a lock that is taken is found so without waiting for whoever is writing.
            found = self._store.read(table.look, name, slots)
            if not self._may_try(found, slots, self._waits_alone, look_at_owners=True):
                return None
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            token = self._attempt(name, wanted.nonce, slots, ttl_ms, deadline, self._waits_alone)
            if token is None and timeout != 0:
                token = self._wait(_Wait(wanted, ttl_ms, blocked), deadline)
            return token
        except BaseException:
            self._undo(wanted)
            raise

    def attempt(self, wanted: Wanted, ttl_ms: int | None, blocked: Callable[[int], None], /) -> int | None:
        self._require_usable(wanted.name)
        wait = self._waits.get(wanted.nonce)
        if wait is None:
            wait = self._waits[wanted.nonce] = _Wait(wanted, ttl_ms, blocked)
        try:
            token = self._step(wait, time.monotonic())
            if token is not None:
                self.end_wait(wanted.nonce)
            return token
        except BaseException:
            self._undo(wanted)
            raise

    def _undo(self, wanted: Wanted) -> None:
        # Ctrl-C after the row was written and before that is known would leave a lock that nobody can free.
        with suppress(SlothStateError):
            self._store.write(table.remove, wanted.name, wanted.nonce)

    def pause(self, nonce: int, /) -> float:
        wait = self._waits.get(nonce)
        return 0.0 if wait is None else self._pause(wait)

    def _pause(self, wait: _Wait) -> float:
        """Return the seconds until the next step of a wait, though nobody commits."""
        # Alone or shared: what one of them has no use for the other may take.
        is_first = self._lookers.is_first(wait, (wait.name, wait.slots))
        until_announced = wait.announce_at - time.monotonic()
        left = LIVENESS_INTERVAL if is_first or until_announced <= 0 else min(SELDOM, until_announced)
        return max(0.0, min(left, wait.pause))

    def end_wait(self, nonce: int, /) -> None:
        wait = self._waits.pop(nonce, None)
        if wait is not None:
            wait.is_over = True
        self._announcements.end(nonce)

    def _wait(self, wait: _Wait, deadline: float | None) -> int | None:
        try:
            while deadline is None or time.monotonic() < deadline:
                seen = self._changes.token()
                token = self._step(wait, deadline)
                if token is not None:
                    return token
                left = math.inf if deadline is None else deadline - time.monotonic()
                self._changes.wait(seen, max(0.0, min(left, self._pause(wait))))
            return None
        finally:
            wait.is_over = True
            self._announcements.end(wait.nonce)

    def _step(self, wait: _Wait, deadline: float | None) -> int | None:
        """Try once more, if that may succeed; else see to what a wait has to do now."""
        found = self._store.read(table.look, wait.name, wait.slots)
        if wait.ahead is None:
            wait.ahead = {nonce for _, nonce in found.alone}
        now = time.monotonic()
        looks = now >= wait.look_at_owners
        if looks:
            wait.look_at_owners = now + LIVENESS_INTERVAL
        is_ahead = partial(self._is_ahead, wait.ahead)
        if self._may_try(found, wait.slots, is_ahead, look_at_owners=looks):
            token = self._attempt(wait.name, wait.nonce, wait.slots, wait.ttl_ms, deadline, is_ahead)
            if token is not None:
                return token
        else:
            for row in found.rows:
                if row.nonce not in wait.holders:
                    wait.holders.add(row.nonce)
                    wait.blocked(row.nonce)
            # At once where shared holders must see it.
            at_once = wait.slots == 1 and any(row.slots == table.SHARED for row in found.rows)
            if now >= wait.announce_at or (at_once and wait.announce_at < math.inf):
                is_announced = self._announcements.announce(wait.name, wait.nonce, wait.slots, wait.began)
                wait.announce_at = math.inf if is_announced else now + ANNOUNCE_AFTER
        wait.pause = self._until_expiry(found)
        return None

    def _is_ahead(self, ahead: set[int], waiter: tuple[str, int]) -> bool:
        return waiter[1] in ahead and self._waits_alone(waiter)

    def _may_try(
        self, found: table.Holders, slots: int, is_ahead: Callable[[tuple[str, int]], bool], *, look_at_owners: bool
    ) -> bool:
        """Return whether an attempt may succeed, as far as it can be told by reading."""
        now_boot_ms = boot_ms()
        if any(self._is_expired(row, now_boot_ms) for row in found.rows):
            return True
        if look_at_owners and not all(self._ownership.is_alive(row.owner) for row in found.rows):
            return True
        # Slots that differ are an error, which the attempt tells.
        differs = any(row.slots != slots and {row.slots, slots} != {1, table.SHARED} for row in found.rows)
        return differs or found.may_join(slots, is_ahead)

    def _until_expiry(self, found: table.Holders) -> float:
        """Return the seconds until the first of these rows expires."""
        now_boot_ms = boot_ms()
        ends = [
            row.expires_boot_ms
            for row in found.rows
            if row.expires_boot_ms is not None and row.boot_id == self._boot_id
        ]
        return (min(ends) - now_boot_ms) / 1000 if ends else math.inf

    def _attempt(
        self,
        name: str,
        nonce: int,
        slots: int,
        ttl_ms: int | None,
        deadline: float | None,
        is_ahead: Callable[[tuple[str, int]], bool],
    ) -> int | None:
        """Acquire a lock if it is free; None if it is not, or if the store stays busy past the deadline."""
        owner = self._ownership.become()
        began = 0 if ttl_ms is None else boot_ms()
        expires_boot_ms = None if ttl_ms is None else began + ttl_ms
        claim = table.Claim(name, nonce, owner, host(), process_id(), self._boot_id, expires_boot_ms, slots)
        try:
            if deadline is None:
                token = self._store.write(table.acquire, claim, self._is_free, is_ahead)
            else:
                with self._store.busy.until(deadline + GRACE):
                    token = self._store.write(table.acquire, claim, self._is_free, is_ahead)
            # The claim may have waited for another writer: its time runs from when it was granted.
            if token is not None and ttl_ms is not None and boot_ms() - began > ttl_ms // 20:
                granted = boot_ms()
                # Also if its time was up by the time it was granted.
                self._store.write(table.extend, name, nonce, granted + ttl_ms, 0, self._boot_id)
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
        rows = [] if owner is None else self._store.read(table.look, name).rows
        # The first that is not lost.
        return any(self._release(name, row.nonce) for row in rows if row.owner == owner)

    def holds(self, name: str, nonce: int, /) -> bool:
        return self._store.read(table.holds, name, nonce, boot_ms())

    def holders(self, name: str, /) -> list[int]:
        return [row.nonce for row in self._store.read(table.look, name).rows if not self._is_free(row)]

    def extend(self, name: str, nonce: int, ttl_ms: int, /) -> bool:
        now_boot_ms = boot_ms()
        return self._store.write(table.extend, name, nonce, now_boot_ms + ttl_ms, now_boot_ms, self._boot_id)

    def remove(self, name: str, alive: bool, /) -> bool:
        self._require_usable(name)
        rows = [row for row in self._store.read(table.look, name).rows if alive or self._is_free(row)]
        # The very acquisitions that were looked at: a new owner keeps its lock.
        return sum(self._store.write(table.remove, name, row.nonce) for row in rows) > 0

    def describe(self) -> list[LockDescription]:
        now_ms, now_boot_ms = self._store.now(), boot_ms()
        held = [row for row in self._store.read(table.rows) if not self._is_expired(row, now_boot_ms)]
        # Whoever has just acquired it waits no longer, but may not have removed its row yet.
        holders = {row.nonce for row in held}
        waiting = [waiter for waiter in self._announcements.rows() if waiter.nonce not in holders] if held else []
        return [
            {
                "name": row.name,
                "owner": {"host": row.host, "pid": row.pid},
                "token": row.token,
                "shared": row.slots == table.SHARED,
                "slots": None if row.slots == table.SHARED else row.slots,
                "since": row.since_ms / 1000,
                "expires": None if row.expires_boot_ms is None else (now_ms + row.expires_boot_ms - now_boot_ms) / 1000,
                "alive": self._ownership.is_known_alive(row.owner),
                "waiting": [
                    {"host": waiter.host, "pid": waiter.pid, "since": waiter.since_ms / 1000}
                    for waiter in waiting
                    if waiter.name == row.name
                ],
            }
            for row in held
        ]

    def sweep(self) -> int:
        removed = self._store.write(table.remove_expired, boot_ms(), self._boot_id)
        for row in self._store.read(table.rows):
            if self._is_expired(row, boot_ms()) or self._ownership.is_dead(row.owner):
                removed += self._store.write(table.remove, row.name, row.nonce)
        removed += self._announcements.sweep()
        self._ownership.sweep()
        return removed

    def forget(self) -> None:
        self._ownership.forget()
        self._announcements.forget()
        self._waits.clear()

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
            self._store.require_writable()
            # The row would be part of the transaction: invisible until it commits, gone if it rolls back.
            raise SlothStateError(
                f"lock {name!r} cannot be taken or freed inside a transaction: lock first, then begin"
            )

    def _is_free(self, row: table.LockRow) -> bool:
        return self._is_expired(row, boot_ms()) or not self._ownership.is_alive(row.owner)

    def _is_expired(self, row: table.LockRow, now_boot_ms: int) -> bool:
        # Of another boot only the owner's file can tell: the clocks do not compare.
        return row.expires_boot_ms is not None and row.boot_id == self._boot_id and row.expires_boot_ms <= now_boot_ms
