"""Numbers and texts that grow in place: increment, decrement and append."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import unchanged

import slothstate
from slothstate import InvalidValue, OutOfRange, State, StateBusy, WrongType
from slothstate.engines.sqlite import counters
from slothstate.engines.sqlite.connection import Atomic

MAX, MIN = 2**63 - 1, -(2**63)
FLOAT_MAX = 1.7976931348623157e308


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
def test_increment(state: State, start: float, delta: float, total: float) -> None:
    """int + int stays int to the last of 64 bits, and a float on either side makes a float."""
    state.set("k", start)
    got = state.increment("k", delta)
    assert (got, type(got)) == (total, type(total))
    assert (state.get("k"), type(state.get("k"))) == (total, type(total))


@pytest.mark.parametrize(
    ("start", "delta"),
    [(MAX, 1), (MAX, MAX), (MIN, -1), (MIN, MIN), (MAX - 5, 6), (FLOAT_MAX, FLOAT_MAX), (-FLOAT_MAX, -FLOAT_MAX)],
)
def test_increment_out_of_range(state: State, path: str, start: float, delta: float) -> None:
    """A sum past 64 bits, or past the largest float, is `OutOfRange` both ways, and the value is untouched."""
    state.set("k", start, ttl=60)
    with unchanged(path), pytest.raises(OutOfRange, match=r"'k'.*the value is unchanged"):
        state.increment("k", delta)
    if delta != MIN:
        with unchanged(path), pytest.raises(OutOfRange):
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
def test_decrement_by_the_smallest_integer_out_of_range(state: State, path: str, start: int) -> None:
    """`decrement` by -2^63 is `OutOfRange` where the difference does not fit, and changes nothing."""
    state.set("k", start)
    with unchanged(path), pytest.raises(OutOfRange):
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
def test_bad_delta(state: State, path: str, verb: str, delta: Any, error: type[Exception]) -> None:
    """A delta that is no finite number of 64 bits is refused by name, whatever the key holds."""
    state.set_many({"k": 1, "text": "x"})
    for key in ("k", "text", "missing"):
        with unchanged(path), pytest.raises(error, match=r"^delta: "):
            getattr(state, verb)(key, delta)


@pytest.mark.parametrize("text", ["7", " 7", "12x", "", "1e3", "0x10"])
def test_text_is_no_number(state: State, path: str, text: str) -> None:
    """A text that looks like a number is none: nothing is converted."""
    state.set("k", text)
    with unchanged(path), pytest.raises(WrongType):
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
def test_append_does_not_mix(state: State, path: str, there: Any, text: Any) -> None:
    """Text goes to a string and bytes to bytes; a mix is `WrongType`, even where one is empty."""
    state.set("k", there)
    with unchanged(path), pytest.raises(WrongType):
        state.append("k", text)


@pytest.mark.parametrize("text", [None, 1, True, ["a"], {"a": 1}, bytearray(b"x"), "\ud800"])
def test_append_of_anything_else(state: State, path: str, text: Any) -> None:
    """`append` takes str or bytes that can be stored, and names its argument otherwise."""
    state.set("k", "a")
    with unchanged(path), pytest.raises(InvalidValue, match=r"^text"):
        state.append("k", text)


@given(texts=st.lists(st.text()))
def test_append_many(shared_state: State, texts: list[str]) -> None:
    """Appending one text after another leaves their concatenation."""
    shared_state.delete("k")
    for number, text in enumerate(texts, 1):
        assert shared_state.append("k", text) == len("".join(texts[:number]))
    assert shared_state.get("k", "") == "".join(texts)


@pytest.mark.parametrize(
    ("before", "meanwhile", "verb", "total"),
    [
        ("text", 5, lambda state: state.increment("k", 2), 7),
        ([1], 5, lambda state: state.increment("k", 2), 7),
        (MAX, 5, lambda state: state.increment("k", 2), 7),
        (5, "text", lambda state: state.append("k", "!"), 5),
        ([1], b"bytes", lambda state: state.append("k", b"!"), 6),
    ],
)
def test_a_value_that_changes_its_kind_meanwhile(
    state: State, path: str, monkeypatch: pytest.MonkeyPatch, before: Any, meanwhile: Any, verb: Any, total: Any
) -> None:
    """A first try that met another kind is no verdict: what counts is what the key holds under the write lock."""
    with slothstate.open(path) as other:

        class AfterAnothersWrite(Atomic):
            def __enter__(self) -> None:
                other.set("k", meanwhile)
                super().__enter__()

        monkeypatch.setattr(counters, "Atomic", AfterAnothersWrite)
        other.set("k", before)
        assert verb(state) == total


@pytest.mark.parametrize(
    ("grow", "size"),
    [
        (lambda state: state.increment("k"), lambda state: state.get("k")),
        (lambda state: state.increment("k", 1.0), lambda state: state.get("k")),
        (lambda state: state.append("k", "x"), lambda state: len(state.get("k"))),
        (lambda state: state.list_push("k", 1), lambda state: state.list_length("k")),
        (lambda state: state.list_push("k", *[1] * 3), lambda state: state.list_length("k") // 3),
    ],
    ids=["increment", "increment-float", "append", "push", "push-several"],
)
def test_another_writer_between_any_two_statements(path: str, grow: Any, size: Any) -> None:
    """Whoever gets in before each of an operation's statements that he can, no growth is lost."""
    with slothstate.open(path) as state, slothstate.open(path, busy_timeout=0) as other:
        grow(state)
        landed = 1

        def get_in(*_: object) -> bool:
            nonlocal landed
            with suppress(StateBusy):
                grow(other)
                landed += 1
            return True

        (connection,) = state._engine.store._idle
        connection.db.exec_trace = get_in
        for _ in range(5):
            grow(state)
            landed += 1
        connection.db.exec_trace = None
        assert landed > 10
        assert size(state) == landed
