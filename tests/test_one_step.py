"""Writes of one step on whole keys: conditional sets, taking, renaming, copying, counters that begin with a TTL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from processes import Channel, processes
from support import KINDS, Clock, exactly, put

import slothstate
from slothstate import InvalidKey, InvalidValue, OutOfRange, State, WrongType

JOBS = 200
"""Keys that the processes of a test contend for."""

each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
@pytest.mark.parametrize("when", ["absent", "present", None])
@pytest.mark.parametrize("keep_ttl", [False, True])
@pytest.mark.parametrize("found", ["missing", "expired", "live"])
def test_set_when(either: State, clock: Clock, kind: str, when: Any, keep_ttl: bool, found: str) -> None:
    """`when` says which keys a set is for; an expired one is missing; `keep_ttl` keeps that of a live one alone."""
    if found != "missing":
        put(either, "k", kind, ttl=10)
        clock.advance(10 if found == "expired" else 4)
    before = either.get("k"), either.get_ttl("k")
    done = either.set("k", {"new": [1.0]}, when=when, keep_ttl=keep_ttl)
    assert done is (when is None or (when == "present") == (found == "live"))
    ttl = 6 if keep_ttl and found == "live" else -1
    assert (either.get("k"), either.get_ttl("k")) == (({"new": [1.0]}, ttl) if done else before)


def test_set_when_with_a_ttl(either: State, clock: Clock) -> None:
    """A conditional set takes a TTL as a plain one does, and the key is gone after it."""
    assert either.set("lease", "me", 5, when="absent")
    assert not either.set("lease", "you", ttl=5, when="absent")
    clock.advance(5)
    assert either.set("lease", "you", ttl=timedelta(milliseconds=1500), when="absent")
    assert (either.get("lease"), either.get_ttl("lease")) == ("you", 2)


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
def test_wrong_options_of_set(either: State, options: dict[str, Any], says: str) -> None:
    """An option of `set` that cannot be used is `InvalidValue` naming it, and the key stays."""
    either.set("k", 1)
    with pytest.raises(InvalidValue, match=says):
        either.set("k", 2, **options)
    assert either.get("k") == 1


def test_unknown_options_of_set(either: State) -> None:
    """An option that `set` does not have, and one too many by position, are the errors of any function."""
    wrong: Any = either.set
    with pytest.raises(TypeError, match="unexpected keyword argument 'nx'"):
        wrong("k", 1, nx=True)
    with pytest.raises(TypeError, match="at most 3 arguments"):
        wrong("k", 1, None, "absent")
    with pytest.raises(TypeError, match="at most 3 arguments"):
        wrong("k", 1, None, "absent", keep_ttl=True)
    assert not either.exists("k")


def test_a_bad_value_comes_before_the_condition(either: State) -> None:
    """What cannot be stored is refused also where the condition would have kept it out."""
    with pytest.raises(InvalidValue):
        either.set("k", object(), when="present")


@each_kind
def test_compare_swap_deletes(either: State, clock: Clock, kind: str) -> None:
    """With `new=None` an equal value of any kind is deleted, a different or expired one stays or is missing."""
    value = put(either, "k", kind, ttl=10)
    assert not either.compare_swap("k", "another", None)
    assert not either.compare_swap("k", None, None)
    assert either.compare_swap("k", value, None)
    assert not either.exists("k")
    assert either.compare_swap("k", None, None)
    put(either, "k", kind, ttl=10)
    clock.advance(10)
    assert not either.compare_swap("k", value, None)
    assert either.compare_swap("k", None, None)


@each_kind
def test_compare_swap_with_a_ttl(either: State, clock: Clock, kind: str) -> None:
    """`ttl` gives what is swapped in a new TTL, what is inserted too; without it the old one stays."""
    value = put(either, "k", kind, ttl=60)
    assert either.compare_swap("k", value, [1])
    assert either.get_ttl("k") == 60
    assert either.compare_swap("k", [1], "text", ttl=5)
    assert either.compare_swap("k", "text", 1, ttl=timedelta(seconds=7))
    assert (either.get("k"), either.get_ttl("k")) == (1, 7)
    assert not either.compare_swap("k", 2, 3, ttl=100)
    clock.advance(7)
    assert either.compare_swap("k", None, 3, ttl=8)
    assert (either.get("k"), either.get_ttl("k")) == (3, 8)


def test_what_is_deleted_has_no_ttl(either: State) -> None:
    """`new=None` with a TTL is `InvalidValue`, and nothing is deleted."""
    either.set("k", 1)
    with pytest.raises(InvalidValue, match="ttl"):
        either.compare_swap("k", 1, None, ttl=5)
    assert either.get("k") == 1


@each_kind
def test_take(either: State, clock: Clock, kind: str) -> None:
    """`take` returns the value as `get` would, a list whole, and the key is gone; expired is missing."""
    value = put(either, "k", kind)
    assert exactly(either.take("k", "default")) == exactly(value)
    assert not either.exists("k")
    assert either.take("k", "default") == "default"
    put(either, "k", kind, ttl=1)
    clock.advance(1)
    assert either.take("k") is None


@each_kind
@pytest.mark.parametrize("verb", ["rename", "copy"])
@pytest.mark.parametrize("target", [None, *KINDS])
def test_rename_and_copy(either: State, clock: Clock, kind: str, verb: str, target: str | None) -> None:
    """The other key holds value and TTL then, whatever it held; only `copy` leaves the first."""
    value = put(either, "k", kind, ttl=60)
    if target is not None:
        put(either, "to", target, ttl=5)
    clock.advance(5)
    assert getattr(either, verb)("k", "to")
    assert (exactly(either.get("to")), either.get_ttl("to")) == (exactly(value), 55)
    assert either.exists("k") == (verb == "copy")
    if kind in ("list", "rows"):
        either.list_push("to", "more")
        assert either.list_pop("to") == "more"
        assert either.get("k") == (value if verb == "copy" else None)
    assert either.check() == []


@pytest.mark.parametrize("verb", ["rename", "copy"])
def test_rename_and_copy_of_nothing(either: State, clock: Clock, verb: str) -> None:
    """Of a missing or expired key nothing is moved, and the other key stays; onto itself nothing changes."""
    either.set("to", 1)
    either.set("old", 2, ttl=1)
    clock.advance(1)
    move = getattr(either, verb)
    assert (move("k", "to"), move("old", "to"), move("k", "k"), move("old", "old")) == (False,) * 4
    assert move("to", "to")
    assert dict(either.items()) == {"to": 1}


@pytest.mark.parametrize("verb", ["rename", "copy"])
def test_rename_to_no_key(either: State, verb: str) -> None:
    """Where to is a key as any other: what is none is `InvalidKey` that names the argument."""
    either.set("k", 1)
    with pytest.raises(InvalidKey, match=r"^to must not be empty"):
        getattr(either, verb)("k", "")
    assert either.get("k") == 1


def test_a_counter_begins_with_its_ttl(either: State, clock: Clock) -> None:
    """`ttl` is for the counter that the call creates, also in the place of an expired one; another keeps its own."""
    assert either.increment("rate", ttl=60) == 1
    clock.advance(20)
    assert either.increment("rate", 2, ttl=60) == 3
    assert either.decrement("rate", 0.5, ttl=90) == 2.5
    assert either.get_ttl("rate") == 40
    clock.advance(40)
    assert either.decrement("rate", ttl=timedelta(minutes=1)) == -1
    assert either.get_ttl("rate") == 60
    either.set("forever", 1)
    either.increment("forever", ttl=1)
    assert either.get_ttl("forever") == -1
    assert either.decrement("least", -(2**63) + 1, ttl=9) == 2**63 - 1
    assert either.get_ttl("least") == 9
    with pytest.raises(OutOfRange):
        either.decrement("deeper", -(2**63), ttl=9)
    assert not either.exists("deeper")


@pytest.mark.parametrize("kind", ["string", "rows"])
def test_a_counter_with_a_ttl_in_place_of_another_kind(either: State, clock: Clock, kind: str) -> None:
    """Another kind is `WrongType` while it lives, and nothing once it has expired."""
    put(either, "k", kind, ttl=5)
    with pytest.raises(WrongType):
        either.increment("k", ttl=60)
    clock.advance(5)
    assert either.increment("k", ttl=60) == 1
    assert either.get_ttl("k") == 60
    assert either.check() == []


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-1), timedelta.max, "5", True])
def test_a_ttl_that_is_none(either: State, ttl: Any) -> None:
    """A duration of nothing, of less, of more than three centuries, and what is none is `InvalidValue`."""
    for call in (
        lambda: either.set("k", 1, ttl),
        lambda: either.increment("k", ttl=ttl),
        lambda: either.compare_swap("k", None, 1, ttl=ttl),
        lambda: either.set_ttl("k", ttl),
        lambda: either.set_many({"k": 1}, ttl),
    ):
        with pytest.raises(InvalidValue):
            call()
    assert not either.exists("k")


SAMPLE = ["a", "b", "user:1", "user:10", "user:2", "\ud7ff", "\ue000", "\U0010ffff"]


@pytest.mark.parametrize("pattern", [None, "user:*", "*1*", "nothing*"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("after", [None, "a", "a\x7f", "user:1", "\ud7ff", "\U0010ffff", "!", "\U0010ffff!"])
@pytest.mark.parametrize("limit", [None, 0, 1, 3, 1000])
def test_listings_in_order(
    either: State, clock: Clock, pattern: str | None, reverse: bool, after: str | None, limit: int | None
) -> None:
    """`keys` and `scan` go either way, on from a key that need not be there, and no further than asked."""
    either.set_many(dict.fromkeys(SAMPLE, 1))
    either.set_many({"aa": 1, "user:11": 1}, ttl=1)
    clock.advance(1)
    found = [key for key in either.keys(pattern) if key in SAMPLE]
    if reverse:
        found.reverse()
    expected = [key for key in found if after is None or (key < after if reverse else key > after)][:limit]
    assert either.keys(pattern, reverse=reverse, after=after, limit=limit) == expected
    assert list(either.scan(pattern, reverse=reverse, after=after, limit=limit)) == expected


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
def test_wrong_options_of_a_listing(either: State, verb: str, options: Any, error: type[Exception]) -> None:
    """An option that cannot be used is refused at the call, naming it."""
    with pytest.raises(error, match=next(iter(options))):
        getattr(either, verb)(**options)


def claim(channel: Channel, path: str) -> int:
    channel.receive()
    with slothstate.open(path) as state:
        return sum(state.set(f"job:{job}", 1, when="absent") for job in range(JOBS))


def take(channel: Channel, path: str) -> int:
    channel.receive()
    with slothstate.open(path) as state:
        return sum(state.take(f"job:{job}") is not None for job in range(JOBS))


@pytest.mark.parametrize("step", [claim, take])
def test_each_key_goes_to_one_process(path: str, step: Any) -> None:
    """Of processes that set an absent key, or take one, at the same time, one alone succeeds."""
    with slothstate.open(path) as state:
        if step is take:
            state.set_many({f"job:{job}": job for job in range(JOBS)})
        with processes() as start:
            workers = [start(step, path) for _ in range(3)]
            for worker in workers:
                worker.send()
            assert sum(worker.result() for worker in workers) == JOBS
        assert state.check() == []
