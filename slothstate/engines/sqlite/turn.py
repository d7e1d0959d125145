"""A turn that one process of all has: the kernel's lock on a file beside the database, dropped when the process dies.

Not filelock's where there is `flock`. What it does around a fork is registered by its import; a fork that another
thread has begun by then, while a background sweep imports it, would run only the second half of that. Nor can it tell
whether the file that it locked is still the one that others will lock.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

from slothstate.engines.sqlite import beside, location

if sys.platform != "win32":
    import fcntl

__all__ = ["file", "hold"]


def file(path: str, name: str) -> str:
    """Return the file of a turn."""
    return os.path.join(location.lock_directory(path), name)


@contextmanager
def hold(path: str, name: str) -> Iterator[bool]:
    """Have the turn while the block runs, if nobody else has it; give whether it is had. Raises: `OSError`."""
    if sys.platform == "win32":
        lock = location.lock_file(path, name)
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
        return
    location.ensure_lock_directory(path)
    # By one call: Ctrl-C between two would lose the descriptor, and with it the turn.
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW
    [held] = map(FileIO, map(os.open, (file(path, name),), (flags,), (0o600,)), ("r+",))
    descriptor = held.fileno()
    is_had = False
    try:
        beside.give(path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Else whoever had it is done, and has removed it.
            is_had = os.fstat(descriptor).st_nlink > 0
        except BlockingIOError:
            is_had = False
        yield is_had
    finally:
        if is_had:
            # Not by closing it alone: a child that another thread forked meanwhile has a copy.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        held.close()
