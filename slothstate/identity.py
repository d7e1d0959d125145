"""What tells this process, and what it makes, from all others: without a call of the kernel each time."""

from __future__ import annotations

import os

from slothstate.hints import Final

__all__ = ["new_nonce", "process_id"]

_AT_ONCE: Final = 64

_ahead: list[int] = []
_process_id = os.getpid()


def process_id() -> int:
    """Return the pid of this process, which in a forked child is another."""
    return _process_id


def new_nonce() -> int:
    """Return a number of 63 random bits: the name of something that whoever does not know it cannot end."""
    try:
        return _ahead.pop()
    except IndexError:
        first, *others = memoryview(os.urandom(8 * _AT_ONCE)).cast("Q")
        _ahead.extend(number >> 1 for number in others)
        return first >> 1


def _begin() -> None:
    global _process_id
    _process_id = os.getpid()
    # The parent goes on with these.
    _ahead.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)
