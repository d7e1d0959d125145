"""The embedded engine: one SQLite file that any number of processes open; puts its parts together."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from slothstate.engines.protocol import Codec, FastPath, Limits
from slothstate.engines.sqlite import beside, keys, location
from slothstate.engines.sqlite.late import Late
from slothstate.engines.sqlite.locks.owner import Ownership
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
from slothstate.errors import SlothStateError, UnsafeState
from slothstate.native import value_loader
from slothstate.values import KEY_MAX_BYTES, VALUE_MAX_BYTES, check_key, decoded

if TYPE_CHECKING:
    from slothstate.engines.sqlite.changes import CommitWatch
    from slothstate.engines.sqlite.claim_table import ClaimTable
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
        self.counters = CounterOperations(store)
        self.lists = ListOperations(store)
        self.fields = FieldOperations(store)
        # It can be older than what the database's mode is now, and others who may use the store need it.
        with suppress(UnsafeState):
            beside.give_directory(path, location.lock_directory(path))
        self._ownership = Ownership(path)
        store.recognise(self._ownership)
        self.changes: CommitWatch = self._late("changes", "forget", "close")
        self.locks: LockTable = self._late("locks", "forget", "end")
        self.claims: ClaimTable = self._late("claims", "end")
        self.watches: WatchTable = self._late("watches", "close")
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

    def _late(self, name: str, *quiet: str) -> Any:
        # A part that refers to its engine would keep it from being closed as soon as nobody refers to it.
        return Late(partial(_made, weakref.ref(self), name), *quiet)

    def _part(self, name: str) -> Any:
        """Return a part, which is made if it is not there."""
        if isinstance(getattr(self, name), Late):
            setattr(self, name, _MAKERS[name](self))
        return getattr(self, name)

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


def _made(reference: weakref.ref[SqliteEngine], name: str) -> Any:
    """Return the part of an engine that has this name, from now on in place of its `Late`."""
    engine = reference()
    if engine is None:
        raise ReferenceError("the engine is gone")
    store = engine.store
    # A fork waits until all is imported: a child could never end what another thread of its parent has begun.
    with store.settled():
        return engine._part(name)


def _changes(engine: SqliteEngine) -> CommitWatch:
    from slothstate.engines.sqlite.changes import CommitWatch

    return CommitWatch(engine.store)


def _locks(engine: SqliteEngine) -> LockTable:
    from slothstate.engines.sqlite.locks.lock_table import LockTable

    return LockTable(engine.store, engine._ownership, engine._part("changes"))


def _claims(engine: SqliteEngine) -> ClaimTable:
    from slothstate.engines.sqlite.claim_table import ClaimTable

    engine._part("locks")
    return ClaimTable(engine.store, engine._ownership)


def _watches(engine: SqliteEngine) -> WatchTable:
    from slothstate.engines.sqlite.watch_table import WatchTable

    engine._part("locks")
    return WatchTable(engine.store, engine._ownership)


# Whoever is an owner has a table of locks, too, which ends that.
_MAKERS: Final[dict[str, Callable[[SqliteEngine], Any]]] = {
    "changes": _changes,
    "locks": _locks,
    "claims": _claims,
    "watches": _watches,
}
