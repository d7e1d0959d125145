"""The background sweep: every few minutes one process of all removes what has expired."""

from __future__ import annotations

import _thread
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress

from slothstate.engines.sqlite import returning, sweep, turn
from slothstate.errors import SlothStateError, StateIOError
from slothstate.hints import TYPE_CHECKING, Final, Protocol
from slothstate.native import without_signals

if TYPE_CHECKING:
    from slothstate.engines.sqlite.lender import Run

__all__ = ["Sweeper", "sweep_all"]

_TURN: Final = "sweep.lock"


class Sweepable(Protocol):
    """The store that is swept. `upkeep` gives what else is to be done then, if anything."""

    path: str
    write: Run
    upkeep: Callable[[], Callable[[], object] | None]


def sweep_all(engine: Sweepable, is_to_end: Callable[[], bool] = lambda: False) -> int:
    """Bring claimed items back that are due, and remove everything that is expired now; return how many keys went.

    Between two batches it pauses for as long as the last one took, so a writer never waits for more than one batch.
    """
    engine.write(returning.sweep)
    removed, more = 0, True
    while more and not is_to_end():
        began = time.monotonic()
        count, more = engine.write(sweep.batch)
        removed += count
        if more:
            time.sleep(time.monotonic() - began)
    return removed


class Sweeper:
    """A daemon thread that sweeps an engine's store every `interval` seconds, and ends with the engine.

    `due` (`time.monotonic`) is when the first sweep comes.
    """

    def __init__(self, engine: Sweepable, interval: float, due: float | None = None) -> None:
        # Longer than the system can wait is for ever.
        self._interval = min(interval, threading.TIMEOUT_MAX)
        self.due = time.monotonic() + self._interval if due is None else due
        # Locked until the thread is to end. Not an Event: an exception out of a signal handler in the middle of its
        # `set` leaves it locked for ever, and `stop` also runs from the garbage collector.
        self._running = threading.Lock()
        self._running.acquire()
        # Of the same kind as the lock: gevent and eventlet can replace both of them before the thread is started.
        self._start = _thread.start_new_thread
        self._engine = weakref.ref(engine, lambda _: self.stop())
        self._started = False
        self._native_id = 0
        self.is_running = False

    def ensure_running(self) -> None:
        """Start the thread at first use; a process that was forked, and its parent, make a Sweeper of their own.

        Raises: `StateIOError` when the system has no memory or no room for another thread.
        """
        if not self._started:
            self._started = self.is_running = True
            # Not a Thread: its `start` waits for it, and breaks when a signal handler raises meanwhile.
            try:
                without_signals(self._start, self._run, ())
            except RuntimeError as error:
                self._started = self.is_running = False
                if "shutdown" in str(error):
                    # From 3.12 on no thread can be started while Python ends; then there is nothing to sweep for.
                    return
                raise StateIOError("the thread of the background sweep cannot be started") from error

    def stop(self) -> None:
        """Ask the thread to end, for good; it does so between two batches."""
        try:
            self._running.release()
        except RuntimeError:
            return

    def end(self, deadline: float) -> None:
        """Ask the thread to end, and wait until the system knows it no more, or until `deadline`."""
        self.stop()
        while (self.is_running or self._is_known()) and time.monotonic() < deadline:
            time.sleep(0.0002)

    def _is_known(self) -> bool:
        # With gevent it is a greenlet of the very thread that waits for it.
        return self._native_id not in (0, _thread.get_native_id()) and os.path.exists(
            f"/proc/self/task/{self._native_id}"
        )

    def _run(self) -> None:
        self._native_id = _thread.get_native_id()
        try:
            self._sweep_now_and_then()
        finally:
            self.is_running = False

    def _sweep_now_and_then(self) -> None:
        while not self._running.acquire(timeout=max(0.0, min(self.due - time.monotonic(), threading.TIMEOUT_MAX))):
            self.due = time.monotonic() + self._interval
            engine = self._engine()
            if engine is None:
                return
            try:
                self._sweep_alone(engine)
            except SlothStateError:
                # Busy, full or read-only now; a closed or refused store ends the loop through `stop`.
                continue
            finally:
                del engine

    def _sweep_alone(self, engine: Sweepable) -> None:
        with ExitStack() as stack:
            try:
                is_our_turn = stack.enter_context(turn.hold(engine.path, _TURN))
            except PermissionError:
                # Another user's, of a release that kept its files to itself: the next sweep makes it anew.
                with suppress(OSError):
                    os.unlink(turn.file(engine.path, _TURN))
                return
            except OSError:
                return
            if is_our_turn:
                sweep_all(engine, self._is_to_end)
                upkeep = engine.upkeep()
                if upkeep is not None:
                    upkeep()

    def _is_to_end(self) -> bool:
        return not self._running.locked()
