"""What `list_claim` and `claims` take and tell, and how a claim is waited for; on each engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from helpers.support import Clock
from helpers.verbs import claimed
from slothstate import InvalidKey, InvalidValue, State


def test_waits(state: State, open_state: Callable[[], State]) -> None:
    """It waits for an item; after the timeout there is None."""
    before = time.monotonic()
    assert state.list_claim(["q", "r"], timeout=0.05) is None
    assert 0.05 <= time.monotonic() - before < 5
    other = open_state()
    pushing = threading.Timer(0.05, lambda: other.list_push("r", "late"))
    pushing.start()
    assert claimed(state, ["q", "r"], timeout=30).item == "late"  # type: ignore[arg-type]
    pushing.join()


@pytest.mark.parametrize("verb", ["list_claim", "list_pop", "list_shift"])
def test_waits_for_what_comes_back(state: State, verb: str) -> None:
    """The end of a ttl commits nothing, and still ends a wait."""
    state.list_push("q", "a")
    claimed(state, "q", ttl=0.05)
    before = time.monotonic()
    got = getattr(state, verb)("q", timeout=30)
    assert time.monotonic() - before < 5
    assert (got.item if verb == "list_claim" else got) == "a"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"key": ""}, InvalidKey, "key"),
        ({"key": []}, InvalidValue, "key"),
        ({"key": ["q", 1]}, InvalidKey, r"key\[1\]"),
        ({"timeout": -1}, InvalidValue, "timeout"),
        ({"timeout": True}, InvalidValue, "timeout"),
        ({"ttl": 0}, InvalidValue, "ttl"),
        ({"ttl": "1"}, InvalidValue, "ttl"),
        ({"max_attempts": 0}, InvalidValue, "max_attempts must be an int >= 1"),
        ({"max_attempts": -1}, InvalidValue, "max_attempts must be an int >= 1"),
        ({"max_attempts": True}, InvalidValue, "max_attempts"),
        ({"max_attempts": 1.0}, InvalidValue, "max_attempts"),
        ({"dead": "x"}, InvalidValue, "max_attempts"),
        ({"max_attempts": 1, "dead": ""}, InvalidKey, "dead"),
        ({"max_attempts": 1, "dead": "q"}, InvalidValue, "'q' is claimed from itself"),
        ({"max_attempts": 1, "key": ["q", "q:dead"]}, InvalidValue, "'q:dead' is claimed from itself"),
        ({"max_attempts": 1, "key": "k" * 4094}, InvalidKey, "dead"),
    ],
)
def test_arguments(state: State, options: dict[str, Any], error: type[Exception], says: str) -> None:
    """What is wrong is named, and nothing is claimed."""
    state.list_push("q", "a")
    with pytest.raises(error, match=says):
        state.list_claim(**{"key": "q", **options})
    claim = claimed(state, "q")
    for delay in (-1, "1", float("nan"), True):
        with pytest.raises(InvalidValue, match="delay"):
            claim.release(delay)  # type: ignore[arg-type]
    for seconds in (0, -1, None):
        with pytest.raises(InvalidValue, match="seconds"):
            claim.extend(seconds)  # type: ignore[arg-type]
    assert claim.done()
    with pytest.raises(InvalidKey):
        state.claims("")


def test_of_another_thread(state: State) -> None:
    """Any thread may end a claim."""
    state.list_push("q", "a")
    claim = claimed(state, "q")
    thread = threading.Thread(target=claim.done)
    thread.start()
    thread.join()
    assert claim.lost


def test_described(state: State, clock: Clock) -> None:
    """`claims` has them by key and then in the order of the items; `entry` and `usage` count them."""
    state.list_push("b", 1, 2, 3)
    state.list_push("a", 4)
    first, second = claimed(state, "b"), claimed(state, "b")
    claimed(state, "a")
    assert [(each["key"], each["attempt"], each["alive"], each["due"]) for each in state.claims()] == [
        ("a", 1, True, None),
        ("b", 1, True, None),
        ("b", 1, True, None),
    ]
    assert all(each["since"] == pytest.approx(clock(), abs=0.01) for each in state.claims())
    assert [each["key"] for each in state.claims("a")] == ["a"]
    first.release()
    second.release(delay=1)
    assert [(each["attempt"], each["owner"]) for each in state.claims("b")] == [(1, None)]
    entry = state.entry("b")
    assert entry is not None
    assert (entry.length, entry.claimed) == (2, 1)
    assert sum(usage.keys for usage in state.usage()) == 1
