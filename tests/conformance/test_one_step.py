"""Writes of one step on whole keys: conditional sets, taking, renaming, copying, counters that begin with a TTL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from helpers.support import Clock, exactly
from helpers.verbs import KINDS, put
from slothstate import InvalidKey, InvalidValue, OutOfRange, State, WrongType

each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
@pytest.mark.parametrize("when", ["absent", "present", None])
@pytest.mark.parametrize("keep_ttl", [False, True])
@pytest.mark.parametrize("found", ["missing", "expired", "live"])
def test_set_when(state: State, clock: Clock, kind: str, when: Any, keep_ttl: bool, found: str) -> None:
    """`when` says which keys a set is for; an expired one is missing; `keep_ttl` keeps that of a live one alone."""
    if found != "missing":
        put(state, "k", kind, ttl=10)
        clock.advance(10 if found == "expired" else 4)
    before = state.get("k"), state.get_ttl("k")
    done = state.set("k", {"new": [1.0]}, when=when, keep_ttl=keep_ttl)
    assert done is (when is None or (when == "present") == (found == "live"))
    ttl = 6 if keep_ttl and found == "live" else -1
    assert (state.get("k"), state.get_ttl("k")) == (({"new": [1.0]}, ttl) if done else before)


def test_set_when_with_a_ttl(state: State, clock: Clock) -> None:
    """A conditional set takes a TTL as a plain one does, and the key is gone after it."""
    assert state.set("lease", "me", 5, when="absent")
    assert not state.set("lease", "you", ttl=5, when="absent")
    clock.advance(5)
    assert state.set("lease", "you", ttl=timedelta(milliseconds=1500), when="absent")
    assert (state.get("lease"), state.get_ttl("lease")) == ("you", 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"when": "never"}, "when must be 'absent', 'present' or None, got str 'never'"),
        ({"when": True}, "when must be"),
        ({"when": []}, "when must be"),
        ({"keep_ttl": 1}, "keep_ttl must be True or False, got int 1"),
        ({"keep_ttl": True, "ttl": 5}, "ttl and keep_ttl exclude each other"),
        ({"ttl": 0, "when": "absent"}, "ttl must be a number of seconds > 0"),
    ],
)
def test_wrong_options_of_set(state: State, options: dict[str, Any], says: str) -> None:
    """An option of `set` that cannot be used is `InvalidValue` naming it, and the key stays."""
    state.set("k", 1)
    with pytest.raises(InvalidValue, match=says):
        state.set("k", 2, **options)
    assert state.get("k") == 1


def test_unknown_options_of_set(state: State) -> None:
    """An option that `set` does not have, and one too many by position, are the errors of any function."""
    wrong: Any = state.set
    with pytest.raises(TypeError, match="unexpected keyword argument 'nx'"):
        wrong("k", 1, nx=True)
    with pytest.raises(TypeError, match="at most 3 arguments"):
        wrong("k", 1, None, "absent")
    with pytest.raises(TypeError, match="at most 3 arguments"):
        wrong("k", 1, None, "absent", keep_ttl=True)
    assert not state.exists("k")


def test_a_bad_value_comes_before_the_condition(state: State) -> None:
    """What cannot be stored is refused also where the condition would have kept it out."""
    with pytest.raises(InvalidValue):
        state.set("k", object(), when="present")


@each_kind
def test_compare_swap_deletes(state: State, clock: Clock, kind: str) -> None:
    """With `new=None` an equal value of any kind is deleted, a different or expired one stays or is missing."""
    value = put(state, "k", kind, ttl=10)
    assert not state.compare_swap("k", "another", None)
    assert not state.compare_swap("k", None, None)
    assert state.compare_swap("k", value, None)
    assert not state.exists("k")
    assert state.compare_swap("k", None, None)
    put(state, "k", kind, ttl=10)
    clock.advance(10)
    assert not state.compare_swap("k", value, None)
    assert state.compare_swap("k", None, None)


@each_kind
def test_compare_swap_with_a_ttl(state: State, clock: Clock, kind: str) -> None:
    """`ttl` gives what is swapped in a new TTL, what is inserted too; without it the old one stays."""
    value = put(state, "k", kind, ttl=60)
    assert state.compare_swap("k", value, [1])
    assert state.get_ttl("k") == 60
    assert state.compare_swap("k", [1], "text", ttl=5)
    assert state.compare_swap("k", "text", 1, ttl=timedelta(seconds=7))
    assert (state.get("k"), state.get_ttl("k")) == (1, 7)
    assert not state.compare_swap("k", 2, 3, ttl=100)
    clock.advance(7)
    assert state.compare_swap("k", None, 3, ttl=8)
    assert (state.get("k"), state.get_ttl("k")) == (3, 8)


def test_what_is_deleted_has_no_ttl(state: State) -> None:
    """`new=None` with a TTL is `InvalidValue`, and nothing is deleted."""
    state.set("k", 1)
    with pytest.raises(InvalidValue, match="ttl"):
        state.compare_swap("k", 1, None, ttl=5)
    assert state.get("k") == 1


@each_kind
def test_take(state: State, clock: Clock, kind: str) -> None:
    """`take` returns the value as `get` would, a list whole, and the key is gone; expired is missing."""
    value = put(state, "k", kind)
    assert exactly(state.take("k", "default")) == exactly(value)
    assert not state.exists("k")
    assert state.take("k", "default") == "default"
    put(state, "k", kind, ttl=1)
    clock.advance(1)
    assert state.take("k") is None


@each_kind
@pytest.mark.parametrize("verb", ["rename", "copy"])
@pytest.mark.parametrize("target", [None, *KINDS])
def test_rename_and_copy(state: State, clock: Clock, kind: str, verb: str, target: str | None) -> None:
    """The other key holds value and TTL then, whatever it held; only `copy` leaves the first."""
    value = put(state, "k", kind, ttl=60)
    if target is not None:
        put(state, "to", target, ttl=5)
    clock.advance(5)
    assert getattr(state, verb)("k", "to")
    assert (exactly(state.get("to")), state.get_ttl("to")) == (exactly(value), 55)
    assert state.exists("k") == (verb == "copy")
    if kind in ("list", "rows"):
        state.list_push("to", "more")
        assert state.list_pop("to") == "more"
        assert state.get("k") == (value if verb == "copy" else None)
    assert state.check() == []


@pytest.mark.parametrize("verb", ["rename", "copy"])
def test_rename_and_copy_of_nothing(state: State, clock: Clock, verb: str) -> None:
    """Of a missing or expired key nothing is moved, and the other key stays; onto itself nothing changes."""
    state.set("to", 1)
    state.set("old", 2, ttl=1)
    clock.advance(1)
    move = getattr(state, verb)
    assert (move("k", "to"), move("old", "to"), move("k", "k"), move("old", "old")) == (False,) * 4
    assert move("to", "to")
    assert dict(state.items()) == {"to": 1}


@pytest.mark.parametrize("verb", ["rename", "copy"])
def test_rename_to_no_key(state: State, verb: str) -> None:
    """Where to is a key as any other: what is none is `InvalidKey` that names the argument."""
    state.set("k", 1)
    with pytest.raises(InvalidKey, match=r"^to must not be empty"):
        getattr(state, verb)("k", "")
    assert state.get("k") == 1


def test_a_counter_begins_with_its_ttl(state: State, clock: Clock) -> None:
    """`ttl` is for the counter that the call creates, also in the place of an expired one; another keeps its own."""
    assert state.increment("rate", ttl=60) == 1
    clock.advance(20)
    assert state.increment("rate", 2, ttl=60) == 3
    assert state.decrement("rate", 0.5, ttl=90) == 2.5
    assert state.get_ttl("rate") == 40
    clock.advance(40)
    assert state.decrement("rate", ttl=timedelta(minutes=1)) == -1
    assert state.get_ttl("rate") == 60
    state.set("forever", 1)
    state.increment("forever", ttl=1)
    assert state.get_ttl("forever") == -1
    assert state.decrement("least", -(2**63) + 1, ttl=9) == 2**63 - 1
    assert state.get_ttl("least") == 9
    with pytest.raises(OutOfRange):
        state.decrement("deeper", -(2**63), ttl=9)
    assert not state.exists("deeper")


@pytest.mark.parametrize("kind", ["string", "rows"])
def test_a_counter_with_a_ttl_in_place_of_another_kind(state: State, clock: Clock, kind: str) -> None:
    """Another kind is `WrongType` while it lives, and nothing once it has expired."""
    put(state, "k", kind, ttl=5)
    with pytest.raises(WrongType):
        state.increment("k", ttl=60)
    clock.advance(5)
    assert state.increment("k", ttl=60) == 1
    assert state.get_ttl("k") == 60
    assert state.check() == []


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta.max, "5", True])
def test_a_ttl_that_is_none(state: State, ttl: Any) -> None:
    """A duration of nothing, of less, of more than three centuries, and what is none is `InvalidValue`."""
    calls: list[Callable[[], object]] = [
        lambda: state.set("k", 1, ttl),
        lambda: state.increment("k", ttl=ttl),
        lambda: state.compare_swap("k", None, 1, ttl=ttl),
        lambda: state.set_ttl("k", ttl),
        lambda: state.set_many({"k": 1}, ttl),
    ]
    for call in calls:
        with pytest.raises(InvalidValue):
            call()
    assert not state.exists("k")


SAMPLE = ["a", "b", "user:1", "user:10", "user:2", "\ud7ff", "\ue000", "\U0010ffff"]


@pytest.mark.parametrize("pattern", [None, "user:*", "*1*", "nothing*"])
@pytest.mark.parametrize("reverse", [False, True])
def test_listings_in_order(state: State, clock: Clock, pattern: str | None, reverse: bool) -> None:
    """`keys` and `scan` go state way, on from a key that need not be there, and no further than asked."""
    state.set_many(dict.fromkeys(SAMPLE, 1))
    state.set_many({"aa": 1, "user:11": 1}, ttl=1)
    clock.advance(1)
    found = [key for key in state.keys(pattern) if key in SAMPLE]
    if reverse:
        found.reverse()
    for after in (None, "a", "a\x7f", "user:1", "\ud7ff", "\U0010ffff", "!", "\U0010ffff!"):
        beyond = [key for key in found if after is None or (key < after if reverse else key > after)]
        for limit in (None, 0, 1, 3, 1000):
            options: dict[str, Any] = {"reverse": reverse, "after": after, "limit": limit}
            assert state.keys(pattern, **options) == beyond[:limit], options
            assert list(state.scan(pattern, **options)) == beyond[:limit], options


@pytest.mark.parametrize("verb", ["keys", "scan"])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": -1}, InvalidValue),
        ({"limit": 1.0}, InvalidValue),
        ({"limit": True}, InvalidValue),
        ({"reverse": 1}, InvalidValue),
        ({"after": ""}, InvalidKey),
        ({"after": b"a"}, InvalidKey),
    ],
)
def test_wrong_options_of_a_listing(state: State, verb: str, options: Any, error: type[Exception]) -> None:
    """An option that cannot be used is refused at the call, naming it."""
    with pytest.raises(error, match=next(iter(options))):
        getattr(state, verb)(**options)
