"""The mapping protocol: a State can be used as a dict whose values are stored."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView

from slothstate.hints import Any
from slothstate.verbs.base import MISSING
from slothstate.verbs.keys import KeyVerbs
from slothstate.verbs.locks import LockVerbs

__all__ = ["MappingVerbs"]


# A pattern for `keys` and `clear`, a list and a count as their results: the verbs' meaning comes before a dict's.
class MappingVerbs(KeyVerbs, LockVerbs, MutableMapping[str, Any]):  # type: ignore[misc]
    """What `collections.abc.MutableMapping` asks for."""

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self.exists(key)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[str]:
        return self.scan()

    def __len__(self) -> int:
        return self._engine.entries.count()

    def items(self) -> ItemsView[str, Any]:
        """Return a view that iterates over keys and values; a key that goes away meanwhile is left out."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Return a view that iterates over values, in the order of their keys; see `items`."""
        return _Values(self)

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        # Mapping would compare the contents of two whole stores.
        return self is other

    def update(self, other: Any = (), /, **named: Any) -> None:
        """Set the keys of a mapping, or of an iterable of pairs, as `dict.update` does; in one transaction.

        >>> state.update({"a": 1}, b=2)
        >>> state.get_many(["a", "b"])
        {'a': 1, 'b': 2}
        """
        # The keys of a State may go away while they are read.
        pairs = other.items() if isinstance(other, MappingVerbs) else other
        self.set_many(dict(pairs, **named))

    # The inherited two would raise KeyError for a key that expires between being read and being deleted.

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key and return its value, or the default; atomic. Raises: `KeyError` without a default."""
        if len(default) > 1:
            raise TypeError(f"pop() takes a key and at most one default, got {len(default)} defaults")
        value = self.take(key, MISSING)
        if value is not MISSING:
            return value
        if not default:
            raise KeyError(key)
        return default[0]

    def popitem(self) -> tuple[str, Any]:
        """Remove the first key and return it with its value; atomic. Raises: `KeyError` when there is none."""
        with self.transaction():
            for key, value in self.items():
                self.delete(key)
                return key, value
        raise KeyError("popitem(): the store is empty")

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, after setting it to `default` if it is missing; atomic."""
        with self.transaction():
            return super().setdefault(key, default)


class _Items(ItemsView[str, Any]):
    __slots__ = ()
    _mapping: MappingVerbs

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        # The inherited method would raise KeyError for a key that another process deletes, or that expires.
        for key in self._mapping:
            value = self._mapping.get(key, MISSING)
            if value is not MISSING:
                yield key, value


class _Values(ValuesView[Any]):
    __slots__ = ()
    _mapping: MappingVerbs

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.items())

    def __contains__(self, value: object) -> bool:
        return any(found == value for found in self)
