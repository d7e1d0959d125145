"""How a plain State is used from an event loop: in threads, and without holding one while waiting."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from slothstate.acquisition import Acquisition
from slothstate.aio.commits import Commits
from slothstate.errors import InvalidValue
from slothstate.state import State

__all__ = ["THREADS", "Runner"]

T = TypeVar("T")

THREADS: Final = 4
"""Threads of one `AsyncState`; a writer waits for other writers in one of them."""

LOOK_AGAIN: Final = 0.03
"""Seconds after which who waits for a lock looks whether its holder lives."""


class Runner:
    """A State and what runs its verbs."""

    def __init__(self, state: State) -> None:
        self.state = state
        """The plain State, for a thread."""
        self._commits = Commits(state._engine.changes)
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="slothstate")

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            running = asyncio.get_running_loop().run_in_executor(self._executor, call)
        except RuntimeError:
            # The threads have ended, because the State was closed; if it was not, it is another error.
            self.state._engine.require_usable()
            raise
        return await running

    async def _take_or_give_back(self, call: Callable[[], T], give_back: Callable[[T], object]) -> T:
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

    async def _acquire(self, wanted: Acquisition, timeout: float | None, ttl: float | None) -> bool:
        locks = self.state._locks

        def give_back(is_held: bool) -> None:
            if is_held:
                locks.end(wanted)

        async def look() -> tuple[bool | None, float]:
            attempt = functools.partial(locks.attempt, wanted, timeout, ttl)
            return await self._take_or_give_back(attempt, give_back) or None, LOOK_AGAIN

        is_held = False
        try:
            is_held = bool(await self._until(look, timeout))
            return is_held
        finally:
            if timeout != 0 and not is_held:
                # Also when the task is cancelled once more meanwhile.
                await asyncio.shield(self._run(functools.partial(locks.end_wait, wanted)))

    async def _atomically_in(self, fn: Callable[[State], T], transaction: Callable[[], Any]) -> T:
        if inspect.iscoroutinefunction(fn):
            raise InvalidValue("fn must be a plain function: a transaction cannot be open while its task waits")

        def run() -> T:
            with transaction():
                result = fn(self.state)
                if inspect.isawaitable(result):
                    if inspect.iscoroutine(result):
                        result.close()
                    raise InvalidValue("fn must be a plain function, and returned something to be awaited")
                return result

        return await self._run(run)

    async def close(self) -> None:
        """Release what this holds and close the store; closing twice does nothing. Waits end with `StateClosed`."""
        await asyncio.to_thread(self.state.close)
        self._commits.close()
        self._executor.shutdown(wait=False)
