"""Doing something once, whoever asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slothstate import State

__all__ = ["once"]


def once(state: State, key: str, fn: Callable[[], Any]) -> Any:
    """Return what `fn()` returned the first time that anybody asked under this key, in any process.

    One calls it, the others wait; if that one dies another calls it, so it may begin twice, but only one result is ever
    kept. An exception goes on, and the next one tries again. The result is a plain value; None is one too.
    `delete(key)` forgets it.
    Raises: `InvalidKey`; `InvalidValue` for a result that cannot be stored, and then it counts as never called.
    """
    # In a list, because None is a result and no value.
    found = state.get(key)
    if found is None:
        with state.locked(f"once:{key}"):
            found = state.get(key)
            if found is None:
                state.set(key, [fn()])
                found = state.get(key)
    return found[0]
