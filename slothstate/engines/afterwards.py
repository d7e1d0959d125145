"""What is to be done once a transaction has ended."""

from __future__ import annotations

from collections.abc import Callable

from slothstate.caller import thread_ident

__all__ = ["Afterwards"]


class Afterwards:
    """Callbacks of threads that are in a transaction."""

    def __init__(self) -> None:
        self._callbacks: dict[int, list[Callable[[], object]]] = {}

    def add(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the transaction of the calling thread has ended, whichever way."""
        self._callbacks.setdefault(thread_ident(), []).append(callback)

    def forget(self) -> None:
        """Be a forked child, in which no transaction goes on."""
        self._callbacks.clear()

    def run(self, thread: int) -> None:
        """Call those of a thread whose transaction has ended."""
        callbacks = self._callbacks.get(thread, [])
        while callbacks:
            try:
                callbacks[0]()
            except Exception:
                del callbacks[0]
                raise
            # Only now: one that Ctrl-C strikes is called again.
            del callbacks[0]
        self._callbacks.pop(thread, None)
