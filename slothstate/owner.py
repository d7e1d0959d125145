"""Owners of locks: one a State, alive as long as an OS file lock on a file of its own is held.

The kernel drops that lock when the process dies, however it dies. So a dead owner is known at once, without waiting for
a TTL, without trusting a pid, and after a reboot or in another container alike.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from slothstate.errors import StateIOError
from slothstate.sqlite import location
from slothstate.sqlite.pool import IDENTITY_CHECK_INTERVAL

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = ["POLL", "Ownership", "host"]

POLL: Final = 0.001
"""Seconds between two looks at something that is taken."""

OWNER_TIMEOUT: Final = 10.0
"""Seconds to become an owner; only a sweep that takes the new file for a dead owner's can make it wait at all."""

_OWNER_FILE: Final = ("owner-", ".lock")


class Ownership:
    """The owner that one State is, once it needs to be one, and what it can tell of others."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.forget()

    def forget(self) -> None:
        """Be no owner; what a forked child does.

        filelock has closed the child's copy of the file by then, so the child does not keep it locked either.
        """
        self._name = ""
        self._seen_until = 0.0
        self._lock: BaseFileLock | None = None
        # Reentrant: a signal handler may use the State in the middle of anything.
        self._guard = threading.RLock()

    def become(self) -> str:
        """Return the owner's name, which is random; make it one if it is none. Raises: `StateIOError`."""
        # A file that somebody removed speaks for nobody any more; looked at as often as the store's own files are.
        now = time.monotonic()
        if now >= self._seen_until:
            with self._guard:
                if not self._name or not os.path.exists(self._file(self._name)):
                    name = os.urandom(8).hex()
                    lock = self.probe(name)
                    try:
                        lock.acquire(timeout=OWNER_TIMEOUT, poll_interval=POLL)
                    except OSError as error:
                        raise StateIOError(f"no lock can be owned on {self._path}: {error}") from error
                    self._lock = lock
                    self._name = name
                self._seen_until = now + IDENTITY_CHECK_INTERVAL
        return self._name

    def end(self) -> None:
        """Stop being an owner."""
        with self._guard:
            lock, self._lock = self._lock, None
            name, self._name = self._name, ""
            self._seen_until = 0.0
        if lock is not None:
            self._remove_file(name)
            lock.release()

    def probe(self, name: str) -> BaseFileLock:
        """Return a lock on an owner's file, for `is_alive`."""
        return location.lock_file(self._path, name.join(_OWNER_FILE))

    def is_alive(self, name: str, probe: BaseFileLock | None = None) -> bool:
        """Return whether an owner lives; `probe` is a lock on its file that was made before."""
        if name == self._name:
            return True
        if not os.path.exists(self._file(name)):
            return False
        lock = probe or self.probe(name)
        try:
            lock.acquire(timeout=0)
        except OSError:
            # filelock's Timeout, which is one: somebody holds it. Or it cannot be asked now: waiting is the safe side.
            return True
        # Its process is dead, and no other State ever gets its random name: the file can go.
        self._remove_file(name)
        lock.release()
        return False

    def sweep(self) -> None:
        """Remove the files of dead owners."""
        with suppress(OSError):
            for file in os.listdir(location.lock_directory(self._path)):
                if file.startswith(_OWNER_FILE[0]) and file.endswith(_OWNER_FILE[1]):
                    self.is_alive(file.removeprefix(_OWNER_FILE[0]).removesuffix(_OWNER_FILE[1]))

    def _file(self, name: str) -> str:
        return os.path.join(location.lock_directory(self._path), name.join(_OWNER_FILE))

    def _remove_file(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(self._file(name))


def host() -> str:
    """Return the name of this machine, for people."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
