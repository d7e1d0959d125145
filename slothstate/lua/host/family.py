"""A process with all that it has started and that has started in turn, as far as the system tells."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

__all__ = ["end_family"]


def end_family(pid: int, *, itself: bool = True, kill: bool = True) -> None:
    """End all processes below one, and it, unless `itself` is False; `kill` is False: ask them to end.

    What has left its parents behind (a daemon) is none of them. Without a /proc only the process itself is known.
    """
    for each in [pid, *_below(pid)][0 if itself else 1 :]:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL if kill else signal.SIGTERM)


def _below(pid: int) -> list[int]:
    """Return the processes whose parent, or parent's parent, is this one."""
    children: dict[int, list[int]] = {}
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdecimal():
                with suppress(OSError, ValueError, IndexError):
                    # Behind the name of the program, which may have any character: the state, then the parent.
                    parent = int(Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()[1])
                    children.setdefault(parent, []).append(int(name))
    found, pending = [], [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found
