"""The wildcard matcher against its grammar: tables, a slow oracle, bad patterns, patterns made to be slow."""

from __future__ import annotations

import doctest
import pickle
import signal
import threading
import time
from functools import lru_cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import slothstate
from helpers.support import in_time, processor_time
from slothstate import patterns
from slothstate.errors import PatternError

MATCHES = [
    ("*", "", True),
    ("*", "anything", True),
    ("***", "x", True),
    ("", "", False),
    ("", "a", False),
    ("abc", "abc", True),
    ("abc", "abcd", False),
    ("abc", "ab", False),
    ("abc", "ABC", False),
    ("a*", "a", True),
    ("a*", "ba", False),
    ("*a", "ba", True),
    ("*a", "ab", False),
    ("a*b", "ab", True),
    ("a*b", "a", False),
    ("aa*aa", "aaa", False),
    ("aa*aa", "aaaa", True),
    ("*aab", "aaaab", True),
    ("a*b*c", "abbc", True),
    ("a*b*c", "acb", False),
    ("user:*:profile", "user:7:profile", True),
    ("user:*:profile", "user::profile", True),
    ("user:*:profile", "user:profile", False),
    ("?", "", False),
    ("?", "é", True),
    ("?", "\U0001f9a5", True),
    ("??", "é", False),
    ("*?", "", False),
    ("?*?", "ab", True),
    ("e\N{COMBINING ACUTE ACCENT}", "é", False),
    ("[abc]", "b", True),
    ("[abc]", "d", False),
    ("[abc]", "", False),
    ("[a-c]x", "bx", True),
    ("[a-a]", "a", True),
    ("[^a]", "a", False),
    ("[^a]", "b", True),
    ("[!a]", "b", True),
    ("[^a]", "", False),
    ("[a^]", "^", True),
    ("[a!]", "!", True),
    ("[^^]", "^", False),
    ("[]]", "]", True),
    ("[^]]", "]", False),
    ("[!]a]", "]", False),
    ("[]-a]", "^", True),
    ("[a-]", "-", True),
    ("[-a]", "-", True),
    ("[^-a]", "-", False),
    ("[a-c-e]", "-", True),
    ("[a-c-e]", "d", False),
    ("[+--]", ",", True),
    ("[a\\-z]", "m", False),
    ("[a\\-z]", "-", True),
    ("[\\]]", "]", True),
    ("[\\a-\\c]", "b", True),
    ("[[]", "[", True),
    ("[*?]", "*", True),
    ("[*?]", "a", False),
    ("[а-я]", "ж", True),
    ("[а-я]", "a", False),
    ("[\U00010000-\U0010ffff]", "\U0001f9a5", True),
    ("[^a]", "\U0001f9a5", True),
    ("\\*", "*", True),
    ("\\*", "a", False),
    ("\\\\", "\\", True),
    ("\\a", "a", True),
    ("\\é*", "tée", False),
    ("\\é*", "étage", True),
    ("a]", "a]", True),
    ("a^-!", "a^-!", True),
    ("a\0b", "a\0b", True),
    ("a?b", "a\0b", True),
    ("a", "a\0b", False),
]


@pytest.mark.parametrize(("pattern", "key", "matches"), MATCHES)
def test_matches_what_the_grammar_says(pattern: str, key: str, matches: bool) -> None:
    """Each construct of the grammar matches these keys and not those."""
    assert patterns.match(pattern, key) is matches


BAD_PATTERNS = [
    ("[", 0, "not closed"),
    ("a[b", 1, "not closed"),
    ("é[^", 1, "not closed"),
    ("[]", 0, "not closed"),
    ("[^]", 0, "not closed"),
    ("[!]", 0, "not closed"),
    ("[a-", 0, "not closed"),
    ("x[abc][de", 6, "not closed"),
    ("\\", 0, "backslash"),
    ("ab\\", 2, "backslash"),
    ("[a\\", 2, "backslash"),
    ("[a-\\", 3, "backslash"),
    ("[z-a]", 1, "reversed"),
    ("ééé[ab-a]", 5, "reversed"),
    ("[a--]", 1, "reversed"),
    ("a\ud800", 1, "surrogate"),
]


@pytest.mark.parametrize(("pattern", "position", "problem"), BAD_PATTERNS)
def test_bad_patterns_are_named_with_their_position(pattern: str, position: int, problem: str) -> None:
    """Every function refuses a pattern outside the grammar, naming it, where it fails, and why."""
    for call in (
        lambda: patterns.check(pattern),
        lambda: patterns.match(pattern, "a"),
        lambda: patterns.filter(pattern, "a\0b"),
        lambda: patterns.prefix(pattern),
        lambda: patterns.exact(pattern),
        lambda: patterns.key_range(pattern),
    ):
        with pytest.raises(PatternError, match=problem) as caught:
            call()
        assert f"pattern {pattern!r}, position {position}:" in str(caught.value)
        assert isinstance(caught.value, ValueError)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(("pattern", "named"), [(None, "NoneType"), (7, "int"), (b"a*", "bytes"), ([], "list")])
def test_only_a_str_is_a_pattern(pattern: object, named: str) -> None:
    """A pattern of another type is refused by its type's name."""
    with pytest.raises(PatternError, match=f"must be a str, not {named}"):
        patterns.check(pattern)  # type: ignore[arg-type]


def test_a_long_pattern_is_cut_in_the_message() -> None:
    """The message about a pattern of a megabyte is still a line."""
    with pytest.raises(PatternError, match="position 1000000") as caught:
        patterns.check("a" * 1_000_000 + "[")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("arguments", [(), ("a",), ("a", "b", "c")])
def test_wrong_argument_counts_are_type_errors(arguments: tuple[str, ...]) -> None:
    """The built-in functions count their arguments."""
    with pytest.raises(TypeError):
        patterns.match(*arguments)


def test_only_a_str_is_matched() -> None:
    """Keys and pages are str; anything else is a TypeError naming its type."""
    for call in (patterns.match, patterns.filter):
        with pytest.raises(TypeError, match="bytes"):
            call("a", b"a")  # type: ignore[arg-type]


def parse(pattern: str) -> list[object]:
    """The items of a pattern: "*", "?", a literal as ("x",) or a class as (negated, ranges)."""
    items: list[object] = []
    rest = list(pattern)

    def character() -> str:
        taken = rest.pop(0)
        return rest.pop(0) if taken == "\\" else taken

    try:
        while rest:
            if rest[0] in "*?":
                items.append(rest.pop(0))
            elif rest[0] != "[":
                items.append((character(),))
            else:
                rest.pop(0)
                negated = rest[0] in "^!"
                if negated:
                    rest.pop(0)
                ranges: list[tuple[str, str]] = []
                while not ranges or rest[0] != "]":
                    low = high = character()
                    if rest[0] == "-" and rest[1] != "]":
                        rest.pop(0)
                        high = character()
                    if low > high:
                        raise ValueError("reversed")
                    ranges.append((low, high))
                rest.pop(0)
                items.append((negated, ranges))
    except IndexError as cause:
        raise ValueError("unfinished") from cause
    return items


def takes(item: object, character: str) -> bool:
    """Whether an item that is not "*" takes the character."""
    if item == "?":
        return True
    if isinstance(item, tuple) and len(item) == 1:
        return bool(item[0] == character)
    assert isinstance(item, tuple)
    negated, ranges = item
    return bool(any(low <= character <= high for low, high in ranges) != negated)


def oracle(pattern: str, key: str) -> bool:
    """Whether the key matches, by trying everything."""
    items = parse(pattern)

    @lru_cache(None)
    def matches(item: int, at: int) -> bool:
        if item == len(items):
            return at == len(key)
        if items[item] == "*":
            return matches(item + 1, at) or (at < len(key) and matches(item, at + 1))
        return at < len(key) and takes(items[item], key[at]) and matches(item + 1, at + 1)

    return bool(items) and matches(0, 0)


# Few characters, so that matches are common: of each UTF-8 length, of both ends of ranges, and every special.
CHARACTERS = "ab*?[]^!-\\é漢\U0001f9a5\0"
KEYS = st.text("ab-]é漢\U0001f9a5\\", max_size=12)
PATTERNS = st.one_of(
    st.text(CHARACTERS, max_size=12),
    st.lists(
        st.one_of(
            st.sampled_from(["*", "?", "a", "b", "é", "漢", "\U0001f9a5", "\\*", "\\é", "-", "]"]),
            st.sampled_from(["[ab]", "[^a]", "[!é]", "[a-é]", "[]a]", "[b-漢-]", "[^\\]-]", "[é-\U0001f9a5]"]),
        ),
        max_size=8,
    ).map("".join),
)


@settings(max_examples=2000, deadline=None)
@given(PATTERNS, KEYS)
@example("[a-\\", "a")
@example("*a*b", "aab")
def test_the_matcher_agrees_with_the_oracle(pattern: str, key: str) -> None:
    """The C matcher accepts the same patterns and matches the same keys as the grammar read naively."""
    try:
        expected = oracle(pattern, key)
    except ValueError:
        with pytest.raises(PatternError):
            patterns.check(pattern)
    else:
        patterns.check(pattern)
        assert patterns.match(pattern, key) is expected


@settings(max_examples=500, deadline=None)
@given(PATTERNS, st.lists(KEYS.filter(bool), max_size=12))
def test_filtering_a_page_is_matching_each_key(pattern: str, keys: list[str]) -> None:
    """`filter` gives, in order, exactly the keys that `match` accepts."""
    try:
        parse(pattern)
    except ValueError:
        return
    assert patterns.filter(pattern, "\0".join(keys)) == [key for key in keys if patterns.match(pattern, key)]


def test_an_empty_page_has_no_keys() -> None:
    """The page of no keys is the empty str, not one empty key."""
    assert patterns.filter("*", "") == []


@settings(max_examples=1000, deadline=None)
@given(PATTERNS, st.text("ab\ud7ff\ue000\U0010fffe\U0010ffff*é", max_size=6), st.booleans())
def test_the_range_holds_every_match(pattern: str, key: str, prefixed: bool) -> None:
    """A key outside of `key_range`, in the order of UTF-8 bytes, never matches; `exact` is the only match."""
    try:
        parse(pattern)
    except ValueError:
        return
    if prefixed:
        key = patterns.prefix(pattern) + key
    lower, upper = patterns.key_range(pattern)
    inside = lower.encode() <= key.encode() and (upper is None or key.encode() < upper.encode())
    matches = patterns.match(pattern, key)
    assert inside or not matches
    if (only := patterns.exact(pattern)) is not None:
        assert matches is (key == only)


RANGES = [
    ("", ("", "")),
    ("*", ("", None)),
    ("user:*", ("user:", "user;")),
    ("user:\\*[ab]", ("user:*", "user:+")),
    ("abc", ("abc", "abd")),
    ("a\ud7ff*", ("a\ud7ff", "a\ue000")),
    ("a\U0010ffff\U0010ffff*", ("a\U0010ffff\U0010ffff", "b")),
    ("\U0010ffff*", ("\U0010ffff", None)),
    ("é?", ("é", "ê")),
]


@pytest.mark.parametrize(("pattern", "bounds"), RANGES)
def test_key_range_bounds(pattern: str, bounds: tuple[str, str | None]) -> None:
    """The range begins with the literal prefix and ends before the next text that does not begin with it."""
    assert patterns.key_range(pattern) == bounds


@pytest.mark.parametrize(
    ("pattern", "key"), [("", None), ("a*", None), ("a\\*", "a*"), ("\\\\*", None), ("\\\\\\*", "\\*"), ("[a]", None)]
)
def test_exact_sees_escapes(pattern: str, key: str | None) -> None:
    """A wildcard counts unless a backslash that is not itself escaped stands before it."""
    assert patterns.exact(pattern) == key


SLOW_PATTERNS = [
    ("a*" * 20 + "b", "a" * 4096),
    ("*a" * 40 + "b", "a" * 4096),
    ("*?" * 50_000, "x" * 50_000),
    ("?*" * 50_000, "é" * 50_000),
    ("*" * 1_000_000, "x" * 4096),
    ("*" + "a" * 2048 + "b*", "a" * 4096),
    ("*[^b][^b][^b]b*", "a" * 4096),
    ("*" + "[a-z]" * 400 + "1", "a" * 4096),
    ("[" + "a-z" * 1300 + "]*b", "a" * 4096),
    ("*é" * 1000 + "\U0001f9a5", "é" * 2048),
]


@pytest.mark.parametrize(("pattern", "key"), SLOW_PATTERNS, ids=lambda text: f"{text[:8]}..{len(text)}")
def test_no_pattern_is_catastrophic(pattern: str, key: str) -> None:
    """Patterns made to blow up a backtracking matcher are answered in a fraction of a second of the processor."""
    assert in_time(lambda: processor_time(lambda: patterns.match(pattern, key)), 0.5)


# Several seconds, if nothing ends them: one key against one pattern, and a page of many keys.
LONG_WAYS = {
    "filter": ("*" + "a" * 2_000_000 + "b*", "\0".join(["a" * 4096] * 40)),
    "match": ("*" + "[a-z]?" * 1_500_000 + "1", "a" * 3_000_000),
    "classes": ("*[" + "b-z" * 200_000 + "]", "\0".join(["a" * 4096] * 10)),
}


@pytest.mark.parametrize("way", LONG_WAYS)
def test_a_long_search_is_interrupted(way: str) -> None:
    """A signal's handler runs while keys are compared, and its exception ends the search."""
    pattern, text = LONG_WAYS[way]

    class Enough(Exception):
        pass

    def handler(*_: object) -> None:
        raise Enough

    before = signal.signal(signal.SIGALRM, handler)
    began = time.perf_counter()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Enough):
            for _ in range(100):
                (patterns.match if way == "match" else patterns.filter)(pattern, text)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.perf_counter() - began < 5


def test_other_threads_run_during_a_long_search() -> None:
    """Another thread comes to its turn again and again, also where it drops what is searched."""
    turns, done = 0, threading.Event()

    def search() -> None:
        assert patterns.filter("*" + "a" * 2_000 + "b*", "\0".join(["a" * 4096] * 40)) == []
        done.set()

    thread = threading.Thread(target=search)
    thread.start()
    while not done.is_set():
        turns += 1
        time.sleep(0.001)
    thread.join()
    assert turns > 3


def test_a_million_keys_are_filtered_in_one_call() -> None:
    """Filtering a page costs well under a microsecond a key."""
    page = "\0".join(f"user:{number}:profile" for number in range(1_000_000))
    assert len(patterns.filter("user:*7:profile", page)) == 100_000
    assert in_time(lambda: processor_time(lambda: patterns.filter("user:*7:profile", page)), 1.0)


def test_the_examples_in_the_docs_run() -> None:
    """The doctests of the module hold."""
    assert doctest.testmod(patterns).failed == 0


def test_matches_refuses_what_is_no_text() -> None:
    """A key that no store can have is `InvalidKey`, as for every verb."""
    assert slothstate.matches("*", "any") is True
    for wrong in ("\ud800", 5, None, b"any"):
        with pytest.raises(slothstate.InvalidKey):
            slothstate.matches("*", wrong)  # type: ignore[arg-type]
