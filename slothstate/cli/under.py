"""The locks that a command of with-lock runs under, told to it and to those it starts by the environment.

Each by the random number of its acquisition, which no other has in any store: a variable that outlived its lock, or
that came from another store, says nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from slothstate import Lock, State

__all__ = ["REASON", "VARIABLE", "enclosing", "extended", "runs_under"]

VARIABLE: Final = "SLOTHSTATE_LOCKS_ABOVE"

REASON: Final = "this command runs under it, so it would wait for itself"


def enclosing() -> list[int]:
    """Return the numbers of the acquisitions that this process runs under, or once ran."""
    found = []
    for text in os.environ.get(VARIABLE, "").split(","):
        with suppress(ValueError):
            found.append(int(text, 16))
    return found


def extended(numbers: Sequence[int], lock: Lock) -> str:
    """Return the variable for a command that runs under one more lock."""
    return ",".join(f"{number:x}" for number in (*numbers, lock._held.nonce))


def runs_under(state: State, name: str, numbers: Sequence[int]) -> bool:
    """Return whether one of these acquisitions holds the lock `name` now."""
    return state._locks.is_held_by_any(name, numbers)
