"""A turn that one process of all has: the kernel's lock on a file beside the database, dropped when the process dies.

Not filelock's where there is `flock`, though it is the same lock. What filelock does around a fork is registered by its
import; a fork that another thread has begun by then, while a background sweep imports it, would run only the second
half of that. Nor can it tell whether the file that it locked is still the one that others will lock; and importing it
takes longer than all the rest of a short program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO

from slothstate.engines.sqlite import beside, location
from slothstate.hints import TYPE_CHECKING, TypeAlias

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["Held", "drop", "file", "hold", "take"]

Held: TypeAlias = "FileIO | BaseFileLock"
"""What has a turn. A forked child `close`s its copy of the file; to `drop` it would end the parent's turn."""


class _LockedFile(FileIO):
    """Closed without a word when nobody refers to it any more: whoever had the turn is gone."""

    def __del__(self) -> None:
        self.close()


def file(path: str, name: str) -> str:
    """Return the file of a turn."""
    return os.path.join(location.lock_directory(path), name)


def take(path: str, name: str) -> Held | None:
    """Have a turn until `drop`; None if somebody else has it. Raises: `OSError`; as `ensure_lock_directory`."""
    if sys.platform == "win32":
        lock = location.lock_file(path, name)
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            return None
        return lock
    location.ensure_lock_directory(path)
    # By one call: Ctrl-C between two would lose the descriptor, and with it the turn.
    flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW
    [held] = map(_LockedFile, map(os.open, (file(path, name),), (flags,), (0o600,)), ("r+",))
    is_had = False
    try:
        beside.give(path, held.fileno())
        with suppress(BlockingIOError):
            fcntl.flock(held.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Else whoever had it is done, and has removed it.
            is_had = os.fstat(held.fileno()).st_nlink > 0
    finally:
        if not is_had:
            drop(held)
    return held if is_had else None


def drop(held: Held) -> None:
    """Let the next one have the turn."""
    if not isinstance(held, FileIO):
        held.release(force=True)
    elif sys.platform != "win32" and not held.closed:
        # Not by closing it alone: a child that another thread forked meanwhile has a copy.
        # Other code of this process can have closed it: then it is let go of already.
        with suppress(OSError):
            fcntl.flock(held.fileno(), fcntl.LOCK_UN)
        with suppress(OSError):
            held.close()


@contextmanager
def hold(path: str, name: str) -> Iterator[bool]:
    """Have the turn while the block runs, if nobody else has it; give whether it is had. Raises: as `take`."""
    held = take(path, name)
    try:
        yield held is not None
    finally:
        if held is not None:
            drop(held)
