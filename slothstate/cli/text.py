"""Text for people: control characters escaped, sizes and durations in units, columns that fit the terminal."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import IO, Final

import click

__all__ = ["clock_time", "duration", "escaped", "is_terminal", "one_line", "quantity", "size", "styled"]

# C0 and C1 controls, DEL, line separators, bidirectional overrides (which reorder what is read), undecodable bytes.
_HARMFUL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_NAMES: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def escaped(text: str, keep: str = "") -> str:
    r"""Return the text with what could drive a terminal escaped (`\x1b`, `\n`), but for the characters in `keep`."""
    return _HARMFUL.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of an argument that was not UTF-8
        code -= 0xDC00
    return _NAMES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def one_line(text: str) -> str:
    r"""Return the text with line breaks written as `\n` and `\r`, so that one item is one line."""
    return text.replace("\n", "\\n").replace("\r", "\\r")


def is_terminal(stream: IO[str] | None = None) -> bool:
    """Return whether stdout (or another stream) is a terminal."""
    stream = sys.stdout if stream is None else stream
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def styled(text: str, **style: bool | str) -> str:
    """Return the text in a style of `click.style` where stdout shows it: on a terminal, without NO_COLOR."""
    if not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
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
