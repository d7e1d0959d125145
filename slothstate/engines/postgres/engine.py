"""The engine for many machines: puts its parts together."""

from __future__ import annotations

from collections.abc import Callable

from slothstate.engines.postgres import address
from slothstate.engines.postgres.changes import Changes
from slothstate.engines.postgres.claim_table import ClaimTable
from slothstate.engines.postgres.counters import Counters
from slothstate.engines.postgres.entries import Entries
from slothstate.engines.postgres.lists import Lists
from slothstate.engines.postgres.lock_table import LockTable
from slothstate.engines.postgres.owner import Owner
from slothstate.engines.postgres.parts import Fields
from slothstate.engines.postgres.store import Store
from slothstate.engines.postgres.sweep import Sweeper
from slothstate.engines.postgres.upkeep import Transfer, Upkeep
from slothstate.engines.postgres.watch_table import WatchTable
from slothstate.engines.protocol import Codec, FastPath, Limits
from slothstate.errors import SlothStateError
from slothstate.hints import Final
from slothstate.values import KEY_MAX_BYTES, VALUE_MAX_BYTES

__all__ = ["PostgresEngine"]


EXISTS_SECONDS: Final = 10.0
"""Seconds to wait for a server that is asked whether it has a store."""


class PostgresEngine:
    """`protocol.Engine` on one schema of a PostgreSQL database.

    `clock` returns seconds since the epoch, in place of the server's: for tests.
    """

    name: Final = "postgresql"
    limits: Final = Limits(KEY_MAX_BYTES, VALUE_MAX_BYTES)
    features: Final[frozenset[str]] = frozenset()

    def __init__(
        self,
        url: str,
        *,
        durability: str = "process",
        busy_timeout: float = 30.0,
        sweep_interval: float = 300.0,
        clock: Callable[[], float] | None = None,
        is_resting: bool = False,
    ) -> None:
        parsed = address.parse(url)
        self.address = parsed.shown
        self.pool = pool = Store(parsed, durability=durability, busy_timeout=busy_timeout, clock=clock)
        # So that a server that is not there is told when the store is opened.
        pool.give_back(pool.connect("worker"))
        self.entries = Entries(pool)
        self.counters = Counters(pool)
        self.lists = Lists(pool)
        self.fields = Fields(pool, self.entries, self.lists)
        self._owner = Owner(pool)
        self.changes = Changes(pool)
        self.locks = LockTable(pool, self._owner, self.changes)
        self.claims = ClaimTable(pool, self._owner)
        self.watches = WatchTable(pool, self._owner)
        self.transfer = Transfer(pool)
        self.upkeep = Upkeep(pool)
        self.transaction = pool.transaction
        self.snapshot = pool.snapshot
        self.after_transaction = pool.afterwards.add
        self.require_usable = pool.require_usable
        self.require_writable = pool.require_writable
        self._sweeper = Sweeper(pool, sweep_interval, self.tidy)
        if not is_resting:
            pool.connected = self._sweeper.ensure_running
            self._sweeper.ensure_running()

    @classmethod
    def exists(cls, url: str) -> bool:
        """Return whether there is a store at a URL; makes none. Raises: as opening it."""
        store = Store(address.parse(url), durability="process", busy_timeout=EXISTS_SECONDS, creates=False)
        try:
            store.give_back(store.connect("look"))
        except FileNotFoundError:
            return False
        finally:
            store.close()
        return True

    @property
    def in_transaction(self) -> bool:
        return self.pool.in_transaction

    @property
    def refusal(self) -> SlothStateError | None:
        return self.pool.refusal

    def tidy(self) -> None:
        """Do what else a sweep does."""
        self.locks.sweep()
        self.watches.sweep()

    def fast(self, codec: Codec, /) -> FastPath | None:
        return None

    def rest(self) -> None:
        self.pool.connected = None
        self._sweeper.stop()
        self.pool.close_idle()

    def close(self) -> None:
        self._sweeper.stop()
        self.pool.close()
        self._owner.end()
