"""What happens around `os.fork`.

SQLite keeps its POSIX lock records per inode in process memory: in a forked child any new connection to a file that
the parent had open believes it holds kernel locks that it does not, and an acknowledged write can be lost. So before
a fork every idle connection is closed, and both sides open their own on first use. Connections that were in use stay
with the parent; the child never touches or closes its copies, and refuses to open that file again.
"""

from __future__ import annotations

import os
import time
import weakref
from typing import TYPE_CHECKING, Final

from slothstate.errors import UnsafeState

if TYPE_CHECKING:
    from slothstate.sqlite.connection import Connection
    from slothstate.sqlite.engine import Engine

__all__ = ["refuse_inherited", "register"]

FORK_WAIT: Final = 5.0
"""Seconds that a fork waits for operations of other threads to end; a transaction that lasts longer is not copied."""

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()
_prepared: list[Engine] = []
_inherited: list[Connection] = []
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
    deadline = time.monotonic() + FORK_WAIT
    _prepared[:] = list(_engines)
    for engine in _prepared:
        engine.before_fork(deadline)


def _after_in_parent() -> None:
    for engine in _prepared:
        engine.after_fork_in_parent()
    _prepared.clear()


def _after_in_child() -> None:
    for engine in _prepared:
        connections = engine.after_fork_in_child()
        if connections:
            _inherited.extend(connections)
            found = os.stat(engine.path)
            _inherited_files.add((found.st_dev, found.st_ino))
    _prepared.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
