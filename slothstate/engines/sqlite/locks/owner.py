"""Owners of locks: one a State, alive as long as the kernel holds two locks for it.

One is on a byte of the directory that holds the database (see `byte_locks`), the other on a file of the owner's own in
the directory of lock files. The kernel drops both when the process dies, however it dies. So a dead owner is
known at once, without waiting for a TTL, without trusting a pid, and after a reboot or in another container alike.

The byte decides: nobody can remove it, and whoever may use the store may ask for it. The file is for those who cannot:
where there are no such locks, on another machine's kernel, and in releases that knew no bytes. A name says whether
its owner has a byte. A file that is gone speaks for nobody then; its owner makes it again when it notices.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from functools import cache
from io import FileIO

from slothstate.engines.sqlite import beside, location, turn
from slothstate.engines.sqlite.locks.boot_clock import boot_id
from slothstate.engines.sqlite.locks.byte_locks import ByteLocks
from slothstate.engines.sqlite.pool import IDENTITY_CHECK_INTERVAL
from slothstate.errors import StateClosed, StateIOError
from slothstate.hints import Final

__all__ = ["LIVENESS_INTERVAL", "POLL", "Ownership", "host"]

LIVENESS_INTERVAL: Final = 0.03
"""Seconds between two looks of whoever waits whether an owner lives."""

POLL: Final = 0.001
"""Seconds between two looks at something that is taken."""

OWNER_TIMEOUT: Final = 10.0
"""Seconds to become an owner; only a sweep that takes the new file for a dead owner's can make it wait at all."""

_OWNER_FILE: Final = ("owner-", ".lock")

_PRIME: Final = 2**61 - 1
"""How many bytes there are to choose from."""


class Ownership:
    """The owner that one State is, once it needs to be one, and what it can tell of others."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._bytes = ByteLocks(os.path.dirname(path))
        # Part of a byte's number: a copy of the store holds the rows of owners, but none of them owns anything there.
        self._inode = location.inode(path)
        self._own: dict[str, _Own] = {}
        self.forget()

    def forget(self) -> None:
        """Be no owner; what a forked child does, which would keep the file locked as long as its copy is open."""
        self._bytes.close()
        for own in list(self._own.values()):
            for held in own.locks:
                if isinstance(held, FileIO):
                    held.close()
        # One item at most, in a dictionary, which settles by one call what two threads do at once: a mutex could stay
        # locked after Ctrl-C.
        self._own = {}
        self._seen_until = 0.0
        self.is_retired = False

    @property
    def name(self) -> str | None:
        """The owner's name, None if this is none."""
        own = self._own.get("")
        return None if own is None else own.name

    @property
    def _kernel(self) -> str:
        """What names call this kernel: bytes count on the one that holds them, and others may see the directory."""
        return boot_id().replace("-", "")[:8]

    def become(self) -> str:
        """Return the owner's name, which is random; make it one if it is none.

        Raises: `StateIOError`, `StateClosed`.
        """
        # The file is looked at as often as the store's own files are.
        now = time.monotonic()
        own = self._own.get("")
        if own is None or now >= self._seen_until:
            if self.is_retired:
                raise self.closed()
            own = self._found() if own is None else own
            self._renew(own)
            self._seen_until = now + IDENTITY_CHECK_INTERVAL
            if self.is_retired:
                # Meanwhile, by another thread: its look must not be the last one for a while.
                self._seen_until = 0.0
        return own.name

    def retire(self) -> None:
        """Take nothing more: what this gives back from now on is for others, not for threads of its own that wait."""
        self.is_retired = True
        self._seen_until = 0.0

    def closed(self) -> StateClosed:
        """Return the error of whoever would take something now."""
        return StateClosed(f"the state on {self._path} is closed")

    def _found(self) -> _Own:
        """Return the owner that this is from now on."""
        number = os.urandom(8).hex()
        own = _Own(number)
        try:
            if (kernel := self._kernel) and self._bytes.take(self._byte(number)):
                own.name = f"{kernel}-{number}"
            self._lock(own, OWNER_TIMEOUT)
            return self._own.setdefault("", own)
        except OSError as error:
            raise StateIOError(
                f"no lock can be owned on {self._path} by {beside.user()}: {error}; the directory "
                f"{location.lock_directory(self._path)} must be writable for whoever uses the store"
            ) from error
        finally:
            if self._own.get("") is not own:
                self._end(own)

    def _renew(self, own: _Own) -> None:
        """Make the owner's file again if somebody removed it."""
        if not os.path.exists(self._file(own.name)):
            # It is another thread of ours that has it already; or a look at it, and then there is a next time.
            with suppress(OSError):
                self._lock(own, 0)

    def _lock(self, own: _Own, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while (held := turn.take(self._path, own.name.join(_OWNER_FILE))) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, "somebody else has it locked", self._file(own.name))
            time.sleep(POLL)
        own.locks.append(held)

    def end(self) -> None:
        """Stop being an owner."""
        own = self._own.get("")
        if own is not None:
            self._end(own)
            self._own.pop("", None)
        self._bytes.close()

    def _end(self, own: _Own) -> None:
        self._remove_file(own.name)
        for held in own.locks:
            turn.drop(held)
        self._bytes.drop(self._byte(own.number))

    def is_alive(self, name: str) -> bool:
        """Return whether an owner lives. Raises: `StateIOError` where that cannot be told."""
        if name == self.name:
            return True
        kernel, _, number = name.rpartition("-")
        has_byte = bool(kernel) and kernel == self._kernel
        taken = self._bytes.is_taken(self._byte(number)) if has_byte else None
        if taken is None:
            return self._is_file_locked(name, may_be_gone=has_byte)
        if not taken:
            self._remove_file(name)
        return taken

    def is_dead(self, name: str) -> bool:
        """Return whether an owner is dead for certain."""
        try:
            return not self.is_alive(name)
        except StateIOError:
            return False

    def _is_file_locked(self, name: str, *, may_be_gone: bool) -> bool:
        file = self._file(name)
        try:
            os.stat(file)
            held = turn.take(self._path, name.join(_OWNER_FILE))
        except (FileNotFoundError, NotADirectoryError) as error:
            if may_be_gone:
                raise self._unknown(name, error) from error
            return False
        except OSError as error:
            raise self._unknown(name, error) from error
        if held is None:
            return True
        # Its process is dead, and no other State ever gets its random name: the file can go. But not while it is all
        # that can be asked: gone, it would say nothing.
        if not may_be_gone:
            self._remove_file(name)
        turn.drop(held)
        return False

    def _unknown(self, name: str, error: OSError) -> StateIOError:
        return StateIOError(
            f"whether the owner of a lock lives cannot be told: {beside.user()} cannot open {self._file(name)} "
            f"({error.strerror or error}); let 'slothstate sweep' run as root or as that file's owner, or take the "
            "lock away with 'slothstate unlock --force' once its process is known to be gone"
        )

    def is_known_alive(self, name: str) -> bool | None:
        """Return whether an owner is alive; None where this process cannot tell, and `doctor` says why."""
        try:
            return self.is_alive(name)
        except StateIOError:
            return None

    def sweep(self) -> None:
        """Remove the files of dead owners, and have those of the living look new to cleaners of old files."""
        own = self._own.get("")
        if own is not None:
            self._renew(own)
        with suppress(OSError):
            for file in os.listdir(location.lock_directory(self._path)):
                if file.startswith(_OWNER_FILE[0]) and file.endswith(_OWNER_FILE[1]):
                    name = file.removeprefix(_OWNER_FILE[0]).removesuffix(_OWNER_FILE[1])
                    if not self.is_dead(name):
                        with suppress(OSError):
                            os.utime(self._file(name))

    def _byte(self, number: str) -> int:
        return int.from_bytes(f"{self._inode} {number}".encode()) % _PRIME

    def _file(self, name: str) -> str:
        return os.path.join(location.lock_directory(self._path), name.join(_OWNER_FILE))

    def _remove_file(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(self._file(name))


class _Own:
    """What one owner holds. `locks` are on its file, several if that was removed meanwhile."""

    __slots__ = ("locks", "name", "number")

    def __init__(self, number: str) -> None:
        self.number = number
        self.name = number
        self.locks: list[turn.Held] = []


@cache
def host() -> str:
    """Return the name of this machine, for people."""
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
