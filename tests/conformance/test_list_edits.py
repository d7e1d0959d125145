"""Lists: the front, many items at once, and items anywhere; the same on each engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.support import Clock
from slothstate import InvalidValue, OutOfRange, State, WrongType

each_way = pytest.mark.parametrize("how", ["set", "pushed"])


def store(state: State, items: list[Any], how: str, key: str = "k") -> None:
    state.delete(key)
    if how == "set":
        state.set(key, items, ttl=60)
    else:
        state.list_push(key, *items)
        state.set_ttl(key, 60)


def contents(state: State, key: str = "k") -> tuple[Any, int]:
    return state.get(key), state.get_ttl(key)


@each_way
def test_unshift(state: State, how: str) -> None:
    """Items come to the front, the first argument first of all, and the TTL stays."""
    store(state, [3], how)
    assert (state.list_unshift("k", 1, [2]), state.list_unshift("k"), state.list_unshift("k", "x")) == (3, 3, 4)
    assert contents(state) == (["x", 1, [2], 3], 60)
    assert state.list_unshift("new", None) == 1
    state.set("table", {})
    assert state.list_unshift("table", 1.0) == 1
    assert state.list_shift("table") == 1.0


@each_way
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 2**63 - 1])
def test_take_many(state: State, how: str, count: int) -> None:
    """At most `count` items come off, in the order they came off one by one, and an emptied list is gone."""
    items = [1, {"a": [2.0]}, None]
    for take, order in ((state.list_pop_many, items[::-1]), (state.list_shift_many, items)):
        store(state, items, how)
        assert take("k", count) == order[:count]
        left = items if count == 0 else items[:-count] if take == state.list_pop_many else items[count:]
        assert contents(state) == ((left, 60) if left else (None, -2))
        assert take("missing", count) == []


@pytest.mark.parametrize("verb", ["list_pop_many", "list_shift_many"])
@pytest.mark.parametrize("count", [-1, 1.0, True, "1", None, 2**63])
def test_count_that_is_none(state: State, verb: str, count: Any) -> None:
    """A number of items is an int from 0; anything else is `InvalidValue`, and the list stays."""
    state.list_push("k", 1, 2)
    most = f" and at most {2**63 - 1}" if count == 2**63 else ""
    with pytest.raises(InvalidValue, match=f"count must be an int >= 0{most}, got"):
        getattr(state, verb)("k", count)
    assert state.get("k") == [1, 2]


@each_way
@pytest.mark.parametrize("index", range(-5, 5))
def test_set_and_insert(state: State, how: str, index: int) -> None:
    """`list_set` replaces the item that is there; after `list_insert` the item stands at the index, as in Python."""
    items: list[Any] = ["a", "b", "c"]
    store(state, items, how)
    assert state.list_set("k", index, [1.0]) == (-3 <= index < 3)
    if -3 <= index < 3:
        items[index] = [1.0]
    assert contents(state) == (items, 60)
    if -3 <= index <= 3:
        assert state.list_insert("k", index, "new") == 4
        items.insert(index, "new")
    else:
        with pytest.raises(InvalidValue, match=f"index {index} "):
            state.list_insert("k", index, "new")
    assert contents(state) == (items, 60)
    assert state.check() == []


def test_insert_where_there_is_no_list(state: State, clock: Clock) -> None:
    """A missing or expired key is an empty list: its one place is 0, and `list_set` finds nothing there."""
    for key in ("k", "old"):
        state.set("old", [1, 2], ttl=1)
        clock.advance(1)
        assert not state.list_set(key, 0, "x")
        for index in (1, -1):
            with pytest.raises(InvalidValue):
                state.list_insert(key, index, "x")
        assert not state.exists(key)
        assert state.list_insert(key, 0, "x") == 1
        assert contents(state, key) == (["x"], -1)


@each_way
@pytest.mark.parametrize("count", range(-4, 5))
def test_remove(state: State, how: str, count: int) -> None:
    """Equal items go, counted from the front or the end: 1 equals 1.0, not True, and tables are compared deeply."""
    items: list[Any] = [1, "a", 1.0, True, {"k": [1]}, 1]
    store(state, items, how)
    equal = [0, 2, 5]
    gone = equal[count:] if count < 0 else equal[: count or 3]
    assert state.list_remove("k", 1, count) == len(gone)
    assert contents(state) == ([item for index, item in enumerate(items) if index not in gone], 60)
    assert state.list_remove("k", {"k": (1.0,)}) == 1
    assert state.list_remove("k", "nothing") == 0
    assert (state.list_remove("k", 1), state.list_remove("k", "a"), state.list_remove("k", True)) == (
        *(3 - len(gone), 1),
        1,
    )
    assert not state.exists("k")


@each_way
@pytest.mark.parametrize("start", [-9, -2, 0, 1, 3, 9])
@pytest.mark.parametrize("stop", [-9, -2, -1, 0, 1, 9])
def test_trim(state: State, how: str, start: int, stop: int) -> None:
    """What `list_range` gives is kept, with its TTL; nothing of it: the key is gone."""
    store(state, ["a", "b", "c"], how)
    kept = state.list_range("k", start, stop)
    assert state.list_trim("k", start, stop) == len(kept)
    assert contents(state) == ((kept, 60) if kept else (None, -2))
    assert state.check() == []


def test_trim_of_nothing(state: State) -> None:
    """A missing key has no length, and an empty list or table that was set stays."""
    assert state.list_trim("k") == 0
    state.set_many({"list": [], "table": {}})
    assert (state.list_trim("list", 5), state.list_trim("table")) == (0, 0)
    assert dict(state.items()) == {"list": [], "table": {}}


CALLS: list[Callable[[State], object]] = [
    lambda s: s.list_unshift("k", object()),
    lambda s: s.list_set("k", 0.0, 1),  # type: ignore[arg-type]
    lambda s: s.list_set("k", 0, object()),
    lambda s: s.list_insert("k", True, 1),
    lambda s: s.list_insert("k", "0", 1),  # type: ignore[arg-type]
    lambda s: s.list_remove("k", object()),
    lambda s: s.list_remove("k", 1, None),  # type: ignore[arg-type]
    lambda s: s.list_trim("k", None),  # type: ignore[arg-type]
    lambda s: s.list_trim("k", 0, "1"),  # type: ignore[arg-type]
    lambda s: s.list_insert("k", 2**100, 1),
    lambda s: s.list_insert("k", 10**5000, 1),
    lambda s: s.set_field("k", [10**5000], 1),
    lambda s: s.increment_field("k", [-(10**5000)]),
    lambda s: s.list_claim("k", max_attempts=2**63),
    lambda s: s.list_claim("k", max_attempts=0),
    lambda s: s.list_pop("k", timeout=False),
    lambda s: s.list_shift("k", timeout=False),
    lambda s: s.list_claim("k", timeout=False),
]


@pytest.mark.parametrize("call", CALLS)
def test_wrong_arguments(state: State, call: Callable[[State], object]) -> None:
    """What is no position, and what cannot be an item, is `InvalidValue`, and the list stays."""
    state.list_push("k", 1, 2)
    with pytest.raises(InvalidValue):
        call(state)
    assert state.get("k") == [1, 2]


def test_numbers_far_out(state: State) -> None:
    """A position or count past 64 bits is only far outside; an item past 64 bits is `OutOfRange`."""
    state.list_push("k", 1, 2)
    assert not state.list_set("k", -(2**100), 1)
    assert state.list_trim("k", -(2**100), 2**100) == 2
    assert state.list_remove("k", 1, 2**100) == 1
    with pytest.raises(OutOfRange):
        state.list_set("k", 0, 2**100)
    assert state.get("k") == [2]


@pytest.mark.parametrize("key", ["text", "table"])
@pytest.mark.parametrize(
    "call",
    [
        lambda s, k: s.list_unshift(k, 1),
        lambda s, k: s.list_pop_many(k, 1),
        lambda s, k: s.list_shift_many(k, 0),
        lambda s, k: s.list_set(k, 0, 1),
        lambda s, k: s.list_insert(k, 0, 1),
        lambda s, k: s.list_remove(k, 1),
        lambda s, k: s.list_trim(k),
    ],
)
def test_wrong_kind(state: State, key: str, call: Callable[[State, str], object]) -> None:
    """A text, and a table with something in it, are no lists."""
    state.set_many({"text": "x", "table": {"a": 1}})
    with pytest.raises(WrongType):
        call(state, key)
    assert dict(state.items()) == {"text": "x", "table": {"a": 1}}
