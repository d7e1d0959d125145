"""What a signal handler does with a State that its own thread is using, wherever in the engine it strikes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import pytest

from helpers.places import Place
from slothstate import SlothStateError, State


@contextmanager
def striking(handler: Callable[[], object]) -> Iterator[None]:
    """Call a function before each line of the engines that this thread runs, but for those that it runs itself."""
    inside = False

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal inside
        if inside or "/slothstate/engines/" not in frame.f_code.co_filename:
            return None
        inside = True
        handler()
        inside = False
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def use_snapshot(state: State) -> None:
    with state.snapshot():
        state.get("main")
    state.increment("main")


def use_transaction(state: State) -> None:
    with state.transaction():
        state.increment("main")


def use_nested(state: State) -> None:
    with state.transaction():
        with state.snapshot():
            state.get("main")
        with state.transaction():
            state.increment("main")


def use_lock(state: State) -> None:
    with state.locked("job") as lock, lock.transaction():
        state.increment("main")


@pytest.mark.parametrize("use", [use_snapshot, use_transaction, use_nested, use_lock])
def test_what_a_handler_writes_is_kept_or_refused(place: Place, use: Callable[[State], None]) -> None:
    """An acknowledged write of a handler is there afterwards; a refusal says why, and the program notices nothing."""
    state = place.open()
    acknowledged, refusals = 0, set()

    def handler() -> None:
        nonlocal acknowledged
        for write in (partial(state.increment, "handler"), partial(state.list_push, "list", 1)):
            try:
                write()
                acknowledged += 1
            except SlothStateError as error:
                refusals.add(str(error))
        try:
            state.get("main")
        except SlothStateError as error:
            refusals.add(str(error))

    # What is made once is made: imports, connections, statements.
    use(state)
    handler()
    with striking(handler):
        use(state)
    assert state.get("handler", 0) + state.list_length("list") == acknowledged
    assert state.get("main") == 2
    assert state.check() == []
    for refusal in refusals:
        assert "signal handler" in refusal or "inside snapshot()" in refusal or "in the middle" in refusal
