"""How a store is doing: SQLite's settings as read back, its log, the processes that have it open."""

from __future__ import annotations

import os
import sys

import apsw

from slothstate.descriptions import User
from slothstate.engines.sqlite.connection import Connection
from slothstate.hints import Final

__all__ = ["settings", "users", "wal"]

_PRAGMAS: Final = (
    "journal_mode",
    "synchronous",
    "page_size",
    "page_count",
    "freelist_count",
    "auto_vacuum",
    "mmap_size",
    "cell_size_check",
    "journal_size_limit",
)

_SWITCHES: Final = {
    "defensive": apsw.SQLITE_DBCONFIG_DEFENSIVE,
    "trusted_schema": apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA,
    "enable_trigger": apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER,
    "enable_view": apsw.SQLITE_DBCONFIG_ENABLE_VIEW,
}

_READ_CURRENT: Final = -1

# Where SQLite locks in the -shm: https://sqlite.org/walformat.html#wal_locks. A reader holds one of these while its
# transaction lasts.
_READ_MARKS: Final = range(123, 128)

_LOCKS_OF_THE_SYSTEM: Final = "/proc/locks"


def settings(connection: Connection, now: int) -> dict[str, int | str]:
    """Return the settings of a connection as SQLite reads them back, not as they were asked for; and its durability."""
    found: dict[str, int | str] = {name: connection.execute(f"pragma {name}").get for name in _PRAGMAS}
    found["durability"] = "full" if connection.syncs_commits else "process"
    return found | {name: connection.db.config(switch, _READ_CURRENT) for name, switch in _SWITCHES.items()}


def wal(connection: Connection) -> tuple[int, int]:
    """Return how many pages the log holds, and how many of them are in the database already. Changes nothing.

    Of a connection that is in no transaction, where SQLite does not tell.
    """
    return connection.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)


def users(path: str) -> list[User] | None:
    """Return the processes that have the store at `path` open, by pid; None where the system does not tell.

    From the kernel's list of locks: every connection to a WAL database holds one on the file as long as it is open.
    """
    # Wine shows its Linux's /proc to programs for Windows, too.
    if sys.platform != "linux":
        return None
    try:
        with open(_LOCKS_OF_THE_SYSTEM, encoding="utf-8") as file:
            lines = [line.split() for line in file]
        database, shared = _name(path), _name(path + "-shm")
    except OSError:
        return None
    reading: dict[int, bool] = {}
    for fields in lines:
        # A waiting lock has "->" in the second place; a process of another container has the pid 0.
        if len(fields) != 8 or fields[1] != "POSIX" or fields[5] not in (database, shared):
            continue
        pid, first = int(fields[4]), int(fields[6])
        marked = fields[5] == shared and first in _READ_MARKS
        reading[pid] = reading.get(pid, False) or marked
    # On some file systems the two names of a device differ; but we have it open ourselves.
    return [User(pid, reading[pid]) for pid in sorted(reading)] if os.getpid() in reading else None


def _name(path: str) -> str:
    """Return a file as /proc/locks names it: major and minor device number in hexadecimal, inode in decimal."""
    found = os.stat(path)
    return f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
