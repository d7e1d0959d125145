"""Keys near the longest, many of which begin alike: an engine may store such a one in another form."""

from __future__ import annotations

import random

import pytest

from helpers.places import Place
from slothstate import State

# Around 2,560 bytes, where PostgreSQL's index would refuse a key, and cut inside and beside characters of two to four.
BEGINNING = "A" * 2553
ENDS = ("é", "€", "🦥", "éA", "🦥🦥", "B", "-", "\x01")
NAMES = sorted(
    {
        *(BEGINNING + "A" * count for count in range(12)),
        *(
            BEGINNING + "A" * count + end
            for count in range(8)
            for end in ("é", "€", "🦥", "éA", "🦥🦥", "B", "-", "\x01")
        ),
        *(BEGINNING + "A" * 4 + end * 100 for end in ("A", "z", "\U0010ffff")),
        *("🦥" * count for count in (638, 639, 640, 641, 1024)),
        *("a", "B", "🦥", "z" * 4096, "z" * 4095 + "y"),
    }
)


@pytest.fixture
def filled(state: State) -> State:
    shuffled = list(NAMES)
    random.Random(1).shuffle(shuffled)
    for name in shuffled:
        state.set(name, len(name))
    return state


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_keys_are_in_order(filled: State, reverse: bool) -> None:
    """As a whole, and past each of them, by pages of any length."""
    wanted = NAMES[::-1] if reverse else NAMES
    assert filled.keys(reverse=reverse) == wanted
    for index in range(0, len(wanted), 7):
        after = wanted[index]
        assert filled.keys(reverse=reverse, after=after, limit=3) == wanted[index + 1 :][:3]
    assert list(filled.scan(reverse=reverse)) == wanted
    for size in (1, 5, 50):
        found: list[str] = []
        while page := filled.keys(reverse=reverse, after=found[-1] if found else None, limit=size):
            found += page
        assert found == wanted


def test_patterns_that_begin_with_one(filled: State) -> None:
    """A long beginning finds what a short one does."""
    for name in NAMES[::5]:
        wanted = [each for each in NAMES if each.startswith(name)]
        assert filled.keys(name.replace("\\", "\\\\") + "*") == wanted
        assert [record.key for record in filled.dump(name + "*")] == wanted
        assert sum(each.keys for each in filled.usage(name)) == len(wanted)


def test_a_dump_is_in_order(filled: State) -> None:
    """Two stores that are equal give equal dumps, whichever engine they are on."""
    assert [record.key for record in filled.dump()] == NAMES


def test_locks_and_watches(place: Place) -> None:
    """A name is told whole, and what is told can be used."""
    state, other = place.open(), place.open()
    for name in NAMES[::9]:
        with state.locked(name, ttl=60):
            assert [lock["name"] for lock in other.locks()] == [name]
            assert not other.try_lock(name)
        assert other.try_lock(name)
        assert state.break_lock(other.locks()[0]["name"], alive=True)
        with state.watch(name=name) as watch:
            assert [each["name"] for each in other.watches()] == [name]
            other.set("k", 1)
            assert watch.next(5) is not None
        assert other.unwatch(name)
