"""The error of a verb on the wrong kind of value, worded once."""

from __future__ import annotations

from slothstate.errors import WrongType

__all__ = ["wrong_type"]


def wrong_type(verb: str, key: str, expected: str, found: str) -> WrongType:
    """Return the error for `verb` on a key whose value is of another kind."""
    return WrongType(f"cannot {verb} {key!r}: expected a {expected}, found a {found}", key, expected, found)
