"""Time to live: what sets, keeps and clears it, how it rounds, and what is refused. Ideas from Valkey's expire.tcl."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from helpers.places import Place, unchanged
from helpers.support import Clock
from helpers.verbs import KINDS, put
from slothstate import InvalidValue, State


@pytest.mark.parametrize(
    ("ttl", "elapsed", "left"),
    [
        (60, 0, 60),
        (60, 0.001, 60),
        (60, 0.999, 60),
        (60, 1, 59),
        (60, 59.001, 1),
        (60, 59.999, 1),
        (1.5, 0, 2),
        (1.5, 0.5, 1),
        (0.001, 0, 1),
        (0.0001, 0, 1),
        (1e-300, 0, 1),
        (10**10, 0, 10**10),
    ],
)
def test_get_ttl_rounds_up(state: State, clock: Clock, ttl: float, elapsed: float, left: int) -> None:
    """`get_ttl` is whole seconds, rounded up: a key that still exists never has zero of them left."""
    state.set("set", 1, ttl=ttl)
    state.set("set_ttl", 1)
    state.set_ttl("set_ttl", ttl)
    state.set_many({"set_many": 1}, ttl=ttl)
    clock.advance(elapsed)
    for key in ("set", "set_ttl", "set_many"):
        assert (state.get_ttl(key), type(state.get_ttl(key))) == (left, int)


def test_get_ttl_without_one(state: State, clock: Clock) -> None:
    """-1 says that the key does not expire, -2 that there is none."""
    state.set("k", 1)
    assert (state.get_ttl("k"), state.get_ttl("missing")) == (-1, -2)
    state.set_ttl("k", 1)
    clock.advance(1)
    assert state.get_ttl("k") == -2


@pytest.mark.parametrize("kind", KINDS)
def test_set_ttl_and_persist(state: State, clock: Clock, kind: str) -> None:
    """`set_ttl` gives a live key of any kind a new TTL, `persist` takes it away; both say whether they did."""
    value = put(state, "k", kind)
    assert not state.persist("k")
    assert state.set_ttl("k", 5)
    assert state.set_ttl("k", 100)
    clock.advance(50)
    assert state.get_ttl("k") == 50
    assert state.set_ttl("k", 1)
    assert (state.persist("k"), state.persist("k")) == (True, False)
    clock.advance(10**6)
    assert (state.get("k"), state.get_ttl("k")) == (value, -1)
    assert (state.set_ttl("missing", 5), state.persist("missing")) == (False, False)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_resurrects_an_expired_key(state: State, clock: Clock, kind: str) -> None:
    """Neither a new TTL nor taking it away brings back what has expired, and the clock's going on changes nothing."""
    put(state, "k", kind, ttl=1)
    clock.advance(1)
    assert (state.set_ttl("k", 100), state.persist("k"), state.exists("k")) == (False, False, False)
    assert not state.compare_swap("k", state.get("k", "none"), "new")
    assert state.compare_swap("k", None, "new")
    assert (state.get("k"), state.get_ttl("k")) == ("new", -1)


def test_clock_that_goes_back(state: State, clock: Clock) -> None:
    """A wall clock set back extends a TTL, set forward it shortens it; neither is an error."""
    state.set("k", 1, ttl=60)
    clock.advance(-3600)
    assert state.get_ttl("k") == 3660
    clock.advance(7200)
    assert state.get_ttl("k") == -2


BAD_SECONDS = {
    "zero": 0, "zero-float": 0.0, "negative": -1, "negative-zero": -0.0, "nan": math.nan, "inf": math.inf,
    "-inf": -math.inf, "text": "60", "bool": True, "none-like": [], "decimal": Decimal(60), "bytes": b"60",
    "too-long": 10**10 + 1, "huge": 1e300, "huge-int": 10**5000,
}  # fmt: skip


@pytest.mark.parametrize("seconds", BAD_SECONDS.values(), ids=BAD_SECONDS)
def test_bad_ttl(state: State, place: Place, seconds: Any) -> None:
    """A TTL is a positive, finite number of seconds; all else is `InvalidValue` by its name, and nothing is written."""
    state.set("k", 1, ttl=60)
    for call, name in (
        (lambda: state.set("k", 2, seconds), "ttl"),
        (lambda: state.set("missing", 2, ttl=seconds), "ttl"),
        (lambda: state.set_many({"k": 2}, ttl=seconds), "ttl"),
        (lambda: state.set_many({}, ttl=seconds), "ttl"),
        (lambda: state.set_ttl("k", seconds), "seconds"),
        (lambda: state.set_ttl("missing", seconds), "seconds"),
        (lambda: state.set("k", 2, ttl=seconds, when="present"), "ttl"),
        (lambda: state.increment("k", ttl=seconds), "ttl"),
        (lambda: state.decrement("missing", ttl=seconds), "ttl"),
        (lambda: state.compare_swap("k", 1, 2, ttl=seconds), "ttl"),
        (lambda: state.compare_swap("missing", None, 2, ttl=seconds), "ttl"),
        (lambda: state.try_lock("lock", seconds), "ttl"),
        (lambda: state.locked("lock", ttl=seconds), "ttl"),
    ):
        with unchanged(place), pytest.raises(InvalidValue, match=f"^{name} must be a number of seconds") as caught:
            call()
        assert len(str(caught.value)) < 200


def test_set_ttl_needs_seconds(state: State) -> None:
    """None is no TTL to set: `persist` takes one away."""
    state.set("k", 1)
    with pytest.raises(InvalidValue, match="got None"):
        state.set_ttl("k", None)  # type: ignore[arg-type]
