"""Following changes: `Watch`, which `State.watch` returns. Where they come from is the engine's affair."""

from __future__ import annotations

import _thread
import weakref
from collections.abc import Iterator
from contextlib import suppress

from slothstate import native
from slothstate.caller import current, is_cooperative
from slothstate.engines.protocol import Engine
from slothstate.errors import SlothStateError, WatchLost
from slothstate.hints import Final, Literal, NamedTuple, Self
from slothstate.identity import new_nonce, process_id
from slothstate.values import Seconds
from slothstate.verbs.base import check_timeout
from slothstate.verbs.waiting import wait_until

__all__ = ["Change", "Watch"]

PAGE: Final = 256
"""Changes that are read at a time."""

UNMARKED: Final = 1_000
"""Revisions that a watch may be ahead of what the store knows that it has handled; with a name, if none match."""

TAKE_OVER: Final = 0.03
"""Seconds after which who waits for a name looks whether whoever runs it lives."""

_named: Final[set[weakref.ref[Watch]]] = set()
"""Of this process, with a name. References, and not a WeakSet: a set can be copied while other threads change it."""


class Change(NamedTuple):
    """A key that a verb has set or deleted, or that has expired. Revisions rise, not without gaps."""

    key: str
    op: Literal["set", "delete", "expire"]
    revision: int


class Watch:
    """The changes of matching keys since it began, in the order of their commits, each once.

    An iterator that waits for the next one, and a context manager that ends with its block. For one thread at a time.
    One that nobody refers to any more ends by itself, soon.
    """

    def __init__(self, engine: Engine, pattern: str | None, name: str | None) -> None:
        self._engine = engine
        self._pattern = pattern
        self._name = name
        self._nonce = new_nonce()
        self._process = process_id()
        self._is_closed = False
        # Without having been told so.
        self._is_forgotten = False
        self._waiting: list[Change] = []
        self._given = self._before = 0
        # Up to where changes were read, and up to where the store knows them as handled; None: it has not begun.
        self._seen: int | None = None
        self._marked = 0
        self._caller = current()
        if name is not None:
            _named.add(weakref.ref(self, _named.discard))
        self._begin()
        self._end_of_life = weakref.finalize(self, _end_soon, engine, self._nonce, self._process)
        # What is left when the process ends, others find and remove.
        self._end_of_life.atexit = False

    @property
    def pattern(self) -> str | None:
        """Which keys it is about, None for all."""
        return self._pattern

    @property
    def name(self) -> str | None:
        """By which name the store remembers where it is, None if it does not."""
        return self._name

    def _begin(self) -> bool:
        revision = self._engine.watches.begin(self._nonce, self._pattern, self._name)
        if revision is None:
            self._seen = None
            return False
        # Where changes were lost, one earlier: the first look finds that out.
        self._seen = revision if revision >= 0 else -revision - 1
        self._marked = self._given = self._seen
        if self._is_closed:
            # By another thread meanwhile, which found nothing to end.
            self._engine.watches.end(self._nonce)
        return True

    def _require_open(self) -> None:
        if self._is_closed or self._process != process_id():
            raise SlothStateError("this watch is closed" if self._is_closed else "this watch is of another process")

    def next(self, timeout: Seconds | None = None) -> Change | None:
        """Return the next change, waiting up to `timeout` seconds for one (None: for ever, 0: not at all), or None.

        With a name, the change before counts as handled now: another process would not get it again. A watch whose name
        another one runs waits until that ends.
        Raises: `WatchLost` once where it was too far behind, and goes on; `SlothStateError` inside a transaction or
        snapshot unless `timeout` is 0, in a snapshot where it would note with a name what is handled, once it is
        closed, and for ever for a name that the same thread runs.
        """
        seconds = check_timeout(timeout)
        self._require_open()
        if seconds is None:
            self._mark_given()
        if self._name is not None:
            self._caller = current()
            if self._seen is None and seconds is None and not self._begin():
                self._refuse_own()
        return wait_until(self._engine, self._look, seconds, pause=self._pause)

    def _refuse_own(self) -> None:
        """Refuse to wait for a watch that only this very thread could end. Raises: `SlothStateError`."""
        for reference in list(_named):
            other = reference()
            if (
                other is not None
                and other._seen is not None
                and not other._is_closed
                and (other._name, other._engine.address) == (self._name, self._engine.address)
                and other._caller.shares_thread(self._caller)
                and (other._caller == self._caller or not is_cooperative())
            ):
                raise SlothStateError(
                    f"the watch {self._name!r} is run by {other._caller.describe()} already, which would wait for "
                    "itself: close that one first"
                )

    def _mark_given(self) -> None:
        """Note, with a name, that the last change is handled, now that the next is asked for."""
        if self._name is not None and self._seen is not None and self._given > self._marked:
            self._mark(self._given, 1)

    def _mark(self, revision: int, count: int) -> bool:
        """Note that all up to a revision is handled; return whether the watch goes on. Raises: `WatchLost`."""
        is_there = self._engine.watches.handled(self._nonce, revision, count)
        self._marked = revision
        # Forgotten by `unwatch`, or its owner was taken for dead.
        return is_there or self._lose()

    def _lose(self) -> bool:
        # Closed by another thread, it is not forgotten.
        self._require_open()
        self._waiting, self._is_forgotten = [], True
        if self._begin():
            self._say_forgotten()
        return False

    def _say_forgotten(self) -> None:
        if self._is_forgotten:
            self._is_forgotten = False
            raise WatchLost(f"the watch was forgotten; it goes on from revision {self._seen}", self._seen or 0)

    def _look(self) -> Change | None:
        self._require_open()
        # Here, where it takes no longer than the wait.
        self._mark_given()
        if self._seen is None and not self._begin():
            return None
        self._say_forgotten()
        if not self._waiting and not self._engine.in_transaction:
            # So that what has expired is a change.
            self._engine.watches.expire()
        while not self._waiting:
            assert self._seen is not None
            before = self._seen
            revision, found, seen = self._engine.watches.page(self._nonce, before, self._pattern, PAGE)
            if revision is None:
                self._lose()
                return None
            if revision < 0 and -revision > before:
                # Noted first: where that cannot be now, a later look finds out again.
                if not self._mark(-revision, 0):
                    return None
                self._seen = self._given = -revision
                raise WatchLost(
                    f"the watch was too far behind, changes up to revision {-revision} are lost; it goes on from there",
                    -revision,
                )
            self._seen = seen
            self._waiting = [Change(key, op, number) for number, key, op in reversed(found)]  # type: ignore[arg-type]
            # With a name only what is about other keys: the rest is handled when the next is asked for.
            unmarked = seen - self._marked
            is_due = unmarked >= UNMARKED and not (self._name and found) and not self._engine.in_transaction
            if is_due and not self._mark(seen, unmarked):
                return None
            if seen == before:
                return None
        change = self._waiting.pop()
        self._before, self._given = self._given, change.revision
        return change

    def _unread(self, change: Change | None) -> None:
        """Give back what `next` has just returned, for whoever could not take it: it comes next."""
        if change is not None:
            self._waiting.append(change)
            self._given = self._before

    def _pause(self) -> float:
        """Return the seconds until the next look though nobody commits: a key expires, or who runs the name dies."""
        expiry = self._engine.watches.expire()
        return expiry if self._seen is not None else min(expiry, TAKE_OVER)

    def __iter__(self) -> Iterator[Change]:
        return self

    def __next__(self) -> Change:
        change = self.next()
        assert change is not None
        return change

    def close(self) -> None:
        """End the watch; a `next` that waits in another thread ends with `SlothStateError`.

        One with a name can be gone on with: the last change that it gave comes again, unless the next was asked for.
        """
        if not self._is_closed and self._process == process_id():
            self._is_closed = True
            self._end_of_life.detach()
            if self._seen is not None and self._engine.refusal is None:
                self._engine.watches.end(self._nonce)

    def __enter__(self) -> Self:
        return self

    __exit__ = native.exit_method(close)


def _end_soon(engine: Engine, nonce: int, process: int) -> None:
    """End a watch that has been collected, in a thread: whoever collects it may hold anything, even the store.

    Not a Thread, whose `start` waits for it. A forked child has only a copy of its parent's watch.
    """
    if process == process_id() and engine.refusal is None:
        # There are no more threads once Python ends.
        with suppress(RuntimeError):
            native.without_signals(_thread.start_new_thread, _end, (engine, nonce))


def _end(engine: Engine, nonce: int) -> None:
    with suppress(SlothStateError):
        engine.watches.end(nonce)
