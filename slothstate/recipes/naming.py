"""What a function is called in every process, and that no other one of this process is called so."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from types import CellType, NoneType
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from slothstate import InvalidValue, State

__all__ = ["name_of"]

_named: Final[WeakKeyDictionary[State, dict[str, tuple[object, Callable[[], object]]]]] = WeakKeyDictionary()
"""What tells functions apart that have a name which others may have, too, and the function."""


def name_of(state: State, function: Callable[..., Any]) -> str:
    """Return MODULE.QUALNAME. Raises: `InvalidValue` for a second lambda, method or inner function of a name."""
    plain: Any = inspect.unwrap(function)
    name = f"{function.__module__}.{getattr(plain, '__qualname__', type(plain).__qualname__)}"
    # A function of a module may be defined anew, as in a notebook.
    if "<" in name or not hasattr(plain, "__code__") or inspect.ismethod(plain):
        code, owner = getattr(plain, "__code__", type(plain)), getattr(plain, "__self__", None)
        mine = code, id(owner), _constants(getattr(plain, "__closure__", None) or ())
        known, same = _named.setdefault(state, {}).setdefault(name, (mine, _reference(plain)))
        # What it takes from the one around it may have another value by now.
        if known != mine and same() is not plain:
            raise InvalidValue(f"another function has the name {name}, too, and would get its results: give a name=")
    return name


def _reference(function: object) -> Callable[[], object]:
    # Not the function itself, which may refer to the State.
    try:
        return ref(function)
    except TypeError:
        return lambda: None


_CONSTANTS: Final = (str, bytes, int, float, NoneType)


def _constants(cells: tuple[CellType, ...]) -> list[tuple[type, object]]:
    """Return what a function takes from the one around it and cannot change: not, as a list of calls, what it does."""
    found: list[tuple[type, object]] = []
    for cell in cells:
        # The one that the function itself is yet to be put into is empty.
        with suppress(ValueError):
            if isinstance(cell.cell_contents, _CONSTANTS):
                found.append((type(cell.cell_contents), cell.cell_contents))
    return found
