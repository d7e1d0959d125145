"""Locks across processes: who owns one, how to wait for one, and how to notice that one was lost.

A lock is a row of the store (slothstate/sqlite/locks.py). A State that takes its first lock also takes an OS file lock
of its own, in the directory beside the database, which the kernel drops when the process dies, however it dies. Whoever
finds a lock taken looks at its owner's file: a dead owner's lock is free at once, without waiting for a TTL, without
trusting a pid, and after a reboot or in another container alike.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import TYPE_CHECKING, Final, NamedTuple, TypedDict

from slothstate.errors import AlreadyHeld, LockLost, LockTimeout, SlothStateError
from slothstate.sqlite import location, locks

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from slothstate.sqlite import Engine

__all__ = ["Lock", "LockDescription", "Locks", "Owner", "holding"]

POLL_FIRST: Final = 0.0005
POLL_LONGEST: Final = 0.004


class Owner(TypedDict):
    """Who holds a lock; for people, ownership is never decided by it."""

    host: str
    pid: int


class LockDescription(TypedDict):
    """A lock that somebody holds. Times are seconds since the epoch; `expires` is None without a TTL."""

    name: str
    owner: Owner
    token: int
    since: float
    expires: float | None
    alive: bool


class _Held(NamedTuple):
    name: str
    token: int
    nonce: int
    thread: int
    expires_boot_ms: int | None


def boot_ms() -> int:
    """Return milliseconds since the system booted, sleep included: a clock that nobody can set."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    return time.monotonic_ns() // 1_000_000


def boot_id() -> str:
    """Return what tells one boot of this system from another; "" where the system has no such thing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Locks:
    """The locks of one State: those it holds, and the waiting for others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._boot_id = boot_id()
        self._held: dict[str, _Held] = {}
        self._owner = ""
        self._owner_lock: BaseFileLock | None = None
        self._becoming_owner = threading.Lock()

    def _check_process(self) -> None:
        # A forked child holds none of its parent's locks; filelock has closed the child's copy of the owner's file.
        if self._pid != os.getpid():
            self._reset()

    def acquire(self, name: str, timeout: float | None, ttl: float | None) -> _Held | None:
        """Acquire a lock, waiting up to `timeout` seconds (None: for ever); None if it could not be had.

        Raises: `AlreadyHeld` if this State holds it in this thread.
        """
        self._check_usable(name)
        mine = self._held.get(name)
        if mine is not None and mine.thread == get_ident() and self.holds(mine):
            raise AlreadyHeld(f"lock {name!r} is already held by this State in this thread (token {mine.token})")
        deadline = None if timeout is None else time.monotonic() + timeout
        held = self._attempt(name, ttl)
        pause = POLL_FIRST
        while held is None:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return None
            time.sleep(pause if remaining is None else min(pause, remaining))
            pause = min(pause * 2, POLL_LONGEST)
            row = self._engine.read(locks.find, name)
            if row is None or self._is_free(row):
                held = self._attempt(name, ttl)
        return held

    def try_acquire(self, name: str, ttl: float) -> bool:
        """Acquire a lock without waiting; False if anybody holds it, this State included."""
        self._check_usable(name)
        return self._attempt(name, ttl) is not None

    def release(self, name: str) -> bool:
        """Release a lock; False when this State does not hold it any more."""
        self._check_usable(name)
        held = self._held.pop(name, None)
        return held is not None and self._release(held)

    def release_held(self, held: _Held) -> bool:
        """Release one acquisition; False when it was lost or released before."""
        self._check_process()
        if self._held.get(held.name) is held:
            del self._held[held.name]
        return self._release(held)

    def holds(self, held: _Held) -> bool:
        """Return whether the store still counts this acquisition as the lock's holder."""
        self._check_process()
        return self._held.get(held.name) is held and self._engine.read(locks.holds, held.name, held.nonce, boot_ms())

    def release_all(self) -> None:
        """Release everything this State holds and stop being an owner."""
        self._check_process()
        for held in list(self._held.values()):
            with suppress(SlothStateError):
                self._release(held)
        self._held.clear()
        if self._owner_lock is not None:
            self._remove_owner_file(self._owner)
            self._owner_lock.release()
            self._owner_lock = None
            self._owner = ""

    def describe(self) -> list[LockDescription]:
        """Return the locks that are held, by name; `alive` is False for one that its dead owner left."""
        self._check_process()
        now_ms, now_boot_ms = self._engine.now(), boot_ms()
        return [
            {
                "name": row.name,
                "owner": {"host": row.host, "pid": row.pid},
                "token": row.token,
                "since": row.since_ms / 1000,
                "expires": None if row.expires_boot_ms is None else (now_ms + row.expires_boot_ms - now_boot_ms) / 1000,
                "alive": self._is_alive(row.owner),
            }
            for row in self._engine.read(locks.rows)
            if not self._is_expired(row, now_boot_ms)
        ]

    def sweep(self) -> int:
        """Remove the rows of expired locks; return how many."""
        return self._engine.write(locks.remove_expired, boot_ms(), self._boot_id)

    def _check_usable(self, name: str) -> None:
        self._check_process()
        if self._engine.in_transaction:
            # The row would be part of the transaction: invisible until it commits, gone if it rolls back.
            raise SlothStateError(
                f"lock {name!r} cannot be taken or freed inside a transaction: lock first, then begin"
            )

    def _attempt(self, name: str, ttl: float | None) -> _Held | None:
        owner = self._become_owner()
        nonce = int.from_bytes(os.urandom(8)) >> 1
        expires_boot_ms = None if ttl is None else boot_ms() + max(1, round(ttl * 1000))
        claim = locks.Claim(name, nonce, owner, _host(), self._pid, self._boot_id, expires_boot_ms)
        try:
            token = self._engine.write(locks.acquire, claim, self._is_free)
            if isinstance(token, locks.LockRow):
                return None
            held = _Held(name, token, nonce, get_ident(), expires_boot_ms)
            self._held[name] = held
            return held
        except BaseException:
            # Ctrl-C after the row was written and before anybody knows of it would leave a lock nobody can free.
            mine = self._held.get(name)
            if mine is None or mine.nonce != nonce:
                with suppress(SlothStateError):
                    self._engine.write(locks.release, name, nonce, boot_ms())
            raise

    def _release(self, held: _Held) -> bool:
        return self._engine.write(locks.release, held.name, held.nonce, boot_ms())

    def _is_free(self, row: locks.LockRow) -> bool:
        return self._is_expired(row, boot_ms()) or not self._is_alive(row.owner)

    def _is_expired(self, row: locks.LockRow, now_boot_ms: int) -> bool:
        # Of another boot only the owner's file can tell: the clocks do not compare.
        return row.expires_boot_ms is not None and row.boot_id == self._boot_id and row.expires_boot_ms <= now_boot_ms

    # Owners

    def _become_owner(self) -> str:
        if not self._owner:
            with self._becoming_owner:
                if not self._owner:
                    owner = os.urandom(8).hex()
                    lock = self._owner_file(owner)
                    lock.acquire(timeout=0)
                    self._owner_lock = lock
                    self._owner = owner
        return self._owner

    def _is_alive(self, owner: str) -> bool:
        if owner == self._owner:
            return True
        if not os.path.exists(self._owner_path(owner)):
            return False
        from filelock import Timeout

        lock = self._owner_file(owner)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        # Its process is dead, and no other State ever gets its random name: the file can go.
        self._remove_owner_file(owner)
        lock.release()
        return False

    def _owner_file(self, owner: str) -> BaseFileLock:
        return location.lock_file(self._engine.path, f"owner-{owner}.lock")

    def _owner_path(self, owner: str) -> str:
        return os.path.join(location.lock_directory(self._engine.path), f"owner-{owner}.lock")

    def _remove_owner_file(self, owner: str) -> None:
        with suppress(OSError):
            os.unlink(self._owner_path(owner))


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


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

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold a write transaction that begins only if the lock is still held.

        Nobody can take the lock over while the transaction is open, so what it writes is fenced.
        Raises: `LockLost` before the block runs.
        """
        with self._engine.transaction():
            self.ensure_held()
            yield


@contextmanager
def holding(locks: Locks, engine: Engine, name: str, timeout: float | None, ttl: float | None) -> Iterator[Lock]:
    """Hold a lock while the block runs. Raises: `LockTimeout`; `LockLost` on leaving after a loss."""
    held = locks.acquire(name, timeout, ttl)
    if held is None:
        raise LockTimeout(f"lock {name!r} was not acquired within {timeout} s")
    try:
        yield Lock(locks, engine, held)
    except BaseException:
        locks.release_held(held)
        raise
    if not locks.release_held(held):
        raise LockLost(f"lock {name!r} (token {held.token}) was lost before its block ended")
