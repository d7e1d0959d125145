"""Who is calling: a thread of the operating system and, in it, a task or a greenlet.

gevent and eventlet put functions of theirs in the place of `threading.get_ident`, which then tells greenlets apart and
not threads; the C layer goes on seeing threads. So this module asks the C layer for the thread. The libraries whose
tasks it knows are asked only if the program has imported them.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from contextlib import suppress
from types import BuiltinFunctionType

from slothstate.hints import Any, Final
from slothstate.native import thread_ident, thread_serial

__all__ = ["Caller", "current", "is_alone", "is_cooperative", "thread_ident"]


class Caller:
    """A thread and, in it, the task or greenlet that runs; equal to the same ones alone, also after they have ended.

    It keeps neither alive.
    """

    __slots__ = ("_greenlet", "_serial", "_task", "identity", "thread")

    def __init__(self) -> None:
        self.thread = thread_ident()
        # The system gives the ident of a thread that has ended to the next one.
        self._serial = thread_serial()
        task, greenlet = _current_task(), _current_greenlet()
        if task is not None and not ("gevent" in sys.modules or "eventlet" in sys.modules):
            # Nobody else switches greenlets behind a task's back: this one is the task's own (SQLAlchemy does so).
            greenlet = None
        self._task = None if task is None else weakref.ref(task)
        self._greenlet = None if greenlet is None else weakref.ref(greenlet)
        # What hashes without a call of ours; another caller's as long as this object lives.
        self.identity = (self._serial, id(self._task), id(self._greenlet))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Caller):
            return NotImplemented
        # All references to one living object are one object, and none to a later one is that.
        return self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def is_other_greenlet_than(self, other: Caller) -> bool:
        """Return whether this and the other are two greenlets of one thread, its root counting as one."""
        return self._serial == other._serial and self._greenlet is not other._greenlet

    def describe(self) -> str:
        """Return the caller's name, for people."""
        if self._task is not None:
            return _describe_task(self._task())
        if self._greenlet is not None:
            return _describe_greenlet(self._greenlet())
        names = [thread.name for thread in threading.enumerate() if thread.ident == self.thread]
        return f"thread {names[0] if names else self.thread!r}"

    def shares_thread(self, other: Caller) -> bool:
        """Return whether the other is or was of the same thread."""
        return self._serial == other._serial

    def has_ended(self) -> bool:
        """Return whether the caller has ended for certain."""
        return (
            (self._task is not None and self._task() is None)
            or (self._greenlet is not None and self._greenlet() is None)
            or self.thread not in sys._current_frames()
            # The ident can be another thread's by now; of all but ours that is not known.
            or (self.thread == thread_ident() and self._serial != thread_serial())
        )


def current() -> Caller:
    """Return who is calling."""
    return Caller()


def is_alone() -> bool:
    """Return whether the calling thread is the only one of the program; those of slothstate itself end no wait."""
    return sum(thread.name not in _HOUSEKEEPERS for thread in threading.enumerate()) <= 1


_HOUSEKEEPERS: Final = frozenset(("slothstate-commits", "slothstate-owner", "slothstate-sweep"))


def is_cooperative() -> bool:
    """Return whether sleeping lets other greenlets of the thread run: gevent or eventlet has replaced `time.sleep`."""
    return not isinstance(time.sleep, BuiltinFunctionType)


class _Callback:
    """Stands for what an event loop runs outside its tasks."""


_callback: Final = _Callback()


def _current_task() -> Any:
    events = sys.modules.get("asyncio.events")
    # Another thread may be in the middle of the import.
    running = getattr(events, "_get_running_loop", None)
    loop = running() if running is not None else None
    trio = sys.modules.get("trio.lowlevel")
    if trio is not None:
        with suppress(RuntimeError, AttributeError):
            return trio.current_task()
    if loop is None:
        return None
    return sys.modules["asyncio"].current_task(loop) or _callback


def _current_greenlet() -> Any:
    current = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    greenlet = current() if current is not None else None
    return None if greenlet is None or greenlet.parent is None else greenlet


def _describe_task(task: Any) -> str:
    if task is None:
        return "a task that has ended"
    if task is _callback:
        return "a callback of the event loop"
    name = task.get_name() if hasattr(task, "get_name") else task.name
    return f"task {name!r}"


def _describe_greenlet(greenlet: Any) -> str:
    if greenlet is None:
        return "a greenlet that has ended"
    name = getattr(greenlet, "name", None)
    return f"greenlet {name!r}" if name else f"greenlet {id(greenlet):#x}"
