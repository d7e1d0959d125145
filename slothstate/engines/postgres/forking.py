"""What happens around `os.fork`: the child has no connection of its parent, not even one that was being made.

A session ends when its last socket is closed. A child that kept a copy of one would keep its parent's locks, and the
gate, when the parent is long dead. So a fork waits for connections that are being made, and a child puts /dev/null in
the place of each socket.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from slothstate import native
from slothstate.hints import Final, Protocol

__all__ = ["connecting", "notice_child", "register"]

FORK_WAIT: Final = 1.0
"""Seconds that a fork waits for connections that are being made: a server that is not there answers nobody."""


class Forkable(Protocol):
    """What has connections."""

    def forget(self, refusal: str | None) -> None:
        """Be a forked child, which has nothing of its parent's; `refusal`: why it cannot be used here at all."""


_all: set[weakref.ref[Forkable]] = set()
"""References, and not a WeakSet: a set can be copied while other threads change it."""

# The threads that make a connection now. Under `_turn` one begins, and a fork is made.
_connecting: set[int] = set()
_turn = native.Mutex()
_holding: dict[int, native.Holding] = {}

_IN_C: Final = (
    "it was forked by C code that does not run what Python prepares for a fork, after the store was opened; open it "
    "after the fork (with uWSGI: lazy-apps = true, or in a function marked @postfork)"
)


def register(each: Forkable) -> None:
    """Include something in what is done around a fork."""
    _all.add(weakref.ref(each, _all.discard))


@contextmanager
def connecting() -> Iterator[None]:
    """Let no thread fork until the block ends."""
    thread = native.thread_ident()
    with _turn.hold():
        _connecting.add(thread)
    try:
        yield
    finally:
        _connecting.discard(thread)


def _before() -> None:
    deadline = time.monotonic() + FORK_WAIT
    _holding[native.thread_ident()] = _turn.hold(FORK_WAIT)
    while _connecting - {native.thread_ident()} and time.monotonic() < deadline:
        time.sleep(0.0005)


def _after_in_parent() -> None:
    _holding.pop(native.thread_ident(), None)


def notice_child() -> None:
    """Do what belongs into a forked child, if C code forked it without a word to Python."""
    native.to_the_end(partial(_forget, _IN_C))


def _forget(refusal: str | None) -> None:
    global _turn
    _turn = native.Mutex()
    _holding.clear()
    _connecting.clear()
    for reference in list(_all):
        each = reference()
        if each is not None:
            each.forget(refusal)


if hasattr(os, "register_at_fork"):
    # Built-in functions, which Ctrl-C cannot strike before they begin. What stops threads that connect is registered
    # after this, and so runs before it.
    os.register_at_fork(
        before=partial(native.to_the_end, _before),
        after_in_parent=partial(native.to_the_end, _after_in_parent),
        after_in_child=partial(native.to_the_end, partial(_forget, None)),
    )
