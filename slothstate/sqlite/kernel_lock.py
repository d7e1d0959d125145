"""The kernel's lock on an open file, which ends with the process: what filelock takes, for a first use without it.

`flock`, on Windows `LockFile` by way of msvcrt; filelock's own locks are the same and exclude these.
"""

from __future__ import annotations

import os
import sys

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["release", "take"]


def take(descriptor: int) -> bool:
    """Lock an open file if nobody else has; return whether it is ours. Raises: `OSError` where there are no locks."""
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
    else:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def release(descriptor: int) -> None:
    """Unlock it, for every copy of the descriptor that a fork made, too."""
    if sys.platform == "win32":
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
