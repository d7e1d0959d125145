"""How writers wait for each other."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar

import apsw

from slothstate import calling_off
from slothstate.caller import Caller, current, is_cooperative, thread_ident
from slothstate.errors import StateBusy
from slothstate.hints import TYPE_CHECKING, Final, Protocol
from slothstate.native import Scope

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


__all__ = ["BusyWait", "can_wait_for", "note", "refuse_wait_for_itself"]

FIRST_PAUSE: Final = 0.0006
LONGEST_PAUSE: Final = 0.016
PATIENCE: Final = 0.025
"""Seconds: a writer sleeps before it asks again, each time 0.6 ms longer than the last, up to 16 ms.

One that has waited for longer than `PATIENCE` asks as often as at first, and so is next before long. A writer that
takes over finds its pages outdated, so frequent turns cost everybody: with 0.1 ms and 2 ms, 8 processes on one counter
did half of what one does alone; with these they do over 80 %, and none waits for much more than 0.1 s. Twice the
patience is a little more in all, but leaves the slowest of them half as much as the fastest instead of two thirds.
"""


_deadline: ContextVar[float | None] = ContextVar("slothstate_deadline", default=None)
"""When the waits of a thread, task or greenlet end at the latest: `time.monotonic()`."""


class BusyWait:
    """How long writers wait for each other: until a deadline, jittered, in Python so that signals are answered.

    SQLite's own `busy_timeout` sleeps in C and holds a Ctrl-C back for seconds. One instance serves all connections
    of an engine; it counts the waits for `State.stats()`.
    """

    __slots__ = ("count", "longest", "timeout")

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.count = 0
        self.longest = 0.0

    def until(self, deadline: float | None) -> AbstractContextManager[None]:
        """Let the caller's waits in the block end at a `time.monotonic()` earlier than the timeout would.

        Inside another such block the earlier of the two counts.
        """
        outer = _deadline.get()
        earlier = outer if deadline is None else deadline if outer is None else min(outer, deadline)
        return Scope(lambda: _set_deadline(earlier), lambda _: _set_deadline(outer))

    def handler(self, path: str) -> Callable[[int], bool]:
        """Return a busy handler for a connection to `path`; it raises `StateBusy` for a wait that nobody would end,
        and `CalledOff`."""
        began = 0.0

        def wait(attempt: int) -> bool:
            nonlocal began
            calling_off.look()
            now = time.monotonic()
            if attempt == 0:
                refuse_wait_for_itself(path)
                began = now
                self.count += 1
            self.longest = max(self.longest, now - began)
            remaining = began + self.timeout - now
            deadline = _deadline.get()
            if deadline is not None:
                remaining = min(remaining, deadline - now)
            if remaining <= 0:
                return False
            # The jitter (half to all of it) keeps writers from waking in step. `random` would cost the import of a
            # package half the size of ours.
            jitter = 0.5 + os.urandom(1)[0] / 512
            pause = min(FIRST_PAUSE * (attempt + 1), LONGEST_PAUSE) if now - began < PATIENCE else FIRST_PAUSE
            time.sleep(min(pause, remaining) * jitter)
            return True

        return wait


def _set_deadline(deadline: float | None) -> None:
    _deadline.set(deadline)


class Writer(Protocol):
    """What is asked of a connection: who used it last, on which file, and who holds a transaction on it."""

    thread: int
    path: str
    db: apsw.Connection
    holder: Caller | None


_connections: set[weakref.ref[Writer]] = set()
"""All of this process. References, and not a WeakSet: a set can be copied while other threads change it."""


def note(connection: Writer) -> None:
    """Include a connection in what the waits of its thread look at."""
    _connections.add(weakref.ref(connection, _connections.discard))


def can_wait_for(holder: Caller) -> bool:
    """Return whether somebody else in this thread goes on while the caller sleeps.

    A greenlet does, once gevent or eventlet have put their own `sleep` in the place of Python's; a task does not.
    """
    return holder.is_other_greenlet_than(current()) and is_cooperative()


def refuse_wait_for_itself(path: str) -> None:
    """Refuse to wait for the calling thread itself: another State's transaction, or what a signal handler struck.

    Raises: `StateBusy`.
    """
    thread = thread_ident()
    for reference in list(_connections):
        connection = reference()
        if connection is not None and connection.thread == thread and connection.path == path:
            writes = False
            with suppress(apsw.Error):
                writes = connection.db.txn_state("main") == apsw.SQLITE_TXN_WRITE
            if not writes:
                continue
            holder = connection.holder
            if holder is None:
                raise StateBusy(
                    f"this thread is itself in the middle of a write to {path}, nothing was written: a signal handler "
                    "cannot wait for it; set a flag instead"
                )
            if not can_wait_for(holder):
                raise StateBusy(
                    f"this thread itself holds the write transaction on {path} through another State "
                    f"({holder.describe()}), nothing was written: write through that one, or end its transaction first"
                )
