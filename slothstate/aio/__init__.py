"""The store for asyncio: the verbs of `slothstate.State` as coroutines.

A read that hits the cache runs inside the loop, for it costs less than a task switch; everything else runs in a few
threads. All waits of an `AsyncState` share one thread that watches for commits, and hold no other while they wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from types import TracebackType

from slothstate import state as plain
from slothstate.aio.handles import AsyncClaim, AsyncLock, AsyncWatch
from slothstate.aio.state import AsyncState
from slothstate.hints import Any

__all__ = ["AsyncClaim", "AsyncLock", "AsyncState", "AsyncWatch", "open"]


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
        opening = asyncio.ensure_future(asyncio.to_thread(plain.open, self._path, **self._options))
        try:
            return AsyncState(await asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise

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


def _close_opened(opening: asyncio.Future[plain.State]) -> None:
    """Close what was opened for a task that was cancelled."""
    if not opening.cancelled() and opening.exception() is None:
        asyncio.get_running_loop().run_in_executor(None, opening.result().close)
