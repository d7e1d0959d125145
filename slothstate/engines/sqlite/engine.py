"""The embedded engine: one SQLite file that any number of processes open; puts its parts together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from slothstate.engines.protocol import Codec, FastPath, Limits
from slothstate.engines.sqlite import keys, location
from slothstate.engines.sqlite.changes import CommitWatch
from slothstate.engines.sqlite.locks.late_lock_table import LateLockTable
from slothstate.engines.sqlite.operations import (
    CounterOperations,
    EntryOperations,
    FieldOperations,
    ListOperations,
    TransferOperations,
)
from slothstate.engines.sqlite.schema import check_library
from slothstate.engines.sqlite.store import Store
from slothstate.engines.sqlite.upkeep import UpkeepOperations
from slothstate.errors import SlothStateError
from slothstate.native import value_loader
from slothstate.values import KEY_MAX_BYTES, VALUE_MAX_BYTES, check_key, decoded

if TYPE_CHECKING:
    from slothstate.engines.sqlite.locks.lock_table import LockTable

__all__ = ["SqliteEngine"]

_load_value: Final = value_loader(keys.get, check_key, decoded)


class SqliteEngine:
    """`protocol.Engine` on one SQLite file.

    `clock` returns seconds since the epoch; every operation reads it once and passes it to SQL in milliseconds. `vfs`
    names the SQLite VFS that its connections use: a disk that fails or loses power, in tests.
    """

    name: Final = "sqlite"
    limits: Final = Limits(KEY_MAX_BYTES, VALUE_MAX_BYTES)
    features: Final = frozenset(("activity", "backup", "compact", "read cache"))

    def __init__(
        self, path: str, *, cache_size: int = 64 * 2**20, clock: Callable[[], float] = time.time, **options: Any
    ) -> None:
        self.address = path
        self.store = store = Store(path, cache_size=cache_size, clock=clock, **options)
        self._is_cached = cache_size > 0
        self.entries = EntryOperations(store)
        self.counters = CounterOperations(store)
        self.lists = ListOperations(store)
        self.fields = FieldOperations(store)
        self.locks: LockTable = cast("LockTable", LateLockTable(store))
        self.changes = CommitWatch(store)
        self.transfer = TransferOperations(store)
        self.upkeep = UpkeepOperations(store)
        self.transaction = store.transaction
        self.snapshot = store.moment
        self.after_transaction = store.after_transaction
        self.require_usable = store.require_usable
        self.rest = store.rest
        self.close = store.close

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None, *, allow_remote: bool, **options: Any) -> SqliteEngine:
        """Open or create the store at `path`, which may be anything that `slothstate.open` is given."""
        check_library()
        return cls(location.resolve(path, allow_remote=allow_remote), **options)

    @property
    def in_transaction(self) -> bool:
        return self.store.in_transaction

    @property
    def refusal(self) -> SlothStateError | None:
        return self.store.refusal

    def fast(self, codec: Codec, /) -> FastPath | None:
        load = partial(_load_value, self.store, codec.decode)
        return FastPath(self.store.cache if self._is_cached else None, load)
