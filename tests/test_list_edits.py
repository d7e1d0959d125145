"""Lists: the front, many items at once, and items anywhere; the same on each engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from processes import Channel, processes
from support import Clock, processor_time

import slothstate
from slothstate import InvalidValue, OutOfRange, State, WrongType

PUSHED = 50
"""Items that each process of a test adds."""

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
def test_unshift(either: State, how: str) -> None:
    """Items come to the front, the first argument first of all, and the TTL stays."""
    store(either, [3], how)
    assert (either.list_unshift("k", 1, [2]), either.list_unshift("k"), either.list_unshift("k", "x")) == (3, 3, 4)
    assert contents(either) == (["x", 1, [2], 3], 60)
    assert either.list_unshift("new", None) == 1
    either.set("table", {})
    assert either.list_unshift("table", 1.0) == 1
    assert either.list_shift("table") == 1.0


@each_way
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 2**63 - 1])
def test_take_many(either: State, how: str, count: int) -> None:
    """At most `count` items come off, in the order they came off one by one, and an emptied list is gone."""
    items = [1, {"a": [2.0]}, None]
    for take, order in ((either.list_pop_many, items[::-1]), (either.list_shift_many, items)):
        store(either, items, how)
        assert take("k", count) == order[:count]
        left = items if count == 0 else items[:-count] if take == either.list_pop_many else items[count:]
        assert contents(either) == ((left, 60) if left else (None, -2))
        assert take("missing", count) == []


@pytest.mark.parametrize("verb", ["list_pop_many", "list_shift_many"])
@pytest.mark.parametrize("count", [-1, 1.0, True, "1", None, 2**63])
def test_count_that_is_none(either: State, verb: str, count: Any) -> None:
    """A number of items is an int from 0; anything else is `InvalidValue`, and the list stays."""
    either.list_push("k", 1, 2)
    with pytest.raises(InvalidValue, match="count must be an int >= 0"):
        getattr(either, verb)("k", count)
    assert either.get("k") == [1, 2]


@each_way
@pytest.mark.parametrize("index", range(-5, 5))
def test_set_and_insert(either: State, how: str, index: int) -> None:
    """`list_set` replaces the item that is there; after `list_insert` the item stands at the index, as in Python."""
    items: list[Any] = ["a", "b", "c"]
    store(either, items, how)
    assert either.list_set("k", index, [1.0]) == (-3 <= index < 3)
    if -3 <= index < 3:
        items[index] = [1.0]
    assert contents(either) == (items, 60)
    if -3 <= index <= 3:
        assert either.list_insert("k", index, "new") == 4
        items.insert(index, "new")
    else:
        with pytest.raises(InvalidValue, match=f"index {index} "):
            either.list_insert("k", index, "new")
    assert contents(either) == (items, 60)
    assert either.check() == []


def test_insert_where_there_is_no_list(either: State, clock: Clock) -> None:
    """A missing or expired key is an empty list: its one place is 0, and `list_set` finds nothing there."""
    for key in ("k", "old"):
        either.set("old", [1, 2], ttl=1)
        clock.advance(1)
        assert not either.list_set(key, 0, "x")
        for index in (1, -1):
            with pytest.raises(InvalidValue):
                either.list_insert(key, index, "x")
        assert not either.exists(key)
        assert either.list_insert(key, 0, "x") == 1
        assert contents(either, key) == (["x"], -1)


@each_way
@pytest.mark.parametrize("count", range(-4, 5))
def test_remove(either: State, how: str, count: int) -> None:
    """Equal items go, counted from the front or the end: 1 equals 1.0, not True, and tables are compared deeply."""
    items: list[Any] = [1, "a", 1.0, True, {"k": [1]}, 1]
    store(either, items, how)
    equal = [0, 2, 5]
    gone = equal[count:] if count < 0 else equal[: count or 3]
    assert either.list_remove("k", 1, count) == len(gone)
    assert contents(either) == ([item for index, item in enumerate(items) if index not in gone], 60)
    assert either.list_remove("k", {"k": (1.0,)}) == 1
    assert either.list_remove("k", "nothing") == 0
    assert (either.list_remove("k", 1), either.list_remove("k", "a"), either.list_remove("k", True)) == (
        *(3 - len(gone), 1),
        1,
    )
    assert not either.exists("k")


@each_way
@pytest.mark.parametrize("start", [-9, -2, 0, 1, 3, 9])
@pytest.mark.parametrize("stop", [-9, -2, -1, 0, 1, 9])
def test_trim(either: State, how: str, start: int, stop: int) -> None:
    """What `list_range` gives is kept, with its TTL; nothing of it: the key is gone."""
    store(either, ["a", "b", "c"], how)
    kept = either.list_range("k", start, stop)
    assert either.list_trim("k", start, stop) == len(kept)
    assert contents(either) == ((kept, 60) if kept else (None, -2))
    assert either.check() == []


def test_trim_of_nothing(either: State) -> None:
    """A missing key has no length, and an empty list or table that was set stays."""
    assert either.list_trim("k") == 0
    either.set_many({"list": [], "table": {}})
    assert (either.list_trim("list", 5), either.list_trim("table")) == (0, 0)
    assert dict(either.items()) == {"list": [], "table": {}}


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
]


@pytest.mark.parametrize("call", CALLS)
def test_wrong_arguments(either: State, call: Callable[[State], object]) -> None:
    """What is no position, and what cannot be an item, is `InvalidValue`, and the list stays."""
    either.list_push("k", 1, 2)
    with pytest.raises(InvalidValue):
        call(either)
    assert either.get("k") == [1, 2]


def test_numbers_far_out(either: State) -> None:
    """A position or count past 64 bits is only far outside; an item past 64 bits is `OutOfRange`."""
    either.list_push("k", 1, 2)
    assert not either.list_set("k", -(2**100), 1)
    assert either.list_trim("k", -(2**100), 2**100) == 2
    assert either.list_remove("k", 1, 2**100) == 1
    with pytest.raises(OutOfRange):
        either.list_set("k", 0, 2**100)
    assert either.get("k") == [2]


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
def test_wrong_kind(either: State, key: str, call: Callable[[State, str], object]) -> None:
    """A text, and a table with something in it, are no lists."""
    either.set_many({"text": "x", "table": {"a": 1}})
    with pytest.raises(WrongType):
        call(either, key)
    assert dict(either.items()) == {"text": "x", "table": {"a": 1}}


def test_the_ends_of_a_long_list_are_near(state: State) -> None:
    """What is done at the front of a list takes no longer however long the list is."""
    state.list_push("short", *range(10))
    state.list_push("long", *range(100_000))

    def work(key: str) -> None:
        for _ in range(50):
            state.list_unshift(key, 1, 2)
            state.list_set(key, 1, 3)
            state.list_trim(key, 1)
            state.list_shift_many(key, 1)

    seconds = {key: min(processor_time(lambda key=key: work(key)) for _ in range(5)) for key in ("short", "long")}
    assert seconds["long"] < 3 * seconds["short"]


def produce(channel: Channel, path: str, number: int) -> None:
    channel.receive()
    with slothstate.open(path) as state:
        for item in range(PUSHED):
            state.list_unshift("queue", [number, item])


def consume(channel: Channel, path: str) -> list[Any]:
    channel.receive()
    taken: list[Any] = []
    with slothstate.open(path) as state:
        while len(taken) < PUSHED:
            taken += state.list_pop_many("queue", min(7, PUSHED - len(taken)))
    return taken


def test_each_item_goes_to_one_process(path: str) -> None:
    """Items that processes put in front and take many at a time come once, those of a process in their order."""
    with processes() as start:
        workers = [*(start(produce, path, number) for number in (0, 1)), *(start(consume, path) for _ in (0, 1))]
        for worker in workers:
            worker.send()
        taken = [worker.result() for worker in workers][2:]
    everything = sorted(item for items in taken for item in items)
    assert everything == [[number, item] for number in (0, 1) for item in range(PUSHED)]
    for items in taken:
        for number in (0, 1):
            order = [item for producer, item in items if producer == number]
            assert order == sorted(order)
