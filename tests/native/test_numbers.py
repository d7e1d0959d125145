"""Numbers in the codec: 64-bit integers exactly, doubles as `repr` writes and `float` reads them."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slothstate.errors import InvalidValue, OutOfRange
from slothstate.native import json_decode, json_encode


def encode(value: object) -> str:
    """The JSON text of a value whose path in messages begins with "value"."""
    return json_encode(value, "value")


def same(left: object, right: object) -> bool:
    """Whether two numbers are equal with the same type and sign."""
    return repr(left) == repr(right)


INTEGERS = [
    *(sign * number for number in (0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 10**9, 10**18) for sign in (1, -1)),
    *(sign * (2**bits + delta) for bits in (31, 32, 53) for delta in (-1, 0, 1) for sign in (1, -1)),
    2**63 - 1,
    -(2**63),
    -(2**63) + 1,
]


@pytest.mark.parametrize("number", INTEGERS)
def test_integers_are_exact(number: int) -> None:
    """An int of 64 bits comes back as the same int."""
    assert encode(number) == str(number)
    assert same(json_decode(encode(number)), number)


@pytest.mark.parametrize(
    "number", [2**63, -(2**63) - 1, 2**64, 10**400, -(10**5000)], ids=lambda number: f"{number.bit_length()} bits"
)
def test_integers_past_64_bits_are_out_of_range(number: int) -> None:
    """An int that 64 bits cannot hold is an error naming its path, never a float and never cut."""
    with pytest.raises(OutOfRange, match=r"^value\['n'\]\[1\]: the int is past 64 bits") as caught:
        encode({"n": [0, number]})
    assert isinstance(caught.value, OverflowError)


FLOATS = [
    *(0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 0.5, 100.0, 123456.789, 1e22, 1e23, 8.41e21, 9.5e-3, 5e-5),
    *(1e15, 1e16, 1e17, 123456789012345680.0, 1e-4, 1e-5, 0.00012345, 2.0**53, 2.0**53 - 1, 2.0**53 + 2),
    *(5e-324, 1e-323, 2.225073858507201e-308, 2.2250738585072014e-308, 1.7976931348623157e308, 1e300, 1e-300),
    *(9007199254740993.0, 9223372036854775808.0, 4.35, 2**-44, 9.109e-31, 1.5e300 / 7, 2.0**-1022, 2.0**1023),
    *(math.ldexp(1.0, exponent) for exponent in range(-1074, 1024, 37)),
    *(float(f"1e{exponent}") for exponent in range(-323, 309, 13)),
]


@pytest.mark.parametrize("number", FLOATS)
def test_floats_are_shortest_and_round_trip(number: float) -> None:
    """A float is written as `repr` does, with a mark that it is one, and comes back with the same bits."""
    text = encode(number)
    assert text == repr(number)
    assert "." in text or "e" in text
    assert struct.pack("d", json_decode(text)) == struct.pack("d", number)


@settings(max_examples=3000, deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_any_bits_of_a_float_round_trip(bits: int) -> None:
    """Every finite double there is: the text of `repr`, and the same bits back."""
    number = struct.unpack("d", struct.pack("Q", bits))[0]
    if not math.isfinite(number):
        with pytest.raises(InvalidValue, match="NaN and infinities cannot be stored"):
            encode(number)
        return
    assert encode(number) == repr(number)
    assert struct.pack("d", json_decode(encode(number))) == struct.pack("d", number)


def exact_text(numerator: int, power_of_two: int) -> str:
    """Every decimal digit of numerator * 2**power_of_two."""
    if power_of_two >= 0:
        return f"{numerator << power_of_two}.0"
    return f"{numerator * 5**-power_of_two}e{power_of_two}"


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 0x7FEFFFFFFFFFFFFF), st.sampled_from([-1, 0, 1]), st.integers(0, 300))
@example(0, 0, 0)
@example(0x7FEFFFFFFFFFFFFE, 0, 0)
@example(0x7FEFFFFFFFFFFFFE, 1, 300)
@example(0x000FFFFFFFFFFFFF, 0, 0)
@example(0x433FFFFFFFFFFFFF, 0, 0)
def test_halfway_cases_round_to_even(bits: int, nudge: int, zeros: int) -> None:
    """The point between two doubles goes to the even one; one digit, however far behind, tips it."""
    low = struct.unpack("d", struct.pack("Q", bits))[0]
    if bits == 0x7FEFFFFFFFFFFFFF:
        return  # above it lies no double
    fraction, exponent = math.frexp(low)
    unit = max(exponent - 53, -1074)
    halfway = 2 * int(math.ldexp(fraction, exponent - unit)) + 1
    text = exact_text(halfway, unit - 1)
    digits, mark, rest = text.partition("e") if "e" in text else text.partition(".")
    tail = "0" * zeros + "1"
    if nudge > 0:
        text = f"{digits}.{tail}e{rest}" if mark == "e" else f"{digits}.{tail}"
    elif nudge < 0:
        text = f"{int(digits) - 1}.{'9' * (zeros + 1)}" + (f"e{rest}" if mark == "e" else "")
    assert same(json_decode(text), float(text))


@settings(max_examples=2000, deadline=None)
@given(
    st.text("0123456789", min_size=1, max_size=40),
    st.text("0123456789", min_size=1, max_size=40),
    st.integers(-400, 400),
)
def test_any_decimal_is_read_as_python_reads_it(whole: str, fraction: str, exponent: int) -> None:
    """A decimal of any length gives the double nearest to it, or is refused where that is an infinity."""
    text = f"{whole.lstrip('0') or '0'}.{fraction}e{exponent}"
    expected = float(text)
    if math.isinf(expected):
        with pytest.raises(ValueError, match="past the largest float"):
            json_decode(text)
    else:
        assert same(json_decode(text), expected)
