"""What scripts call most, without click: `get`, `set` and `exists` as functions."""

from __future__ import annotations

from typing import Any, Final

from slothstate.cli.exits import DONE, MISUSE, NO, Failure, say_no
from slothstate.cli.store import open_state
from slothstate.cli.values import Form, Shape, parse_value, print_value

__all__ = ["exists", "get", "say_no_key", "set_", "storable"]

_MISSING: Final = object()


def get(db: str | None, key: str, default: str | None = None, shape: Shape = None) -> int:
    """Print the value of a key; `default` is what is typed for a missing one."""
    with open_state(db) as state:
        value = state.get(key, _MISSING)
    if value is not _MISSING:
        print_value(value, shape)
    elif default is not None:
        print_value(parse_value(default), shape)
    else:
        say_no_key(key)
    return DONE


def set_(db: str | None, key: str, value: str, ttl: float | None = None, form: Form = None) -> int:
    """Set a key to the value that is typed."""
    parsed = storable(parse_value(value, form))
    with open_state(db, create=True) as state:
        state.set(key, parsed, ttl)
    return DONE


def exists(db: str | None, key: str) -> int:
    """Tell by the exit code whether a key is there."""
    with open_state(db) as state:
        return DONE if state.exists(key) else NO


def storable(value: Any) -> Any:
    """Return a value that was typed. Raises: `Failure` for null."""
    if value is None:
        raise Failure("null is no value, except in a table or list: --string null stores the text", MISUSE)
    return value


def say_no_key(*keys: str) -> None:
    """End the command because keys are missing."""
    *others, last = map(repr, keys)
    say_no(f"there is no key {', '.join(others)}{' or ' if others else ''}{last}")
