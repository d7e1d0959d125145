"""The store for asyncio: the verbs of `slothstate.State` as coroutines.

A read that hits the cache runs inside the loop, for it costs less than a task switch; everything else runs in a few
threads. All waits of an `AsyncState` share one thread that watches for commits, and hold no other while they wait.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, Final, NoReturn, ParamSpec, Self, TypeVar

from slothstate import state as plain
from slothstate.acquisition import Acquisition
from slothstate.caller import current
from slothstate.errors import InvalidValue, LockLost, LockTimeout, SlothStateError
from slothstate.locks import Lock
from slothstate.state import State
from slothstate.values import Seconds, as_python, check_key, check_seconds, encode, same
from slothstate.verbs.base import MISSING, check_keys, check_pattern, check_timeout
from slothstate.watching import Change, Watch

__all__ = ["AsyncLock", "AsyncState", "AsyncWatch", "open"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

THREADS: Final = 4
"""Threads of one `AsyncState`; a writer waits for other writers in one of them."""

LOOK_AGAIN: Final = 0.03
"""Seconds after which who waits for a lock looks whether its holder lives."""

SLICE: Final = 0.5
"""Seconds after which the watching thread looks whether anybody still listens."""

PAGE: Final = 500
"""Keys that `scan` fetches at a time."""


def open(path: str | os.PathLike[str] | None = None, **options: Any) -> _Opening:
    """Open a store: `await slothstate.aio.open(…)`, or `async with slothstate.aio.open(…) as state`.

    Takes and raises what `slothstate.open` does.
    """
    return _Opening(path, options)


class _Opening:
    """An `AsyncState` that is yet to be opened."""

    def __init__(self, path: str | os.PathLike[str] | None, options: dict[str, Any]) -> None:
        self._path = path
        self._options = options
        self._state: AsyncState | None = None

    async def _open(self) -> AsyncState:
        return AsyncState(await asyncio.to_thread(plain.open, self._path, **self._options))

    def __await__(self) -> Generator[Any, None, AsyncState]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncState:
        self._state = await self._open()
        return self._state

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._state is not None
        await self._state.close()


def _verb(method: Callable[Concatenate[State, P], R]) -> Callable[Concatenate[AsyncState, P], Coroutine[Any, Any, R]]:
    """Return a verb as a coroutine that runs in a thread."""

    async def verb(self: AsyncState, /, *arguments: P.args, **options: P.kwargs) -> R:
        bound: Callable[..., R] = getattr(self._state, method.__name__)
        return await self._run(functools.partial(bound, *arguments, **options))

    functools.update_wrapper(verb, method)
    return verb


class AsyncState:
    """A `slothstate.State` for one event loop; its verbs are coroutines. Made by `open`.

    A wait that is cancelled leaves nothing held and nothing taken.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="slothstate")
        self._commits = _Commits(state)
        # Answers what the cache knows, and says of all else that it does not.
        self._hits = state._with_codec(state._codec)
        self._hits._load = lambda key, default: _UNKNOWN

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, call)
        except RuntimeError:
            # The threads have ended, because the State was closed; if it was not, it is another error.
            self._state._engine.require_usable()
            raise
        return await running

    async def _take(self, call: Callable[[], T], give_back: Callable[[T], object]) -> T:
        """Run `call`; if the task is cancelled meanwhile, give back what it has taken all the same."""
        running = asyncio.ensure_future(self._run(call))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            while not running.done():
                try:
                    await asyncio.wait([running])
                except asyncio.CancelledError:
                    continue
            if not running.cancelled() and running.exception() is None:
                await asyncio.shield(self._run(functools.partial(give_back, running.result())))
            raise

    async def _until(
        self, look: Callable[[], Coroutine[Any, Any, tuple[T | None, float]]], timeout: float | None
    ) -> T | None:
        """Return what `look` gives once it is not None; None after the timeout.

        It looks after each commit, and after the seconds that it gives beside what it found, at the latest.
        """
        loop = asyncio.get_running_loop()
        deadline = math.inf if timeout is None else loop.time() + timeout
        while True:
            with self._commits.listening() as listener:
                found, pause = await look()
                left = deadline - loop.time()
                if found is not None or left <= 0:
                    return found
                await listener.wait(max(0.0, min(left, pause)))

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, as `State.get` does; inside the loop if the cache has it."""
        found = self._hits.get(key, _UNKNOWN) if isinstance(key, str) else _UNKNOWN
        if found is _UNKNOWN:
            return await self._run(functools.partial(self._state.get, key, default))
        return found

    set = _verb(State.set)
    delete = _verb(State.delete)
    take = _verb(State.take)
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
    list_pop_many = _verb(State.list_pop_many)
    list_shift_many = _verb(State.list_shift_many)
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
    check = _verb(State.check)
    sweep = _verb(State.sweep)
    compact = _verb(State.compact)
    backup = _verb(State.backup)

    async def scan(self, pattern: str | None = None, **options: Any) -> AsyncIterator[str]:
        """Iterate over keys as `State.scan` does: `async for key in state.scan(…)`."""
        found = self._state.scan(pattern, **options)
        while page := await self._run(lambda: list(islice(found, PAGE))):
            for key in page:
                yield key

    async def wait(self, key: str, seen: Any = None, timeout: Seconds | None = None) -> Any:
        """Return the value of a key once it differs from `seen`, as `State.wait` does."""
        seconds = check_timeout(timeout)
        value: Any = None

        before = None if seen is None else as_python(*encode(seen, "seen"))

        def read() -> tuple[Any, float]:
            found = self._state.wait(key, seen, 0)
            left_ms = self._state._engine.entries.remaining_ms(key)
            return found, left_ms / 1000 if left_ms > 0 else math.inf

        async def look() -> tuple[bool | None, float]:
            nonlocal value
            value, pause = await self._run(read)
            return None if same(value, before) else True, pause

        await self._until(look, seconds)
        return value

    async def list_pop(self, key: str | Sequence[str], default: Any = None, timeout: Seconds | None = 0) -> Any:
        """Take the last item, as `State.list_pop` does, waiting for one."""
        return await self._taken(self._state.list_pop, self._state.list_push, key, default, timeout)

    async def list_shift(self, key: str | Sequence[str], default: Any = None, timeout: Seconds | None = 0) -> Any:
        """Take the first item, as `State.list_shift` does, waiting for one."""
        return await self._taken(self._state.list_shift, self._state.list_unshift, key, default, timeout)

    async def _taken(
        self,
        take: Callable[..., Any],
        put_back: Callable[..., Any],
        key: str | Sequence[str],
        default: Any,
        timeout: Seconds | None,
    ) -> Any:
        keys = check_keys(key)

        def give_back(found: Any) -> None:
            if found is not MISSING:
                put_back(*found)

        async def look() -> tuple[tuple[str, Any] | None, float]:
            found = await self._take(functools.partial(take, keys, MISSING), give_back)
            return None if found is MISSING else found, math.inf

        found = await self._until(look, check_timeout(timeout))
        if found is None:
            return default
        return found[1] if isinstance(key, str) else found

    async def atomically(self, fn: Callable[[State], T]) -> T:
        """Return what `fn(state)` returns, run with the plain `State` in one transaction, in a thread.

        `fn` is a plain function, and raises to undo it all. Raises: `InvalidValue` for a coroutine function.
        """
        return await self._atomically(fn, self._state.transaction)

    async def _atomically(self, fn: Callable[[State], T], transaction: Callable[[], Any]) -> T:
        if inspect.iscoroutinefunction(fn):
            raise InvalidValue("fn must be a plain function: a transaction cannot be open while its task waits")

        def run() -> T:
            with transaction():
                result = fn(self._state)
                if inspect.isawaitable(result):
                    if inspect.iscoroutine(result):
                        result.close()
                    raise InvalidValue("fn must be a plain function, and returned something to be awaited")
                return result

        return await self._run(run)

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
    ) -> _LockBlock:
        """Hold a lock: `async with state.locked(…) as lock`, as `State.locked` does, for the calling task."""
        # It checks the arguments, and is not entered.
        self._state.locked(name, timeout, ttl, shared=shared, slots=slots)
        seconds = None if ttl is None else check_seconds(ttl, "ttl")
        return _LockBlock(self, name, check_timeout(timeout), seconds, shared, slots)

    async def lock(self, name: str, timeout: Seconds | None = None) -> bool:
        """Acquire a lock for the calling task, as `State.lock` does."""
        wanted = self._state._locks.acquisition(check_key(name, "name"), None)
        return await self._acquire(wanted, check_timeout(timeout), None)

    async def try_lock(self, name: str, ttl: Seconds = 30.0) -> bool:
        """Acquire a lock without waiting, as `State.try_lock` does."""
        seconds = check_seconds(ttl, "ttl")
        wanted = self._state._locks.acquisition(check_key(name, "name"), seconds)
        locks = self._state._locks
        attempt = functools.partial(locks.attempt, wanted, None, seconds, is_wait=False)
        return await self._take(attempt, lambda is_held: is_held and locks.end(wanted))

    async def unlock(self, name: str) -> bool:
        """Release a lock, as `State.unlock` does, for the calling task."""
        release = functools.partial(self._state._locks.release, check_key(name, "name"), current().identity)
        return await self._run(release)

    async def _acquire(self, wanted: Acquisition, timeout: float | None, ttl: float | None) -> bool:
        locks = self._state._locks

        def give_back(is_held: bool) -> None:
            if is_held:
                locks.end(wanted)

        async def look() -> tuple[bool | None, float]:
            attempt = functools.partial(locks.attempt, wanted, timeout, ttl)
            return await self._take(attempt, give_back) or None, LOOK_AGAIN

        return bool(await self._until(look, timeout))

    def watch(self, pattern: str | None = None, *, name: str | None = None) -> AsyncWatch:
        """Follow changes: `async for change in state.watch(…)`; it begins with the first one that is asked for.

        `async with state.watch(…) as changes` begins at once, and ends with its block.
        """
        check_pattern(pattern)
        if name is not None:
            check_key(name, "name")
        return AsyncWatch(self, pattern, name)

    async def close(self) -> None:
        """Release what this holds and close the store; closing twice does nothing. Waits end with `StateClosed`."""
        await asyncio.to_thread(self._state.close)
        self._commits.close()
        self._executor.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


_UNKNOWN: Final[Any] = object()


class _LockBlock:
    """What `AsyncState.locked` returns."""

    def __init__(
        self, owner: AsyncState, name: str, timeout: float | None, ttl: float | None, shared: bool, slots: int
    ) -> None:
        self._owner = owner
        self._name = name
        self._timeout = timeout
        self._ttl = ttl
        self._options: dict[str, Any] = {"shared": shared, "slots": slots}
        self._held: Acquisition | None = None

    async def __aenter__(self) -> AsyncLock:
        owner = self._owner
        wanted = owner._state._locks.acquisition(self._name, self._ttl, is_scoped=True, **self._options)
        if not await owner._acquire(wanted, self._timeout, self._ttl):
            raise LockTimeout(f"lock {self._name!r} was not acquired within {self._timeout} s")
        self._held = wanted
        return AsyncLock(owner, Lock(owner._state._locks, owner._state._engine, wanted))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        held = self._held
        assert held is not None
        # Also when the task is cancelled once more meanwhile.
        kept = await asyncio.shield(self._owner._run(functools.partial(self._owner._state._locks.end, held)))
        if kind is None and not kept:
            raise LockLost(f"lock {held.name!r} (token {held.token}) was lost before its block ended")


class AsyncLock:
    """A `slothstate.Lock` for asyncio."""

    def __init__(self, owner: AsyncState, lock: Lock) -> None:
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
        return await self._owner._atomically(fn, self._lock.transaction)


class AsyncWatch:
    """A `slothstate.Watch` for asyncio."""

    def __init__(self, owner: AsyncState, pattern: str | None, name: str | None) -> None:
        self._owner = owner
        self._pattern = pattern
        self._name = name
        self._watch: Watch | None = None

    async def _begun(self) -> Watch:
        if self._watch is None:
            begin = functools.partial(self._owner._state.watch, self._pattern, name=self._name)
            self._watch = await self._owner._take(begin, Watch.close)
        return self._watch

    async def next(self, timeout: Seconds | None = None) -> Change | None:
        """Return the next change, as `Watch.next` does. One that is cancelled loses none."""
        seconds = check_timeout(timeout)
        watch = await self._begun()

        def read() -> tuple[Change | None, float]:
            found = watch.next(0)
            return found, math.inf if found is not None else watch.until_expiry()

        async def look() -> tuple[Change | None, float]:
            return await self._owner._take(read, lambda found: watch.unread(found[0]))

        return await self._owner._until(look, seconds)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        change = await self.next()
        assert change is not None
        return change

    async def close(self) -> None:
        """End the watch, as `Watch.close` does."""
        if self._watch is not None:
            await self._owner._run(self._watch.close)

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class _Listener:
    """One wait: what ends it is a commit since it began to listen."""

    def __init__(self, commits: _Commits) -> None:
        self._commits = commits
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._commits.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._commits.remove(self)

    async def wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._event.wait(), None if seconds == math.inf else seconds)
        except TimeoutError:
            return

    def tell(self) -> None:
        """Called in the watching thread."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            self._commits.remove(self)


class _Commits:
    """The thread that watches for commits as long as anybody listens."""

    def __init__(self, state: State) -> None:
        self._changes = state._engine.changes
        self._mutex = threading.Lock()
        self._listeners: set[_Listener] = set()
        self._thread: threading.Thread | None = None

    def listening(self) -> _Listener:
        return _Listener(self)

    def add(self, listener: _Listener) -> None:
        with self._mutex:
            self._listeners.add(listener)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="slothstate-commits", daemon=True)
                self._thread.start()

    def remove(self, listener: _Listener) -> None:
        with self._mutex:
            self._listeners.discard(listener)

    def close(self) -> None:
        """Let everybody look, who will find the store closed."""
        self._tell()

    def _tell(self) -> None:
        with self._mutex:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.tell()

    def _watch(self) -> None:
        is_told = False
        token: int | None = None
        while True:
            with self._mutex:
                if not self._listeners:
                    self._thread = None
                    return
            try:
                now = self._changes.token()
            except SlothStateError:
                # Closed, or refused: whoever listens is told so by its next look, and does not listen again.
                self._tell()
                time.sleep(SLICE)
                continue
            # At first in any case: something may have been committed since the first one began to listen.
            if now != token or now is None or not is_told:
                token, is_told = now, True
                self._tell()
            self._changes.wait(token, SLICE)
