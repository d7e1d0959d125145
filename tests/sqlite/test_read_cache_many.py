"""get_many and list_length from the read cache: as coherent as get."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import store_of
from helpers.support import Clock
from slothstate import State

pytestmark = pytest.mark.usefixtures("long_trust")

ROUNDS = int(os.environ.get("SLOTHSTATE_READS", 10_000_000)) // 1000


def without_the_engine(state: State) -> None:
    """Let whatever is not answered from memory fail."""
    store_of(state).read = None  # type: ignore[assignment]


def test_what_was_read_together_is_known_together_and_alone(path: str) -> None:
    """`get_many` keeps what it read, of every kind and also what is missing, for itself and for `get`."""
    values: dict[str, Any] = {
        "i": 1,
        "f": 1.5,
        "s": "é",
        "b": b"\xff",
        "t": True,
        "d": {"a": [None]},
        "l": [1, {"x": 2}],
    }
    with slothstate.open(path) as state:
        state.set_many(values)
        state.list_push("rows", 1, [2])
        expected = {**values, "rows": [1, [2]]}
        assert state.get_many([*expected, "missing"]) == expected
        without_the_engine(state)
        for _ in range(3):
            got = state.get_many([*expected, "missing"])
            assert got == expected
            assert list(got) == list(expected)
            assert got["t"] is True
            got["d"]["a"].append(1)
            got["l"][1]["x"] = 3
        assert state.get("missing", "default") == "default"
        assert state.get("rows") == [1, [2]]
        del store_of(state).read


@pytest.mark.parametrize(
    "write",
    [
        lambda state: state.list_push("k", 4),
        lambda state: state.list_pop("k"),
        lambda state: state.list_trim("k", 0, 0),
        lambda state: state.delete("k"),
        lambda state: state.set("k", [7]),
        lambda state: state.rename("k", "other"),
        lambda state: state.clear(),
    ],
)
@pytest.mark.parametrize("known", ["whole", "length"])
def test_every_write_is_seen_at_once(path: str, write: Callable[[State], Any], known: str) -> None:
    """After a write has returned, each State of the process reads what a cold one reads."""
    with slothstate.open(path) as state, slothstate.open(path) as other:
        state.set("k", [1, 2, 3])
        for each in (state, other):
            for _ in range(3):
                assert each.list_length("k") == 3
                if known == "whole":
                    assert each.get_many(["k"]) == {"k": [1, 2, 3]}
        write(state)
        with slothstate.open(path, read_cache=False) as cold:
            for each in (state, other):
                assert each.list_length("k") == cold.list_length("k") != 3
                assert each.get_many(["k"]) == cold.get_many(["k"])


def test_a_length_is_known_without_the_items(path: str) -> None:
    """Items of any size are not read again; the key is there to `exists` and `get_ttl`, and `get` reads its value."""
    with slothstate.open(path, cache_size=100_000) as state:
        state.list_push("large", *["x" * 30_000] * 10)
        state.set("text", ["x" * 30_000] * 10)
        for key in ("large", "text", "missing"):
            state.list_length(key)
        without_the_engine(state)
        assert [state.list_length(key) for key in ("large", "text", "missing")] == [10, 10, 0]
        assert [state.exists(key) for key in ("large", "text", "missing")] == [True, True, False]
        assert [state.get_ttl(key) for key in ("large", "missing")] == [-1, -2]
        del store_of(state).read
        assert len(state.get("text")) == 10
        assert state.stats()["operations"]["list_length"] == 6


def test_a_length_ends_with_its_key(open_state: Callable[[], State], clock: Clock) -> None:
    """A list that expires has no items any more, to the millisecond."""
    state = open_state()
    state.set("k", [1, 2], ttl=10)
    assert [state.list_length("k"), state.list_length("k")] == [2, 2]
    clock.advance(9.999)
    assert state.list_length("k") == 2
    clock.advance(0.001)
    assert [state.list_length("k"), state.get_many(["k"])] == [0, {}]


@pytest.mark.parametrize("items", [["a"], ["a", "b"]], ids=["alone", "with others"])
def test_a_length_grows_without_a_commit(path: str, items: list[str]) -> None:
    """What an owner that died had claimed counts at once, whatever is known of the list."""
    with slothstate.open(path) as state:
        state.list_push("q", *items)
        with processes() as start:
            owner = start(claim, path)
            owner.receive()
            for _ in range(3):
                assert state.list_length("q") == len(items) - 1
                assert state.get("q", []) == items[1:]
            owner.kill()
            assert state.list_length("q") == len(items)
        assert state.get("q") == items


def claim(channel: Channel, path: str) -> None:
    with slothstate.open(path) as state, state.list_claim("q") or nullcontext():
        channel.send()
        channel.receive()


def test_another_kind_has_no_length(path: str) -> None:
    """What is cached of a key that is no list does not answer for one."""
    with slothstate.open(path) as state:
        state.set_many({"table": {"a": 1}, "empty": {}, "number": 1})
        for _ in range(3):
            for key in ("table", "number"):
                state.get(key)
                with pytest.raises(slothstate.WrongType):
                    state.list_length(key)
            assert [state.list_length("empty"), state.get("empty")] == [0, {}]
        wrong: list[Any] = [5, None, "", "a\0", ["k"]]
        for key in wrong:
            with pytest.raises(slothstate.InvalidKey):
                state.list_length(key)
            with pytest.raises(slothstate.InvalidKey):
                state.get_many(["table", key])


def test_a_transaction_reads_its_own_writes_together(path: str) -> None:
    """Inside a transaction nothing comes from the cache, and after a rollback nothing of it is left there."""
    with slothstate.open(path) as state:
        state.set("a", [1])
        assert (state.get_many(["a"]), state.list_length("a")) == ({"a": [1]}, 1)
        with pytest.raises(KeyError), state.transaction():
            state.list_push("a", 2)
            assert (state.get_many(["a"]), state.list_length("a")) == ({"a": [1, 2]}, 2)
            raise KeyError
        assert (state.get_many(["a"]), state.list_length("a")) == ({"a": [1]}, 1)


def test_calls_answered_from_memory_are_counted(path: str) -> None:
    """`stats` counts each call once, as its verb and as a hit."""
    with slothstate.open(path) as state:
        state.set_many({"a": 1, "b": [2]})
        for _ in range(3):
            state.get_many(["a", "b"])
            state.list_length("none")
        stats = state.stats()
        assert {**stats["operations"], "get": 0} == {"set_many": 1, "get_many": 3, "list_length": 3, "get": 0}
        assert (stats["cache_hits"], stats["cache_misses"]) == (4, 2)


def writing_pairs(channel: Channel, path: str) -> None:
    """Set two keys to one rising number, in one step, until told to stop."""
    number = 0
    with slothstate.open(path) as state:
        while not channel.waiting(timeout=0.001):
            for _ in range(20):
                number += 1
                state.set_many({"a": number, "b": [number]})


def test_keys_read_together_are_of_one_moment_beside_a_writer(path: str) -> None:
    """Another process writes both at once: whoever reads both at once never finds them apart, nor going back."""
    with processes() as start, slothstate.open(path) as state:
        state.set_many({"a": 0, "b": [0]})
        writer = start(writing_pairs, path)
        while state.get("a") == 0:
            pass
        last = 0
        for step in range(ROUNDS):
            if step % 3 == 0:
                state.get("a")  # so that sometimes one is known and the other is not
            got = state.get_many(["a", "b"])
            assert [got["a"]] == got["b"]
            assert got["a"] >= last
            last = got["a"]
        writer.send(None)
        writer.result()
        assert last > 0
