"""Wildcard patterns as ranges of keys."""

from __future__ import annotations

from slothstate.native import glob_prefix

__all__ = ["key_range"]


def key_range(pattern: str) -> tuple[str, str | None]:
    """Return the inclusive lower and the exclusive upper bound of the keys that can match, None for no upper bound."""
    prefix = glob_prefix(pattern)
    for end in range(len(prefix), 0, -1):
        point = ord(prefix[end - 1])
        if point < 0x10FFFF:
            # The surrogates are no characters of UTF-8: what follows U+D7FF is U+E000.
            return prefix, prefix[: end - 1] + chr(0xE000 if point == 0xD7FF else point + 1)
    return prefix, None
