"""A daemon thread that calls a method now and then, and is not alive while the process forks."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress

from slothstate.errors import SlothStateError, StateIOError
from slothstate.hints import Final
from slothstate.native import without_signals

__all__ = ["Ticker"]

JOIN: Final = 5.0
"""Seconds that a fork waits for a call to end."""


class Ticker:
    """Calls a bound method every `interval` seconds, until `stop`, or nobody refers to its object any more.

    After a fork the child has no thread until `ensure_running`; the parent has one again if it had one.
    """

    def __init__(self, name: str, interval: float, call: Callable[[], object]) -> None:
        self._name = name
        self._interval = min(interval, threading.TIMEOUT_MAX)
        self._call: weakref.ref[Callable[[], object]] = weakref.WeakMethod(call, lambda _: self._ask_to_end())
        self._renew()
        self._thread: threading.Thread | None = None
        _tickers.add(self)

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def ensure_running(self) -> None:
        """Start the thread unless it runs. Raises: `StateIOError` where the system has no room for another."""
        if self._thread is not None:
            return
        self._renew()
        thread = threading.Thread(target=self._run, args=(self._running,), name=self._name, daemon=True)
        try:
            without_signals(thread.start)
        except RuntimeError as error:
            if "shutdown" in str(error):
                # From 3.12 on no thread can be started while Python ends; then there is nothing to do now and then.
                return
            raise StateIOError(f"the thread {self._name} cannot be started") from error
        self._thread = thread

    def _renew(self) -> None:
        # Locked until the thread is to end. Not an Event, which the garbage collector might find locked by its thread.
        self._running = threading.Lock()
        self._running.acquire()

    def _ask_to_end(self) -> None:
        with suppress(RuntimeError):
            self._running.release()

    def stop(self, *, seconds: float = 0.0) -> None:
        """Ask the thread to end, and wait so long for it."""
        self._ask_to_end()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def forget(self) -> None:
        """Know of no thread: what a forked child does."""
        self._thread = None

    def _run(self, running: threading.Lock) -> None:
        while not running.acquire(timeout=self._interval):
            call = self._call()
            if call is None:
                return
            try:
                call()
            except SlothStateError:
                # Busy, out of reach or closed: the next one does it, or nobody any more.
                continue
            finally:
                del call


_tickers: weakref.WeakSet[Ticker] = weakref.WeakSet()


_resting: list[Ticker] = []


def _stop_all() -> None:
    for ticker in list(_tickers):
        if ticker.is_running:
            _resting.append(ticker)
            ticker.stop(seconds=JOIN)


def _go_on() -> None:
    while _resting:
        with suppress(StateIOError):
            _resting.pop().ensure_running()


def _forget_all() -> None:
    _resting.clear()
    for ticker in list(_tickers):
        ticker.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_stop_all, after_in_parent=_go_on, after_in_child=_forget_all)
