"""Numbers as people read them: bytes, durations, counts."""

from __future__ import annotations

from slothstate.hints import Final

__all__ = ["duration", "quantity", "shortened", "size"]

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def size(octets: float) -> str:
    """Return a number of bytes in units of 1024: `0 B`, `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if octets < 1024:
            return f"{octets:.0f} B" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} GiB"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: `0.4s`, `59s`, `1h 2m`, `3d 4h`; `0.0s` if clocks differ."""
    if seconds < 1:
        return f"{max(0.0, seconds):.1f}s"
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


def shortened(text: str, characters: int) -> str:
    """Return the text, or so many of its characters, the last of them an ellipsis."""
    return text if len(text) <= characters else text[: characters - 1] + "…"
