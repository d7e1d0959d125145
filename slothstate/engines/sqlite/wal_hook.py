"""What the last commit of a connection left in the write-ahead log; csrc/engine/log.c notes it.

apsw calls a wal_hook through Python, a twentieth of a small write. So the C layer sets it itself where it can, with the
function that SQLite passes to an extension that it loads: our own library, for a moment, into a database in memory.
"""

from __future__ import annotations

from contextlib import closing, suppress
from functools import cache

import apsw

from slothstate import native
from slothstate.hints import Any, Protocol

__all__ = ["Log", "attach"]


class Log(Protocol):
    """What is known of the log of one connection. A commit that changed no byte never comes there."""

    pages: int
    """Its length after the last commit."""

    committed: bool
    """Whether anything was committed since this was last set to False."""

    def hook(self, db: apsw.Connection, name: str, pages: int, /) -> int:
        """Note a commit: SQLite's wal_hook."""

    def hook_directly(self, pointer: int, /) -> bool:
        """Let SQLite note the commits of the `sqlite3` at this address without a call of Python; False if it cannot."""

    def sync_commits(self, log: int, database: int, /) -> None:
        """Let `sync` have an effect, on SQLite's own files of the connection: the addresses of two `sqlite3_file`."""

    def sync(self) -> int:
        """Have on the disk what is committed, by whatever connection of whatever process, unless it is known to be.

        Returns SQLite's result code. The GIL is free meanwhile.

        A sync of the log covers every commit before it: the log is one sequence of frames, in one file. What is no
        longer in it is in the database, and on the disk: `walCheckpoint` (https://sqlite.org/src/file?name=src/wal.c)
        syncs the log before it copies the first page, and the database after the last one; only then does it say by
        `nBackfill` that the log may begin anew, which `walRestartHdr` does. With `synchronous=NORMAL` a commit does all
        that one with FULL does but this sync, and a padding that SQLite leaves out on every disk that it takes for one
        with `SQLITE_IOCAP_POWERSAFE_OVERWRITE`, as it does here.
        """

    def write_again(self) -> int:
        """Write what is in the log over itself; the caller holds the write lock. Returns SQLite's result code.

        After a sync that failed: what the kernel could not write it takes for written (fsync(2), "EIO"), and the next
        sync would succeed without it.
        """


def attach(db: apsw.Connection, limit: int) -> Log:
    """Return the log of a connection, for a lender that has it copied into the database at `limit` pages.

    It takes the place of `wal_autocheckpoint`, which is a wal_hook too.
    """
    log: Any = native.Log(limit)
    # The connection keeps its hook, and thereby the log, for as long as SQLite may call either of the two.
    db.set_wal_hook(log.hook)
    if _is_loaded():
        log.hook_directly(db.sqlite3_pointer())
    made: Log = log
    return made


@cache
def _is_loaded() -> bool:
    """Have SQLite load our library; False where this SQLite was built without extensions."""
    with suppress(apsw.Error, AttributeError), closing(apsw.Connection(":memory:")) as db:
        db.enable_load_extension(True)
        db.load_extension(native.LIBRARY, "ss_sqlite_init")
        return True
    return False
