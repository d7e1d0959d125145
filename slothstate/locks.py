"""Locks across processes: who owns one, how to wait for one, and how to notice that one was lost.

A lock is a row of the store. A State that takes its first lock becomes an owner. Whoever finds a lock taken looks
whether its owner lives: a dead owner's lock is free at once.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypedDict

from slothstate.acquisition import Acquisition, is_cooperative, refuse_own
from slothstate.caller import current
from slothstate.engines.sqlite.locks import table
from slothstate.engines.sqlite.locks.announcement import ANNOUNCE_AFTER, GRACE, Waiting
from slothstate.engines.sqlite.locks.boot_clock import boot_id, boot_ms
from slothstate.engines.sqlite.locks.owner import POLL, Ownership, host
from slothstate.errors import LockLost, LockTimeout, SlothStateError, StateBusy, StateIOError

if TYPE_CHECKING:
    from slothstate.engines.sqlite import Store

__all__ = ["Lock", "LockDescription", "Locks", "Owner", "Waiter", "holding"]

LIVENESS_INTERVAL: Final = 0.03
"""Seconds between two looks whether the owner lives."""

COOPERATIVE_PAUSE: Final = 0.005
"""Seconds between two looks at the row where greenlets share the thread."""

TIDY_AT: Final = 256
"""Acquisitions that a State remembers before it looks for those whose callers have ended."""


class Owner(TypedDict):
    """Who holds a lock; for people, ownership is never decided by it."""

    host: str
    pid: int


class Waiter(Owner):
    """Who waits for a lock, and since when, in seconds since the epoch."""

    since: float


class LockDescription(TypedDict):
    """A lock that somebody holds. Times are seconds since the epoch; `expires` is None without a TTL.

    `alive` is False for one that its dead owner left, None where that cannot be told: a file of the owner's cannot be
    opened.
    `waiting` names those who live and have waited for more than a moment, whoever has waited for longest first.
    """

    name: str
    owner: Owner
    token: int
    since: float
    expires: float | None
    alive: bool | None
    waiting: list[Waiter]


class Locks:
    """The locks of one State: what its callers hold, and the waiting for others."""

    def __init__(self, engine: Store) -> None:
        self._engine = engine
        self._boot_id = boot_id()
        self._ownership = Ownership(engine.path)
        self._waiting = Waiting(engine, self._ownership)
        self._forget_held()
        _all.add(weakref.ref(self, _all.discard))
        engine.upkeep = weakref.WeakMethod(self.sweep)

    def forget(self) -> None:
        """Hold nothing; what a forked child does, which owns none of its parent's locks."""
        self._forget_held()
        self._ownership.forget()
        self._waiting.forget()

    def _forget_held(self) -> None:
        self._life = object()
        # What each caller acquired last, also when it was lost since: that is how a late `unlock` is known as such.
        self._held: dict[tuple[str, tuple[int, int, int]], Acquisition] = {}
        self._tidy_at = TIDY_AT

    def acquisition(self, name: str, ttl: float | None, *, is_scoped: bool = False) -> Acquisition:
        """Return what `acquire` is to acquire for the calling thread or task."""
        return Acquisition(name, self._life, has_ttl=ttl is not None, is_scoped=is_scoped)

    def acquire(self, wanted: Acquisition, timeout: float | None, ttl: float | None) -> bool:
        """Acquire a lock, waiting up to `timeout` seconds (None: for ever); False if it could not be had.

        An exception that strikes in here (Ctrl-C) leaves nothing held.
        Raises: `AlreadyHeld` for a wait that only its own thread could end; `StateIOError` where it cannot be told
        whether the holder lives.
        """
        self._require_usable(wanted.name)
        mine = self._held.get(wanted.key)
        if mine is not None and self.holds(mine):
            refuse_own(mine, wanted, timeout, same_state=True)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            if self._attempt(wanted, ttl, deadline):
                return True
            try:
                return self._wait(wanted, timeout, ttl, deadline)
            finally:
                self._waiting.end(wanted.nonce)
        except BaseException:
            self._abandon(wanted)
            raise

    def try_acquire(self, name: str, ttl: float) -> bool:
        """Acquire a lock without waiting; False if anybody holds it, this State included."""
        self._require_usable(name)
        # Looked at first: a lock that is taken is found so without waiting for whoever is writing.
        row = self._engine.read(table.find, name)
        if row is not None and not self._is_free(row):
            return False
        wanted = self.acquisition(name, ttl)
        try:
            return self._attempt(wanted, ttl, time.monotonic())
        except BaseException:
            self._abandon(wanted)
            raise

    def _wait(self, wanted: Acquisition, timeout: float | None, ttl: float | None, deadline: float | None) -> bool:
        cache = self._engine.cache
        holder = 0
        began = time.monotonic()
        look_at_owner = began + LIVENESS_INTERVAL
        announce_at = began + ANNOUNCE_AFTER
        while deadline is None or time.monotonic() < deadline:
            self._engine.ensure_identity()
            token = cache.sync()
            row = self._engine.read(table.find, wanted.name)
            now, now_boot_ms = time.monotonic(), boot_ms()
            is_free = row is None or self._is_expired(row, now_boot_ms)
            if row is not None and not is_free:
                if row.nonce != holder:
                    holder = row.nonce
                    self._refuse_own(row, wanted, timeout)
                if now >= look_at_owner:
                    look_at_owner = now + LIVENESS_INTERVAL
                    is_free = not self._ownership.is_alive(row.owner)
            if is_free:
                if self._attempt(wanted, ttl, deadline):
                    return True
            elif now >= announce_at:
                is_announced = self._waiting.announce(wanted.name, wanted.nonce, began)
                announce_at = math.inf if is_announced else now + ANNOUNCE_AFTER
            pause = LIVENESS_INTERVAL if deadline is None else min(LIVENESS_INTERVAL, deadline - now)
            if row is not None and row.expires_boot_ms is not None and row.boot_id == self._boot_id:
                pause = min(pause, (row.expires_boot_ms - now_boot_ms) / 1000)
            if is_cooperative():
                # The wait in C would keep all greenlets of the thread from running, the holder's as well.
                time.sleep(max(0.0, min(pause, COOPERATIVE_PAUSE)))
                continue
            if token is not None:
                # Ends with the next commit of anybody, in C and without the GIL.
                cache.wait(token, max(0.0, pause))
            # Not at each of the thousands of commits a second that the store may see; and jittered, so that many
            # waiters do not all look at the same moment. Without a wal-index this is all the waiting there is.
            rest = POLL * (0.5 + os.urandom(1)[0] / 256) - (time.monotonic() - now)
            if rest > 0:
                time.sleep(rest)
        return False

    def _refuse_own(self, row: table.LockRow, wanted: Acquisition, timeout: float | None) -> None:
        """Refuse to wait for a lock that the waiting thread holds itself. Raises: `AlreadyHeld`."""
        for reference in list(_all):
            each = reference()
            if each is not None and each._ownership.name == row.owner:
                for holder in list(each._held.values()):
                    if holder.nonce == row.nonce:
                        refuse_own(holder, wanted, timeout, same_state=each is self)

    def release(self, name: str) -> bool:
        """End the caller's own acquisition of a lock, if it has one, else that of anybody in this State.

        Return whether it still held the lock.
        """
        self._require_usable(name)
        mine = self._held.get((name, current().identity))
        if mine is not None:
            return self._release(mine)
        owner = self._ownership.name
        row = None if owner is None else self._engine.read(table.find, name)
        return row is not None and row.owner == owner and self._delete(name, row.nonce)

    def end(self, acquisition: Acquisition) -> bool:
        """End one acquisition; False when it was lost or ended before, or is not this process's."""
        if acquisition.is_ended or acquisition.life is not self._life or not acquisition.token:
            return False
        if self._engine.in_transaction:
            # Ctrl-C can leave two blocks to be ended in the wrong order; rolled back, this would be undone.
            self._engine.after_transaction(partial(self.end, acquisition))
            return self.holds(acquisition)
        return self._release(acquisition)

    def _abandon(self, acquisition: Acquisition) -> None:
        """End an acquisition whose result an exception keeps from its caller."""
        with suppress(SlothStateError):
            self.end(acquisition)

    def holds(self, acquisition: Acquisition) -> bool:
        """Return whether the store still counts this acquisition as the lock's holder."""
        return acquisition.life is self._life and self._engine.read(
            table.holds, acquisition.name, acquisition.nonce, boot_ms()
        )

    def release_all(self) -> None:
        """Release everything this State holds and stop being an owner."""
        owner = self._ownership.name
        with self._engine.busy.until(time.monotonic() + GRACE):
            if owner is not None:
                # What cannot be written now is free all the same once its owner is gone.
                with suppress(SlothStateError):
                    self._engine.write(table.remove_owner, owner)
            self._waiting.close()
        self._held.clear()
        self._ownership.end()

    def rest(self) -> None:
        """Release what no other thread holds: at the end of the process, which daemon threads go on until."""
        mine = current()
        held = list(self._held.values())
        others = [each for each in held if not each.caller.shares_thread(mine) and not each.caller.has_ended()]
        if not others:
            self.release_all()
            return
        for each in held:
            if each not in others:
                self._abandon(each)

    def describe(self) -> list[LockDescription]:
        """Return the locks that are held, by name."""
        now_ms, now_boot_ms = self._engine.now(), boot_ms()
        held = [row for row in self._engine.read(table.rows) if not self._is_expired(row, now_boot_ms)]
        waiting = self._waiting.rows() if held else []
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

    def break_open(self, name: str, alive: bool) -> bool:
        """Remove a lock that is free but not released, or with `alive` any; return whether it was there."""
        self._require_usable(name)
        row = self._engine.read(table.find, name)
        if row is None or not (alive or self._is_free(row)):
            return False
        # The very acquisition that was looked at: a new owner keeps its lock.
        return bool(self._engine.write(table.remove, name, row.nonce))

    def sweep(self) -> int:
        """Remove the rows of expired locks and what dead owners left, rows and files; return how many rows."""
        removed = self._engine.write(table.remove_expired, boot_ms(), self._boot_id)
        for row in self._engine.read(table.rows):
            if self._is_expired(row, boot_ms()) or self._ownership.is_dead(row.owner):
                removed += self._engine.write(table.remove, row.name, row.nonce)
        removed += self._waiting.sweep()
        self._ownership.sweep()
        return removed

    def _require_usable(self, name: str) -> None:
        self._engine.require_usable()
        if self._engine.in_transaction:
            # The row would be part of the transaction: invisible until it commits, gone if it rolls back.
            raise SlothStateError(
                f"lock {name!r} cannot be taken or freed inside a transaction: lock first, then begin"
            )

    def _attempt(self, wanted: Acquisition, ttl: float | None, deadline: float | None) -> bool:
        """Acquire a lock if it is free; False if it is not, or if the store stays busy past the deadline."""
        owner = self._ownership.become()
        began = boot_ms()
        ttl_ms = None if ttl is None else max(1, round(ttl * 1000))
        expires_boot_ms = None if ttl_ms is None else began + ttl_ms
        claim = table.Claim(wanted.name, wanted.nonce, owner, host(), os.getpid(), self._boot_id, expires_boot_ms)
        try:
            if deadline is None:
                token = self._engine.write(table.acquire, claim, self._is_free)
            else:
                with self._engine.busy.until(deadline + GRACE):
                    token = self._engine.write(table.acquire, claim, self._is_free)
            if isinstance(token, table.LockRow):
                return False
            wanted.token = token
            self._held[wanted.key] = wanted
            # The claim may have waited for another writer: its time runs from when it was granted.
            if ttl_ms is not None and boot_ms() - began > ttl_ms // 20:
                self._engine.write(table.extend, wanted.name, wanted.nonce, boot_ms() + ttl_ms)
            if len(self._held) > self._tidy_at:
                self._tidy()
            return True
        except StateBusy:
            return False
        except BaseException:
            # Ctrl-C after the row was written and before it is known here would leave a lock that nobody can free.
            with suppress(SlothStateError):
                self._engine.write(table.remove, wanted.name, wanted.nonce)
            raise

    def _tidy(self) -> None:
        """Forget what callers acquired that have ended: none of them unlocks any more."""
        for acquisition in list(self._held.values()):
            if acquisition.caller.has_ended():
                self._held.pop(acquisition.key, None)
        self._tidy_at = max(TIDY_AT, 2 * len(self._held))

    def _release(self, acquisition: Acquisition) -> bool:
        # Forgotten only afterwards: if the store is too busy to release it, `unlock` can try again.
        was_held = self._delete(acquisition.name, acquisition.nonce)
        acquisition.is_ended = True
        if self._held.get(acquisition.key) is acquisition:
            self._held.pop(acquisition.key, None)
        if self._waiting.left:
            self._waiting.tidy()
        return was_held

    def _delete(self, name: str, nonce: int) -> bool:
        return self._engine.write(table.release, name, nonce, boot_ms())

    def _is_free(self, row: table.LockRow) -> bool:
        return self._is_expired(row, boot_ms()) or not self._ownership.is_alive(row.owner)

    def _is_alive(self, owner: str) -> bool | None:
        try:
            return self._ownership.is_alive(owner)
        except StateIOError:
            return None

    def _is_expired(self, row: table.LockRow, now_boot_ms: int) -> bool:
        # Of another boot only the owner's file can tell: the clocks do not compare.
        return row.expires_boot_ms is not None and row.boot_id == self._boot_id and row.expires_boot_ms <= now_boot_ms


_all: set[weakref.ref[Locks]] = set()
"""Those of this process. References, and not a WeakSet: a set can be copied while other threads change it."""


def _forget_all() -> None:
    for reference in list(_all):
        each = reference()
        if each is not None:
            each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class Lock:
    """A lock that `State.locked` acquired.

    What it does not promise: code that acts on something outside the store can go on after the lock was lost (a TTL
    that passed, a process that was stopped). Hand `token` to that resource and let it refuse lower ones, or write
    through `transaction()`.
    """

    def __init__(self, locks: Locks, engine: Store, held: Acquisition) -> None:
        self._locks = locks
        self._engine = engine
        self._held = held

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._held.name

    @property
    def token(self) -> int:
        """The fencing number of this acquisition; a later acquisition of the same name always has a higher one."""
        return self._held.token

    @property
    def lost(self) -> bool:
        """Whether the lock is no longer held. Asked of the store each time."""
        return not self._locks.holds(self._held)

    def ensure_held(self) -> None:
        """Raise `LockLost` if the lock is no longer held."""
        if self.lost:
            raise LockLost(f"lock {self.name!r} (token {self.token}) is no longer held")

    def transaction(self) -> AbstractContextManager[None]:
        """Hold a write transaction that begins only if the lock is still held.

        Nobody can take the lock over while the transaction is open, so what it writes is fenced.
        Raises: `LockLost` before the block runs.
        """
        return self._engine.transaction(self.ensure_held)


@contextmanager
def holding(
    locks: Locks, engine: Store, name: str, timeout: float | None, ttl: float | None = None, *, to_the_end: bool
) -> Iterator[Lock]:
    """Hold a lock while the block runs; `to_the_end`: an error if it is no longer held when the block ends.

    Raises: `LockTimeout`; `LockLost`. An error of the block is never replaced by one of releasing.
    """
    acquisition = locks.acquisition(name, ttl, is_scoped=True)
    completed = kept = False
    try:
        if not locks.acquire(acquisition, timeout, ttl):
            raise LockTimeout(f"lock {name!r} was not acquired within {timeout} s")
        yield Lock(locks, engine, acquisition)
        completed = True
    finally:
        try:
            kept = locks.end(acquisition)
        except SlothStateError:
            if completed:
                raise
        except BaseException:
            # A second try for an exception out of a signal handler; the release can have been cut short or done.
            locks.end(acquisition)
            raise
    if to_the_end and not kept:
        raise LockLost(f"lock {name!r} (token {acquisition.token}) was lost before its block ended")
