"""A guard against a second SQLite library in the same process, on Linux.

POSIX locks belong to the process: when another library (the standard library's `sqlite3`, a viewer in a notebook)
closes its connection to a store that is open here, the kernel drops our locks with its own, and the other library,
which finds nobody in its way, deletes the live -wal and -shm. What we write afterwards is acknowledged and lost.

Locks of an open file description (F_OFD_SETLK, fcntl(2)) belong to the descriptor that they were taken through. So a
read lock of that kind on SQLite's own descriptors, on the bytes whose exclusive lock comes before any such deletion,
outlives what others close. SQLite's byte that stands for the right to write cannot be held like this: a second library
that closes while we are inside a write transaction still takes its lock away. Do not open a store with another library.

Nothing here opens or closes a file of the store; the descriptors are found by inode. It is a second line of defence:
where the system does not offer it, the store works without.
"""

from __future__ import annotations

import os
import struct
import sys
import weakref
from contextlib import suppress
from functools import partial

from slothstate import native
from slothstate.hints import TYPE_CHECKING, Any, Final

if sys.platform == "linux":
    # Here, because nothing can be imported any more where a finalizer uses a State at the very end of Python.
    import fcntl

if TYPE_CHECKING:
    from slothstate.engines.sqlite.location import Identity

__all__ = ["Guard", "forget", "protect", "release"]

# The bytes that each connection holds a read lock on while it is open, and that whoever deletes the -wal and -shm must
# have to itself: SHARED_FIRST and SHARED_SIZE of the database (https://sqlite.org/src/file/src/os.h), and the "dead man
# switch" of the -shm (UNIX_SHM_DMS in os_unix.c).
_DATABASE: Final = (0x40000002, 510)
_SHARED_MEMORY: Final = (128, 1)

# struct flock; 64-bit offsets on every Linux that Python runs on, in the platform's own alignment.
_FLOCK: Final = "hhqqi0q"

_turn = native.Mutex()

_process = os.getpid()
"""Who we are: C code can fork without a call of `forget`."""

_protected: dict[int, Identity] = {}
"""What each anchor of this process protects, by the id of the very tuple: the locks stay until the last is released."""

_locked: dict[Identity, set[int]] = {}
"""The descriptors that were locked for a store, some of them another file's by now."""


def protect(store: Identity) -> None:
    """Keep other libraries in this process from deleting the store's -wal and -shm until `release` of the same object.

    There must be an open connection that has read from the store, and it must stay open until then.
    """
    with _turn.hold():
        _protected[id(store)] = store
        if sys.platform == "linux":
            with suppress(OSError):
                # On all that lead there: nothing says which of them is whose, and a connection that is closed takes
                # those on its own with it. The one that listed the directory, or another thread's, is closed already.
                descriptors = map(int, os.listdir("/proc/self/fd"))
                _locked.setdefault(store, set()).update(filter(partial(_lock, store, shared=True), descriptors))


def release(store: Identity) -> None:
    """Undo `protect`, or do nothing if that is done.

    The last one must come before the last connection is closed, which tidies up the -wal.
    """
    with _turn.hold():
        if id(store) not in _protected or os.getpid() != _process:
            # A forked child lets go of what its parent protected, and goes on protecting.
            return
        if list(_protected.values()).count(store) == 1:
            for descriptor in list(_locked.get(store, ())):
                _lock(store, descriptor, shared=False)
            _locked.pop(store, None)
        # Last: a release that Ctrl-C cuts short is done again.
        _protected.pop(id(store), None)


class Guard:
    """The protection of one store, for a pool that keeps a connection to it open."""

    def __init__(self) -> None:
        self._store: Identity = ()
        self._release: weakref.finalize[Any, Any] | None = None

    def keep(self, pool: object, store: Identity) -> None:
        """Protect the store, through the connection that the pool has just opened."""
        if self._release is None:
            # A tuple of its own.
            self._store = (*store,)
            # Also when nobody closes the pool: it must come before the collector closes the connection.
            self._release = weakref.finalize(pool, release, self._store)
            # The pool's own end at the end of the process is `rest`.
            self._release.atexit = False
        protect(self._store)

    def end(self) -> None:
        """Let go of the store: before what may be the last connection is closed."""
        if self._release is not None:
            release(self._store)
            self._release.detach()
            self._release = None


def forget() -> None:
    """Start anew in a forked child: inherited descriptors share their locks with the parent, who goes on using them."""
    global _turn, _process
    _turn = native.Mutex()
    _process = os.getpid()
    _protected.clear()
    _locked.clear()


def _lock(store: Identity, descriptor: int, *, shared: bool) -> bool:
    """Take or drop the lock of a descriptor, if it leads to one of the store's files; return whether it does."""
    database, _, shared_memory = store
    try:
        found = os.fstat(descriptor)
        identity = (found.st_dev, found.st_ino)
        if identity not in (database, shared_memory):
            return False
        start, length = _DATABASE if identity == database else _SHARED_MEMORY
        kind = fcntl.F_RDLCK if shared else fcntl.F_UNLCK
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0))
    except OSError:
        return False
    return True
