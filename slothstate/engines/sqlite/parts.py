"""Parts of an engine for programs that never ask for them: imported and made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable

from slothstate.errors import importing
from slothstate.hints import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from slothstate.engines.sqlite.changes import CommitWatch
    from slothstate.engines.sqlite.claim_table import ClaimTable
    from slothstate.engines.sqlite.counters import CounterOperations
    from slothstate.engines.sqlite.fields import FieldOperations
    from slothstate.engines.sqlite.list_operations import ListOperations
    from slothstate.engines.sqlite.locks.lock_table import LockTable
    from slothstate.engines.sqlite.locks.owner import Ownership
    from slothstate.engines.sqlite.store import Store
    from slothstate.engines.sqlite.watch_table import WatchTable

__all__ = ["Late", "Parts"]


class Parts:
    """The parts of one engine that there are by now."""

    def __init__(self, store: Store, ownership: Ownership) -> None:
        self.store = store
        self.ownership = ownership
        self.made: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return a part, and make it if there is none.

        Raises: as `importing`.
        """
        made, store = self.made, self.store
        # A fork waits until all is imported: a child could never end what another thread of its parent has begun.
        with store.unforked() if name in _FAMILIES else store.settled(), importing():
            return made.get(name) or made.setdefault(name, _MAKERS[name](self))


class Late:
    """A part of an engine. What ends or forgets it (`quiet`) does nothing as long as there is none.

    It does not refer to the engine, which would keep that from being closed as soon as nobody refers to it.
    """

    def __init__(self, parts: Parts, name: str, *quiet: str) -> None:
        self._parts = parts
        self._name = name
        self._quiet = quiet

    def __getattr__(self, member: str) -> Any:
        if member.startswith("__"):
            raise AttributeError(member)
        if member in self._quiet and self._name not in self._parts.made:
            return _nothing
        found = getattr(self._parts.get(self._name), member)
        # The next time it is found without a call of this.
        self.__dict__[member] = found
        return found


def _nothing() -> None:
    pass


def _counters(parts: Parts) -> CounterOperations:
    from slothstate.engines.sqlite.counters import CounterOperations

    return CounterOperations(parts.store)


def _fields(parts: Parts) -> FieldOperations:
    from slothstate.engines.sqlite.fields import FieldOperations

    return FieldOperations(parts.store)


def _lists(parts: Parts) -> ListOperations:
    from slothstate.engines.sqlite.list_operations import ListOperations

    return ListOperations(parts.store)


def _changes(parts: Parts) -> CommitWatch:
    from slothstate.engines.sqlite.changes import CommitWatch

    return CommitWatch(parts.store)


def _locks(parts: Parts) -> LockTable:
    from slothstate.engines.sqlite.locks.lock_table import LockTable

    return LockTable(parts.store, parts.ownership, parts.get("changes"))


def _claims(parts: Parts) -> ClaimTable:
    from slothstate.engines.sqlite.claim_table import ClaimTable

    # Whoever is an owner has a table of locks, which ends that.
    parts.get("locks")
    return ClaimTable(parts.store, parts.ownership)


def _watches(parts: Parts) -> WatchTable:
    from slothstate.engines.sqlite.watch_table import WatchTable

    parts.get("locks")
    return WatchTable(parts.store, parts.ownership)


_FAMILIES: Final = ("counters", "fields", "lists")
"""What one use of a store that was only just opened may be of."""

_MAKERS: Final[dict[str, Callable[[Parts], Any]]] = {
    "counters": _counters,
    "fields": _fields,
    "lists": _lists,
    "changes": _changes,
    "locks": _locks,
    "claims": _claims,
    "watches": _watches,
}
