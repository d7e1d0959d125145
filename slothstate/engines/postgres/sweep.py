"""Removing what has expired, by batches, and the thread that does it now and then."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from slothstate.errors import SlothStateError, StateIOError

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Sweeper", "sweep_all"]

BATCH: Final = 1000

JOIN: Final = 5.0
"""Seconds that a fork waits for a batch to end."""

_CLAIMS: Final = "select claims_sweep_v1()"

_HAS_CLAIMS: Final = "select 1 from claims limit 1"

_BATCH: Final = "select removed from sweep_v1(%s)"

_OUTCOMES: Final = "delete from outcomes where at_ms < clock_ms() - 86400000"

# In the space of pairs: whoever has it sweeps.
_TURN: Final = "select pg_try_advisory_lock(hashtext(current_schema() || '.sweep'), 1)"

_TURN_OVER: Final = "select pg_advisory_unlock(hashtext(current_schema() || '.sweep'), 1)"


def sweep_all(pool: Store) -> int:
    """Bring claimed items back that are due, and remove everything that is expired now; return how many keys went."""
    if pool.read(_HAS_CLAIMS):
        pool.write(_CLAIMS)
    removed = 0
    while True:
        count = int(pool.write(_BATCH, (BATCH,), bulk=True)[0][0])
        removed += count
        if count < BATCH:
            return removed


class Sweeper:
    """A daemon thread that sweeps every `interval` seconds, if no other process does, and ends with its engine.

    It is not alive while the process forks; parent and child start it again when they next connect.
    """

    def __init__(self, pool: Store, interval: float, tidy: Callable[[], object]) -> None:
        self._pool = weakref.ref(pool)
        # Not the engine itself, which ends when nobody refers to it any more.
        self._tidy: weakref.ref[Callable[[], object]] = weakref.WeakMethod(tidy)
        self._interval = min(interval, threading.TIMEOUT_MAX)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        _sweepers.add(self)

    def ensure_running(self) -> None:
        """Start the thread unless it runs. Raises: `StateIOError` where the system has no room for another."""
        if self._thread is not None:
            return
        self._ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(self._ended,), name="slothstate-sweep", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if "shutdown" in str(error):
                # From 3.12 on no thread can be started while Python ends; then there is nothing to sweep for.
                return
            raise StateIOError("the thread of the background sweep cannot be started") from error
        self._thread = thread

    def stop(self, *, seconds: float = 0.0) -> None:
        """Ask the thread to end, and wait so long for it."""
        self._ended.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def forget(self) -> None:
        """Know of no thread: what a forked child does."""
        self._thread = None

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(self._interval):
            pool = self._pool()
            if pool is None or pool.refusal is not None:
                return
            try:
                self._sweep(pool)
            except SlothStateError:
                # Busy or out of reach now: the next one does it.
                continue
            finally:
                del pool

    def _sweep(self, pool: Store) -> None:
        with pool.lent() as connection:
            if not connection.execute(_TURN, seconds=10)[0][0]:
                return
            try:
                sweep_all(pool)
                pool.write(_OUTCOMES)
                tidy = self._tidy()
                if tidy is not None:
                    tidy()
            finally:
                connection.execute(_TURN_OVER, seconds=10)


_sweepers: weakref.WeakSet[Sweeper] = weakref.WeakSet()


def _stop_all() -> None:
    for sweeper in list(_sweepers):
        sweeper.stop(seconds=JOIN)


def _forget_all() -> None:
    for sweeper in list(_sweepers):
        sweeper.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_stop_all, after_in_child=_forget_all)
