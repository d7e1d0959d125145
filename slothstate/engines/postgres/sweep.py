"""Removing what has expired, by batches, and the thread that does it now and then."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from slothstate.errors import SlothStateError

if TYPE_CHECKING:
    from slothstate.engines.postgres.pool import Pool

__all__ = ["Sweeper", "sweep_all"]

BATCH: Final = 1000

_CLAIMS: Final = "select claims_sweep_v1()"

_HAS_CLAIMS: Final = "select 1 from claims limit 1"

_BATCH: Final = "select removed from sweep_v1(%s)"

_OUTCOMES: Final = "delete from outcomes where at_ms < clock_ms() - 86400000"

# In the space of pairs: whoever has it sweeps.
_TURN: Final = "select pg_try_advisory_lock(hashtext(current_schema() || '.sweep'), 1)"

_TURN_OVER: Final = "select pg_advisory_unlock(hashtext(current_schema() || '.sweep'), 1)"


def sweep_all(pool: Pool) -> int:
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
    """A daemon thread that sweeps every `interval` seconds, if no other process does, and ends with its engine."""

    def __init__(self, pool: Pool, interval: float, tidy: Callable[[], object]) -> None:
        self._pool = weakref.ref(pool)
        self._tidy = tidy
        self._interval = min(interval, threading.TIMEOUT_MAX)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def ensure_running(self) -> None:
        if self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._run, name="slothstate-sweep", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
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

    def _sweep(self, pool: Pool) -> None:
        with pool.lent() as connection:
            if not connection.execute(_TURN, seconds=10)[0][0]:
                return
            try:
                sweep_all(pool)
                pool.write(_OUTCOMES)
                self._tidy()
            finally:
                connection.execute(_TURN_OVER, seconds=10)
