"""Text for people: sizes and durations in units, columns that fit the terminal."""

from __future__ import annotations

import os
import sys
import time
from typing import IO, Final

import click

from slothstate import printable as escaped

__all__ = [
    "clock_time",
    "duration",
    "escaped",
    "is_dumb",
    "is_terminal",
    "one_line",
    "quantity",
    "size",
    "styled",
]

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def one_line(text: str) -> str:
    r"""Return the text with line breaks written as `\n` and `\r`, so that one item is one line."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


def is_terminal(*stream: IO[str] | None) -> bool:
    """Return whether stdout, or the stream that is given, is a terminal; one that was closed at the start is None."""
    found = stream[0] if stream else sys.stdout
    try:
        return found is not None and found.isatty()
    except ValueError:  # closed
        return False


def is_dumb() -> bool:
    """Return whether the terminal understands no control sequences, or does not say what it is."""
    return os.environ.get("TERM", "dumb") in ("dumb", "unknown", "")


def styled(text: str, **style: bool | str) -> str:
    """Return the text in a style of `click.style` where stdout shows it: on a terminal, without NO_COLOR."""
    if not is_terminal() or os.environ.get("NO_COLOR") or is_dumb():
        return text
    return click.style(text, **style)  # type: ignore[arg-type]


def size(octets: float) -> str:
    """Return a number of bytes in units of 1024: `0 B`, `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if octets < 1024:
            return f"{octets:.0f} B" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} GiB"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: `0.4s`, `59s`, `1h 2m`, `3d 4h`."""
    if seconds < 1:
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts = []
    for length, unit in _UNITS:
        if left >= length:
            parts.append(f"{left // length}{unit}")
            left %= length
    return " ".join(parts[:2])


def quantity(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun: `1 key`, `2 keys`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def clock_time(seconds: float) -> str:
    """Return a time since the epoch as UTC in ISO 8601: `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
