"""What lies beside the database takes its owner, group and mode, as SQLite's -wal and -shm do.

Otherwise what root, or one member of a group, once made would keep out whoever the store belongs to.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import partial

from slothstate import native
from slothstate.errors import UnsafeState
from slothstate.hints import Final

__all__ = ["close_all", "give", "give_directory", "user", "write"]

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)


def give(database: str, descriptor: int) -> None:
    """Give an open file or directory the owner, group and mode of the database, as far as this process may.

    A directory can be searched by whoever can read the database. While there is no database nothing changes.
    """
    if not hasattr(os, "fchown"):
        return
    try:
        wanted = os.stat(database)
    except OSError:
        return
    found = os.fstat(descriptor)
    # First, because it clears bits of the mode. Only root gives files away; a member may choose the group.
    if (found.st_uid, found.st_gid) != (wanted.st_uid, wanted.st_gid):
        with suppress(OSError):
            os.fchown(descriptor, wanted.st_uid if os.geteuid() == 0 else -1, wanted.st_gid)
            found = os.fstat(descriptor)
    mode = _mode_beside(wanted, found)
    if stat.S_IMODE(found.st_mode) != mode:
        with suppress(OSError):
            os.fchmod(descriptor, mode)


def _mode_beside(database: os.stat_result, found: os.stat_result) -> int:
    """Return the mode that something beside a database is to have."""
    mode = stat.S_IMODE(database.st_mode) & 0o666 | 0o600
    if found.st_gid != database.st_gid:
        # What the database's group may do is not for another group.
        mode &= ~0o070
    if stat.S_ISDIR(found.st_mode):
        mode |= (mode & 0o444) >> 2 | found.st_mode & stat.S_ISGID
    return mode


def give_directory(database: str, directory: str) -> None:
    """Do the same for the directory of lock files. Raises: `UnsafeState` for a link, through which root would give."""
    # Who may not read the directory cannot own it either.
    with suppress(OSError):
        found = os.lstat(directory)
        if stat.S_ISLNK(found.st_mode):
            raise UnsafeState(f"{directory} is a symbolic link: remove it, the directory is made again")
        wanted = os.stat(database)
        if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (
            *(wanted.st_uid, wanted.st_gid),
            _mode_beside(wanted, found),
        ):
            return
        # In a list, filled and emptied by one call each: Ctrl-C between two calls would lose the descriptor.
        descriptors: list[int] = []
        try:
            descriptors.extend(map(os.open, (directory,), (os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_FOLLOW,)))
            give(database, descriptors[0])
        finally:
            # No partial: to make one is a call more, after which Ctrl-C can strike.
            native.to_the_end(lambda: close_all(descriptors))


def close_all(descriptors: list[int]) -> None:
    """Take descriptors off a list and close them, by one call, which Ctrl-C cannot split."""
    while descriptors:
        # Other code of this process can have closed it.
        with suppress(OSError):
            list(map(os.close, map(descriptors.pop, [-1] * len(descriptors))))


def write(database: str, file: str, text: str, modified: float | None = None) -> None:
    """Write a small file beside the database whole or not at all, modified at a time; never through a link."""
    draft = f"{file}.{os.urandom(4).hex()}"
    try:
        # A partial of C functions: Ctrl-C cannot come between the descriptor and the file that closes it.
        with open(draft, "x", encoding="utf-8", opener=partial(os.open, mode=0o600)) as lines:
            give(database, lines.fileno())
            lines.write(text)
        if modified is not None:
            os.utime(draft, (modified, modified))
        # Only the owner of a file sets its times; so another user's is replaced.
        os.replace(draft, file)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


def user() -> str:
    """Return who this process is, for an error: "user svc (uid 1001)"."""
    if not hasattr(os, "geteuid"):
        return "this user"
    number = os.geteuid()
    with suppress(ImportError, KeyError):
        import pwd

        return f"user {pwd.getpwuid(number).pw_name} (uid {number})"
    return f"uid {number}"
