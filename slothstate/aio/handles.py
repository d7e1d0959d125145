"""What an `AsyncState` hands out: locks, claims and watches, whose methods are coroutines."""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from slothstate.acquisition import Acquisition
from slothstate.aio.runner import Runner
from slothstate.claims import Claim
from slothstate.errors import LockLost, LockTimeout, SlothStateError, StateClosed, WatchLost
from slothstate.hints import Any, Self, TypeVar
from slothstate.locks import Lock
from slothstate.state import State
from slothstate.values import Seconds
from slothstate.verbs.base import check_timeout
from slothstate.watching import Change, Watch

__all__ = ["AsyncClaim", "AsyncLock", "AsyncWatch", "LockBlock"]

T = TypeVar("T")


class LockBlock:
    """What `AsyncState.locked` returns."""

    def __init__(
        self, owner: Runner, name: str, timeout: float | None, ttl: float | None, shared: bool, slots: int
    ) -> None:
        self._owner = owner
        self._name = name
        self._timeout = timeout
        self._ttl = ttl
        self._options: dict[str, Any] = {"shared": shared, "slots": slots}
        self._held: Acquisition | None = None

    async def __aenter__(self) -> AsyncLock:
        owner = self._owner
        wanted = owner.state._locks.acquisition(self._name, self._ttl, is_scoped=True, **self._options)
        if not await owner._acquire(wanted, self._timeout, self._ttl):
            raise LockTimeout(f"lock {self._name!r} was not acquired within {self._timeout} s")
        self._held = wanted
        return AsyncLock(owner, Lock(owner.state._locks, owner.state._engine, wanted))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held = self._held
        assert held is not None
        kept = await self._owner._end_block(functools.partial(self._owner.state._locks.end, held), kind)
        if kind is None and not kept:
            raise LockLost(f"lock {held.name!r} (token {held.token}) was lost before its block ended")


class AsyncLock:
    """A `slothstate.Lock` for asyncio."""

    def __init__(self, owner: Runner, lock: Lock) -> None:
        self._owner = owner
        self._lock = lock

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._lock.name

    @property
    def token(self) -> int:
        """The fencing number of this acquisition."""
        return self._lock.token

    async def lost(self) -> bool:
        """Return whether the lock is no longer held."""
        return await self._owner._run(lambda: self._lock.lost)

    async def ensure_held(self) -> None:
        """Raise `LockLost` if the lock is no longer held."""
        await self._owner._run(self._lock.ensure_held)

    async def extend(self, seconds: Seconds) -> bool:
        """Let the lock end `seconds` from now; False if it was lost."""
        return await self._owner._run(functools.partial(self._lock.extend, seconds))

    async def atomically(self, fn: Callable[[State], T]) -> T:
        """`AsyncState.atomically`, refused with `LockLost` when the lock is lost: what it writes is fenced."""
        return await self._owner._atomically_in(fn, self._lock.transaction)


class AsyncWatch:
    """A `slothstate.Watch` for asyncio."""

    def __init__(self, owner: Runner, pattern: str | None, name: str | None) -> None:
        self._owner = owner
        self._pattern = pattern
        self._name = name
        self._watch: Watch | None = None
        self._is_closed = False
        # One task at a time reads, as only one thread may.
        self._turn = asyncio.Lock()
        # What a cancelled `next` was to raise.
        self._lost: WatchLost | None = None

    async def _begun(self, latest: float = math.inf) -> Watch:
        """Return the watch, begun by `latest` (`time.monotonic`), or else it is `StateBusy`."""
        async with self._turn:
            if self._watch is None and not self._is_closed:
                watch = functools.partial(self._owner.state.watch, self._pattern, name=self._name)
                begin = functools.partial(self._owner._in_time, watch, latest)
                self._watch = await self._owner._take_or_give_back(begin, Watch.close)
            if self._watch is None or self._is_closed:
                # By another task, also while it began.
                await self.close()
                raise SlothStateError("this watch is closed")
            return self._watch

    async def next(self, timeout: Seconds | None = None) -> Change | None:
        """Return the next change, as `Watch.next` does. One that is cancelled loses none, and no `WatchLost`."""
        seconds = check_timeout(timeout)

        def read(watch: Watch) -> tuple[Change | WatchLost | None, float]:
            lost, self._lost = self._lost, None
            if lost is not None:
                return lost, math.inf
            try:
                change = watch.next(0)
            except WatchLost as error:
                return error, math.inf
            return change, math.inf if change is not None else watch._pause()

        def give_back(watch: Watch, found: tuple[Change | WatchLost | None, float]) -> None:
            if isinstance(found[0], WatchLost):
                self._lost = found[0]
            else:
                watch._unread(found[0])

        async def look(latest: float) -> tuple[Change | WatchLost | None, float]:
            watch = await self._begun(latest)
            next_one = functools.partial(self._owner._in_time, functools.partial(read, watch), latest)
            async with self._turn:
                return await self._owner._take_or_give_back(next_one, functools.partial(give_back, watch))

        found: Change | WatchLost | None = await self._owner._until(look, seconds)
        if isinstance(found, WatchLost):
            raise found
        return found

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        change = await self.next()
        assert change is not None
        return change

    async def close(self) -> None:
        """End the watch, as `Watch.close` does."""
        self._is_closed = True
        if self._watch is not None:
            # What a State was at ends with it.
            with suppress(StateClosed):
                await self._owner._run_anyway(self._watch.close)
            self._owner._commits.tell()

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class AsyncClaim:
    """A `slothstate.Claim` for asyncio: `async with claim as item`."""

    def __init__(self, owner: Runner, claim: Claim) -> None:
        self._owner = owner
        self._claim = claim
        self.key = claim.key
        self.item = claim.item
        self.attempt = claim.attempt

    async def done(self) -> bool:
        """Let the item be gone for good; False if the claim was lost."""
        return await self._owner._run_anyway(self._claim.done)

    async def release(self, delay: Seconds = 0) -> bool:
        """Put the item back to its old place, invisible for `delay` seconds; False if the claim was lost."""
        return await self._owner._run_anyway(functools.partial(self._claim.release, delay))

    async def extend(self, seconds: Seconds) -> bool:
        """Let the claim end `seconds` from now; False if it was lost."""
        return await self._owner._run(functools.partial(self._claim.extend, seconds))

    async def lost(self) -> bool:
        """Return whether the item is no longer claimed by this."""
        return await self._owner._run(lambda: self._claim.lost)

    async def ensure_held(self) -> None:
        """Raise `LockLost` if the claim is lost."""
        await self._owner._run(self._claim.ensure_held)

    async def atomically(self, fn: Callable[[State], T]) -> T:
        """`AsyncState.atomically`, refused with `LockLost` when the claim is lost.

        `done()` of the plain `claim` inside it, and what `fn` writes, are kept together: exactly once.
        """
        return await self._owner._atomically_in(fn, self._claim.transaction)

    @property
    def claim(self) -> Claim:
        """The plain claim, for the function that `atomically` runs."""
        return self._claim

    async def __aenter__(self) -> Any:
        return self._claim.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._owner._end_block(functools.partial(self._claim.__exit__, kind, error, None), kind)
