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
from contextlib import suppress
from functools import partial

from slothstate import native
from slothstate.engines.sqlite import foreign_sqlite
from slothstate.errors import UnsafeState
from slothstate.hints import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from slothstate.engines.sqlite.connection import Connection

__all__ = ["keep", "notice_child", "reason", "refuse_inherited", "register"]

FORK_WAIT: Final = 5.0
"""Seconds that a fork waits for operations of other threads to end; a transaction that lasts longer is not copied."""


class Forkable(Protocol):
    """What is done to a store around a fork. Each step runs to the end, whatever strikes it, and can run twice."""

    def end_thread(self, deadline: float) -> None:
        """End its thread, by a `time.monotonic()`; the next one starts when it is needed."""

    def before_fork(self, deadline: float) -> None:
        """Close its connections, so that the child inherits none; wait until `deadline` for those in use."""

    def after_fork_in_parent(self) -> None:
        """Go on, with connections that are opened when they are needed."""

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections, and refuse to go on if there are any."""


_engines: set[weakref.ref[Forkable]] = set()
"""References, and not a WeakSet: a set can be copied while other threads change it."""

_turn = native.Mutex()
"""Held through a fork: another thread that forks waits, or it would find half of the engines prepared."""


class _Fork:
    """A fork under way."""

    def __init__(self) -> None:
        self.deadline = time.monotonic() + FORK_WAIT
        self.engines: list[Forkable] = []
        self.is_prepared = False


_forks: list[_Fork] = []
"""Several when a signal handler forks in the middle of one."""

_turns: list[native.Holding] = []
"""One for each of `_forks`. Apart, because nothing else of what a struck step leaves behind may keep them."""

_inherited_files: dict[tuple[int, int], str] = {}
"""The files whose connections this process inherited in use, and why they cannot be used."""

_IN_TRANSACTION: Final = (
    "it was forked inside a transaction; fork outside transactions, or open the store in a process started with spawn"
)
_IN_C: Final = (
    "it was forked by C code that does not run what Python prepares for a fork, after the store was opened; open it "
    "after the fork (with uWSGI: lazy-apps = true, or in a function marked @postfork)"
)


def register(engine: Forkable) -> None:
    """Include an engine in what is done around a fork."""
    _engines.add(weakref.ref(engine, _engines.discard))


def refuse_inherited(path: str) -> None:
    """Refuse a file whose connections this process inherited in use. Raises: `UnsafeState`."""
    if not _inherited_files:
        return
    with suppress(OSError):
        found = os.stat(path)
        reason = _inherited_files.get((found.st_dev, found.st_ino))
        if reason is not None:
            raise UnsafeState(
                f"{path} cannot be opened in this process, where SQLite would take the parent's locks for its own: "
                f"{reason}"
            )


def notice_child() -> None:
    """Do what belongs into a forked child, if C code forked it without a word to Python."""
    native.to_the_end(_after_in_child)


def reason() -> str:
    """Return why a child cannot use what it inherited."""
    return _IN_TRANSACTION if _forks else _IN_C


def keep(connection: Connection) -> None:
    """Let a connection outlive even the interpreter's own end: SQLite must never close it in this process."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    with suppress(OSError):
        found = os.stat(connection.path)
        _inherited_files[found.st_dev, found.st_ino] = reason()


def _all_engines() -> list[Forkable]:
    return [engine for reference in list(_engines) if (engine := reference()) is not None]


def _before() -> None:
    with _turn.hold():
        if len(_turns) == len(_forks) and all(fork.is_prepared for fork in _forks[-1:]):
            _turns.append(_turn.hold())
        if len(_turns) > len(_forks):
            _forks.append(_Fork())
        fork = _forks[-1]
        # The threads first: one that sweeps needs what is taken from it below.
        for engine in _all_engines():
            engine.end_thread(fork.deadline)
        fork.engines = _all_engines()
        for engine in fork.engines:
            engine.before_fork(fork.deadline)
            engine.end_thread(fork.deadline)
        if fork not in _forks:
            # A signal handler has forked meanwhile, which took this preparation for its own.
            _before()
    # The very last step: struck after it, a second run would begin another fork.
    fork.is_prepared = True


def _after_in_parent() -> None:
    if _forks:
        for engine in _forks[-1].engines:
            engine.after_fork_in_parent()
        del _forks[-1]
        del _turns[-1]


def _after_in_child() -> None:
    global _turn
    native.take_fork()
    _turn = native.Mutex()
    foreign_sqlite.forget()
    # All, not only the prepared ones: one can have been opened meanwhile.
    for engine in _all_engines():
        engine.after_fork_in_child()
    _turns.clear()
    _forks.clear()


if hasattr(os, "register_at_fork"):
    # Built-in functions, which Ctrl-C cannot strike before they begin.
    os.register_at_fork(
        before=partial(native.to_the_end, _before),
        after_in_parent=partial(native.to_the_end, _after_in_parent),
        after_in_child=partial(native.to_the_end, _after_in_child),
    )
