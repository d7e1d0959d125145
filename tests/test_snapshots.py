"""`snapshot()`: reads of one moment, and nothing is written in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from support import VERBS, Clock, Verb

from slothstate import SlothStateError, State


def elsewhere(call: Callable[[], object]) -> None:
    """Call in another thread, and wait for it."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_reads_are_of_one_moment(either: State, clock: Clock) -> None:
    """Whatever others write meanwhile, and whatever expires, is seen after the block and not in it."""
    either.set_many({"a": 1, "b": [1]})
    either.list_push("q", 1)
    either.set("short", 1, ttl=5)

    def write() -> None:
        either.set("a", 2)
        either.delete("b")
        either.list_push("q", 2)
        either.set("new", 1)

    def look() -> Any:
        return (
            *(either.get("a"), either.get("b"), either.list_length("q"), either.get_field("q", (-1,))),
            *(either.keys(), list(either.scan(reverse=True)), len(either), either.exists("short")),
            *(either.get_ttl("short"), either.get_many(["a", "new"]), [r.key for r in either.dump()]),
        )

    with either.snapshot():
        before = look()
        elsewhere(write)
        clock.advance(5)
        assert look() == before
        with either.snapshot():
            assert look() == before
        assert look() == before
    assert either.keys() == ["a", "new", "q"]
    assert (either.get("a"), either.list_length("q"), either.exists("short")) == (2, 2, False)


READS = ("get", "exists", "in", "list_length", "list_range")

# Nothing to write: no items, the key compared as missing, and a table compared with a key that holds none.
IDLE = ("list_push-nothing", "list_unshift-nothing", "compare_swap-missing", "compare_swap-list", "compare_swap-delete")

WRITES = [verb for verb in VERBS if not verb.name.startswith(READS) and verb.name not in IDLE]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("verb", WRITES, ids=str)
def test_a_write_is_refused(either: State, verb: Verb, inside: bool) -> None:
    """Every verb that writes is an error at once, inside a transaction too, and the State goes on afterwards."""
    if inside:
        with either.transaction(), either.snapshot(), pytest.raises(SlothStateError, match="snapshot"):
            verb.call(either, "k")
    else:
        with either.snapshot(), pytest.raises(SlothStateError, match="snapshot"):
            verb.call(either, "k")
    assert either.keys() == []
    assert either.set("k", 1)


@pytest.mark.parametrize(
    "call",
    [lambda s: s.transaction().__enter__(), lambda s: s.clear(), lambda s: s.load([]), lambda s: s.try_lock("n")],
)
def test_other_writes_are_refused(state: State, call: Callable[[State], object]) -> None:
    """A transaction, a lock and the like are refused as well."""
    with state.snapshot(), pytest.raises(SlothStateError):
        call(state)
    assert state.try_lock("n")


def test_inside_a_transaction(either: State) -> None:
    """Inside a transaction its own writes are seen; after the block it goes on writing."""
    with either.transaction():
        either.set("a", 1)
        with either.snapshot():
            assert either.get("a") == 1
        either.set("a", 2)
    assert either.get("a") == 2


def test_an_error_ends_it(either: State) -> None:
    """A block that is left by an error leaves nothing behind."""
    with pytest.raises(LookupError), either.snapshot():
        raise LookupError
    assert either.set("a", 1)
    assert not either._engine.in_transaction
