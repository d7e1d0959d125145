"""Waits that another thread may call off: what Ctrl-C is to the main thread, for the one that runs a script."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar

from slothstate.hints import Final
from slothstate.native import Scope

__all__ = ["CalledOff", "can_be_called_off", "look", "slice_of"]

SLICE: Final = 0.05
"""Seconds after which a wait looks whether it was called off."""

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("slothstate_called_off", default=None)


class CalledOff(Exception):
    """Somebody has called the wait off. No `SlothStateError`: it is nothing that a caller of a verb handles."""


def can_be_called_off(asked: Callable[[], bool]) -> AbstractContextManager[None]:
    """Let the caller's waits in the block, for commits, locks and other writers, end once `asked` says so.

    They raise `CalledOff` then, with nothing taken and nothing held.
    """
    before = _asked.get()
    return Scope(lambda: _set(asked), lambda _: _set(before))


def _set(asked: Callable[[], bool] | None) -> None:
    _asked.set(asked)


def look() -> None:
    """Raise `CalledOff` if the caller's waits are to end."""
    asked = _asked.get()
    if asked is not None and asked():
        raise CalledOff("interrupted")


def slice_of(seconds: float) -> float:
    """Return how many of so many seconds to wait before the next `look`."""
    return seconds if _asked.get() is None else min(seconds, SLICE)
