"""Keys: listing, scanning, patterns as ranges, clearing, many at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.places import Place, unchanged
from helpers.support import Clock
from slothstate import InvalidKey, InvalidValue, PatternError, State
from slothstate.native import glob_match
from slothstate.patterns import key_range
from slothstate.verbs import keys as verbs_module

SAMPLE = sorted([
    "a", "a*", "a:1", "a:10", "a:2", "a[", "a\\", "ab", "b", "A", "é", "éa", "\ud7ff", "\ud7ffx", "\ue000",
    "\U0010ffff", "\U0010ffffx", "\x01", "\x7f", "user:1", "user:2:name", "z" * 100,
])  # fmt: skip

PATTERNS = [
    None, "*", "", "a", "a*", "a:*", "a:?", "*1", "?", "[ab]", "[^ab]", "[!a]*", "a\\*", "a\\[", "é*", "\ud7ff*",
    "\U0010ffff*", "\\a*", "user:*:name", "[a-b]*", "x*", "**", "a?*", "\x01*", "A", "z*z",
]  # fmt: skip


@pytest.fixture
def pages_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that sets how many keys a page of `scan` holds."""

    def set_size(size: int) -> None:
        monkeypatch.setattr(verbs_module, "SCAN_PAGE", size)

    return set_size


@pytest.mark.parametrize("size", [1, 2, 3, len(SAMPLE) - 1, len(SAMPLE), len(SAMPLE) + 1, 1000])
def test_keys_and_scan(state: State, pages_of: Callable[[int], None], size: int) -> None:
    """`keys` and `scan` give the live matching keys in code point order, whatever falls on the edge of a page."""
    pages_of(size)
    state.set_many(dict.fromkeys(SAMPLE, 1))
    for pattern in PATTERNS:
        expected = [key for key in SAMPLE if pattern is None or glob_match(pattern, key)]
        assert state.keys(pattern) == list(state.scan(pattern)) == expected


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("clock_moves", [False, True])
def test_expired_keys_fill_no_page(
    state: State, clock: Clock, pages_of: Callable[[int], None], size: int, clock_moves: bool
) -> None:
    """Expired keys are in no page, and whole pages of them do not end a listing early."""
    pages_of(size)
    state.set_many({f"k{number}": 1 for number in range(10)}, ttl=10)
    state.set_many({"a": 1, "z": 1})
    if clock_moves:
        clock.advance(10)
        assert state.keys() == list(state.scan()) == list(state) == ["a", "z"]
        assert (state.keys("k*"), len(state), state.stats()["total_keys"]) == ([], 2, 2)
    else:
        assert len(state.keys()) == len(list(state.scan())) == len(state) == 12


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_deleting_while_scanning(state: State, pages_of: Callable[[int], None], size: int) -> None:
    """Keys may be deleted and added while a scan runs: one that is there all the time comes exactly once."""
    pages_of(size)
    state.set_many({f"k{number:02}": 1 for number in range(20)})
    seen = []
    for key in state.scan():
        seen.append(key)
        state.delete(key)
        state.set(f"a{key}", 1)
    assert seen == [f"k{number:02}" for number in range(20)]
    for key in state:
        del state[key]
    assert state.keys() == []


def test_scan_is_lazy_and_holds_nothing_open(state: State, open_state: Callable[[], State]) -> None:
    """Between two keys of a scan no transaction is open: another handle writes, and it goes on after a close."""
    state.set_many({"a": 1, "b": 2})
    scan = state.scan()
    assert next(scan) == "a"
    with open_state() as other:
        other.set("c", 3)
        assert other.clear("c") == 1
    assert list(scan) == ["b"]


def test_scan_checks_its_pattern_at_the_call(state: State) -> None:
    """A bad pattern is refused when `scan` is called and not at the first key."""
    with pytest.raises(PatternError):
        state.scan("[")


@pytest.mark.parametrize("verb", ["keys", "scan", "clear"])
@pytest.mark.parametrize("pattern", ["[", "[a", "[^", "\\", "a\\", "[z-a]", "[]", "*[!", "[a-"])
def test_bad_pattern(state: State, place: Place, verb: str, pattern: str) -> None:
    """A pattern outside the grammar is `PatternError` naming it, and `clear` removes nothing."""
    state.set("a", 1)
    with unchanged(place), pytest.raises(PatternError) as caught:
        getattr(state, verb)(pattern)
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("verb", ["keys", "scan", "clear"])
@pytest.mark.parametrize("pattern", [7, b"a*", ["a"], True])
def test_pattern_that_is_no_text(state: State, place: Place, verb: str, pattern: Any) -> None:
    """A pattern is a str or None; anything else is `PatternError`, and `clear` removes nothing."""
    state.set("a", 1)
    with unchanged(place), pytest.raises(PatternError):
        getattr(state, verb)(pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_clear(state: State, pattern: str | None) -> None:
    """`clear` removes exactly what `keys` lists, lists with their items, and returns how many."""
    state.set_many(dict.fromkeys(SAMPLE, 1))
    state.list_push("user:list", 1, 2)
    doomed = state.keys(pattern)
    kept = [key for key in state if key not in doomed]
    assert state.clear(pattern) == len(doomed)
    assert state.keys() == kept
    assert state.clear(pattern) == 0


def test_clear_does_not_count_the_expired(state: State, clock: Clock, place: Place) -> None:
    """What is expired is no key: `clear` may remove its rows, but does not count them."""
    state.set_many({"a": 1, "b": [1]}, ttl=1)
    state.list_push("c", 1, 2)
    state.set_ttl("c", 1)
    state.set("d", 1)
    clock.advance(1)
    assert state.clear("[ab]") == 0
    assert state.clear() == 1
    assert state.keys() == []


@pytest.mark.parametrize("pattern", [None, "*", "lock*"])
def test_clear_never_touches_locks(state: State, pattern: str | None) -> None:
    """Locks have names of their own: no pattern frees one, and its token stays good."""
    state.set("lock", 1)
    with state.locked("lock") as lock:
        assert state.clear(pattern) == 1
        assert [held["name"] for held in state.locks()] == ["lock"]
        lock.ensure_held()
    assert state.keys() == []


@given(texts=st.sets(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)))
def test_order_is_by_code_point(shared_state: State, texts: set[str]) -> None:
    """Python's order of str is the order of the listing."""
    shared_state.clear()
    shared_state.set_many(dict.fromkeys(texts, 1))
    assert shared_state.keys() == sorted(texts)


KEY_TEXT = st.text(st.sampled_from("ab*?[]\\-^!é\ud7ff\ue000\U0010ffff"), min_size=1, max_size=6)


@given(keys=st.sets(KEY_TEXT), prefix=KEY_TEXT)
def test_a_range_holds_every_match(keys: set[str], prefix: str) -> None:
    """No key that matches lies outside the range that a pattern is turned into."""
    pattern = "".join(f"\\{character}" for character in prefix) + "*"
    lower, upper = key_range(pattern)
    for key in {*keys, prefix, prefix + "\U0010ffff"}:
        inside = lower <= key and (upper is None or key < upper)
        assert inside == key.startswith(prefix)


@pytest.mark.parametrize(
    ("pattern", "bounds"),
    [
        ("*", ("", None)),
        ("a*", ("a", "b")),
        ("ab?", ("ab", "ac")),
        ("\ud7ff*", ("\ud7ff", "\ue000")),
        ("a\U0010ffff*", ("a\U0010ffff", "b")),
        ("\U0010ffff*", ("\U0010ffff", None)),
        ("[ab]c", ("", None)),
    ],
)
def test_key_range(pattern: str, bounds: tuple[str, str | None]) -> None:
    """The literal beginning of a pattern bounds the keys it can match."""
    assert key_range(pattern) == bounds


def test_get_many(state: State, clock: Clock) -> None:
    """`get_many` gives the keys that are there, in the order asked, each once; any iterable of keys will do."""
    state.set_many({"a": 1, "b": [1], "c": "x"})
    state.set("expired", 1, ttl=1)
    clock.advance(1)
    expected = {"b": [1], "a": 1}
    assert list(state.get_many(["b", "missing", "a", "b", "expired"]).items()) == list(expected.items())
    assert state.get_many(key for key in ("b", "a")) == state.get_many({"b": 0, "a": 0}) == expected
    assert state.get_many([]) == {}


@pytest.mark.parametrize("keys", [None, 7, "abc", b"abc"])
def test_get_many_of_no_keys(state: State, keys: Any) -> None:
    """One str is not an iterable of keys, though Python would iterate over it."""
    with pytest.raises(InvalidKey, match="keys must be an iterable of keys"):
        state.get_many(keys)


def test_set_many(state: State) -> None:
    """`set_many` replaces value, kind and TTL of every key, with one TTL for all of them or none."""
    state.set("a", 1, ttl=5)
    state.list_push("b", 1, 2)
    assert state.set_many({"a": [1], "b": "x", "c": b"y"})
    assert state.get_many(list("abc")) == {"a": [1], "b": "x", "c": b"y"}
    assert [state.get_ttl(key) for key in "abc"] == [-1, -1, -1]
    assert state.set_many({"a": 1, "d": 2}, ttl=60)
    assert [state.get_ttl(key) for key in "abcd"] == [60, -1, -1, 60]
    assert state.set_many({})
    assert state.set_many({}, ttl=5)


@pytest.mark.parametrize("mapping", [None, [("a", 1)], "ab", 7, {"a"}])
def test_set_many_of_no_mapping(state: State, place: Place, mapping: Any) -> None:
    """Only a mapping will do, and the message says so."""
    with unchanged(place), pytest.raises(InvalidValue, match="mapping must be a mapping"):
        state.set_many(mapping)


@pytest.mark.parametrize("bad", ["", "a\0", 7, None, "k" * 4097])
def test_set_many_with_one_bad_key_sets_none(state: State, place: Place, bad: Any) -> None:
    """Keys and values are checked before anything is written."""
    with unchanged(place), pytest.raises(InvalidKey):
        state.set_many({"a": 1, bad: 2, "z": 3})


def test_many_keys(state: State) -> None:
    """Thousands of keys are listed, counted, scanned and cleared whole."""
    keys = [f"{letter}:{number:04}" for letter in "abc" for number in range(2500)]
    state.set_many(dict.fromkeys(keys, 0))
    assert state.keys() == list(state.scan()) == keys
    assert len(state) == state.stats()["total_keys"] == 7500
    assert list(itertools.islice(state.scan("b:*"), 3)) == ["b:0000", "b:0001", "b:0002"]
    assert state.clear("b:*") == 2500
    assert state.clear() == 5000


def test_what_is_no_pattern_is_named(state: State) -> None:
    """The message names the argument, what was given and what was expected."""
    for verb in (state.keys, state.scan, state.clear):
        with pytest.raises(PatternError, match=r"^pattern must be a str, got int 5$"):
            verb(5)  # type: ignore[arg-type]
