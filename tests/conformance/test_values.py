"""Values: what comes back is what was stored, to the type and the bit; what cannot be stored is refused whole."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.places import Place, unchanged
from helpers.support import exactly
from slothstate import InvalidValue, OutOfRange, State, to_json
from slothstate.values import Encoded, same


class Level(enum.IntEnum):
    HIGH = 3


INT_MAX, INT_MIN = 2**63 - 1, -(2**63)
FLOATS = [0.0, -0.0, 1.0, 0.1, -1.5, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2.0**53, 1e22, 1e-7]
INTS = [0, 1, -1, 2**31, 2**53 - 1, 2**53, 2**53 + 1, INT_MAX, INT_MIN]
TEXTS = [
    "",
    "1",
    "text",
    "a\0b",
    "\0",
    "é",
    "\U0001f600\U0010ffff",
    "\ufeffbom",
    "\ud7ff\ue000",
    "line\r\n",
    "null",
    "[]",
]
SCALARS = [*INTS, *FLOATS, True, False, *TEXTS]
BYTES = [b"", b"\0", b"\xff\xfe", bytes(range(256)), b"text"]
NESTED: list[Any] = [
    {},
    [],
    [[]],
    [{}],
    {"": ""},
    [None, True, False, 1, 1.0, "1", -0.0],
    {"a\0b": {"é": [None]}, "1": 1, "true": True},
    [[[[[1]]]]],
    SCALARS,
    {str(number): number for number in range(100)},
]


@pytest.mark.parametrize("value", [*SCALARS, *BYTES, *NESTED], ids=lambda value: repr(value)[:40])
def test_round_trip(state: State, open_state: Callable[[], State], value: Any) -> None:
    """A value comes back exactly, from `get`, `get_many`, another handle, and as an item of a list."""
    state.set("k", value)
    state.set_many({"many": value})
    assert exactly(state.get("k")) == exactly(value)
    assert exactly(state.get_many(["many"])["many"]) == exactly(value)
    with open_state() as other:
        assert exactly(other.get("k")) == exactly(value)
    if not isinstance(value, bytes):
        state.list_push("items", value, value)
        assert exactly(state.list_range("items")) == exactly([value, value])
        assert exactly(state.list_pop("items")) == exactly(state.list_shift("items")) == exactly(value)


ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(INT_MIN, INT_MAX) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(document=st.dictionaries(st.text(), ANY_VALUE) | st.lists(ANY_VALUE) | st.binary() | st.text())
def test_round_trip_of_anything(shared_state: State, document: Any) -> None:
    """Any text, bytes or document of storable values comes back exactly."""
    shared_state.set("k", document)
    assert exactly(shared_state.get("k")) == exactly(document)


@pytest.mark.parametrize(
    ("stored", "comes_back"),
    [
        ((1, (2,)), [1, [2]]),
        ({"t": ()}, {"t": []}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Level.HIGH, 3),
        (type("Name", (str,), {})("text"), "text"),
        (type("Ratio", (float,), {})(0.5), 0.5),
        (type("Blob", (bytes,), {})(b"x"), b"x"),
        # What presents itself as something else.
        (type("Ratio", (float,), {"__float__": lambda self: float("nan")})(0.5), 0.5),
        (type("Number", (int,), {"__int__": lambda self: 2**70, "__le__": lambda self, other: False})(3), 3),
        (type("Blob", (bytes,), {"__bytes__": lambda self: b"y", "__len__": lambda self: 9})(b"x"), b"x"),
        ([Level.HIGH, type("Name", (str,), {})("text")], [3, "text"]),
    ],
)
def test_subclasses_come_back_as_their_base(state: State, stored: Any, comes_back: Any) -> None:
    """A tuple is a list, and a subclass of a storable type is stored as that type."""
    state.set("k", stored)
    assert exactly(state.get("k")) == exactly(comes_back)
    state.set_many({"k": stored, "other": stored})
    assert exactly(state.get("k")) == exactly(state.get("other")) == exactly(comes_back)
    assert state.compare_swap("new", None, stored)
    assert exactly(state.get("new")) == exactly(comes_back)
    if isinstance(stored, int | float):
        assert exactly(state.increment("sum", stored)) == exactly(comes_back)


@pytest.mark.parametrize("push", [False, True], ids=["set", "pushed"])
def test_get_returns_fresh_copies(state: State, push: bool) -> None:
    """Changing what a read returned, or what was stored, changes neither the store nor another copy."""
    value: dict[str, list[int]] = {"a": [1]}
    if push:
        state.list_push("k", value)
    else:
        state.set("k", [value])
    value["a"].append(2)
    first, second = state.get("k"), state.get("k")
    first[0]["a"].append(3)
    first.append(4)
    assert second == state.get("k") == state.get_many(["k"])["k"] == state.list_range("k") == [{"a": [1]}]
    default: list[int] = []
    assert state.get("missing", default) is default


def cyclic_list() -> list[Any]:
    items: list[Any] = [1]
    items.append({"again": items})
    return items


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "none": (None, InvalidValue, "value: None cannot be stored"),
    "nan": (math.nan, InvalidValue, "value: nan cannot be stored; expected a finite number"),
    "inf": (math.inf, InvalidValue, "value: inf"),
    "-inf": (-math.inf, InvalidValue, "value: -inf"),
    "int-64": (2**63, OutOfRange, "value: 9223372036854775808 does not fit in 64 bits"),
    "int-negative": (INT_MIN - 1, OutOfRange, "value: -9223372036854775809"),
    "int-huge": (10**5000, OutOfRange, "value: an integer of"),
    "surrogate": ("a\ud800", InvalidValue, "lone surrogate at index 1"),
    "set": ({1}, InvalidValue, "value: set cannot be stored; expected str, bytes, bool, int, float, dict or list"),
    "object": (object(), InvalidValue, "value: object"),
    "class": (int, InvalidValue, "value: type"),
    "complex": (1j, InvalidValue, "value: complex"),
    "decimal": (Decimal(1), InvalidValue, "value: Decimal"),
    "fraction": (Fraction(1, 2), InvalidValue, "value: Fraction"),
    "bytearray": (bytearray(b"x"), InvalidValue, "value: bytearray"),
    "generator": ((number for number in [1]), InvalidValue, "value: generator"),
    "range": (range(3), InvalidValue, "value: range"),
    "nested-nan": ({"a": [0, math.nan]}, InvalidValue, "value['a'][1]"),
    "nested-int": ([0, {"b": 2**63}], OutOfRange, "value[1]['b']"),
    "nested-bytes": ({"a": b"x"}, InvalidValue, "value['a']"),
    "nested-object": ({"ports": [1, 2, {3}]}, InvalidValue, "value['ports'][2]"),
    "nested-surrogate": (["\ud800"], InvalidValue, "value[0]"),
    "int-name": ({1: "a"}, InvalidValue, "value"),
    "none-name": ({"a": {None: 1}}, InvalidValue, "value['a']"),
    "surrogate-name": ({"\udfff": 1}, InvalidValue, "value"),
    "foreign-bool": (type("bool", (), {"__module__": "numpy"})(), InvalidValue, "value: numpy.bool cannot be stored"),
    "cycle": (cyclic_list(), InvalidValue, "value"),
    "too-deep": (nested(501), InvalidValue, "500"),
    "much-too-deep": (nested(100_000), InvalidValue, "500"),
}  # fmt: skip

STORING: dict[str, tuple[str, Callable[[State, Any], object]]] = {
    "set": ("value", lambda s, v: s.set("k", v)),
    "setitem": ("value", lambda s, v: s.__setitem__("k", v)),
    "set_many": ("value of 'k'", lambda s, v: s.set_many({"fine": 1, "k": v})),
    "compare_swap-new": ("new", lambda s, v: s.compare_swap("k", 1, v)),
    "compare_swap-absent": ("new", lambda s, v: s.compare_swap("missing", None, v)),
    "list_push": ("items[1]", lambda s, v: s.list_push("list", 1, v)),
    "setdefault": ("value", lambda s, v: s.setdefault("missing", v)),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_refused_value(state: State, place: Place, refused: str) -> None:
    """What cannot be stored is refused by every verb with the argument and the path to it, and nothing is written."""
    value, error, says = REFUSED[refused]
    state.set("k", 1)
    state.list_push("list", 1)
    for verb, (argument, store) in STORING.items():
        if value is None and (verb == "list_push" or verb.startswith("compare_swap")):
            # An item; to swap to it deletes.
            continue
        with unchanged(place), pytest.raises(error) as caught:
            store(state, value)
        if verb != "list_push":
            assert says.replace("value", argument, 1) in str(caught.value)
        assert argument in str(caught.value)
        assert len(str(caught.value)) < 4000


def test_none_is_stored_only_inside(state: State) -> None:
    """None is JSON's null inside a table or list, and an item of a list like any other."""
    state.set("k", {"a": None})
    state.list_push("list", None, None)
    assert state.get("k") == {"a": None}
    assert state.list_pop("list", "default") is None
    assert state.list_shift("list", "default") is None
    assert state.list_shift("list", "default") == "default"


def test_depth_limit(state: State) -> None:
    """A document of 500 levels is stored, compared and read back."""
    for depth in (1, 2, 499, 500):
        value = nested(depth)
        state.set("k", value)
        assert state.compare_swap("k", nested(depth), value)
        found, levels = state.get("k"), 0
        while not isinstance(found, int):
            found, levels = found["a"] if isinstance(found, dict) else found[0], levels + 1
        assert levels == depth


READING: dict[str, Callable[[State], Any]] = {
    "get": lambda s: s.get("list"),
    "get_many": lambda s: s.get_many(keys=["list"])["list"],
    "list_range": lambda s: s.list_range("list"),
    "items": lambda s: dict(s.items())["list"],
    "dump": lambda s: next(record.value for record in s.dump()),
    "setdefault": lambda s: s.setdefault("list"),
    "list_pop": lambda s: [s.list_pop("list")],
    "list_shift": lambda s: [s.list_shift("list")],
    "pop": lambda s: s.pop("list"),
}


@pytest.mark.parametrize("reading", READING)
def test_the_deepest_item_comes_back(state: State, place: Place, reading: str) -> None:
    """An item may nest 499 levels: one that is pushed is read by every verb. One level more is refused."""
    deepest = to_json([nested(499)])[1:-1]
    with unchanged(place):
        for item in (
            nested(500),
            Encoded("list", "[" * 500 + "]" * 500),
            Encoded("table", '{"a":' * 500 + "1" + "}" * 500),
        ):
            with pytest.raises(InvalidValue, match=r"items\[0\].*nested too deep; at most 499 levels"):
                state.list_push("list", item)
    assert state.list_push("list", nested(499)) == 1
    assert state.check() == []
    assert to_json(READING[reading](state)) == f"[{deepest}]"
    many = to_json(["[" * 1000, {"{": "[" * 1000}])
    state.list_push("list", Encoded("list", many), Encoded("list", deepest))
    assert to_json(state.list_range("list", -2, -1)) == f"[{many},{deepest}]"


@pytest.mark.parametrize("size", [0, 1, 2**16 - 1, 2**16, 2**20])
@pytest.mark.parametrize("make", [lambda n: "x" * n, lambda n: b"\xff" * n, lambda n: ["é" * n]])
def test_size(state: State, make: Callable[[int], object], size: int) -> None:
    """Values of every size come back whole."""
    value = make(size)
    state.set("k", value)
    assert state.get("k") == value


SAME = [(1, 1.0), (0.0, -0.0), ([1, 2.0], [1.0, 2]), ((1,), [1]), ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}), ({}, {})]
DIFFERENT = [
    (1, True), (0, False), (1, "1"), ("", b""), ("a", b"a"), ([1], [True]), ({"a": 1}, {"a": True}), ([], {}),
    ([1], [1, 2]), ({"a": 1}, {"b": 1}), ({"a": None}, {}), ({"a": None}, {"b": None}), ([None], [False]),
    (2**53, 2.0**53 + 2), (2**53 + 1, 2.0**53), (INT_MAX, 2.0**63), ("é", "e\u0301"), ("a\0b", "a\0c"),
]  # fmt: skip


@pytest.mark.parametrize("there", ["set", "pushed"])
@pytest.mark.parametrize(
    ("left", "right", "equal"), [*((*pair, True) for pair in SAME), *((*pair, False) for pair in DIFFERENT)]
)
def test_deep_equality(state: State, left: Any, right: Any, equal: bool, there: str) -> None:
    """`compare_swap` swaps exactly if the values are deeply equal: 1 is 1.0, but no bool is a number."""
    for stored, old in ((left, right), (right, left)):
        assert same(stored, old) == equal
        state.delete("k")
        if there == "set":
            state.set("k", stored)
        elif isinstance(stored, list) and stored:
            state.list_push("k", *stored)
        else:
            continue
        assert state.compare_swap("k", old, "new") == equal
        assert state.get("k") == ("new" if equal else stored)


@given(left=ANY_VALUE, right=ANY_VALUE)
def test_same_is_an_equivalence(left: Any, right: Any) -> None:
    """Every value is the same as itself, and sameness has no direction."""
    assert same(left, left)
    assert same(left, right) == same(right, left)


def test_compare_swap_normalises_what_it_is_given(state: State) -> None:
    """`old` counts as what storing it would give: subclasses and tuples compare as their base types."""
    level = Level.HIGH
    name = type("Name", (str,), {})("text")
    state.set("k", {"a": [3, "text"]})
    assert state.compare_swap("k", {"a": (level, name)}, level)
    assert state.compare_swap("k", level, name)
    assert state.compare_swap("k", name, 1)


@pytest.mark.parametrize("old", [math.nan, 2**63, object(), [b""], {"a": {1}}])
def test_compare_swap_refuses_an_old_that_cannot_be_stored(state: State, place: Place, old: Any) -> None:
    """An `old` that no key can hold is an error and not just unequal; the message names the argument."""
    state.set("k", 1)
    with unchanged(place), pytest.raises((InvalidValue, OutOfRange), match=r"^old"):
        state.compare_swap("k", old, 2)
