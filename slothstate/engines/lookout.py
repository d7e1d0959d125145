"""Of many that wait for one thing, one looks."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from slothstate import native
from slothstate.engines.claiming import Waiter
from slothstate.hints import Final

__all__ = ["SELDOM", "Lookers", "Lookout"]

SELDOM: Final = 0.5
"""Seconds after which whoever is not the one to look looks all the same."""


class Lookers:
    """Who looks, for all of a process that wait for the same, whether what nobody commits has happened: a death."""

    def __init__(self) -> None:
        self._first: dict[object, weakref.ref[Waiter]] = {}

    def is_first(self, waiter: Waiter, what: object) -> bool:
        """Return whether it is `waiter` that looks; from now on it is, if no other one waits for the same."""
        reference = self._first.get(what)
        first = None if reference is None else reference()
        if first is None or first.is_over:
            self._first[what] = weakref.ref(waiter, partial(self._forget, what))
            return True
        return first is waiter

    def pause(self, waiter: Waiter, what: object, interval: float) -> float:
        """Return the seconds until `waiter` looks next: `interval` if it is the one."""
        return interval if self.is_first(waiter, what) else SELDOM

    def _forget(self, what: object, reference: weakref.ref[Waiter]) -> None:
        if self._first.get(what) is reference:
            self._first.pop(what, None)


class Lookout:
    """Where the threads of one process wait for a change. A hundred of them cost little more than one."""

    def __init__(self) -> None:
        self._watching = native.Mutex()
        # Who waits for whoever holds the mutex: a lock each, released once, by whoever takes it out of here.
        self._followers: dict[int, threading.Lock] = {}

    def wait(self, deadline: float, has_changed: Callable[[], bool], watch: Callable[[], bool]) -> bool:
        """Wait for a change until `deadline` (`time.monotonic`); return whether there was one.

        `watch` waits for it, and looks before: it is called for one thread at a time, and may return False early.
        """
        followers = self._followers
        woken = threading.Lock()
        woken.acquire()
        # How many others have to be woken when this wait is over, however it ends.
        heirs = 0
        try:
            while (left := deadline - time.monotonic()) > 0:
                # Before it asks who watches: whoever does and stops now must find it.
                followers[id(woken)] = woken
                with self._watching.hold(0) as watches:
                    if watches:
                        heirs = 1
                        changed = watch()
                        heirs = len(followers) if changed else 1
                        return changed
                heirs = 0
                if has_changed():
                    return True
                if woken.acquire(timeout=left):
                    # By one that has seen a change, or one that watches no longer.
                    heirs = 1
            return False
        finally:
            followers.pop(id(woken), None)
            _wake(followers, heirs)


def _wake(followers: dict[int, threading.Lock], count: int) -> None:
    with suppress(KeyError):
        for _ in range(count):
            followers.popitem()[1].release()
