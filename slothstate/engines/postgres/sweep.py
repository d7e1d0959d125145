"""Removing what has expired, by batches, now and then."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress

import psycopg

from slothstate.engines.postgres.connection import ConnectionLost
from slothstate.engines.postgres.ticker import Ticker
from slothstate.hints import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Sweeper", "sweep_all"]

BATCH: Final = 1000

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
    """Sweeps every `interval` seconds, if no other process does, in a thread that ends with its engine."""

    def __init__(self, pool: Store, interval: float, tidy: Callable[[], object]) -> None:
        # Not the engine itself, which ends when nobody refers to it any more.
        self._pool = weakref.ref(pool)
        self._tidy: weakref.ref[Callable[[], object]] = weakref.WeakMethod(tidy)
        self._ticker = Ticker("slothstate-sweep", interval, self._sweep)
        self.ensure_running = self._ticker.ensure_running
        self.stop = self._ticker.stop

    def _sweep(self) -> None:
        pool = self._pool()
        if pool is None:
            return
        # A connection that is lost: the next sweep does it.
        with suppress(psycopg.Error, ConnectionLost), pool.lent() as connection:
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
