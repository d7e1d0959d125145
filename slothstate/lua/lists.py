"""Lists and fields as Lua counts them: positions from 1, 0 lies before the first, negative ones count from the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from slothstate.errors import InvalidValue
from slothstate.fields import BEFORE_THE_FIRST, FromOne
from slothstate.hints import Any
from slothstate.native import json_decode
from slothstate.state import State
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, Encoded, check_key, describe

__all__ = [
    "checked_keys",
    "delete_field",
    "get_field",
    "increment_field",
    "integer",
    "keys_of",
    "list_insert",
    "list_range",
    "list_remove",
    "list_set",
    "list_trim",
    "set_field",
    "take",
    "take_many",
]


def integer(number: float, name: str) -> int:
    """Return a whole number, which may be a float: 4/2 is one from Lua 5.3 on. Raises: `InvalidValue`."""
    if isinstance(number, bool) or number != number or number in (math.inf, -math.inf) or number % 1:
        raise InvalidValue(f"{name} must be an integer, got {number}")
    return int(number)


def _position(number: float, name: str) -> FromOne:
    position = integer(number, name)
    return FromOne(position - 1 if position > 0 else position or BEFORE_THE_FIRST)


def _path(path: str | Encoded) -> Sequence[str | int]:
    """Return a path of Python's: one name, or a list of names and positions."""
    if isinstance(path, str):
        return (path,)
    steps = json_decode(path.stored)
    if path.kind != "list" and path.stored != EMPTY_TABLE:
        raise InvalidValue("path must be a string or a list of names and positions")
    return [_step(step, f"path[{index}]") for index, step in enumerate(steps, 1)]


def _step(step: Any, name: str) -> str | int:
    if isinstance(step, str):
        return step
    if isinstance(step, bool) or not isinstance(step, int | float):
        raise InvalidValue(f"{name} must be a name or a position, got {describe(step)}")
    return _position(step, name)


def keys_of(keys: str | Encoded) -> str | Sequence[str]:
    """Return a key, or the keys of a list. Raises: `InvalidValue`."""
    if isinstance(keys, str):
        return keys
    if keys.kind != "list":
        raise InvalidValue("key must be a string or a list of strings, not empty")
    return checked_keys(json_decode(keys.stored), "key")


def checked_keys(keys: Sequence[Any], name: str) -> Sequence[str]:
    """Return the keys of a list. Raises: `InvalidValue`, `InvalidKey`, with the position."""
    for index, key in enumerate(keys, 1):
        if not isinstance(key, str):
            raise InvalidValue(f"{name}[{index}] must be a string, got {describe(key)}")
        check_key(key, f"{name}[{index}]")
    return keys


def take(verb: Callable[..., Any], key: str | Encoded, *default_and_timeout: Any) -> Any:
    """Call `list_pop` or `list_shift`, which may be an override that knows no timeout."""
    return verb(keys_of(key), *default_and_timeout)


def take_many(verb: Callable[[str, int], Any], key: str, count: float) -> Any:
    return verb(key, integer(count, "count"))


def get_field(view: State, key: str, path: str | Encoded, default: Any = None) -> Any:
    return view.get_field(key, _path(path), default)


def set_field(view: State, key: str, path: str | Encoded, value: Any) -> bool:
    return view.set_field(key, _path(path), value)


def delete_field(view: State, key: str, path: str | Encoded) -> bool:
    return view.delete_field(key, _path(path))


def increment_field(view: State, key: str, path: str | Encoded, delta: float | None = None) -> int | float:
    return view.increment_field(key, _path(path), 1 if delta is None else delta)


def _bounds(start: float | None, stop: float | None) -> tuple[int, int]:
    first = 1 if start is None else integer(start, "start")
    last = -1 if stop is None else integer(stop, "stop")
    # Up to 0 there is nothing: as what begins behind its end.
    return (1, 0) if last == 0 else (max(first - 1, 0) if first >= 0 else first, last - 1 if last > 0 else last)


def list_range(view: State, key: str, start: float | None = None, stop: float | None = None) -> Any:
    items = view.list_range(key, *_bounds(start, stop))
    return Encoded("list", EMPTY_LIST) if stop == 0 else items


def list_trim(view: State, key: str, start: float | None = None, stop: float | None = None) -> int:
    return view.list_trim(key, *_bounds(start, stop))


def list_set(view: State, key: str, index: float, item: Any) -> bool:
    return view.list_set(key, _position(index, "index"), item)


def list_insert(view: State, key: str, index: float, item: Any) -> int:
    return view.list_insert(key, _position(index, "index"), item)


def list_remove(view: State, key: str, item: Any, count: float | None = None) -> int:
    return view.list_remove(key, item, 0 if count is None else integer(count, "count"))
