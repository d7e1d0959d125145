"""Which error of ours a result code of SQLite stands for."""

from __future__ import annotations

import apsw

from slothstate.engines.sqlite import access
from slothstate.errors import (
    InvalidValue,
    OutcomeUnknown,
    SlothStateError,
    StateBusy,
    StateClosed,
    StateCorrupt,
    StateFull,
    StateIOError,
    StateReadOnly,
)
from slothstate.hints import Final

__all__ = ["again", "translate"]


def translate(error: apsw.Error | UnicodeDecodeError, path: str) -> Exception:
    """Return the error of ours that SQLite's result code stands for (never its text)."""
    if getattr(error, "extendedresult", 0) in _AFTER_THE_WRITE:
        return OutcomeUnknown(f"a sync to disk failed, the write may or may not be kept ({path}: {error})")
    make = _BY_CLASS.get(type(error)) or _BY_CODE.get(getattr(error, "result", 0) & 0xFF)
    if make is MemoryError:
        return MemoryError(f"SQLite ran out of memory on {path}")
    if make is None:
        return SlothStateError(f"unexpected SQLite error on {path}: {type(error).__name__}: {error}")
    if getattr(error, "extendedresult", 0) in _OPENING or getattr(error, "result", 0) in _OPENING:
        found = access.reason(path)
        if found is not None:
            return access.refusal(f"{path} cannot be opened", found, make)
    # "database is locked" would be all that SQLite has to add; of a copy it says "not an error".
    is_told = make is StateBusy or str(error) == "not an error"
    return make(f"{_ADVICE[make]} ({path})" if is_told else f"{_ADVICE[make]} ({path}: {error})")


# The log was written and only then could not be synced: a crash now may bring the write back.
_AFTER_THE_WRITE: Final = frozenset((apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC))

# What SQLite says when a file of the store cannot be opened; why, it does not.
_OPENING: Final = frozenset(
    (
        *(apsw.SQLITE_CANTOPEN, apsw.SQLITE_PERM, apsw.SQLITE_READONLY, apsw.SQLITE_IOERR_ACCESS),
        *(apsw.SQLITE_IOERR_SHMMAP, apsw.SQLITE_IOERR_SHMOPEN, apsw.SQLITE_IOERR_SHMSIZE),
    )
)

_BY_CODE: Final[dict[int, type[Exception]]] = {
    apsw.SQLITE_BUSY: StateBusy,
    apsw.SQLITE_LOCKED: StateBusy,
    apsw.SQLITE_CORRUPT: StateCorrupt,
    apsw.SQLITE_NOTADB: StateCorrupt,
    apsw.SQLITE_CONSTRAINT: StateCorrupt,
    apsw.SQLITE_FULL: StateFull,
    apsw.SQLITE_READONLY: StateReadOnly,
    apsw.SQLITE_IOERR: StateIOError,
    apsw.SQLITE_CANTOPEN: StateIOError,
    apsw.SQLITE_PERM: StateIOError,
    apsw.SQLITE_PROTOCOL: StateIOError,
    apsw.SQLITE_NOLFS: StateIOError,
    apsw.SQLITE_NOMEM: MemoryError,
    apsw.SQLITE_TOOBIG: InvalidValue,
}

_BY_CLASS: Final[dict[type[Exception], type[Exception]]] = {
    # What apsw makes of a TEXT that is not UTF-8.
    UnicodeDecodeError: StateCorrupt,
    apsw.ConnectionClosedError: StateClosed,
    apsw.CursorClosedError: StateClosed,
}

_ADVICE: Final[dict[type[Exception], str]] = {
    StateBusy: "another writer kept the store for too long, nothing was written",
    StateCorrupt: "the store is damaged: check the disk, restore a backup",
    StateFull: "no room left on the disk or in the quota, nothing was written",
    StateReadOnly: "the store cannot be written, and reading needs its log: check the modes of the file, its directory "
    "and its file system",
    StateIOError: "the store cannot be read or written",
    InvalidValue: "the value would be larger than SQLite's limit of 1,000,000,000 bytes",
    StateClosed: "the state is closed",
}


def again(error: SlothStateError) -> SlothStateError:
    """Return a fresh copy of an error that is raised again and again, so that tracebacks do not pile up on one."""
    return type(error)(*error.args)
