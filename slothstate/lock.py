"""Locks across processes: who owns one, how to wait for one, and how to notice that one was lost.

A lock is a row of the store (slothstate/sqlite/locks.py). A State that takes its first lock becomes an owner
(slothstate/owner.py). Whoever finds a lock taken looks whether its owner lives: a dead owner's lock is free at once.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict

from slothstate.boot import boot_id, boot_ms
from slothstate.errors import AlreadyHeld, LockLost, LockTimeout, SlothStateError, StateBusy
from slothstate.owner import POLL, Ownership, host
from slothstate.sqlite import locks
from slothstate.waiting import ANNOUNCE_AFTER, GRACE, Waiting

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from slothstate.sqlite import Engine

__all__ = ["Lock", "LockDescription", "Locks", "Owner", "Waiter", "holding"]

LIVENESS_INTERVAL: Final = 0.03
"""Seconds between two looks at the owner's file, which cost ten times as much as one at its row."""


class Owner(TypedDict):
    """Who holds a lock; for people, ownership is never decided by it."""

    host: str
    pid: int


class Waiter(Owner):
    """Who waits for a lock, and since when, in seconds since the epoch."""

    since: float


class LockDescription(TypedDict):
    """A lock that somebody holds. Times are seconds since the epoch; `expires` is None without a TTL.

    `waiting` names those who live and have waited for more than a moment, whoever has waited for longest first.
    """

    name: str
    owner: Owner
    token: int
    since: float
    expires: float | None
    alive: bool
    waiting: list[Waiter]


class _Held(NamedTuple):
    name: str
    token: int
    nonce: int
    # Not its id: the system gives the id of a thread that has ended to the next one.
    thread: threading.Thread


class Locks:
    """The locks of one State: those it holds, and the waiting for others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._boot_id = boot_id()
        self._ownership = Ownership(engine.path)
        self._waiting = Waiting(engine, self._ownership)
        self._forget_held()
        _all.add(self)
        engine.upkeep = weakref.WeakMethod(self.sweep)

    def forget(self) -> None:
        """Hold nothing; what a forked child does, which owns none of its parent's locks."""
        self._forget_held()
        self._ownership.forget()
        self._waiting.forget()

    def _forget_held(self) -> None:
        self._held: dict[str, _Held] = {}
        # Reentrant: a signal handler may use the State in the middle of anything.
        self._guard = threading.RLock()

    def acquire(self, name: str, timeout: float | None, ttl: float | None, nonce: int | None = None) -> _Held | None:
        """Acquire a lock, waiting up to `timeout` seconds (None: for ever); None if it could not be had.

        An exception that strikes in here (Ctrl-C) leaves nothing held. `nonce` lets a caller end the acquisition even
        if an exception keeps its result from it.
        Raises: `AlreadyHeld` if this State holds it in this thread.
        """
        self._require_usable(name)
        mine = self._held.get(name)
        if mine is not None and mine.thread is threading.current_thread() and self.holds(mine):
            raise AlreadyHeld(f"lock {name!r} is already held by this State in this thread (token {mine.token})")
        if nonce is None:
            nonce = new_nonce()
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            held = self._attempt(name, ttl, nonce, deadline)
            if held is None:
                try:
                    held = self._wait(name, ttl, nonce, deadline)
                finally:
                    self._waiting.end(nonce)
            return held
        except BaseException:
            with suppress(SlothStateError):
                self.end(name, nonce)
            raise

    def try_acquire(self, name: str, ttl: float) -> bool:
        """Acquire a lock without waiting; False if anybody holds it, this State included."""
        self._require_usable(name)
        # Looked at first: a lock that is taken is found so without waiting for whoever is writing.
        row = self._engine.read(locks.find, name)
        if row is not None and not self._is_free(row):
            return False
        nonce = new_nonce()
        try:
            return self._attempt(name, ttl, nonce, time.monotonic()) is not None
        except BaseException:
            with suppress(SlothStateError):
                self.end(name, nonce)
            raise

    def _wait(self, name: str, ttl: float | None, nonce: int, deadline: float | None) -> _Held | None:
        cache = self._engine.cache
        probe: BaseFileLock | None = None
        probed = ""
        began = time.monotonic()
        look_at_owner = began + LIVENESS_INTERVAL
        announce_at = began + ANNOUNCE_AFTER
        while deadline is None or time.monotonic() < deadline:
            self._engine.ensure_identity()
            token = cache.sync()
            row = self._engine.read(locks.find, name)
            now, now_boot_ms = time.monotonic(), boot_ms()
            is_free = row is None or self._is_expired(row, now_boot_ms)
            if row is not None and not is_free and now >= look_at_owner:
                look_at_owner = now + LIVENESS_INTERVAL
                if row.owner != probed:
                    probed, probe = row.owner, self._ownership.probe(row.owner)
                is_free = not self._ownership.is_alive(row.owner, probe)
            if is_free:
                held = self._attempt(name, ttl, nonce, deadline)
                if held is not None:
                    return held
            elif now >= announce_at:
                is_announced = self._waiting.announce(name, nonce, began)
                announce_at = math.inf if is_announced else now + ANNOUNCE_AFTER
            pause = LIVENESS_INTERVAL if deadline is None else min(LIVENESS_INTERVAL, deadline - now)
            if row is not None and row.expires_boot_ms is not None and row.boot_id == self._boot_id:
                pause = min(pause, (row.expires_boot_ms - now_boot_ms) / 1000)
            if token is not None:
                # Ends with the next commit of anybody, in C and without the GIL.
                cache.wait(token, max(0.0, pause))
            # Not at each of the thousands of commits a second that the store may see; and jittered, so that many
            # waiters do not all look at the same moment. Without a wal-index this is all the waiting there is.
            rest = POLL * (0.5 + os.urandom(1)[0] / 256) - (time.monotonic() - now)
            if rest > 0:
                time.sleep(rest)
        return None

    def release(self, name: str) -> bool:
        """Release a lock; False when this State does not hold it any more."""
        self._require_usable(name)
        held = self._held.get(name)
        return held is not None and self._release(held)

    def end(self, name: str, nonce: int) -> bool:
        """End one acquisition; False when it was lost or ended before, or is not this process's."""
        held = self._held.get(name)
        if held is None or held.nonce != nonce:
            return False
        if self._engine.in_transaction:
            # Ctrl-C can leave two blocks to be ended in the wrong order; rolled back, this would be undone.
            self._engine.after_transaction(partial(self.end, name, nonce))
            return self.holds(held)
        return self._release(held)

    def holds(self, held: _Held) -> bool:
        """Return whether the store still counts this acquisition as the lock's holder."""
        return self._held.get(held.name) is held and self._engine.read(locks.holds, held.name, held.nonce, boot_ms())

    def release_all(self) -> None:
        """Release everything this State holds and stop being an owner."""
        with self._engine.busy.until(time.monotonic() + GRACE):
            for held in list(self._held.values()):
                # What cannot be written now is free all the same once its owner is gone.
                with suppress(SlothStateError):
                    self._release(held)
            self._waiting.close()
        with self._guard:
            self._held.clear()
        self._ownership.end()

    def rest(self) -> None:
        """Release what no other thread holds: at the end of the process, which daemon threads go on until."""
        mine = threading.current_thread()
        if any(held.thread is not mine and held.thread.is_alive() for held in list(self._held.values())):
            for held in list(self._held.values()):
                if held.thread is mine or not held.thread.is_alive():
                    with suppress(SlothStateError):
                        self._release(held)
        else:
            self.release_all()

    def describe(self) -> list[LockDescription]:
        """Return the locks that are held, by name; `alive` is False for one that its dead owner left."""
        now_ms, now_boot_ms = self._engine.now(), boot_ms()
        held = [row for row in self._engine.read(locks.rows) if not self._is_expired(row, now_boot_ms)]
        waiting = self._waiting.rows() if held else []
        return [
            {
                "name": row.name,
                "owner": {"host": row.host, "pid": row.pid},
                "token": row.token,
                "since": row.since_ms / 1000,
                "expires": None if row.expires_boot_ms is None else (now_ms + row.expires_boot_ms - now_boot_ms) / 1000,
                "alive": self._ownership.is_alive(row.owner),
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
        row = self._engine.read(locks.find, name)
        if row is None or not (alive or self._is_free(row)):
            return False
        # The very acquisition that was looked at: a new owner keeps its lock.
        return bool(self._engine.write(locks.remove, name, row.nonce))

    def sweep(self) -> int:
        """Remove the rows of expired locks and what dead owners left, rows and files; return how many rows."""
        removed = self._engine.write(locks.remove_expired, boot_ms(), self._boot_id)
        for row in self._engine.read(locks.rows):
            if self._is_free(row):
                removed += self._engine.write(locks.remove, row.name, row.nonce)
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

    def _attempt(self, name: str, ttl: float | None, nonce: int, deadline: float | None) -> _Held | None:
        """Acquire a lock if it is free; None if it is not, or if the store stays busy past the deadline."""
        owner = self._ownership.become()
        began = boot_ms()
        ttl_ms = None if ttl is None else max(1, round(ttl * 1000))
        expires_boot_ms = None if ttl_ms is None else began + ttl_ms
        claim = locks.Claim(name, nonce, owner, host(), os.getpid(), self._boot_id, expires_boot_ms)
        try:
            with self._engine.busy.until(None if deadline is None else deadline + GRACE):
                token = self._engine.write(locks.acquire, claim, self._is_free)
            if isinstance(token, locks.LockRow):
                return None
            held = _Held(name, token, nonce, threading.current_thread())
            with self._guard:
                self._held[name] = held
            # The claim may have waited for another writer: its time runs from when it was granted.
            if ttl_ms is not None and boot_ms() - began > ttl_ms // 20:
                self._engine.write(locks.extend, name, nonce, boot_ms() + ttl_ms)
            return held
        except StateBusy:
            return None
        except BaseException:
            # Ctrl-C after the row was written and before it is known here would leave a lock that nobody can free.
            with suppress(SlothStateError):
                self._engine.write(locks.remove, name, nonce)
            raise

    def _release(self, held: _Held) -> bool:
        # Forgotten only afterwards: if the store is too busy to release it, `unlock` can try again.
        was_held = self._engine.write(locks.release, held.name, held.nonce, boot_ms())
        with self._guard:
            if self._held.get(held.name) is held:
                del self._held[held.name]
        if self._waiting.left:
            self._waiting.tidy()
        return was_held

    def _is_free(self, row: locks.LockRow) -> bool:
        return self._is_expired(row, boot_ms()) or not self._ownership.is_alive(row.owner)

    def _is_expired(self, row: locks.LockRow, now_boot_ms: int) -> bool:
        # Of another boot only the owner's file can tell: the clocks do not compare.
        return row.expires_boot_ms is not None and row.boot_id == self._boot_id and row.expires_boot_ms <= now_boot_ms


_all: weakref.WeakSet[Locks] = weakref.WeakSet()


def _forget_all() -> None:
    for each in list(_all):
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def new_nonce() -> int:
    """Return a random number that names one acquisition."""
    return int.from_bytes(os.urandom(8)) >> 1


class Lock:
    """A lock that `State.locked` acquired.

    What it does not promise: code that acts on something outside the store can go on after the lock was lost (a TTL
    that passed, a process that was stopped). Hand `token` to that resource and let it refuse lower ones, or write
    through `transaction()`.
    """

    def __init__(self, locks: Locks, engine: Engine, held: _Held) -> None:
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
    locks: Locks, engine: Engine, name: str, timeout: float | None, ttl: float | None = None, *, to_the_end: bool
) -> Iterator[Lock]:
    """Hold a lock while the block runs; `to_the_end`: an error if it is no longer held when the block ends.

    Raises: `LockTimeout`; `LockLost`. An error of the block is never replaced by one of releasing.
    """
    nonce = new_nonce()
    completed = kept = False
    try:
        held = locks.acquire(name, timeout, ttl, nonce)
        if held is None:
            raise LockTimeout(f"lock {name!r} was not acquired within {timeout} s")
        yield Lock(locks, engine, held)
        completed = True
    finally:
        try:
            kept = locks.end(name, nonce)
        except SlothStateError:
            if completed:
                raise
        except BaseException:
            # A second try for an exception out of a signal handler; the release can have been cut short or done.
            locks.end(name, nonce)
            raise
    if to_the_end and not kept:
        raise LockLost(f"lock {name!r} (token {held.token}) was lost before its block ended")
