"""Who holds what: the acquisitions of one State, and the `Lock` that a block gets.

How a lock is won is the engine's affair (`slothstate.engines.protocol.LockTable`). An acquisition holds a lock, not a
State: it belongs to a thread and, in it, to a task or greenlet.
"""

from __future__ import annotations

import os
import weakref
from contextlib import AbstractContextManager, suppress
from functools import partial

from slothstate import native
from slothstate.acquisition import Acquisition, refuse_own
from slothstate.caller import current, is_alone
from slothstate.engines.protocol import Engine
from slothstate.errors import LockLost, LockTimeout, SlothStateError
from slothstate.hints import Final
from slothstate.values import Seconds, check_seconds

__all__ = ["Lock", "Locks", "holding"]

TIDY_AT: Final = 256
"""Acquisitions that a State remembers before it looks for those whose callers have ended."""


LAST_PATIENCE: Final = 1.0
"""Seconds that the end of the process, or of a failed acquisition, waits for other writers to release a lock."""


class Locks:
    """What the callers of one State hold."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._forget_held()
        _all.add(weakref.ref(self, _all.discard))

    def forget(self) -> None:
        """Hold nothing; what a forked child does, which owns none of its parent's locks."""
        self._forget_held()
        self._engine.locks.forget()
        self._engine.changes.forget()

    def _forget_held(self) -> None:
        self._life = object()
        # What each caller acquired last, also when it was lost since: that is how a late `unlock` is known as such.
        self._held: dict[tuple[str, tuple[int, int, int]], Acquisition] = {}
        self._tidy_at = TIDY_AT

    def acquisition(
        self, name: str, ttl: float | None, *, is_scoped: bool = False, shared: bool = False, slots: int = 1
    ) -> Acquisition:
        """Return what `acquire` is to acquire for the calling thread or task."""
        return Acquisition(name, self._life, has_ttl=ttl is not None, is_scoped=is_scoped, shared=shared, slots=slots)

    def acquire(
        self, wanted: Acquisition, timeout: float | None, ttl: float | None, *, is_attempt: bool = False
    ) -> bool:
        """Acquire a lock, waiting up to `timeout` seconds (None: for ever); False if it could not be had.

        An exception that strikes in here (Ctrl-C) leaves nothing held.
        Raises: `AlreadyHeld` for a wait that only its own thread could end; `StateIOError` where it cannot be told
        whether the holder lives.
        """
        mine = self._held.get(wanted.key)
        if mine is not None and self.holds(mine):
            refuse_own(mine, wanted, timeout, same_state=True)
        if wanted.shared or wanted.slots > 1:
            self._refuse_second(wanted, timeout)
        return self._acquire(wanted, timeout, ttl, is_attempt)

    def attempt(self, wanted: Acquisition, timeout: float | None, ttl: float | None) -> bool:
        """Acquire a lock if it is free now; for a caller that waits up to `timeout` by itself, and lets others run.

        It tries again and again until it has the lock, or calls `end_wait`.
        Raises: `AlreadyHeld` if it would wait for itself; other tasks of its thread go on meanwhile.
        """
        return self.acquire(wanted, timeout, ttl, is_attempt=timeout != 0)

    def pause(self, wanted: Acquisition) -> float:
        """Return after how many seconds the next attempt is made, though nobody commits."""
        return self._engine.locks.pause(wanted.nonce)

    def end_wait(self, wanted: Acquisition) -> None:
        """End the wait that attempts were made for."""
        self._engine.locks.end_wait(wanted.nonce)

    def try_acquire(self, wanted: Acquisition, ttl: float) -> bool:
        """Acquire a lock without waiting; False if anybody holds it, this State included."""
        return self._acquire(wanted, 0, ttl)

    def _acquire(self, wanted: Acquisition, timeout: float | None, ttl: float | None, is_attempt: bool = False) -> bool:
        ttl_ms = None if ttl is None else max(1, round(ttl * 1000))
        try:
            if is_attempt:
                refuse = partial(self._refuse_own, wanted, timeout, of_caller=True)
                token = self._engine.locks.attempt(wanted, ttl_ms, refuse)
            else:
                refuse = partial(self._refuse_own, wanted, timeout)
                token = self._engine.locks.acquire(wanted, timeout, ttl_ms, refuse)
            if token is None:
                return False
            wanted.token = token
            self._held[wanted.key] = wanted
            if len(self._held) > self._tidy_at:
                self._tidy()
            return True
        except SlothStateError:
            # It may have been granted all the same. Not for longer than the caller would wait.
            patience = LAST_PATIENCE if timeout is None else min(timeout, LAST_PATIENCE)
            with suppress(SlothStateError), self._engine.changes.within(patience):
                self._end(wanted)
            raise
        except BaseException:
            # It may have been granted before the exception struck.
            with suppress(SlothStateError):
                self._end(wanted)
            raise

    def _refuse_own(self, wanted: Acquisition, timeout: float | None, nonce: int, *, of_caller: bool = False) -> None:
        """Refuse to wait for a lock that the waiting thread holds itself, or only its very task with `of_caller`.

        Raises: `AlreadyHeld`.
        """
        for reference in list(_all):
            each = reference()
            for holder in list(each._held.values()) if each is not None else ():
                if holder.nonce == nonce and (holder.caller == wanted.caller or not of_caller):
                    refuse_own(holder, wanted, timeout, same_state=each is self)

    def _refuse_second(self, wanted: Acquisition, timeout: float | None) -> None:
        """Refuse what the caller has through another State: no wait would tell, there may be room for both."""
        for nonce in self._engine.locks.holders(wanted.name):
            self._refuse_own(wanted, timeout, nonce, of_caller=True)

    def extend(self, acquisition: Acquisition, seconds: float) -> bool:
        """Let an acquisition end so many seconds from now; False if it was lost."""
        if acquisition.is_ended or acquisition.life is not self._life:
            return False
        acquisition.has_ttl = True
        return self._engine.locks.extend(acquisition.name, acquisition.nonce, max(1, round(seconds * 1000)))

    def release(self, name: str, identity: tuple[int, int, int] | None = None) -> bool:
        """End the caller's own acquisition of a lock, if it has one, else that of anybody in this State.

        `identity` is that of another caller, for whom this is done. Return whether it still held the lock.
        """
        mine = self._held.get((name, current().identity if identity is None else identity))
        return self._engine.locks.release_own(name) if mine is None else self._end(mine)

    def end(self, acquisition: Acquisition) -> bool:
        """End one acquisition; False when it was lost or ended before, or is not this process's."""
        if acquisition.is_ended or acquisition.life is not self._life:
            return False
        if self._engine.in_transaction:
            # Ctrl-C can leave two blocks to be ended in the wrong order; rolled back, this would be undone.
            self._engine.after_transaction(partial(self.end, acquisition))
            return self.holds(acquisition)
        return self._end(acquisition)

    def _end(self, acquisition: Acquisition) -> bool:
        # Forgotten only afterwards: if the store is too busy to release it, `unlock` can try again.
        was_held = self._engine.locks.release(acquisition.name, acquisition.nonce)
        acquisition.is_ended = True
        if self._held.get(acquisition.key) is acquisition:
            self._held.pop(acquisition.key, None)
        return was_held

    def holds(self, acquisition: Acquisition) -> bool:
        """Return whether the store still counts this acquisition as the lock's holder."""
        return acquisition.life is self._life and self._engine.locks.holds(acquisition.name, acquisition.nonce)

    def release_all(self) -> None:
        """Release everything this State holds and stop being an owner."""
        self._engine.locks.end()
        self._held.clear()

    def rest(self) -> None:
        """Release what no other thread holds: at the end of the process, which daemon threads go on until."""
        mine = current()
        held = list(self._held.values())
        others = [each for each in held if not each.caller.shares_thread(mine) and not each.caller.has_ended()]
        # Another thread may be acquiring one just now, which is not among these yet.
        if not others and is_alone():
            self.release_all()
            return
        for each in held:
            if each not in others:
                with suppress(SlothStateError), self._engine.changes.within(LAST_PATIENCE):
                    self.end(each)

    def _tidy(self) -> None:
        """Forget what callers acquired that have ended: none of them unlocks any more."""
        for acquisition in list(self._held.values()):
            if acquisition.caller.has_ended():
                self._held.pop(acquisition.key, None)
        self._tidy_at = max(TIDY_AT, 2 * len(self._held))


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

    def __init__(self, locks: Locks, engine: Engine, held: Acquisition) -> None:
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

    def extend(self, seconds: Seconds) -> bool:
        """Let the lock end `seconds` from now, whatever its TTL was, also if it had none; False if it was lost.

        Raises: `InvalidValue`.
        """
        return self._locks.extend(self._held, check_seconds(seconds, "seconds"))

    def transaction(self) -> AbstractContextManager[None]:
        """Hold a write transaction that begins only if the lock is still held.

        Nobody can take the lock over while the transaction is open, so what it writes is fenced.
        Raises: `LockLost` before the block runs.
        """
        return self._engine.transaction(self.ensure_held)


def holding(
    locks: Locks,
    engine: Engine,
    name: str,
    timeout: float | None,
    ttl: float | None = None,
    *,
    to_the_end: bool,
    shared: bool = False,
    slots: int = 1,
) -> AbstractContextManager[Lock]:
    """Hold a lock while the block runs; `to_the_end`: an error if it is no longer held when the block ends.

    Raises: `LockTimeout`; `LockLost`. An error of the block is never replaced by one of releasing.
    """
    wanted = locks.acquisition(name, ttl, is_scoped=True, shared=shared, slots=slots)
    block = _LockBlock(locks, engine, wanted, timeout, ttl, to_the_end)
    return native.Scope(block.begin, block.end)


class _LockBlock:
    """What `holding` does before and after the block; see `native.Scope`."""

    def __init__(
        self,
        locks: Locks,
        engine: Engine,
        acquisition: Acquisition,
        timeout: float | None,
        ttl: float | None,
        to_the_end: bool,
    ) -> None:
        self._locks = locks
        self._engine = engine
        self._acquisition = acquisition
        self._timeout = timeout
        self._ttl = ttl
        self._to_the_end = to_the_end

    def begin(self) -> Lock:
        if not self._locks.acquire(self._acquisition, self._timeout, self._ttl):
            raise LockTimeout(f"lock {self._acquisition.name!r} was not acquired within {self._timeout} s")
        return Lock(self._locks, self._engine, self._acquisition)

    def end(self, kind: type[BaseException] | None) -> None:
        acquisition = self._acquisition
        if not acquisition.token:
            return
        try:
            kept = self._locks.end(acquisition)
        except SlothStateError:
            if kind is None:
                raise
            return
        if kind is None and self._to_the_end and not kept:
            raise LockLost(f"lock {acquisition.name!r} (token {acquisition.token}) was lost before its block ended")
