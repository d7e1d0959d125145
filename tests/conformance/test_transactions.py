"""Transactions: all or nothing, whatever ends them, in one thread or beside others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.places import Place, unchanged
from slothstate import InvalidKey, State, StateBusy, WrongType


class Failure(Exception):
    """What a test's block fails with."""


def test_kept(state: State, open_state: Callable[[], State]) -> None:
    """What the block wrote is there for every handle once it ends, and for no other before."""
    with open_state() as other:
        with state.transaction():
            state.set("a", 1)
            state.list_push("b", 2)
            assert (state.get("a"), state.get("b"), state.keys()) == (1, [2], ["a", "b"])
            assert (other.get("a"), other.keys()) == (None, [])
        assert (other.get("a"), other.get("b")) == (1, [2])


@pytest.mark.parametrize("error", [Failure, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, MemoryError])
def test_undone_by_any_exception(state: State, place: Place, error: type[BaseException]) -> None:
    """Whatever exception ends the block passes through unchanged, and nothing of the block is kept."""
    state.set("a", 1, ttl=60)
    with unchanged(place), pytest.raises(error), state.transaction():
        state.set("a", 2)
        state.clear()
        state.list_push("b", 1)
        raise error
    state.set("a", 3)
    assert state.get("a") == 3


def test_return_and_break_keep_it(state: State) -> None:
    """Leaving the block by return, break or continue is leaving it without an exception."""

    def leave() -> int:
        for number in range(3):
            with state.transaction():
                state.increment("n")
                if number == 0:
                    continue
                if number == 1:
                    break
        with state.transaction():
            return int(state.increment("n"))

    assert leave() == state.get("n") == 3


def test_savepoints(state: State) -> None:
    """An inner block that fails takes back what it wrote, and only that; the outer decides on the rest."""
    with state.transaction():
        state.set("outer", 1)
        with pytest.raises(Failure), state.transaction():
            state.set("outer", 2)
            with state.transaction():
                state.set("innermost", 1)
            assert state.get("innermost") == 1
            raise Failure
        assert (state.get("outer"), state.get("innermost")) == (1, None)
        with state.transaction():
            state.set("inner", 1)
    assert state.get_many(["outer", "inner", "innermost"]) == {"outer": 1, "inner": 1}


def test_outer_failure_takes_kept_savepoints(state: State) -> None:
    """An inner block is kept only as far as the outer one is."""
    with pytest.raises(Failure), state.transaction():
        with state.transaction():
            state.set("inner", 1)
        raise Failure
    assert state.keys() == []


def test_deep_nesting(state: State) -> None:
    """Fifty levels, every second one undone."""

    def descend(level: int) -> None:
        if level == 50:
            return
        try:
            with state.transaction():
                state.set(f"level{level:02}", level)
                descend(level + 1)
                if level % 2:
                    raise Failure
        except Failure:
            return

    descend(0)
    assert state.keys() == ["level00"]


def test_a_refused_verb_leaves_the_transaction_usable(state: State) -> None:
    """A caught error of one verb undoes that verb alone; the block goes on and is kept."""
    state.set("text", "x")
    with state.transaction():
        state.set("a", 1)
        with pytest.raises(WrongType):
            state.increment("text")
        with pytest.raises(WrongType):
            state.list_push("text", 1)
        with pytest.raises(InvalidKey):
            state.set_many({"b": 1, "": 2})
        state.set("c", 3)
    assert state.get_many(["a", "b", "c", "text"]) == {"a": 1, "c": 3, "text": "x"}


def test_a_transaction_object_is_for_one_use(state: State) -> None:
    """Each `with` needs its own call; the State is unharmed by a second use."""
    transaction = state.transaction()
    with transaction:
        state.set("a", 1)
    with pytest.raises((RuntimeError, AttributeError, TypeError)), transaction:
        raise AssertionError("entered twice")
    with state.transaction():
        state.set("b", 1)
    assert state.keys() == ["a", "b"]


def test_transaction_that_is_never_entered(state: State, open_state: Callable[[], State]) -> None:
    """Asking for a transaction begins none."""
    state.transaction()
    with open_state() as other:
        assert other.set("a", 1)


def test_busy(place: Place) -> None:
    """A writer that waits in vain for another is `StateBusy` after its timeout, with nothing written; reads go on."""
    with place.open() as first, place.open(busy_timeout=0.05) as second, ThreadPoolExecutor(1) as pool:
        first.set("a", 1)
        with first.transaction():
            first.set("a", 2)
            for write in (
                lambda: second.set("a", 3),
                lambda: second.increment("n"),
                lambda: second.delete("a"),
                lambda: second.list_push("l", 1),
                lambda: second.set_many({"x": 1}),
                lambda: second.clear(),
                lambda: second.transaction().__enter__(),
            ):
                with pytest.raises(StateBusy) as caught:
                    pool.submit(write).result()
                assert isinstance(caught.value, TimeoutError)
                assert caught.value.__cause__ is not None
                assert "database is locked" not in str(caught.value)
            assert second.get("a") == 1
        assert (second.get("a"), second.keys()) == (2, ["a"])
        assert second.increment("n") == 1


def test_scan_inside_a_transaction_sees_its_writes(state: State) -> None:
    """Listing, counting and scanning inside a transaction include what it wrote."""
    state.set_many({"a": 1, "b": 2})
    with state.transaction():
        state.delete("a")
        state.set("c", 3)
        assert list(state.scan()) == state.keys() == ["b", "c"]
        assert (len(state), state.stats()["total_keys"], state.clear("b")) == (2, 2, 1)
    assert state.keys() == ["c"]


def test_close_inside_a_transaction(state: State, place: Place) -> None:
    """Closing a State inside its own transaction keeps what the block wrote before, and the file is sound."""
    with state.transaction():
        state.set("a", 1)
        state.close()
    assert [key for key, *_ in place.contents()[0]] == ["a"]


def test_large_transaction(state: State, place: Place) -> None:
    """Ten thousand writes are undone as one."""
    state.set("keep", 1)
    with unchanged(place), pytest.raises(Failure), state.transaction():
        state.set_many({f"k{number}": "x" * 100 for number in range(10_000)})
        assert len(state) == 10_001
        raise Failure
    assert len(state) == 1
