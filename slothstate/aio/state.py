"""`AsyncState`: the verbs as coroutines."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from itertools import islice
from types import TracebackType

from slothstate.aio.handles import AsyncClaim, AsyncWatch, LockBlock
from slothstate.aio.runner import Runner
from slothstate.caller import current
from slothstate.engines.claiming import Waiter
from slothstate.errors import SlothStateError, StateBusy
from slothstate.hints import TYPE_CHECKING, Any, Concatenate, Final, NoReturn, ParamSpec, Self, TypeVar
from slothstate.state import State
from slothstate.values import Seconds, as_python, check_key, check_seconds, encode, same
from slothstate.verbs.base import check_keys, check_pattern, check_timeout

if TYPE_CHECKING:
    from slothstate.descriptions import Finding

__all__ = ["AsyncState"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

PAGE: Final = 500
"""Keys that `scan` fetches at a time."""

_UNKNOWN: Final[Any] = object()
"""What the cache does not know."""


def _verb(
    method: Callable[Concatenate[State, P], R], run: Callable[..., Coroutine[Any, Any, Any]] = Runner._run
) -> Callable[Concatenate[AsyncState, P], Coroutine[Any, Any, R]]:
    """Return a verb as a coroutine that runs in a thread."""

    async def verb(self: AsyncState, /, *arguments: P.args, **options: P.kwargs) -> R:
        found: R = await run(self, functools.partial(getattr(self.state, method.__name__), *arguments, **options))
        return found

    functools.update_wrapper(verb, method)
    return verb


def _taking(method: Callable[Concatenate[State, P], R]) -> Callable[Concatenate[AsyncState, P], Coroutine[Any, Any, R]]:
    """Return a verb that takes something as a coroutine."""
    return _verb(method, Runner._take_once_begun)


class AsyncState(Runner):
    """A `slothstate.State` for one event loop; its verbs are coroutines. Made by `open`.

    What is cancelled leaves nothing held and nothing taken: a verb that takes something takes nothing, or returns it
    and the cancellation comes at the next `await` of its task. Other writes are made or not.
    """

    def __init__(self, state: State) -> None:
        super().__init__(state)
        # Answers what the cache knows, and says of all else that it does not.
        self._hits = state._with_codec(state._codec)
        self._hits._load = lambda key, default: _UNKNOWN

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, as `State.get` does; inside the loop if the cache has it."""
        found = self._hits.get(key, _UNKNOWN) if isinstance(key, str) else _UNKNOWN
        if found is _UNKNOWN:
            return await self._run(functools.partial(self.state.get, key, default))
        return found

    set = _verb(State.set)
    delete = _verb(State.delete)
    take = _taking(State.take)
    rename = _verb(State.rename)
    copy = _verb(State.copy)
    exists = _verb(State.exists)
    clear = _verb(State.clear)
    keys = _verb(State.keys)
    get_many = _verb(State.get_many)
    set_many = _verb(State.set_many)
    compare_swap = _verb(State.compare_swap)
    set_ttl = _verb(State.set_ttl)
    get_ttl = _verb(State.get_ttl)
    persist = _verb(State.persist)
    increment = _verb(State.increment)
    decrement = _verb(State.decrement)
    append = _verb(State.append)
    get_field = _verb(State.get_field)
    set_field = _verb(State.set_field)
    delete_field = _verb(State.delete_field)
    increment_field = _verb(State.increment_field)
    list_push = _verb(State.list_push)
    list_unshift = _verb(State.list_unshift)
    list_pop_many = _taking(State.list_pop_many)
    list_shift_many = _taking(State.list_shift_many)
    list_set = _verb(State.list_set)
    list_insert = _verb(State.list_insert)
    list_remove = _verb(State.list_remove)
    list_trim = _verb(State.list_trim)
    list_length = _verb(State.list_length)
    list_range = _verb(State.list_range)
    locks = _verb(State.locks)
    break_lock = _verb(State.break_lock)
    watches = _verb(State.watches)
    unwatch = _verb(State.unwatch)
    entry = _verb(State.entry)
    usage = _verb(State.usage)
    stats = _verb(State.stats)
    health = _verb(State.health)
    activity = _verb(State.activity)
    check = _verb(State.check)
    sweep = _verb(State.sweep)
    compact = _verb(State.compact)
    backup = _verb(State.backup)

    async def list_claim(
        self,
        key: str | Sequence[str],
        timeout: Seconds | None = 0,
        *,
        ttl: Seconds | None = None,
        max_attempts: int | None = None,
        dead: str | None = None,
    ) -> AsyncClaim | None:
        """Claim an item, as `State.list_claim` does: `async with await state.list_claim(…) as item`."""
        keys = check_keys(key)
        claim = await self._first(
            keys, lambda: self.state.list_claim(keys, 0, ttl=ttl, max_attempts=max_attempts, dead=dead), timeout
        )
        return None if claim is None else AsyncClaim(self, claim)

    claims = _verb(State.claims)

    async def scan(self, pattern: str | None = None, **options: Any) -> AsyncIterator[str]:
        """Iterate over keys as `State.scan` does: `async for key in state.scan(…)`."""
        found = self.state.scan(pattern, **options)
        while page := await self._run(lambda: list(islice(found, PAGE))):
            for key in page:
                yield key

    async def examine(self) -> AsyncIterator[Finding]:
        """Iterate over what an administrator should know, as `State.examine` does, once all of it is known."""
        for finding in await self._run(lambda: list(self.state.examine())):
            yield finding

    async def wait(self, key: str, seen: Any = None, timeout: Seconds | None = None) -> Any:
        """Return the value of a key once it differs from `seen`, as `State.wait` does."""
        seconds = check_timeout(timeout)
        value: Any = None
        has_looked = False
        before = None if seen is None else as_python(*encode(seen, "seen"))

        def read() -> tuple[Any, float]:
            found = self.state.wait(key, seen, 0)
            left_ms = self.state._engine.entries.remaining_ms(key)
            return found, left_ms / 1000 if left_ms > 0 else math.inf

        async def look(latest: float) -> tuple[bool | None, float]:
            nonlocal value, has_looked
            value, pause = await self._run(lambda: self._in_time(read, latest))
            has_looked = True
            return None if same(value, before) else True, pause

        await self._until(look, seconds)
        if not has_looked:
            raise StateBusy(f"{key!r} could not be read within {seconds} s: this State has too much to do")
        return value

    async def list_pop(self, key: str | Sequence[str], default: Any = None, timeout: Seconds | None = 0) -> Any:
        """Take the last item, as `State.list_pop` does, waiting for one."""
        return await self._item(self.state.list_pop, key, default, timeout)

    async def list_shift(self, key: str | Sequence[str], default: Any = None, timeout: Seconds | None = 0) -> Any:
        """Take the first item, as `State.list_shift` does, waiting for one."""
        return await self._item(self.state.list_shift, key, default, timeout)

    async def _item(
        self, take: Callable[..., Any], key: str | Sequence[str], default: Any, timeout: Seconds | None
    ) -> Any:
        keys = check_keys(key)
        found = await self._first(keys, lambda: take(keys), timeout)
        if found is None:
            return default
        return found[1] if isinstance(key, str) else found

    async def _first(self, keys: Sequence[str], take: Callable[[], T | None], timeout: Seconds | None) -> T | None:
        """Return what `take` takes of the first list that has any item, waiting for one; None without."""
        seconds = check_timeout(timeout)

        def attempt() -> tuple[T | None, float]:
            found = take()
            return found, 0.0 if found is not None else self.state._engine.claims.pause(keys, waiter)

        def look(latest: float) -> Coroutine[Any, Any, tuple[T | None, float]]:
            return self._take_once_begun(lambda: self._in_time(attempt, latest), lambda found: found[0] is None)

        with Waiter() as waiter:
            return await self._until(look, seconds)

    async def atomically(self, fn: Callable[[State], T]) -> T:
        """Return what `fn(state)` returns, run with the plain `State` in one transaction, in a thread.

        `fn` is a plain function, and raises to undo it all. Raises: `InvalidValue` for a coroutine function or a
        generator function, and for what is no function.
        """
        return await self._atomically_in(fn, self.state.transaction)

    def transaction(self) -> NoReturn:
        """Raise: a transaction that is open while its task waits would take the writes of other tasks with it."""
        raise SlothStateError(
            "there is no async transaction(): other tasks run while it is open; use await state.atomically(fn), whose "
            "plain function gets the plain State"
        )

    def snapshot(self) -> NoReturn:
        """Raise: see `transaction`."""
        raise SlothStateError(
            "there is no async snapshot(): other tasks run while it is open; use get_many, or a plain State in a thread"
        )

    def locked(
        self,
        name: str,
        timeout: Seconds | None = None,
        ttl: Seconds | None = None,
        *,
        shared: bool = False,
        slots: int = 1,
    ) -> LockBlock:
        """Hold a lock: `async with state.locked(…) as lock`, as `State.locked` does, for the calling task."""
        # It checks the arguments, and is not entered.
        self.state.locked(name, timeout, ttl, shared=shared, slots=slots)
        seconds = None if ttl is None else check_seconds(ttl, "ttl")
        return LockBlock(self, name, check_timeout(timeout), seconds, shared, slots)

    async def lock(self, name: str, timeout: Seconds | None = None) -> bool:
        """Acquire a lock for the calling task, as `State.lock` does."""
        wanted = self.state._locks.acquisition(check_key(name, "name"), None)
        return await self._acquire(wanted, check_timeout(timeout), None)

    async def try_lock(self, name: str, ttl: Seconds = 30.0) -> bool:
        """Acquire a lock without waiting, as `State.try_lock` does."""
        seconds = check_seconds(ttl, "ttl")
        wanted = self.state._locks.acquisition(check_key(name, "name"), seconds)
        locks = self.state._locks
        attempt = functools.partial(locks.try_acquire, wanted, seconds)
        return await self._take_or_give_back(attempt, lambda is_held: is_held and locks.end(wanted))

    async def unlock(self, name: str) -> bool:
        """Release a lock, as `State.unlock` does, for the calling task."""
        release = functools.partial(self.state._locks.release, check_key(name, "name"), current().identity)
        return await self._run_anyway(release)

    def watch(self, pattern: str | None = None, *, name: str | None = None) -> AsyncWatch:
        """Follow changes: `async for change in state.watch(…)`; it begins with the first one that is asked for.

        `async with state.watch(…) as changes` begins at once, and ends with its block.
        """
        check_pattern(pattern)
        if name is not None:
            check_key(name, "name")
        return AsyncWatch(self, pattern, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
