"""How a plain State is used from an event loop: in threads, and without holding one while waiting."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from slothstate.acquisition import Acquisition
from slothstate.aio.commits import Commits
from slothstate.errors import InvalidValue, SlothStateError
from slothstate.hints import Any, Final, TypeVar
from slothstate.identity import process_id
from slothstate.state import State
from slothstate.values import describe
from slothstate.verbs.waiting import GRACE

__all__ = ["THREADS", "Runner"]

T = TypeVar("T")

THREADS: Final = 4
"""Threads of one `AsyncState`; a writer waits for other writers in one of them."""

_OTHER_FUNCTIONS: Final = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
"""What a function must not be that a transaction runs: a call of it only begins it."""


class Runner:
    """A State and what runs its verbs."""

    def __init__(self, state: State) -> None:
        self.state = state
        """The plain State, for a thread."""
        self._process = 0
        self._ensure_threads()

    def _ensure_threads(self) -> None:
        """Have threads of this process: a forked child has none of its parent's, and nobody ends a wait for those."""
        process = process_id()
        if self._process != process:
            self._process = process
            self._commits = Commits(self.state._engine.changes)
            self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="slothstate")

    def _begin(self, call: Callable[[], T]) -> Future[T]:
        self._ensure_threads()
        try:
            return self._executor.submit(call)
        except RuntimeError:
            # The threads have ended, because the State was closed; if it was not, it is another error.
            self.state._engine.require_usable()
            raise

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._begin(call))

    async def _run_anyway(self, call: Callable[[], T]) -> T:
        """Run `call`, which ends what is held, also if the task is cancelled before its turn has come."""
        return await asyncio.shield(asyncio.wrap_future(self._begin(call)))

    async def _end_block(self, call: Callable[[], T], kind: type[BaseException] | None) -> T | None:
        """`_run_anyway` at the end of a block, whose own error of this `kind` is not replaced by one of ending it."""
        try:
            return await self._run_anyway(call)
        except SlothStateError:
            if kind is None:
                raise
            return None

    async def _take_once_begun(self, call: Callable[[], T], is_nothing: Callable[[T], bool] = lambda found: False) -> T:
        """Return what `call` takes.

        If the task is cancelled before that has begun, nothing is taken. If it is cancelled later, it gets the result
        all the same, unless that `is_nothing`, and the cancellation at its next `await`. Not put back: an item would
        have lost its place among those that others have taken and put back meanwhile, its TTL, and one of its attempts.
        Not taken in a transaction that waits for the task's consent either: to a server it is three times the way, and
        whoever is cancelled while it is committed is no better off.
        """
        taking = self._begin(call)
        running = asyncio.wrap_future(taking)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError as error:
            # Either it never runs, or it has begun.
            if taking.cancel():
                raise
            await _ended(running)
            if running.cancelled() or running.exception() is not None or is_nothing(running.result()):
                raise
            _cancel_later(error)
            return running.result()

    async def _take_or_give_back(self, call: Callable[[], T], give_back: Callable[[T], object]) -> T:
        """Return what `call` takes; if the task is cancelled meanwhile, give it back.

        For what is given back as it was.
        """
        taking = self._begin(call)
        running = asyncio.wrap_future(taking)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            if taking.cancel():
                raise
            await _ended(running)
            if not running.cancelled() and running.exception() is None:
                await self._run_anyway(functools.partial(give_back, running.result()))
            raise

    async def _until(
        self, look: Callable[[float], Coroutine[Any, Any, tuple[T | None, float]]], timeout: float | None
    ) -> T | None:
        """Return what `look` gives once it is not None; None after the timeout, also if its turn has not come by then.

        It looks after each commit, and after the seconds that it gives beside what it found, at the latest. `look` gets
        the moment (`time.monotonic`) that it has time until.
        """
        self._ensure_threads()
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        # One that does not wait is as any other verb.
        latest = deadline + GRACE if timeout else math.inf
        task = asyncio.current_task()
        assert task is not None
        requests = task.cancelling()
        while True:
            with self._commits.listening() as listener:
                try:
                    async with asyncio.timeout(None if latest == math.inf else latest - time.monotonic()) as patience:
                        found, pause = await look(latest)
                except TimeoutError:
                    # That of `patience`, or `StateBusy`.
                    if latest == math.inf or time.monotonic() < deadline:
                        raise
                    return None
                if patience.expired() and task.cancelling() > requests:
                    # Cancelled by another as well, while it was yet to return what it had taken.
                    _cancel_later(asyncio.CancelledError())
                left = deadline - time.monotonic()
                if found is not None or left <= 0:
                    return found
                await listener.wait(max(0.0, min(left, pause)))

    def _in_time(self, call: Callable[[], T], latest: float) -> T:
        """Call something in a thread, whose writes wait for other writers until `latest`, then are `StateBusy`."""
        if latest == math.inf:
            return call()
        with self.state._engine.changes.within(max(0.0, latest - time.monotonic())):
            return call()

    async def _acquire(self, wanted: Acquisition, timeout: float | None, ttl: float | None) -> bool:
        locks = self.state._locks

        def give_back(is_held: bool) -> None:
            if is_held:
                locks.end(wanted)

        async def look(latest: float) -> tuple[bool | None, float]:
            attempt = functools.partial(self._in_time, lambda: locks.attempt(wanted, timeout, ttl), latest)
            return await self._take_or_give_back(attempt, give_back) or None, locks.pause(wanted)

        is_held = False
        try:
            is_held = bool(await self._until(look, timeout))
            return is_held
        finally:
            if timeout != 0 and not is_held:
                # Also when the task is cancelled once more meanwhile.
                await self._run_anyway(functools.partial(locks.end_wait, wanted))

    async def _atomically_in(self, fn: Callable[[State], T], transaction: Callable[[], Any]) -> T:
        if not callable(fn):
            raise InvalidValue(f"fn must be callable, got {describe(fn)}")
        if any(is_other(fn) for is_other in _OTHER_FUNCTIONS):
            raise InvalidValue("fn must be a plain function: a transaction cannot be open while its task waits")

        def run() -> T:
            with transaction():
                result = fn(self.state)
                if inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result):
                    if inspect.iscoroutine(result):
                        result.close()
                    raise InvalidValue(
                        "fn must be a plain function, and returned something that would run after the transaction, "
                        f"got {describe(result)}"
                    )
                return result

        return await self._run(run)

    async def close(self) -> None:
        """Release what this holds and close the store; closing twice does nothing. Waits end with `StateClosed`."""
        self._ensure_threads()
        closing = asyncio.ensure_future(asyncio.to_thread(self.state.close))
        closing.add_done_callback(self._end)
        # Also if the task is cancelled meanwhile.
        await asyncio.shield(closing)

    def _end(self, _: object) -> None:
        self._commits.tell()
        self._executor.shutdown(wait=False)


async def _ended(running: asyncio.Future[Any]) -> None:
    """Wait for the end of what runs in a thread, also if the task is cancelled again meanwhile."""
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([running])


def _cancel_later(error: asyncio.CancelledError) -> None:
    """Cancel the task where it waits next, as it has just been, unless its cancellation is taken back by then.

    `asyncio.timeout` does so where its block ends without another `await`: what it bounds was in time.
    """
    task = asyncio.current_task()
    assert task is not None
    requests = task.cancelling()

    def cancel() -> None:
        if task.cancelling() >= requests:
            # The same one once more, and not one more, for those who count.
            task.uncancel()
            task.cancel(*error.args)

    asyncio.get_running_loop().call_soon(cancel)
