"""The locks that a command of with-lock runs under, told to it and to those it starts by the environment.

Each by its token and the moment it was acquired, which together no other acquisition has in any store: a variable that
outlived its lock, or that came from another store, says nothing.
"""

from __future__ import annotations

import os

from slothstate import Lock, State
from slothstate.hints import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slothstate import LockDescription

__all__ = ["REASON", "VARIABLE", "extended", "runs_under"]

VARIABLE: Final = "SLOTHSTATE_LOCKS_ABOVE"

REASON: Final = "this command runs under it, so it would wait for itself"


def extended(state: State, lock: Lock) -> str:
    """Return the variable for a command that runs under one more lock."""
    marks = [_mark(found) for found in state.locks() if found["name"] == lock.name and found["token"] == lock.token]
    return " ".join(_above() + marks)


def runs_under(state: State, name: str) -> bool:
    """Return whether an acquisition that this process runs under holds the lock `name` now."""
    above = _above()
    return bool(above) and any(
        found["name"] == name and bool(found["alive"]) and _mark(found) in above for found in state.locks()
    )


def _above() -> list[str]:
    return os.environ.get(VARIABLE, "").split()


def _mark(found: LockDescription) -> str:
    return f"{found['token']}@{found['since']:.3f}"
