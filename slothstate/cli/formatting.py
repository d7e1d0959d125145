"""Text for people: what a terminal must not get, colours, sizes and durations in units."""

from __future__ import annotations

import os
import sys
import time

from slothstate import printable as escaped
from slothstate.hints import IO, TYPE_CHECKING, Any
from slothstate.quantities import duration, quantity, shortened, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slothstate import LockDescription

__all__ = [
    "clock_time",
    "console_options",
    "duration",
    "escaped",
    "held_as",
    "is_dumb",
    "is_terminal",
    "is_watched",
    "one_line",
    "quantity",
    "shortened",
    "size",
    "styled",
    "unused",
]


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


def is_watched() -> bool:
    """Return whether somebody looks at stderr, on a terminal that understands control sequences."""
    return is_terminal(sys.stderr) and not is_dumb()


def console_options(stream: IO[str] | None) -> dict[str, Any]:
    """Return arguments of rich's Console for a stream: styles on a terminal, whatever FORCE_COLOR says, or NO_COLOR."""
    is_plain = not is_terminal(stream) or is_dumb() or bool(os.environ.get("NO_COLOR"))
    # NO_COLOR alone leaves rich its bold and dim.
    return {"force_terminal": is_terminal(stream), "color_system": None if is_plain else "auto"}


def styled(text: str, **style: bool | str) -> str:
    """Return the text in a style of `click.style` where stdout shows it: on a terminal, without NO_COLOR."""
    if not is_terminal() or os.environ.get("NO_COLOR") or is_dumb():
        return text
    import click

    return click.style(text, **style)  # type: ignore[arg-type]


def clock_time(seconds: float) -> str:
    """Return a time since the epoch as UTC in ISO 8601: `2026-01-31T12:00:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def held_as(lock: LockDescription) -> str:
    """Return what stands behind the name of a lock that may have several holders; nothing for any other."""
    if lock["shared"]:
        return " (shared)"
    return "" if lock["slots"] == 1 else f" ({lock['slots']} slots)"


def unused(settings: Mapping[str, int | str]) -> int | None:
    """Return the bytes of a store's file that hold nothing; None where there is no file."""
    if "freelist_count" not in settings:
        return None
    return int(settings["freelist_count"]) * int(settings["page_size"])
