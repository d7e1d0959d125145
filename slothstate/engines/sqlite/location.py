"""Where a store lives: which paths are refused, what lies beside it, and how a replaced file is noticed.

Nothing here ever opens the database, its -wal or its -shm by path: closing such a descriptor would drop the POSIX
locks that SQLite holds in this process (https://sqlite.org/howtocorrupt.html, 2.2). They are only looked at with stat.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from functools import lru_cache, partial

from slothstate.engines.sqlite import access, beside
from slothstate.engines.sqlite.naming import absolute_path, check_path, default_path
from slothstate.errors import StateCorrupt, UnsafeState
from slothstate.hints import TYPE_CHECKING, Final, TypeAlias
from slothstate.values import check_flag

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = [
    "Identity",
    "ensure_lock_directory",
    "file_system",
    "inode",
    "lock_directory",
    "lock_file",
    "make_directory",
    "refuse_leftovers",
    "resolve",
    "same_files",
    "size",
]

SHARED_MEMORY_BLOCK: Final = 32_768
"""https://sqlite.org/walformat.html#the_wal_index_file_format: WALINDEX_PGSZ."""

Identity: TypeAlias = tuple[tuple[int, int] | None, ...]
"""(device, inode) of the database, its -wal and its -shm; None for one that is not there."""

# Where locks and shared memory work as the processes of one machine need them: on its own disks and in its memory.
_LOCAL: Final = frozenset(
    (
        *("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "reiser4", "reiserfs", "xfs", "zfs"),
        *(
            "exfat",
            "fuseblk",
            "hfs",
            "hfsplus",
            "jffs2",
            "minix",
            "msdos",
            "ntfs",
            "ntfs3",
            "ubifs",
            "udf",
            "ufs",
            "vfat",
        ),
        *("aufs", "devtmpfs", "ecryptfs", "overlay", "overlayfs", "ramfs", "rootfs", "shiftfs", "tmpfs"),
    )
)

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
        *("ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs"),
        *("fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)

# Directories of a host that its virtual machines see: those of Docker Desktop among them.
_SHARED: Final = frozenset(
    ("fakeowner", "fuse.grpcfuse", "fuse.osxfs", "fuse.virtiofs", "osxfs", "prl_fs", "vboxsf", "virtiofs", "vmhgfs")
)


def resolve(path: str | os.PathLike[str] | None, *, allow_remote: bool = False) -> str:
    """Return the real path of a store that may be opened or created; nothing is made.

    Raises: `InvalidValue` for what is no path; `UnsafeState` for what is not a plain file of ours, is mounted without
    its directory, or does not lie on a file system of this machine; `StateIOError` for what cannot be looked at.
    """
    check_flag(allow_remote, "allow_remote")
    text = check_path(default_path() if path is None else path)
    if not text or "\0" in text or text == ":memory:":
        raise UnsafeState(f"path {text!r} is not the path of a file; a store is shared between processes through one")
    directory, name = os.path.split(absolute_path(text))
    if not name or text.endswith(("/", os.sep)):
        raise UnsafeState(f"path {text!r} names a directory; name a file in it, such as {text.rstrip('/')}/state.db")
    # The directory may be reached through links (/tmp on macOS); only the file itself must not be one.
    real = os.path.join(os.path.realpath(directory), name)
    _refuse_unsafe(real)
    _refuse_mounted(real)
    if not allow_remote:
        _refuse_remote(real)
    return real


def has_store(path: str) -> bool:
    """Return whether there is a store, or something in its place that opening it will tell of."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return size(path + "-wal") > 0
    except NotADirectoryError:
        return False
    except (OSError, ValueError):
        return True
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode) or os.path.exists(path + "-wal")


def make_directory(directory: str) -> list[str]:
    """Make a directory and those above it that are missing, 0700 each; return which, the uppermost first.

    `os.makedirs` would leave the parents to the umask. Raises: `StateIOError`, and then none is left.
    """
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    made: list[str] = []
    for path in reversed(missing):
        try:
            os.mkdir(path, 0o700)
            made.append(path)
        except OSError as error:
            if not os.path.isdir(path):
                for ours in reversed(made):
                    os.rmdir(ours)
                if isinstance(error, FileExistsError):
                    error = NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                raise access.refusal(f"the directory {path} cannot be made", error) from error
    return made


def _refuse_unsafe(path: str) -> None:
    found = _stat(path)
    if found is None:
        refuse_leftovers(path)
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
    if found.st_size == 0:
        refuse_leftovers(path)


def refuse_leftovers(path: str) -> None:
    """Refuse to have a new database where SQLite would take what lies there for its log, or write over it.

    Raises: `StateCorrupt`.
    """
    for suffix in ("-wal", "-journal", "-shm"):
        file = path + suffix
        found = _stat(file)
        if found is None or (stat.S_ISREG(found.st_mode) and not _may_hold_data(suffix, found.st_size)):
            continue
        # Another process may have made the database between the two looks.
        if not size(path):
            what = "is missing" if _stat(path) is None else "is empty"
            raise StateCorrupt(
                f"{path} {what}, but {file} is there and may have data of it: bring the database back, or move "
                f"{file} away to begin without"
            )


def _may_hold_data(suffix: str, octets: int) -> bool:
    # Shared memory has whole blocks of this size, and nothing that outlives those who use it.
    return octets % SHARED_MEMORY_BLOCK > 0 if suffix == "-shm" else octets > 0


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise access.refusal(f"{path} cannot be looked at", error) from error


def _refuse_mounted(path: str) -> None:
    """Refuse a file that a container got without its directory: whoever has the directory writes another log."""
    mounted = [point for point, _ in _mounts() if point.startswith(path)]
    for file in (path, *(path + suffix for suffix in ("-wal", "-shm", "-journal")), lock_directory(path)):
        if file in mounted:
            raise UnsafeState(
                f"{file} is mounted alone, without what lies beside it: whoever uses the store outside has another log "
                "and other locks, and writes would be lost. Mount the whole directory instead, on "
                f"{os.path.dirname(path)}"
            )


def _refuse_remote(path: str) -> None:
    kind = file_system(path)
    if kind is None or kind in _LOCAL:
        return
    why = "where SQLite's log is not shared safely between machines"
    if kind in _REMOTE:
        what = "a network file system"
    elif kind in _SHARED:
        what = "a directory shared with another machine"
    else:
        what, why = (
            "a file system",
            "which is not known to be a local one with the locks and the memory that a log needs",
        )
    raise UnsafeState(
        f"{path} lies on {what} ({kind}), {why}: keep the store on a local disk, reach it over SSH, or pass "
        "allow_remote=True (--allow-remote) at your own risk"
    )


def file_system(path: str) -> str | None:
    """Return the type of the file system that holds `path`, where the system tells (Linux), else None."""
    best, kind = "", None
    inside = path + "/"
    for point, found in _mounts():
        # A later mount on the same point hides the earlier one.
        if inside.startswith(point) and len(point) >= len(best) and inside.startswith(point.rstrip("/") + "/"):
            best, kind = point, found
    return kind


def _mounts() -> list[tuple[str, str]]:
    """Return the points and types of what is mounted; nothing where the system does not tell.

    https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    if not sys.platform.startswith("linux"):
        return []
    try:
        with open("/proc/self/mountinfo", mode="rb", buffering=0) as table:
            return _parsed(table.read())
    except OSError:
        return []


@lru_cache(maxsize=1)
def _parsed(table: bytes) -> list[tuple[str, str]]:
    """Return the points and types in a table of mounts, which is nearly always the one of the time before."""
    found = []
    for line in os.fsdecode(table).split("\n"):
        fields = line.split(" ")
        if "-" in fields[6:-1]:
            # Decoded before: a surrogate escape stands for a byte that is none of these.
            found.append((_unescaped(fields[4]), fields[fields.index("-", 6) + 1]))
    return found


def _unescaped(point: str) -> str:
    if "\\" not in point:
        return point
    import re

    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), os.fsencode(point)))


def lock_directory(path: str) -> str:
    """Return the directory beside the database that holds the OS lock files: never the database's own files."""
    return path + "-locks"


def ensure_lock_directory(path: str) -> str:
    """Return that directory, made if it is not there. Raises: `StateIOError`; `UnsafeState` for a link."""
    directory = lock_directory(path)
    make_directory(directory)
    beside.give_directory(path, directory)
    return directory


def lock_file(path: str, name: str) -> BaseFileLock:
    """Return the OS lock `name` of a store; the kernel drops it when its process dies."""
    # Imported here: filelock takes several times as long to import as the rest of the package.
    from filelock import FileLock

    directory = ensure_lock_directory(path)
    # `mode` counts until the file is given, whatever the umask.
    given = partial(beside.give, path)
    return FileLock(os.path.join(directory, name), mode=0o600, thread_local=False, on_acquired=given)


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
