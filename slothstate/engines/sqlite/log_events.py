"""Being woken when something is written to the write-ahead log: inotify(7), where the system has it.

Looking at the wal-index a thousand times a second costs a waiter two to three per cent of a core, and half a
millisecond of each answer. The kernel wakes it instead: each commit writes to the log before it shows in the wal-index.
Nothing is opened for this: a watch is on a file's inode, and touches none of the locks that SQLite has on it.
"""

from __future__ import annotations

import os
import select
import sys
import weakref
from contextlib import suppress

from slothstate.engines.sqlite import beside
from slothstate.hints import Any, Final

__all__ = ["LogEvents"]

IN_MODIFY: Final = 2

READ: Final = 65_536
"""Bytes of events that are read at a time: more than there can be of one file, whose events the kernel merges."""


class LogEvents:
    """The writes to one file, whichever file has its name. One thread at a time may wait."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = 0
        # In a list, because a list can be filled and emptied by one call each, which Ctrl-C cannot split.
        self._descriptors: list[int] = []
        weakref.finalize(self, beside.close_all, self._descriptors).atexit = False

    def close(self) -> None:
        """Let go of what the kernel keeps for this."""
        self._inode = 0
        beside.close_all(self._descriptors)

    def wait(self, seconds: float) -> bool | None:
        """Wait for a write; return whether there was one since the last call, None at once where nobody tells."""
        try:
            inode = os.stat(self._path).st_ino
            if inode != self._inode:
                self.close()
                self._watch()
                self._inode = inode
            poll = select.poll()
            poll.register(self._descriptors[0], select.POLLIN)
            if not poll.poll(seconds * 1000):
                return False
            with suppress(BlockingIOError):
                os.read(self._descriptors[0], READ)
            return True
        except (OSError, IndexError):
            return None

    def _watch(self) -> None:
        """Have a descriptor for events of the file, where the system has such a thing, and has any left."""
        if sys.platform != "linux":
            return
        try:
            # Imported here: it costs a millisecond, and most programs never wait.
            import ctypes

            system: Any = ctypes.CDLL(None)
            made = map(system.inotify_init1, (os.O_NONBLOCK | os.O_CLOEXEC,))
            # -1 where a user has no more of them.
            self._descriptors.extend(filter((-1).__lt__, made))
            watched = system.inotify_add_watch(self._descriptors[0], os.fsencode(self._path), IN_MODIFY)
        except (ImportError, AttributeError):
            return
        if watched < 0:
            self.close()
