"""Parts of an engine for programs that never ask for them: imported and made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable

from slothstate.errors import importing
from slothstate.hints import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

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

__all__ = ["Family", "Late", "Parts"]

Operations = TypeVar("Operations")
Made = TypeVar("Made")
Source = TypeVar("Source")


class HasStore(Protocol):
    """An engine, as far as a family needs it."""

    store: Store


class Family(Generic[Operations]):
    """A family of verbs that is imported and made when a program uses one; then it is a plain attribute."""

    def __init__(self, make: Callable[[Store], Operations]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, engine: HasStore, owner: type) -> Operations:
        # A fork waits until all is imported, as in `Parts.get`.
        with engine.store.unforked():
            made: Operations = engine.__dict__.setdefault(self._name, _made(self._make, engine.store))
            return made


class Parts:
    """The parts of one engine that there are by now."""

    def __init__(self, store: Store, ownership: Ownership) -> None:
        self.store = store
        self.ownership = ownership
        self.made: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """Return a part, and make it if there is none."""
        # A fork waits until all is imported: a child could never end what another thread of its parent has begun.
        with self.store.settled():
            return self.made.get(name) or self.made.setdefault(name, _made(_MAKERS[name], self))


def _made(make: Callable[[Source], Made], source: Source) -> Made:
    """Return what `make` imports and makes. Raises: as `importing`."""
    with importing():
        return make(source)


def counters(store: Store) -> CounterOperations:
    from slothstate.engines.sqlite.counters import CounterOperations

    return CounterOperations(store)


def fields(store: Store) -> FieldOperations:
    from slothstate.engines.sqlite.fields import FieldOperations

    return FieldOperations(store)


def lists(store: Store) -> ListOperations:
    from slothstate.engines.sqlite.list_operations import ListOperations

    return ListOperations(store)


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


_MAKERS: Final[dict[str, Callable[[Parts], Any]]] = {
    "changes": _changes,
    "locks": _locks,
    "claims": _claims,
    "watches": _watches,
}
