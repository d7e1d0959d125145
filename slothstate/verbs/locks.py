"""Transactions, and locks across processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from slothstate.errors import InvalidValue
from slothstate.hints import TYPE_CHECKING, TypeVar
from slothstate.locks import Lock, holding
from slothstate.values import INTEGER_MAX, Seconds, check_flag, check_key, check_seconds, describe
from slothstate.verbs.base import Verbs, check_timeout

if TYPE_CHECKING:
    from slothstate.descriptions import LockDescription

__all__ = ["LockVerbs"]

T = TypeVar("T")


class LockVerbs(Verbs):
    """The verbs that keep others out."""

    def transaction(self) -> AbstractContextManager[None]:
        """Hold a write transaction for the calling thread while the block runs: all of it is kept, or nothing.

        Reads inside see its own writes. Inside another it is a savepoint. An exception undoes it and passes through.
        Other processes and threads cannot write meanwhile: keep it short.
        Raises: `StateBusy` on entering; `OutcomeUnknown` when COMMIT itself failed.

        >>> with state.transaction():
        ...     balance = state.get("balance", 0)
        ...     _ = state.set("balance", balance + 10)
        """
        return self._engine.transaction()

    def snapshot(self) -> AbstractContextManager[None]:
        """Read the store as it is now while the block runs, in the calling thread: what is live now stays live in it.

        Others go on writing meanwhile. A write in the block is refused at once, with `SlothStateError`, and so is a
        transaction. Inside a transaction it is free. The log of the store grows as long as it lasts: be quick.

        >>> with state.snapshot():
        ...     total = sum(1 for key in state.scan())
        """
        return self._engine.snapshot()

    def try_lock(self, name: str, ttl: Seconds = 30.0) -> bool:
        """Acquire a lock without waiting; False if anybody holds it, this State included.

        It is freed by `unlock`, after `ttl` seconds even if the owner lives, or when the owner dies.

        >>> state.try_lock("deploy", 30)
        True
        >>> state.try_lock("deploy", 30)
        False
        """
        seconds = check_seconds(ttl, "ttl")
        return self._locks.try_acquire(self._locks.acquisition(check_key(name, "name"), seconds), seconds)

    def lock(self, name: str, timeout: Seconds | None = None) -> bool:
        """Acquire a lock, waiting up to `timeout` seconds (None: for ever, 0: not at all); return whether it was.

        It is held until `unlock`, or until this process dies.
        Raises: `AlreadyHeld` at once for a wait that only the waiting thread or task could end; `StateIOError` where it
        cannot be told whether the holder lives.

        >>> state.lock("migration", timeout=60)
        True
        """
        timeout = check_timeout(timeout)
        return self._locks.acquire(self._locks.acquisition(check_key(name, "name"), None), timeout, None)

    def unlock(self, name: str) -> bool:
        """End the caller's own acquisition of a lock, or, if it has none, that of any thread of this State.

        False when this does not hold the lock (any more), whoever holds it by now. A caller is a thread and, in it, an
        asyncio task or greenlet.

        >>> state.unlock("never-locked")
        False
        """
        return self._locks.release(check_key(name, "name"))

    def with_lock(self, name: str, fn: Callable[[], T], timeout: Seconds | None = None) -> T:
        """Return what `fn()` returns, run under a lock that is released afterwards in any case.

        Raises: `LockTimeout` if the lock was not acquired within `timeout` seconds; `AlreadyHeld`; `InvalidValue` for
        an `fn` that cannot be called.

        >>> state.with_lock("report", lambda: "done", timeout=15)
        'done'
        """
        check_key(name, "name")
        if not callable(fn):
            # Before the lock is waited for, not after.
            raise InvalidValue(f"fn must be callable, got {describe(fn)}")
        with holding(self._locks, self._engine, name, check_timeout(timeout), to_the_end=False):
            return fn()

    def locked(
        self,
        name: str,
        timeout: Seconds | None = None,
        ttl: Seconds | None = None,
        *,
        shared: bool = False,
        slots: int = 1,
    ) -> AbstractContextManager[Lock]:
        """Hold a lock while the block runs, as a `Lock` with a fencing token. A `ttl` in seconds is not renewed.

        With `slots` up to so many hold it at a time, with `shared` any number, or one that holds it alone; whoever
        waits to have it alone keeps new shared holders out. All who use a lock state the same: another number of slots,
        or `shared` with `slots`, is `InvalidValue`. In one thread it is held once, shared too.

        Raises: `LockTimeout`, `AlreadyHeld` on entering; `LockLost` on leaving after a loss, unless the body raised.

        >>> with state.locked("deploy", timeout=5) as lock:
        ...     lock.lost
        False
        """
        check_key(name, "name")
        seconds = None if ttl is None else check_seconds(ttl, "ttl")
        if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= INTEGER_MAX:
            raise InvalidValue(f"slots must be an int >= 1, got {describe(slots)}")
        if check_flag(shared, "shared") and slots != 1:
            raise InvalidValue(f"shared=True and slots={slots} exclude each other: any number share a lock")
        return holding(
            self._locks,
            self._engine,
            name,
            check_timeout(timeout),
            seconds,
            to_the_end=True,
            shared=shared,
            slots=slots,
        )

    def break_lock(self, name: str, *, alive: bool = False) -> bool:
        """Take a lock away that its dead owner left; with `alive`, one whose owner lives, too. Return whether it was.

        Of a lock with several holders it is taken away from all who are dead, with `alive` from all.
        For an administrator: an owner that lives finds its lock lost (`Lock.lost`), and its fenced writes are refused,
        but what else it does goes on. Nobody can be kept from acquiring a dead owner's lock; this only tidies up.

        >>> state.break_lock("never-locked")
        False
        """
        return self._engine.locks.remove(check_key(name, "name"), check_flag(alive, "alive"))

    def locks(self) -> list[LockDescription]:
        """Return the locks that are held by anybody: name, owner, token, shared, slots, since, expires, alive, waiting.

        A lock with several holders is there once for each. `alive` is None where it cannot be told. `waiting` lists who
        waits for the lock (host, pid, since), whoever has waited for longest first. A waiter tells so once it has
        waited for a tenth of a second, if the store lets it write then.

        >>> state.locks()
        []
        """
        return self._engine.locks.describe()
