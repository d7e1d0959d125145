"""What happens around `os.fork`.

SQLite keeps its POSIX lock records per inode in process memory: in a forked child any new connection to a file that
the parent had open believes it holds kernel locks that it does not, and an acknowledged write can be lost. So before
a fork every idle connection is closed, and both sides open their own on first use. Connections that were in use stay
with the parent; the child never touches or closes its copies, and refuses to open that file again.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from slothstate.errors import UnsafeState
from slothstate.sqlite import guard

if TYPE_CHECKING:
    from slothstate.sqlite.connection import Connection
    from slothstate.sqlite.engine import Engine

__all__ = ["refuse_inherited", "register"]

FORK_WAIT: Final = 5.0
"""Seconds that a fork waits for operations of other threads to end; a transaction that lasts longer is not copied."""

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_turn = threading.RLock()
"""Held through a fork: another thread that forks waits, or it would find half of the engines prepared."""

_prepared: list[list[Engine]] = []
"""The engines that each fork under way has prepared: several when a signal handler forks in the middle of one."""

_inherited_files: set[tuple[int, int]] = set()


def register(engine: Engine) -> None:
    """Include an engine in what is done around a fork."""
    _engines.add(engine)


def refuse_inherited(path: str) -> None:
    """Refuse a file whose connections this process inherited in use. Raises: `UnsafeState`."""
    if not _inherited_files:
        return
    try:
        found = os.stat(path)
    except OSError:
        return
    if (found.st_dev, found.st_ino) in _inherited_files:
        raise UnsafeState(
            f"{path} was in a transaction of the parent when this process was forked: SQLite would take the parent's "
            "locks for its own; open it in a process started with spawn, or fork outside transactions"
        )


def _before() -> None:
    _turn.acquire()
    engines = list(_engines)
    _prepared.append(engines)
    deadline = time.monotonic() + FORK_WAIT
    for engine in engines:
        engine.before_fork(deadline)


def _after_in_parent() -> None:
    for engine in _prepared.pop():
        engine.after_fork_in_parent()
    _turn.release()


def _after_in_child() -> None:
    global _turn
    _turn = threading.RLock()
    _prepared.clear()
    guard.forget()
    # All, not only the prepared ones: an exception of a signal handler can have cut the preparation short.
    for engine in list(_engines):
        for connection in engine.after_fork_in_child():
            _keep_for_ever(connection)
            with suppress(OSError):
                found = os.stat(engine.path)
                _inherited_files.add((found.st_dev, found.st_ino))


def _keep_for_ever(connection: Connection) -> None:
    """Let a connection outlive even the interpreter's own end: SQLite must never close it in this process."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
