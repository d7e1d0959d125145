"""Verbs that return numbers: as they are, and for a Lua that cannot hold all integers of a store."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from slothstate.errors import OutOfRange
from slothstate.hints import Any, Final
from slothstate.lua import lists
from slothstate.lua.runtime import EXACT_MAX
from slothstate.native import json_decode
from slothstate.state import State
from slothstate.values import Encoded

__all__ = ["Exact", "Whole"]


class Whole:
    """The verbs that change the store and return what this Lua can hold, whatever it is."""

    def __init__(self, view: State) -> None:
        self.increment = view.increment
        self.decrement = view.decrement
        self.increment_field = partial(lists.increment_field, view)
        self.take = view.take
        self.list_pop = partial(lists.take, view.list_pop)
        self.list_shift = partial(lists.take, view.list_shift)
        self.list_pop_many = partial(lists.take_many, view.list_pop_many)
        self.list_shift_many = partial(lists.take_many, view.list_shift_many)


class Exact:
    """The verbs that change the store and return what this Lua may not be able to hold, known only afterwards.

    They undo what must not have happened then. A pop is a transaction. A counter is not, which would double its cost
    for everybody: it is counted back, so for a moment others can read a number past 2^53.
    """

    def __init__(self, view: State) -> None:
        self._view = view

    def increment(self, key: str, delta: float = 1, **options: Any) -> Any:
        return self._checked(self._view.increment(key, delta, **options), key, delta)

    def decrement(self, key: str, delta: float = 1, **options: Any) -> Any:
        return self._checked(self._view.decrement(key, delta, **options), key, -delta)

    def _checked(self, total: Any, key: str, delta: float) -> Any:
        """Return a counter to which `delta` was added."""
        if isinstance(total, int) and abs(total) > EXACT_MAX:
            with self._view.transaction():
                # It was there before, as a number: this Lua's deltas do not get past 2^53 by themselves.
                if type(self._view.get(key)) is int:
                    self._view.decrement(key, delta)
            _check_exact(total)
        return total

    def take(self, key: str, absent: object) -> Any:
        return self._undoing(lambda: self._view.take(key, absent))

    def increment_field(self, key: str, path: str | Encoded, delta: float | None = None) -> Any:
        return self._undoing(lambda: lists.increment_field(self._view, key, path, delta))

    def list_pop(self, key: str | Encoded, absent: object, timeout: float | None = 0) -> Any:
        return self._take(self._view.list_pop, lists.keys_of(key), absent, timeout)

    def list_shift(self, key: str | Encoded, absent: object, timeout: float | None = 0) -> Any:
        return self._take(self._view.list_shift, lists.keys_of(key), absent, timeout)

    def list_pop_many(self, key: str, count: float) -> Any:
        return self._undoing(lambda: lists.take_many(self._view.list_pop_many, key, count))

    def list_shift_many(self, key: str, count: float) -> Any:
        return self._undoing(lambda: lists.take_many(self._view.list_shift_many, key, count))

    def _take(self, take: Callable[..., Any], keys: Any, absent: object, timeout: float | None) -> Any:
        """Wait for an item with nothing taken, then take it in a transaction; another may have been faster."""
        nothing = object()

        def look() -> Any:
            found = self._undoing(lambda: take(keys, nothing))
            return None if found is nothing else (found,)

        found = self._view._wait_until(look, timeout)
        return absent if found is None else found[0]

    def _undoing(self, call: Callable[[], Any]) -> Any:
        with self._view.transaction():
            return _check_exact(call())


_MANY_DIGITS: Final = re.compile(r"\d{16}")


def _check_exact(value: Any) -> Any:
    """Return `value`. Raises: `OutOfRange` if it is, or holds, an integer past 2^53."""
    if type(value) is Encoded:
        if _MANY_DIGITS.search(value.stored):
            _check_exact(json_decode(value.stored))
    elif isinstance(value, int):
        if abs(value) > EXACT_MAX:
            raise OutOfRange(f"the integer {value} is past 2^53: this Lua cannot hold it exactly; nothing was changed")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_exact(item)
    elif isinstance(value, dict):
        for item in value.values():
            _check_exact(item)
    return value
