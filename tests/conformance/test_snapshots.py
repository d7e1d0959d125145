"""`snapshot()`: reads of one moment, and nothing is written in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from helpers.support import Clock
from helpers.verbs import VERBS, Verb
from slothstate import SlothStateError, State


def elsewhere(call: Callable[[], object]) -> None:
    """Call in another thread, and wait for it."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_reads_are_of_one_moment(state: State, clock: Clock) -> None:
    """Whatever others write meanwhile, and whatever expires, is seen after the block and not in it."""
    state.set_many({"a": 1, "b": [1]})
    state.list_push("q", 1)
    state.set("short", 1, ttl=5)

    def write() -> None:
        state.set("a", 2)
        state.delete("b")
        state.list_push("q", 2)
        state.set("new", 1)

    def look() -> Any:
        return (
            *(state.get("a"), state.get("b"), state.list_length("q"), state.get_field("q", (-1,))),
            *(state.keys(), list(state.scan(reverse=True)), len(state), state.exists("short")),
            *(state.get_ttl("short"), state.get_many(["a", "new"]), [r.key for r in state.dump()]),
        )

    with state.snapshot():
        before = look()
        elsewhere(write)
        clock.advance(5)
        assert look() == before
        with state.snapshot():
            assert look() == before
        assert look() == before
    assert state.keys() == ["a", "new", "q"]
    assert (state.get("a"), state.list_length("q"), state.exists("short")) == (2, 2, False)


READS = ("get", "exists", "in", "list_length", "list_range")

WRITES = [verb for verb in VERBS if not verb.name.startswith(READS)]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("verb", WRITES, ids=str)
def test_a_write_is_refused(state: State, verb: Verb, inside: bool) -> None:
    """Every verb that writes is an error at once, inside a transaction too, and the State goes on afterwards."""
    if inside:
        with state.transaction(), state.snapshot(), pytest.raises(SlothStateError, match="snapshot"):
            verb.call(state, "k")
    else:
        with state.snapshot(), pytest.raises(SlothStateError, match="snapshot"):
            verb.call(state, "k")
    assert state.keys() == []
    assert state.set("k", 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.transaction().__enter__(),
        lambda s: s.clear(),
        lambda s: s.load([]),
        lambda s: s.try_lock("n"),
        lambda s: s.set_many({}),
        lambda s: s.update({}, k=1),
        lambda s: s.popitem(),
        lambda s: s.sweep(),
    ],
)
def test_other_writes_are_refused(state: State, call: Callable[[State], object]) -> None:
    """A transaction, a lock and the like are refused as well."""
    with state.snapshot(), pytest.raises(SlothStateError):
        call(state)
    assert state.try_lock("n")


def test_inside_a_transaction(state: State) -> None:
    """Inside a transaction its own writes are seen; after the block it goes on writing."""
    with state.transaction():
        state.set("a", 1)
        with state.snapshot():
            assert state.get("a") == 1
        state.set("a", 2)
    assert state.get("a") == 2


def test_an_error_ends_it(state: State) -> None:
    """A block that is left by an error leaves nothing behind."""
    with pytest.raises(LookupError), state.snapshot():
        raise LookupError
    assert state.set("a", 1)
    assert not state._engine.in_transaction
