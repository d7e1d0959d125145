"""Locks on single bytes of a directory, which the kernel drops when their holder dies, and which nobody can remove.

A lock file can be deleted while it is locked, by a cleaner of old files or by hand; whoever looks for it then finds
nothing. A directory that holds a store stays. A lock of an open file description (F_OFD_SETLK, fcntl(2)) needs no
file that can be written: a shared one on a byte of a directory is as good as an exclusive one as long as nobody else
takes that byte, and here a random number chooses it.

Where the system has no such locks (they are Linux's) or the directory cannot be read, the answers are `False` and None.
"""

from __future__ import annotations

import os
import struct
import sys
import weakref

from slothstate.engines.sqlite import beside
from slothstate.hints import Final

if sys.platform == "linux":
    import fcntl

__all__ = ["ByteLocks"]

# struct flock; 64-bit offsets on every Linux that Python runs on, in the platform's own alignment.
_FLOCK: Final = "hhqqi0q"


class ByteLocks:
    """The byte locks of one owner on one directory. A forked child must `close` its copy, or it holds them too."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        # In a list, because a list can be filled and emptied by one call each, which Ctrl-C cannot split.
        self._descriptors: list[int] = []
        weakref.finalize(self, beside.close_all, self._descriptors).atexit = False

    def take(self, byte: int) -> bool:
        """Lock a byte, once or again; return whether it is locked now."""
        return self._ask("F_OFD_SETLK", "F_RDLCK", byte) is not None

    def drop(self, byte: int) -> None:
        """Unlock a byte."""
        self._ask("F_OFD_SETLK", "F_UNLCK", byte)

    def is_taken(self, byte: int) -> bool | None:
        """Return whether anybody but this object has locked a byte; None where that cannot be told."""
        found = self._ask("F_OFD_GETLK", "F_WRLCK", byte)
        if found is None or found[0] == fcntl.F_UNLCK:
            return None if found is None else False
        # A lock on more than the byte is none of ours, and hides whether there is one.
        return True if found[2:4] == (byte, 1) else None

    def close(self) -> None:
        """Unlock all and let go of the directory, until it is needed again."""
        # Closed after it is taken off, see `_ask` for the order.
        beside.close_all(self._descriptors)

    def _ask(self, command: str, kind: str, byte: int) -> tuple[int, ...] | None:
        if sys.platform != "linux":
            return None
        try:
            if not self._descriptors:
                self._descriptors.extend(map(os.open, (self._directory,), (os.O_RDONLY | os.O_DIRECTORY,)))
            descriptor = self._descriptors[0]
            request = struct.pack(_FLOCK, getattr(fcntl, kind), os.SEEK_SET, byte, 1, 0)
            answer = fcntl.fcntl(descriptor, getattr(fcntl, command), request)
            # Closed by another thread meanwhile, it may have been another file's.
            return struct.unpack(_FLOCK, answer) if self._descriptors[0] == descriptor else None
        except (OSError, IndexError, AttributeError):
            return None
