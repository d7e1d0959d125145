"""What a type checker is told of the verbs: mypy reads this file, and what it allows runs too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, assert_type

import pytest

from slothstate import InvalidValue, State


def test_results(state: State) -> None:
    """Each verb says what it returns; a value is Any, as of json.loads."""
    assert_type(state.set("k", [1]), bool)
    assert_type(state.set("k", [1], when="absent"), bool)
    assert_type(state.compare_swap("k", [1], None), bool)
    assert_type(state.take("k"), Any)
    assert_type(state.rename("k", "to"), bool)
    assert_type(state.copy("k", "to"), bool)
    assert_type(state.increment("n", 2, ttl=60), int | float)
    assert_type(state.get_field("k", "a", "default"), Any)
    assert_type(state.set_field("k", ("a", "b"), 1), bool)
    assert_type(state.increment_field("k", ["a", "c"]), int | float)
    assert_type(state.delete_field("k", "a"), bool)
    assert_type(state.list_unshift("l", 1, "two"), int)
    assert_type(state.list_range("l"), list[Any])
    assert_type(state.list_pop_many("l", 1), list[Any])
    assert_type(state.list_pop("none"), Any)
    assert_type(state.list_pop(["none"]), tuple[str, Any] | None)
    assert_type(state.list_shift(["none"], 7), tuple[str, Any] | int)
    assert_type(state.list_shift_many("l", 1), list[Any])
    assert_type(state.list_insert("l", 0, None), int)
    assert_type(state.list_set("l", 0, 1), bool)
    assert_type(state.list_remove("l", 1), int)
    assert_type(state.list_trim("l", 1), int)
    assert_type(state.keys(reverse=True, after="a", limit=1), list[str])
    assert_type(state.scan("*", limit=1), Iterator[str])
    assert_type(state.snapshot(), AbstractContextManager[None])


def test_seconds(state: State) -> None:
    """Wherever seconds are taken, a timedelta is."""
    minute = timedelta(minutes=1)
    assert state.set("k", 1, minute)
    assert state.set_many({"k": 1}, minute)
    assert state.set_ttl("k", minute)
    assert state.increment("k", ttl=minute) == 2
    assert state.compare_swap("k", 2, 3, ttl=minute)
    assert state.try_lock("job", minute)
    assert state.get_ttl("k") == 60


def test_what_a_checker_refuses(state: State) -> None:
    """What is an error when it runs is one before: an unknown condition, a TTL to be kept and replaced."""
    state.set("k", 1, when="present", keep_ttl=True)
    state.set("k", 1, None, keep_ttl=bool(state))
    with pytest.raises(InvalidValue):
        state.set("k", 1, when="never")  # type: ignore[call-overload]
    with pytest.raises(InvalidValue):
        state.set("k", 1, ttl=5, keep_ttl=True)  # type: ignore[call-overload]
    with pytest.raises(InvalidValue):
        state.get_field("k", 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        state.get_field("k", (1.5,))  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        state.keys(limit=1.0)  # type: ignore[arg-type]
