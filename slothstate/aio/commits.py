"""Waiting for commits in an event loop: one thread watches for all who listen."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from contextlib import suppress

from slothstate.engines.watching import Changes
from slothstate.errors import SlothStateError
from slothstate.hints import Final, Self
from slothstate.native import without_signals

__all__ = ["Commits", "Listener"]

SLICE: Final = 0.5
"""Seconds after which the watching thread looks whether anybody still listens."""


class Listener:
    """One wait: what ends it is a commit since it began to listen."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._commits.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._commits.remove(self)

    async def wait(self, seconds: float) -> None:
        # Not `wait_for`: in Python 3.11 it forgets a cancellation that comes together with the commit.
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._event.wait()

    def tell(self) -> None:
        """Called in the watching thread."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            # The loop is closed: nobody waits any more.
            self._commits.remove(self)


class Commits:
    """The thread that watches for commits as long as anybody listens."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._mutex = threading.Lock()
        self._listeners: set[Listener] = set()
        self._thread: threading.Thread | None = None

    def listening(self) -> Listener:
        return Listener(self)

    def add(self, listener: Listener) -> None:
        with self._mutex:
            self._listeners.add(listener)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="slothstate-commits", daemon=True)
                without_signals(self._thread.start)

    def remove(self, listener: Listener) -> None:
        with self._mutex:
            self._listeners.discard(listener)

    def tell(self) -> None:
        """Let everybody look: at what was committed, or that the store or a watch is closed."""
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
                # At first in any case: something may have been committed since the first one began to listen.
                if now != token or now is None or not is_told:
                    token, is_told = now, True
                    self.tell()
                self._changes.wait(token, SLICE)
            except SlothStateError:
                # Closed, or refused: whoever listens is told so by its next look, and does not listen again.
                self.tell()
                time.sleep(SLICE)
