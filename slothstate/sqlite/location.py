"""Where a store lives: which paths are refused, how a new file comes to be, and how a replaced one is noticed.

Nothing here ever opens the database, its -wal or its -shm by path: closing such a descriptor would drop the POSIX
locks that SQLite holds in this process (https://sqlite.org/howtocorrupt.html, 2.2). They are only looked at with stat.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from slothstate.errors import InvalidValue, StateCorrupt, StateIOError, UnsafeState
from slothstate.sqlite import beside, schema
from slothstate.values import check_flag, describe

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = [
    "Identity",
    "check_path",
    "create_file",
    "default_path",
    "file_system",
    "inode",
    "lock_directory",
    "lock_file",
    "prepare",
    "resolve",
    "same_files",
    "size",
]

Identity: TypeAlias = tuple[tuple[int, int] | None, ...]
"""(device, inode) of the database, its -wal and its -shm; None for one that is not there."""

CREATION_TIMEOUT: Final = 60.0
CREATION_POLL: Final = 0.005

# These do not give POSIX locks and shared memory between machines, or not reliably; WAL needs both on one host
# (https://sqlite.org/wal.html, "all processes must be on the same host computer").
_REMOTE: Final = frozenset(
    (
        *(
            "9p",
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "coda",
            "davfs",
            "drvfs",
            "gfs",
            "gfs2",
            "glusterfs",
            "gpfs",
            "lustre",
        ),
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
        *("fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)


def default_path() -> str:
    """Return the path that `open()` uses without one: `$SLOTHSTATE_DB`, else `~/.sloth-runner/state.db`."""
    return os.environ.get("SLOTHSTATE_DB") or os.path.join(os.path.expanduser("~"), ".sloth-runner", "state.db")


def resolve(path: str | os.PathLike[str] | None, *, allow_remote: bool = False) -> str:
    """Return the real path of a store that may be opened or created; its directory exists afterwards (made 0700).

    Raises: `InvalidValue` for what is no path; `UnsafeState` for what is not a plain file of ours or lies on a network
    file system; `StateIOError` when the directory cannot be made.
    """
    check_flag(allow_remote, "allow_remote")
    text = check_path(default_path() if path is None else path)
    if not text or "\0" in text or text == ":memory:":
        raise UnsafeState(f"path {text!r} is not the path of a file; a store is shared between processes through one")
    directory, name = os.path.split(os.path.abspath(os.path.expanduser(text)))
    if not name or text.endswith(("/", os.sep)):
        raise UnsafeState(f"path {text!r} names a directory; name a file in it, such as {text.rstrip('/')}/state.db")
    _make_directory(directory)
    # The directory may be reached through links (/tmp on macOS); only the file itself must not be one.
    real = os.path.join(os.path.realpath(directory), name)
    _refuse_unsafe(real)
    if not allow_remote:
        _refuse_remote(real)
    return real


def check_path(path: str | os.PathLike[str], name: str = "path") -> str:
    """Return a path as text; `name` is the argument's name in the message.

    Raises: `InvalidValue` for another type; `UnsafeState` for what is not UTF-8.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise InvalidValue(f"{name} must be a str or an os.PathLike of one, got {describe(path)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnsafeState(f"{name} {text!r} is not UTF-8, which SQLite needs it to be") from error
    return text


def _make_directory(directory: str) -> None:
    """Make a directory and those above it that are missing, 0700 each; `os.makedirs` leaves parents to the umask."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            if not os.path.isdir(path):
                raise StateIOError(f"the directory {path} cannot be made: {error}") from error


def _refuse_unsafe(path: str) -> None:
    found = _stat(path)
    if found is None:
        return
    kinds = (
        (stat.S_ISLNK, "a symbolic link: open the file it points to"),
        (stat.S_ISDIR, "a directory: name a file in it"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    for is_kind, what in kinds:
        if is_kind(found.st_mode):
            raise UnsafeState(f"{path} is {what}")
    if found.st_nlink > 1:
        raise UnsafeState(
            f"{path} has {found.st_nlink} hard links: opened under two names it would get two logs and lose data"
        )
    if found.st_size == 0 and (log := _stat(path + "-wal")) is not None and log.st_size > 0:
        raise StateCorrupt(f"{path} is empty but its log is not: the database was truncated; restore a backup")


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateIOError(f"{path} cannot be looked at: {error}") from error


def _refuse_remote(path: str) -> None:
    kind = file_system(path)
    if kind in _REMOTE:
        raise UnsafeState(
            f"{path} lies on a network file system ({kind}), where SQLite's log is not shared safely between machines: "
            "keep the store on a local disk, reach it over SSH, or pass allow_remote=True at your own risk"
        )


def file_system(path: str) -> str | None:
    """Return the type of the file system that holds `path`, where the system tells (Linux), else None."""
    if not sys.platform.startswith("linux"):
        return None
    best, kind = "", None
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                fields = line.split()
                point = (
                    fields[4].encode("ascii", "surrogateescape").decode("unicode_escape")
                    if "\\" in fields[4]
                    else fields[4]
                )
                # A later mount on the same point hides the earlier one.
                if len(point) >= len(best) and (path + "/").startswith(point.rstrip("/") + "/"):
                    best, kind = point, fields[fields.index("-") + 1]
    except (OSError, ValueError, IndexError):
        return None
    return kind


def lock_directory(path: str) -> str:
    """Return the directory beside the database that holds the OS lock files: never the database's own files."""
    return path + "-locks"


def lock_file(path: str, name: str) -> BaseFileLock:
    """Return the OS lock `name` of a store; the kernel drops it when its process dies."""
    # Imported here: filelock takes several times as long to import as the rest of the package.
    from filelock import FileLock

    directory = lock_directory(path)
    _make_directory(directory)
    beside.give_directory(path, directory)
    # `mode` counts until the file is given, whatever the umask.
    given = partial(beside.give, path)
    return FileLock(os.path.join(directory, name), mode=0o600, thread_local=False, on_acquired=given)


def prepare(path: str) -> None:
    """Make sure that `path` holds a store of our version: create it if there is nothing, refuse what is not ours.

    Raises: `UnsafeState`, `StateCorrupt`, `StateIOError`; an existing file is left as it was.
    """
    found = _stat(path)
    if found is None or found.st_size == 0:
        _create(path)
    else:
        _refuse_foreign(path)


def _create(path: str) -> None:
    from filelock import Timeout

    creation = lock_file(path, "create.lock")
    try:
        creation.acquire(timeout=CREATION_TIMEOUT, poll_interval=CREATION_POLL)
    except Timeout as error:
        raise StateIOError(f"another process has been creating {path} for {CREATION_TIMEOUT:.0f} s") from error
    except OSError as error:
        raise StateIOError(f"{path} cannot be created: {error}") from error
    try:
        found = _stat(path)
        if found is not None and found.st_size > 0:
            _refuse_foreign(path)
            return
        # Built aside and renamed: whoever dies in between leaves no half-made store under the name.
        draft = path + "-new"
        for suffix in ("", "-wal", "-shm", "-journal"):
            try:
                os.unlink(draft + suffix)
            except FileNotFoundError:
                continue
        create_file(draft)
        with closing(schema.open_plain(draft)) as db:
            schema.create(db)
        os.replace(draft, path)
    except OSError as error:
        raise StateIOError(f"{path} cannot be created: {error}") from error
    finally:
        creation.release()


def create_file(path: str) -> None:
    """Create an empty file that only its owner reads, for SQLite to fill. Raises: `OSError` if there is anything."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600))


def _refuse_foreign(path: str) -> None:
    application, version = schema.identify(path)
    if application != schema.APPLICATION_ID:
        raise UnsafeState(f"{path} is not a slothstate store: it is another program's SQLite database")
    schema.check_version(version, path)


def same_files(path: str, known: Identity) -> Identity:
    """Return the identities of the store's files as the paths lead to them now; `known` are those seen before.

    Raises: `UnsafeState` when one that is known was moved, replaced or deleted under an open store.
    """
    now = tuple(_identity(path + suffix) for suffix in _SUFFIXES)
    for suffix, before, after in zip(_SUFFIXES, known, now, strict=False):
        if before != after:
            raise UnsafeState(
                f"{path}{suffix} was {'deleted' if after is None else 'replaced'} while the store was open: "
                "nothing more is written through this handle; open the store again"
            )
    return now


_SUFFIXES: Final = ("", "-wal", "-shm")


def size(path: str) -> int:
    """Return the size of a file in bytes, 0 if it is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def inode(path: str) -> int:
    """Return the number of a file in its file system, 0 if it is not there."""
    found = _identity(path)
    return 0 if found is None else found[1]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino
