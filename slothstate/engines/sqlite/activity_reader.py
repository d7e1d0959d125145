"""What the processes that have a store open have just done, as `activity_publisher` publishes it."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from slothstate.descriptions import Activity
from slothstate.engines.sqlite import location
from slothstate.engines.sqlite.activity_publisher import ACTIVITY_FILE, WATCH_FILE
from slothstate.engines.sqlite.beside import write
from slothstate.hints import Final

__all__ = ["watch"]

OLD: Final = 2.0
"""Seconds after which a publication counts no more."""


def watch(path: str, seconds: float) -> list[Activity]:
    """Return what is published now, and have everybody publish for so many seconds; with 0 nobody any more."""
    directory = location.lock_directory(path)
    request = os.path.join(directory, WATCH_FILE)
    found = []
    with suppress(OSError):
        if seconds > 0:
            write(path, request, "", time.time() + seconds)
        else:
            os.unlink(request)
    with suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(ACTIVITY_FILE) and (activity := _read(os.path.join(directory, name))) is not None:
                found.append(activity)
    return found


def _read(file: str) -> Activity | None:
    """Return what a file publishes; None for one that is old, which is removed, and for a draft."""
    with suppress(OSError, ValueError, TypeError):
        if os.stat(file).st_mtime < time.time() - OLD:
            os.unlink(file)
            return None
        if "." not in os.path.basename(file):
            with open(file, encoding="utf-8") as lines:
                activity = Activity(*map(int, lines.read().split()))
            return activity if activity.elapsed_ns > 0 else None
    return None
