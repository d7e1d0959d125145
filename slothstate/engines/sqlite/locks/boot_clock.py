"""The boot clock, which nobody can set: deadlines of locks are readings of it, comparable between all processes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cache

from slothstate.hints import Final

__all__ = ["boot_id", "boot_ms"]

_OFFSETS: Final = "/proc/self/timens_offsets"

_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)

_offset_ns = 0


def boot_ms() -> int:
    """Return milliseconds since the system booted, sleep included; the same in every time namespace."""
    if _CLOCK is not None:
        return (time.clock_gettime_ns(_CLOCK) - _offset_ns) // 1_000_000
    return time.monotonic_ns() // 1_000_000


@cache
def boot_id() -> str:
    """Return what tells one boot of this system from another; "" where the system has no such thing."""
    # Once: no process outlives its boot.
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()
    return ""


def _look() -> None:
    """Find out by how much the boot clock of this process's time namespace is ahead of the machine's own.

    Once a process: only a new process can be in another one (time_namespaces(7)).
    """
    global _offset_ns
    _offset_ns = 0
    try:
        with open(_OFFSETS, encoding="utf-8") as file:
            for line in file:
                clock, seconds, nanoseconds = line.split()
                if clock == "boottime":
                    _offset_ns = int(seconds) * 1_000_000_000 + int(nanoseconds)
    except OSError:
        # A kernel without time namespaces, or a system without /proc.
        pass


_look()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_look)
