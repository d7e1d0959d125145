"""How values are kept: rows of SQLite, and what happens between two statements."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

import slothstate
from helpers.sqlite import dump, raw, store_of
from helpers.support import Clock
from slothstate import State, StateBusy
from slothstate.engines.sqlite import counters, listing
from slothstate.engines.sqlite.connection import Atomic
from slothstate.engines.sqlite.engine import SqliteEngine

MAX = 2**63 - 1


@pytest.mark.parametrize(
    ("before", "meanwhile", "verb", "total"),
    [
        ("text", 5, lambda state: state.increment("k", 2), 7),
        ([1], 5, lambda state: state.increment("k", 2), 7),
        (MAX, 5, lambda state: state.increment("k", 2), 7),
        (5, "text", lambda state: state.append("k", "!"), 5),
        ([1], b"bytes", lambda state: state.append("k", b"!"), 6),
    ],
)
def test_a_value_that_changes_its_kind_meanwhile(
    state: State, path: str, monkeypatch: pytest.MonkeyPatch, before: Any, meanwhile: Any, verb: Any, total: Any
) -> None:
    """A first try that met another kind is no verdict: what counts is what the key holds under the write lock."""
    with slothstate.open(path) as other:

        class AfterAnothersWrite(Atomic):
            def __enter__(self) -> None:
                other.set("k", meanwhile)
                super().__enter__()

        monkeypatch.setattr(counters, "Atomic", AfterAnothersWrite)
        other.set("k", before)
        assert verb(state) == total


@pytest.mark.parametrize(
    ("grow", "size"),
    [
        (lambda state: state.increment("k"), lambda state: state.get("k")),
        (lambda state: state.increment("k", 1.0), lambda state: state.get("k")),
        (lambda state: state.append("k", "x"), lambda state: len(state.get("k"))),
        (lambda state: state.list_push("k", 1), lambda state: state.list_length("k")),
        (lambda state: state.list_push("k", *[1] * 3), lambda state: state.list_length("k") // 3),
    ],
    ids=["increment", "increment-float", "append", "push", "push-several"],
)
def test_another_writer_between_any_two_statements(path: str, grow: Any, size: Any) -> None:
    """Whoever gets in before each of an operation's statements that he can, no growth is lost."""
    with slothstate.open(path) as state, slothstate.open(path, busy_timeout=0) as other:
        grow(state)
        landed = 1

        def get_in(*_: object) -> bool:
            nonlocal landed
            with suppress(StateBusy):
                grow(other)
                landed += 1
            return True

        (connection,) = store_of(state)._idle
        connection.db.exec_trace = get_in
        for _ in range(5):
            grow(state)
            landed += 1
        connection.db.exec_trace = None
        assert landed > 10
        assert size(state) == landed


def test_a_queue_can_go_on_for_ever(state: State, path: str) -> None:
    """Positions only grow: pushing at the end and shifting at the front keeps rows few and order right."""
    state.list_push("k", 0)
    for number in range(1, 300):
        state.list_push("k", number)
        assert state.list_shift("k") == number - 1
    assert len(dump(path)["list_items"]) == 1


@pytest.mark.parametrize("position", [2**62, -(2**62)])
def test_positions_far_from_zero(state: State, path: str, position: int) -> None:
    """A list works the same wherever its positions begin."""
    state.list_push("k", "a", "b")
    raw(path, "update list_items set position = position + ?1", bindings=(position,))
    assert (state.list_push("k", "c"), state.list_range("k", 1), state.list_shift("k")) == (3, ["b", "c"], "a")


def test_scalars_are_stored_in_sqlites_own_types(state: State, path: str) -> None:
    """Scalars are native columns, tables and lists JSON text, and the kind stands beside each."""
    values = {"s": "1", "i": 1, "f": 1.0, "t": True, "b": b"1", "d": {"a": 1.0}, "l": [1]}
    state.set_many(values)
    rows = {key: (kind, value) for _, key, kind, value, _ in dump(path)["entries"]}
    assert rows == {
        "s": ("string", "1"),
        "i": ("number", 1),
        "f": ("number", 1.0),
        "t": ("boolean", 1),
        "b": ("bytes", b"1"),
        "d": ("table", '{"a":1.0}'),
        "l": ("list", "[1]"),
    }
    assert type(rows["f"][1]) is float


def test_expired_row_is_overwritten_whole(state: State, clock: Clock, path: str) -> None:
    """A write to an expired list leaves neither its items nor its row behind."""
    state.list_push("k", 1, 2, 3)
    state.set_ttl("k", 1)
    clock.advance(1)
    for write in (
        lambda: state.increment("k"),
        lambda: state.append("k", "x"),
        lambda: state.set("k", 1),
        lambda: state.compare_swap("k", None, 1),
        lambda: state.list_push("k", 9),
    ):
        write()  # type: ignore[no-untyped-call]
        rows = dump(path)
        assert len(rows["entries"]) == 1
        assert len(rows["list_items"]) == (1 if state.get("k") == [9] else 0)
        state.list_push("fresh", 1, 2, 3)
        state.delete("k")
        state.list_push("k", 1, 2, 3)
        state.set_ttl("k", 1)
        state.delete("fresh")
        clock.advance(1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_keys_over_the_edge_of_a_page(state: State, clock: Clock, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """`keys` gathers page by page: none is lost or doubled at an edge, and a page of expired ones ends nothing."""
    monkeypatch.setattr(listing, "PAGE_OF_KEYS", size)
    names = [f"k{number}" for number in range(7)]
    state.set_many({f"b{number}": 1 for number in range(7)}, ttl=10)
    state.set_many(dict.fromkeys(names, 1))
    assert state.keys("k*") == names
    clock.advance(10)
    assert (state.keys(), state.keys("b*"), state.keys("k?")) == (names, [], names)


def test_waits_for_other_writers_are_counted(path: str) -> None:
    """How many operations waited, and for how long at most, is in `stats`."""
    with State(SqliteEngine(path)) as first, State(SqliteEngine(path, busy_timeout=0.05)) as second:
        with first.transaction(), ThreadPoolExecutor(1) as pool:
            for _ in range(3):
                with pytest.raises(StateBusy):
                    pool.submit(second.set, "a", 1).result()
        assert second.stats()["busy_waits"] >= 3
        assert 0.05 <= second.stats()["longest_busy_wait"] < 5


def test_length_of_list_does_not_matter(state: State) -> None:
    """Pushing to and taking from a long list costs what it costs with a short one, give or take a factor."""

    def cost(key: str) -> float:
        def once() -> float:
            began = time.perf_counter()
            for _ in range(20):
                state.list_push(key, "x")
                state.list_length(key)
                state.list_shift(key)
                state.list_range(key, 0, 1)
                state.list_range(key, -2, -1)
                state.list_push(key, "y")
                state.list_pop(key)
            return time.perf_counter() - began

        return min(once() for _ in range(5))

    state.list_push("short", *range(10))
    state.list_push("long", *range(100_000))
    assert cost("long") < 10 * cost("short")
