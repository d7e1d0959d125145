"""`LockTable` for programs that never ask for a lock: imported and made when one is first asked for."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from slothstate.engines.sqlite import beside, location
from slothstate.errors import UnsafeState

if TYPE_CHECKING:
    from slothstate.engines.sqlite.locks.lock_table import LockTable
    from slothstate.engines.sqlite.store import Store

__all__ = ["LateLockTable"]

_OFTEN: Final = ("acquire", "release", "release_own", "holds")
"""What is worth finding without `__getattr__` the next time."""


class LateLockTable:
    """Has the members of `LockTable`; what ends a lock table does nothing as long as there is none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # One item at most, in a dictionary, which settles by one call what two threads do at once.
        self._made: dict[str, LockTable] = {}
        store.upkeep = weakref.WeakMethod(self.sweep)
        # It can be older than what the database's mode is now, and others who may use the store need it.
        with suppress(UnsafeState):
            beside.give_directory(store.path, location.lock_directory(store.path))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from slothstate.engines.sqlite.locks.lock_table import LockTable

        # The sweep keeps an owner's file, however long it rests with its lock.
        self._store.settle()
        table = self._made.get("") or self._made.setdefault("", LockTable(self._store))
        self.__dict__.update({often: getattr(table, often) for often in _OFTEN})
        return getattr(table, name)

    def sweep(self) -> int:
        """Do what `LockTable.sweep` does."""
        removed: int = self.__getattr__("sweep")()
        return removed

    def forget(self) -> None:
        """Do what `LockTable.forget` does, which a forked child asks for."""
        for table in list(self._made.values()):
            table.forget()

    def end(self) -> None:
        """Do what `LockTable.end` does."""
        for table in list(self._made.values()):
            table.end()
