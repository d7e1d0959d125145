"""Why a file cannot be opened, in words: SQLite says "unable to open database file", whatever the reason."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

from slothstate.errors import StateFull, StateIOError, StateReadOnly
from slothstate.hints import Final

__all__ = ["reason", "refusal"]

_DESCRIPTORS: Final = 8
"""How many more files SQLite may want at once to open a store: the database, its log, its journal, and the like."""

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")

_KINDS: Final[dict[int | None, type[Exception]]] = {
    errno.EROFS: StateReadOnly,
    errno.ENOSPC: StateFull,
    errno.EDQUOT: StateFull,
}


def refusal(what: str, error: OSError, kind: type[Exception] = StateIOError) -> Exception:
    """Return the error of ours that says what failed, why (with the name of the errno), and as which user."""
    name = errno.errorcode.get(error.errno or 0, "")
    why = f"{(error.strerror or str(error)).lower()}{name and f' ({name})'}"
    where = f" at {error.filename}" if error.filename and str(error.filename) not in what.split() else ""
    make: type[Exception] = _KINDS.get(error.errno, kind)
    return make(f"{what}: {why}{where}{_user()}")


def reason(path: str) -> OSError | None:
    """Return what the system would say to a process that opens the database `path`; None if nothing is in its way.

    It only looks: opening a file of the store by path, and closing it again, would drop the locks of SQLite.
    """
    try:
        with ExitStack() as files:
            for _ in range(_DESCRIPTORS):
                files.enter_context(open(os.devnull, "rb"))
        directory = os.path.dirname(path)
        existing = [path + suffix for suffix in _SUFFIXES if _is_there(path + suffix)]
        for file in existing:
            _require(file, os.R_OK | os.W_OK)
        if len(existing) < len(_SUFFIXES):
            os.stat(directory)
            _require(directory, os.W_OK | os.X_OK)
            room = os.statvfs(directory)
            if (room.f_blocks and not room.f_bavail) or (room.f_files and not room.f_favail):
                return _error(errno.ENOSPC, directory)
    except OSError as error:
        # /dev/null is not what matters.
        return OSError(error.errno, error.strerror) if error.filename == os.devnull else error
    return None


def _is_there(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _require(path: str, mode: int) -> None:
    """Raise what opening a file or writing to a directory would raise."""
    if not os.access(path, mode, effective_ids=os.access in os.supports_effective_ids):
        is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY and os.access(path, mode & ~os.W_OK)
        raise _error(errno.EROFS if is_read_only else errno.EACCES, path)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


def _user() -> str:
    """Return ` as user svc (uid 1001)`; nothing on a system that has no such numbers."""
    if not hasattr(os, "geteuid"):
        return ""
    import pwd

    uid = os.geteuid()
    try:
        return f" as user {pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        # It has no name, or passwd cannot be read now: no more files may be opened.
        return f" as uid {uid}"
