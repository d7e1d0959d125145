"""What tells this process, and what it makes, from all others: without a call of the system each time."""

from __future__ import annotations

import os

from slothstate.hints import Final
from slothstate.native import process_id

__all__ = ["new_nonce", "process_id"]

_AT_ONCE: Final = 64

_ahead: list[int] = []
"""Random numbers for later, of this process: a forked child has others."""

_made_by = process_id()


def new_nonce() -> int:
    """Return a number of 63 random bits: the name of something that whoever does not know it cannot end."""
    global _made_by
    if _made_by != process_id():
        _ahead.clear()
        _made_by = process_id()
    try:
        return _ahead.pop()
    except IndexError:
        first, *others = memoryview(os.urandom(8 * _AT_ONCE)).cast("Q")
        _ahead.extend(number >> 1 for number in others)
        return first >> 1
