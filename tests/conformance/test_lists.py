"""Lists: both ends, ranges, and the two ways a list is kept (JSON in its row, or a row for each item)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.places import Place, unchanged
from slothstate import InvalidValue, State, WrongType


def store(state: State, items: list[Any], how: str, key: str = "k") -> None:
    """Make a list: `set` as a value, `pushed`, `unpacked` (set, then pushed to) or `shifted` (begins past zero)."""
    state.delete(key)
    if how == "set" or not items:
        state.set(key, items)
    elif how == "pushed":
        state.list_push(key, *items)
    elif how == "unpacked":
        state.set(key, items[:-1])
        state.list_push(key, items[-1])
    else:
        state.list_push(key, "gone", "gone too", *items)
        assert (state.list_shift(key), state.list_shift(key)) == ("gone", "gone too")


each_way = pytest.mark.parametrize("how", ["set", "pushed", "unpacked", "shifted"])


@each_way
@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_push_pop_shift(state: State, how: str, count: int) -> None:
    """Items leave in the order of their end: pop from the last, shift from the first."""
    items = list(range(count))
    for take, order in ((state.list_pop, items[::-1]), (state.list_shift, items)):
        store(state, items, how)
        assert state.list_length("k") == count
        assert [take("k") for _ in items] == order
        assert (state.exists("k"), state.list_length("k"), take("k", "none")) == (False, 0, "none")
    store(state, items, how)
    assert state.list_push("k", "x", "y") == count + 2
    assert state.get("k") == state.list_range("k") == [*items, "x", "y"]


@each_way
def test_get_and_set_see_every_list_as_a_value(state: State, place: Place, how: str) -> None:
    """A list is the same value however it is kept, and setting over it leaves no item behind."""
    items = [1, "two", {"three": [3.0]}, None]
    store(state, items, how)
    assert state.get("k") == state.get_many(["k"])["k"] == items
    assert state.stats()["keys_by_kind"] == {"list": 1}
    assert state.compare_swap("k", items, {"a": 1})
    store(state, items, how)
    state.set("k", items[:2])
    assert state.get("k") == items[:2]
    state.list_push("k", "x")
    assert state.delete("k")
    assert state.list_push("k", "y") == 1
    assert state.get("k") == ["y"]


RANGES = [
    (0, -1), (0, 0), (1, 2), (-2, -1), (-1, -1), (0, -2), (2, 1), (0, 100), (-100, 100), (-100, -4), (-5, 0),
    (4, 4), (5, 5), (5, 100), (3, -1), (-1, 0), (-6, -6), (-5, -5), (-9, -8), (-100, -7),
    (2**70, 2**71), (-(2**70), 2**70), (0, -(2**70)),
]  # fmt: skip


def lrange(items: list[Any], start: int, stop: int) -> list[Any]:
    """Redis' LRANGE, as its manual words it."""
    start = max(start + len(items), 0) if start < 0 else start
    stop = stop + len(items) if stop < 0 else stop
    return items[start : stop + 1] if stop >= 0 else []


@each_way
def test_range(state: State, how: str) -> None:
    """`list_range` has Redis' bounds: inclusive, from 0, negative from the end, clamped where they overshoot."""
    items = ["a", "b", "c", "d", "e"]
    store(state, items, how)
    for start, stop in RANGES:
        assert state.list_range("k", start, stop) == lrange(items, start, stop), (start, stop)
        assert state.list_range("missing", start, stop) == [], (start, stop)


def test_range_defaults(state: State) -> None:
    """Without bounds it is the whole list; with a start alone, what follows it."""
    state.list_push("k", 1, 2, 3)
    assert (state.list_range("k"), state.list_range("k", 1), state.list_range("k", stop=1)) == (
        [1, 2, 3],
        [2, 3],
        [1, 2],
    )


@pytest.mark.parametrize("bound", [None, 1.0, "1", True, [1]])
@pytest.mark.parametrize("name", ["start", "stop"])
def test_bad_bound(state: State, name: str, bound: Any) -> None:
    """A bound that is no int is `InvalidValue` by its name, whatever the key holds."""
    for key in ("k", "missing"):
        with pytest.raises(InvalidValue, match=f"^{name} must be an int, got"):
            state.list_range(key, **{name: bound})
        state.set("k", "text")


@pytest.mark.parametrize("empty", [[], {}, ()])
def test_empty_list_and_empty_table(state: State, place: Place, empty: Any) -> None:
    """An empty list or table is a list without items to every list verb; the first item makes it a list."""
    kind = "table" if isinstance(empty, dict) else "list"
    state.set("k", empty, ttl=60)
    with unchanged(place):
        assert state.list_length("k") == 0
        assert state.list_range("k") == []
        assert state.list_pop("k", "none") == state.list_shift("k", "none") == "none"
        assert state.list_push("k") == 0
    assert (state.get("k"), state.stats()["keys_by_kind"]) == (type(state.get("k"))(empty), {kind: 1})
    assert state.list_push("k", "x") == 1
    assert (state.get("k"), state.get_ttl("k"), state.stats()["keys_by_kind"]) == (["x"], 60, {"list": 1})


def test_table_with_content_is_no_list(state: State, place: Place) -> None:
    """Only the empty table counts as a list, and a list verb never touches any other."""
    state.set("k", {"1": "x"})
    for verb in (state.list_pop, state.list_shift, state.list_length, state.list_range):
        with unchanged(place), pytest.raises(WrongType):
            verb("k")
    with unchanged(place), pytest.raises(WrongType):
        state.list_push("k", 1)


def test_push_nothing_writes_nothing(state: State, place: Place) -> None:
    """Without items `list_push` is `list_length`: it creates no key and unpacks no list, but refuses a wrong kind."""
    state.set("list", [1, 2])
    state.set("text", "x")
    with unchanged(place):
        assert (state.list_push("missing"), state.list_push("list")) == (0, 2)
        with pytest.raises(WrongType):
            state.list_push("text")


@each_way
def test_an_emptied_list_disappears_with_its_ttl(state: State, how: str) -> None:
    """As in Redis: the key of an emptied list is gone, and a new list under it has no TTL."""
    for take in (state.list_pop, state.list_shift):
        store(state, ["only"], how)
        state.set_ttl("k", 60)
        assert take("k") == "only"
        assert (state.exists("k"), state.get_ttl("k"), state.keys()) == (False, -2, [])
        state.list_push("k", 1)
        assert state.get_ttl("k") == -1


def test_refused_item_pushes_none(state: State, place: Place) -> None:
    """Items are checked before anything is written: one bad item and none of them is pushed."""
    state.list_push("k", 1)
    with unchanged(place), pytest.raises(InvalidValue, match=r"^items\[2\]\['a'\]"):
        state.list_push("k", 2, 3, {"a": b"x"})


def test_items_are_taken_at_the_call(state: State) -> None:
    """An item is stored as it was when it was pushed."""
    item = {"a": 1}
    state.list_push("k", item, item)
    item["a"] = 2
    assert state.list_range("k") == [{"a": 1}, {"a": 1}]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.lists(st.integers(0, 9), max_size=3)),
        st.tuples(st.just("set"), st.lists(st.integers(0, 9), max_size=3)),
        st.tuples(st.sampled_from(["pop", "shift", "length", "delete"]), st.none()),
        st.tuples(st.just("range"), st.tuples(st.integers(-5, 5), st.integers(-5, 5))),
    ),
    max_size=25,
)


@given(actions=ACTIONS)
def test_against_a_python_list(shared_state: State, actions: list[tuple[str, Any]]) -> None:
    """Any series of list verbs does what it would do to a Python list."""
    state, model = shared_state, None
    state.delete("k")
    for action, argument in actions:
        if action == "push":
            model = [*(model or []), *argument] if argument or model is not None else None
            assert state.list_push("k", *argument) == len(model or [])
        elif action == "set":
            model = list(argument)
            state.set("k", model)
        elif action == "delete":
            model = None
            state.delete("k")
        elif action == "length":
            assert state.list_length("k") == len(model or [])
        elif action == "range":
            assert state.list_range("k", *argument) == lrange(model or [], *argument)
        else:
            take, end = (state.list_pop, -1) if action == "pop" else (state.list_shift, 0)
            if not model:
                assert take("k", "none") == "none"
            else:
                assert take("k") == model.pop(end)
                model = model or None
        assert state.get("k") == model


def test_two_handles_share_a_list(state: State, open_state: Callable[[], State]) -> None:
    """Each item of a list that two handles take from comes out once, in order."""
    with open_state() as other:
        state.list_push("k", *range(10))
        assert [take("k") for take in (state.list_shift, other.list_shift) * 5] == list(range(10))
        assert other.list_length("k") == 0
