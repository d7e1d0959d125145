"""Numbers and texts that grow in place: increment, decrement and append."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.places import Place, unchanged
from slothstate import InvalidValue, OutOfRange, State, WrongType

MAX, MIN = 2**63 - 1, -(2**63)
FLOAT_MAX = 1.7976931348623157e308


# An engine may expect that a counter is new where the last one was.
after_new = pytest.mark.parametrize("new", [0, 1])


@after_new
@pytest.mark.parametrize(
    ("start", "delta", "total"),
    [
        (0, 1, 1),
        (1, -1, 0),
        (5, 0, 5),
        (1, 0.5, 1.5),
        (0.5, 1, 1.5),
        (0.5, 0.5, 1.0),
        (1.5, -0.5, 1.0),
        (MAX - 1, 1, MAX),
        (MIN + 1, -1, MIN),
        (MAX, MIN, -1),
        (0, MIN, MIN),
        (-1, MAX, MAX - 1),
        (2**53, 1, 2**53 + 1),
        (MAX, 0.0, 2.0**63),
        (0.1, 0.2, 0.30000000000000004),
        (FLOAT_MAX, 0, FLOAT_MAX),
        (FLOAT_MAX, -FLOAT_MAX, 0.0),
    ],
)
def test_increment(state: State, start: float, delta: float, total: float, new: int) -> None:
    """int + int stays int to the last of 64 bits, and a float on either side makes a float; the end stays."""
    state.set("k", start, ttl=60)
    for number in range(new):
        state.increment(f"new {number}")
    got = state.increment("k", delta, ttl=99)
    assert (got, type(got)) == (total, type(total))
    assert (state.get("k"), type(state.get("k"))) == (total, type(total))
    assert state.get_ttl("k") == 60


@after_new
@pytest.mark.parametrize(
    ("start", "delta"),
    [(MAX, 1), (MAX, MAX), (MIN, -1), (MIN, MIN), (MAX - 5, 6), (FLOAT_MAX, FLOAT_MAX), (-FLOAT_MAX, -FLOAT_MAX)],
)
def test_increment_out_of_range(state: State, place: Place, start: float, delta: float, new: int) -> None:
    """A sum past 64 bits, or past the largest float, is `OutOfRange` both ways, and the value is untouched."""
    state.set("k", start, ttl=60)
    for number in range(new):
        state.increment(f"new {number}")
    with unchanged(place), pytest.raises(OutOfRange, match=r"'k'.*the value is unchanged"):
        state.increment("k", delta)
    if delta != MIN:
        with unchanged(place), pytest.raises(OutOfRange):
            state.decrement("k", -delta)


@pytest.mark.parametrize(
    ("start", "delta", "rest"), [(0, 1, -1), (0, -1, 1), (-1, MIN, MAX), (MIN, MIN, 0), (5.5, 2, 3.5), (MAX, MAX, 0)]
)
def test_decrement(state: State, start: float, delta: float, rest: float) -> None:
    """`decrement` subtracts, also the one integer whose opposite does not fit."""
    state.set("k", start, ttl=60)
    got = state.decrement("k", delta)
    assert (got, type(got)) == (rest, type(rest))
    assert (state.get("k"), state.get_ttl("k")) == (rest, 60)


@pytest.mark.parametrize("start", [0, 1, MAX])
def test_decrement_by_the_smallest_integer_out_of_range(state: State, place: Place, start: int) -> None:
    """`decrement` by -2^63 is `OutOfRange` where the difference does not fit, and changes nothing."""
    state.set("k", start)
    with unchanged(place), pytest.raises(OutOfRange):
        state.decrement("k", MIN)


@given(start=st.integers(MIN, MAX), delta=st.integers(MIN, MAX))
def test_increment_is_exact(shared_state: State, start: int, delta: int) -> None:
    """Any two 64-bit integers add up exactly or not at all."""
    shared_state.set("k", start)
    if MIN <= start + delta <= MAX:
        assert shared_state.increment("k", delta) == start + delta
    else:
        with pytest.raises(OutOfRange):
            shared_state.increment("k", delta)
        assert shared_state.get("k") == start
    shared_state.set("k", start)
    if MIN <= start - delta <= MAX:
        assert shared_state.decrement("k", delta) == start - delta


@pytest.mark.parametrize("verb", ["increment", "decrement"])
@pytest.mark.parametrize(
    ("delta", "error"),
    [
        ("1", InvalidValue),
        (None, InvalidValue),
        (True, InvalidValue),
        ([1], InvalidValue),
        (math.nan, InvalidValue),
        (math.inf, InvalidValue),
        (-math.inf, InvalidValue),
        (1j, InvalidValue),
        (2**63, OutOfRange),
        (MIN - 1, OutOfRange),
        (10**400, OutOfRange),
    ],
)
def test_bad_delta(state: State, place: Place, verb: str, delta: Any, error: type[Exception]) -> None:
    """A delta that is no finite number of 64 bits is refused by name, whatever the key holds."""
    state.set_many({"k": 1, "text": "x"})
    for key in ("k", "text", "missing"):
        with unchanged(place), pytest.raises(error, match=r"^delta: "):
            getattr(state, verb)(key, delta)


@pytest.mark.parametrize("text", ["7", " 7", "12x", "", "1e3", "0x10"])
def test_text_is_no_number(state: State, place: Place, text: str) -> None:
    """A text that looks like a number is none: nothing is converted."""
    state.set("k", text)
    with unchanged(place), pytest.raises(WrongType):
        state.increment("k")


@pytest.mark.parametrize(
    ("start", "text", "length"),
    [
        ("", "", 0),
        ("a", "", 1),
        ("a", "b", 2),
        ("é", "\U0001f600", 2),
        ("a\0b", "\0", 4),
        ("", "\0", 1),
        ("e", "\u0301", 2),
        ("1", "2", 2),
        (b"", b"", 0),
        (b"\xff", b"\0\xfe", 3),
        (b"\xc3", b"\xa9", 2),
        ("x" * 2**16, "é" * 2**16, 2**17),
    ],
)
def test_append(state: State, start: Any, text: Any, length: int) -> None:
    """`append` returns the new length in code points, or in bytes for bytes, NUL and all."""
    state.set("k", start, ttl=60)
    assert state.append("k", text) == length
    assert (state.get("k"), type(state.get("k"))) == (start + text, type(start))
    assert state.get_ttl("k") == 60


@pytest.mark.parametrize(("there", "text"), [("a", b"a"), (b"a", "a"), ("", b""), (b"", "")])
def test_append_does_not_mix(state: State, place: Place, there: Any, text: Any) -> None:
    """Text goes to a string and bytes to bytes; a mix is `WrongType`, even where one is empty."""
    state.set("k", there)
    with unchanged(place), pytest.raises(WrongType):
        state.append("k", text)


@pytest.mark.parametrize("text", [None, 1, True, ["a"], {"a": 1}, bytearray(b"x"), "\ud800"])
def test_append_of_anything_else(state: State, place: Place, text: Any) -> None:
    """`append` takes str or bytes that can be stored, and names its argument otherwise."""
    state.set("k", "a")
    with unchanged(place), pytest.raises(InvalidValue, match=r"^text"):
        state.append("k", text)


@given(texts=st.lists(st.text()))
def test_append_many(shared_state: State, texts: list[str]) -> None:
    """Appending one text after another leaves their concatenation."""
    shared_state.delete("k")
    for number, text in enumerate(texts, 1):
        assert shared_state.append("k", text) == len("".join(texts[:number]))
    assert shared_state.get("k", "") == "".join(texts)
