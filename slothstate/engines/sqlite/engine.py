"""The embedded engine: one SQLite file that any number of processes open; puts its parts together."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from slothstate.engines.protocol import Codec, FastPath, Limits
from slothstate.engines.sqlite import beside, keys, location
from slothstate.engines.sqlite.locks.owner import Ownership
from slothstate.engines.sqlite.operations import EntryOperations, TransferOperations
from slothstate.engines.sqlite.parts import Late, Parts
from slothstate.engines.sqlite.schema import check_library
from slothstate.engines.sqlite.store import Store
from slothstate.engines.sqlite.upkeep import UpkeepOperations
from slothstate.errors import SlothStateError, UnsafeState
from slothstate.hints import TYPE_CHECKING, Any, Final, cast
from slothstate.native import value_loader
from slothstate.values import KEY_MAX_BYTES, VALUE_MAX_BYTES, check_key, decoded

if TYPE_CHECKING:
    from slothstate.engines.sqlite.changes import CommitWatch
    from slothstate.engines.sqlite.claim_table import ClaimTable
    from slothstate.engines.sqlite.counters import CounterOperations
    from slothstate.engines.sqlite.fields import FieldOperations
    from slothstate.engines.sqlite.list_operations import ListOperations
    from slothstate.engines.sqlite.locks.lock_table import LockTable
    from slothstate.engines.sqlite.watch_table import WatchTable

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
        # It can be older than what the database's mode is now, and others who may use the store need it.
        with suppress(UnsafeState):
            beside.give_directory(path, location.lock_directory(path))
        ownership = Ownership(path)
        store.recognise(ownership)
        self.parts = made = Parts(store, ownership)
        self.counters = cast("CounterOperations", Late(made, "counters"))
        self.fields = cast("FieldOperations", Late(made, "fields"))
        self.lists = cast("ListOperations", Late(made, "lists"))
        self.changes = cast("CommitWatch", Late(made, "changes", "forget", "close"))
        self.locks = cast("LockTable", Late(made, "locks", "forget", "end"))
        self.claims = cast("ClaimTable", Late(made, "claims", "end"))
        self.watches = cast("WatchTable", Late(made, "watches", "close"))
        store.upkeep = weakref.WeakMethod(self.tidy)
        self.transfer = TransferOperations(store)
        self.upkeep = UpkeepOperations(store)
        self.transaction = store.transaction
        self.snapshot = store.moment
        self.after_transaction = store.afterwards.add
        self.require_usable = store.require_usable
        self.require_writable = store.require_writable
        self.rest = store.rest

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

    def tidy(self) -> None:
        """Do what else a sweep does."""
        self.locks.sweep()
        self.watches.sweep()

    def close(self) -> None:
        self.store.close()
        self.changes.close()

    def fast(self, codec: Codec, /) -> FastPath | None:
        load = partial(_load_value, self.store, codec.decode)
        return FastPath(self.store.cache if self._is_cached else None, load)
