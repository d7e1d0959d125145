"""Fields: parts of tables and lists by their path, on each engine, with everything else left as it is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.places import Place, unchanged
from helpers.support import Clock, exactly
from helpers.verbs import ABSENT
from slothstate import InvalidValue, OutOfRange, State, WrongType
from slothstate.fields import check_path, format_path, parse_path
from slothstate.native import json_decode, json_encode, json_field

VALUE: dict[str, Any] = {
    "big": 9007199254740993,
    "one": 1.0,
    "": [],
    "servers": [{"port": 80, "tags": {"é": None}}, "spare"],
    "flag": True,
    "least": -(2**63),
    "text": 'quotes " and \\ and \n',
}

PATHS: list[tuple[Any, Any]] = [
    ("big", 9007199254740993),
    (("servers", 0, "port"), 80),
    (["servers", -2, "tags", "é"], None),
    (("servers", -1), "spare"),
    (("",), []),
    (("servers", 0, "tags"), {"é": None}),
]

each_path = pytest.mark.parametrize(("way", "value"), PATHS)


def changed(whole: Any, path: Any, value: Any) -> Any:
    """Return the whole with another value at a path that is there."""
    whole = part = copy.deepcopy(whole)
    steps = (path,) if isinstance(path, str) else path
    for step in steps[:-1]:
        part = part[step]
    part[steps[-1]] = value
    return whole


@each_path
def test_get_field(state: State, way: Any, value: Any) -> None:
    """What a path leads to comes back as it is in the whole; None that is there is not the default."""
    state.set("k", VALUE)
    assert exactly(state.get_field("k", way, "default")) == exactly(value)


@pytest.mark.parametrize(
    "way",
    [
        "no",
        ("servers", 2),
        ("servers", -3),
        ("one", "x"),
        ("flag", 0),
        ("servers", "x"),
        ("servers", 0, 0),
        ("", 0),
        ("servers", 2**70),
    ],
)
def test_get_field_that_is_not_there(state: State, clock: Clock, way: Any) -> None:
    """What is not there, or not reached, is the default, in a value of any kind, or none."""
    state.set("k", VALUE, ttl=1)
    state.set_many({"text": "x", "bytes": b"x", "number": 1})
    state.list_push("rows", 1)
    for key in ("k", "text", "bytes", "number", "rows", "missing"):
        assert state.get_field(key, way, "default") == "default"
    clock.advance(1)
    assert state.get_field("k", "big") is None


@each_path
@pytest.mark.parametrize("new", [1.0, -0.0, 2**63 - 1, {"z": 1, "a": [2]}, [], {}, None, "ü", True])
def test_set_field(state: State, way: Any, value: Any, new: Any) -> None:
    """The part is another then, and nothing else: order, types, digits and TTL are as they were."""
    state.set("k", VALUE, ttl=60)
    assert state.set_field("k", way, new) is True
    assert exactly(state.get("k")) == exactly(changed(VALUE, way, new))
    assert state.get_ttl("k") == 60


def test_set_field_makes_tables(state: State, clock: Clock) -> None:
    """Tables that are missing are made, at the end of theirs, and so is the key; never a list."""
    state.set("old", {"a": 1}, ttl=1)
    clock.advance(1)
    for key in ("new", "old"):
        assert state.set_field(key, ("a", "b", "c"), [1])
        assert state.set_field(key, ("a", "d"), 2.0)
        assert exactly(state.get(key)) == exactly({"a": {"b": {"c": [1]}, "d": 2.0}})
        assert state.get_ttl(key) == -1
    for way in (("x", 0), ("a", "e", -1, "f"), ("a", "b", "c", 1), ("a", "b", "c", -(2**64))):
        with pytest.raises(InvalidValue):
            state.set_field("new", way, 1)
    with pytest.raises(InvalidValue):
        state.set_field("none", (0,), 1)
    assert state.get("new") == {"a": {"b": {"c": [1]}, "d": 2.0}}
    assert not state.exists("none")


@pytest.mark.parametrize(
    ("way", "where", "expected", "found"),
    [
        (("one", "x"), ".one", "table", "number"),
        (("servers", "x"), ".servers", "table", "list"),
        (("servers", 0, 0), ".servers[0]", "list", "table"),
        (("servers", 0, "tags", "é", "x"), '.servers[0].tags."é"', "table", "null"),
        (("flag", -1), ".flag", "list", "boolean"),
        ((0,), "", "list", "table"),
    ],
)
def test_another_kind_in_the_way(state: State, way: str, where: str, expected: str, found: str) -> None:
    """`WrongType` names the part of the path that is of another kind, and nothing is changed."""
    state.set("k", VALUE)
    calls: list[Callable[[], object]] = [
        lambda: state.set_field("k", way, 1),
        lambda: state.delete_field("k", way),
        lambda: state.increment_field("k", way),
    ]
    for call in calls:
        with pytest.raises(WrongType) as caught:
            call()
        what = found if found == "bytes" else f"a {found}"
        assert f"'k'{where and ' at ' + where}: expected a {expected}, found {what}" in str(caught.value)
        assert (caught.value.expected, caught.value.found) == (expected, found)
    assert exactly(state.get("k")) == exactly(VALUE)


@each_path
def test_delete_field(state: State, way: Any, value: Any) -> None:
    """A field or item is gone, items behind it move up, the rest is as it was; a second time it may not be there."""
    state.set("k", VALUE, ttl=60)
    expected = copy.deepcopy(VALUE)
    part: Any = expected
    steps = (way,) if isinstance(way, str) else tuple(way)
    for step in steps[:-1]:
        part = part[step]
    del part[steps[-1]]
    assert state.delete_field("k", way)
    assert exactly(state.get("k")) == exactly(expected)
    assert not state.delete_field("k", ("servers", 5))
    assert not state.delete_field("k", ("not", "there", 0))
    assert not state.delete_field("missing", way)
    assert state.get_ttl("k") == 60


def test_delete_every_field(state: State) -> None:
    """An emptied table stays; a list that a key holds disappears, however it is kept."""
    state.set_many({"table": {"a": 1, "b": 2}, "list": [1, 2]})
    state.list_push("rows", 1, 2)
    assert state.delete_field("table", "a")
    assert state.delete_field("table", "b")
    for key in ("list", "rows"):
        assert (state.delete_field(key, (-2,)), state.get(key)) == (True, [2])
        assert (state.delete_field(key, (1,)), state.delete_field(key, (0,))) == (False, True)
    assert dict(state.items()) == {"table": {}}


def test_increment_field(state: State) -> None:
    """Numbers are added as by `increment`; what is missing counts as 0 and is made."""
    assert state.increment_field("k", ("a", "b")) == 1
    assert exactly(state.increment_field("k", ("a", "b"), 2)) == exactly(3)
    assert exactly(state.increment_field("k", ("a", "b"), -0.5)) == exactly(2.5)
    assert state.increment_field("k", "big", 2**63 - 1) == 2**63 - 1
    state.set_field("k", "list", [1, None, "x", True])
    assert state.increment_field("k", ("list", 0)) == 2
    for index in (1, 2, 3):
        with pytest.raises(WrongType):
            state.increment_field("k", ("list", index))
    with pytest.raises(InvalidValue):
        state.increment_field("k", ("list", 4))
    for delta in (1, 2**62):
        with pytest.raises(OutOfRange):
            state.increment_field("k", "big", delta)
    assert state.get("k") == {"a": {"b": 2.5}, "big": 2**63 - 1, "list": [2, None, "x", True]}
    state.set_field("k", "huge", 1e308)
    with pytest.raises(OutOfRange):
        state.increment_field("k", "huge", 1e308)


def test_fields_of_a_list_in_rows(state: State) -> None:
    """A pushed list is a list: its items are fields, and what is in them."""
    state.list_push("k", {"a": 1}, [2, 3], "x")
    state.set_ttl("k", 60)
    assert (state.get_field("k", (1, -1)), state.get_field("k", (-3,))) == (3, {"a": 1})
    assert state.set_field("k", (0, "b", "c"), 1.0)
    assert state.set_field("k", (2,), {"new": True})
    assert state.increment_field("k", (1, 0), 5) == 7
    assert state.delete_field("k", (1, 1))
    assert exactly(state.get("k")) == exactly([{"a": 1, "b": {"c": 1.0}}, [7], {"new": True}])
    assert state.delete_field("k", (1,))
    assert state.list_push("k", "end") == 3
    with pytest.raises(WrongType):
        state.set_field("k", "name", 1)
    with pytest.raises(InvalidValue):
        state.set_field("k", (3,), 1)
    assert (state.list_length("k"), state.get_ttl("k"), state.check()) == (3, 60, [])


@pytest.mark.parametrize("way", ["", (), [], None, 7, b"a", (True,), (1.0,), ("a", None), {"a"}, ("\ud800",)])
def test_what_is_no_path(state: State, way: Any) -> None:
    """A path is a name or a sequence of names and positions; "" is a name, nothing at all is none."""
    state.set("k", {"": 1})
    if way == "":
        assert state.get_field("k", way) == 1
        return
    calls: list[Callable[[], object]] = [
        lambda: state.get_field("k", way),
        lambda: state.set_field("k", way, 1),
        lambda: state.delete_field("k", way),
        lambda: state.increment_field("k", way),
    ]
    for call in calls:
        with pytest.raises(InvalidValue, match="path"):
            call()
    assert state.get("k") == {"": 1}


@pytest.mark.parametrize("verb", ["set_field", "delete_field", "increment_field"])
@pytest.mark.parametrize("value", ["x", b"x", 1, True])
def test_fields_of_another_kind(state: State, verb: str, value: Any) -> None:
    """What is neither table nor list has no fields."""
    state.set("k", value)
    with pytest.raises(WrongType):
        getattr(state, verb)("k", "a", *([1] if verb == "set_field" else []))
    assert state.get("k") == value


def test_depth(state: State) -> None:
    """A field may nest as deep as leaves the whole readable, in a row of a list too, and no deeper."""

    def nested(levels: int) -> Any:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        return value

    state.set("k", {"a": {}})
    state.list_push("rows", {"a": 1}, 2)
    assert state.set_field("k", ("a", "b"), nested(498))
    assert state.set_field("rows", (0, "b"), nested(498))
    assert state.set_field("rows", (1,), nested(499))
    before = state.get("k"), state.get("rows")
    calls: list[Callable[[], object]] = [
        lambda: state.set_field("k", ("a", "b"), nested(499)),
        lambda: state.set_field("k", ("c",), nested(500)),
        lambda: state.set_field("k", ("c",) * 500, []),
        lambda: state.set_field("k", ("c",) * 600, 1),
        lambda: state.set_field("rows", (0, "b"), nested(499)),
        lambda: state.set_field("rows", (1,), nested(500)),
        lambda: state.set_field("new", ("c",) * 500, {}),
    ]
    for call in calls:
        with pytest.raises(InvalidValue, match="deep"):
            call()
    assert (state.get("k"), state.get("rows")) == before


def test_a_value_that_cannot_be_stored(state: State, place: Place) -> None:
    """What cannot be in a table is refused, naming the path in the value, and nothing is written."""
    state.set("k", {"a": 1})
    with unchanged(place), pytest.raises(InvalidValue, match=r"value\['x'\]"):
        state.set_field("k", "a", {"x": object()})
    with unchanged(place), pytest.raises(OutOfRange):
        state.set_field("k", "a", 2**63)


NAMES = st.sampled_from(["a", "b", "", "é", 'q"\\', "\n"])
LEAVES = st.sampled_from([None, True, False, 0, 1, 1.0, -0.0, 1e300, 2**63 - 1, "", "é", "[", '"}', "\u2028"])
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)


@given(VALUES, st.lists(NAMES | st.integers(-4, 4), max_size=4), VALUES)
def test_against_python(value: Any, steps: list[Any], new: Any) -> None:
    """What is found, put and cut is what Python finds, sets and deletes in the decoded value, byte by byte."""
    text, path = json_encode(value, "value"), tuple(steps)
    container: Any = None
    part: Any = value
    taken = 0
    for step in path:
        if not isinstance(part, list if isinstance(step, int) else dict):
            break
        try:
            container, part = part, part[step]
        except LookupError:
            break
        taken += 1
    found, reached, result, _ = json_field(text, path, None)
    assert reached == taken
    assert result == (json_encode(part, "part") if taken == len(path) else None)
    assert (found == 0) == (taken == len(path))
    if taken == len(path) > 0:
        container[path[-1]] = new
        assert json_field(text, path, json_encode(new, "new"))[2] == json_encode(value, "value")
        del container[path[-1]]
        assert json_field(text, path, False)[2] == json_encode(value, "value")


def decoded(text: str) -> Any:
    """Return the value of a text, ABSENT if it is not JSON."""
    try:
        return json_decode(text)
    except ValueError:
        return ABSENT


OTHERS = st.sampled_from('[]{},:"\\ 1-.t\0\u2028')


@given(VALUES, st.lists(NAMES | st.integers(-3, 3), max_size=3), st.integers(0, 60), OTHERS)
def test_damaged_texts(value: Any, steps: list[Any], at: int, other: str) -> None:
    """A text with one character another is refused up to the damage, else what is found is what Python finds."""
    text, path = json_encode(value, "value"), tuple(steps)
    at %= len(text)
    text = text[:at] + other + text[at + 1 :]
    whole = decoded(text)
    changes: list[Any] = [None, False, "[7]"]
    for change in changes:
        try:
            result = json_field(text, path, change)[2]
        except ValueError:
            assert whole is ABSENT
            continue
        if whole is ABSENT or result is None:
            continue
        changed = decoded(result)
        if change is None:
            part = whole
            for step in path:
                part = part[step]
            assert exactly(changed) == exactly(part)
        # Without all of it there is nothing.
        assert (changed is ABSENT) == (change is False and not path)


@pytest.mark.parametrize("text", [' { "a" : 1 , "b" : [ 1 , 2 ] } ', '{"b":[1,2],"a":1}'])
def test_white_space(text: str) -> None:
    """A text with white space is read and cut as well."""
    assert json_field(text, ("b", -1), None)[2] == "2"
    for path in (("a",), ("b",), ("b", 0), ("b", 1)):
        value: Any = json_decode(text)
        part = value if len(path) == 1 else value["b"]
        del part[path[-1]]
        assert json_decode(str(json_field(text, path, False)[2])) == value
    assert json_decode(str(json_field(text, ("c", "d"), "3")[2])) == {**json_decode(text), "c": {"d": 3}}


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (".a", ("a",)),
        (".servers[0].port", ("servers", 0, "port")),
        ('."any name"[-1]', ("any name", -1)),
        ('["any name"].b_2', ("any name", "b_2")),
        ("[0][1]", (0, 1)),
        ('.""."\\u00e9\\""', ("", 'é"')),
    ],
)
def test_written_paths(written: str, path: tuple[Any, ...]) -> None:
    """A path is written as for jq; what is written of it reads as it."""
    assert parse_path(written) == path
    assert parse_path(format_path(check_path(path))) == path


@pytest.mark.parametrize(
    "written", ["", ".", "a", ".a.", ".a b", "[]", "[a]", "[1.5]", ".[", '."a', '["a"', ".a[0", "..a", ".2", ".a|.b"]
)
def test_badly_written_paths(written: str) -> None:
    """Anything else is `InvalidValue` that says where it stopped."""
    with pytest.raises(InvalidValue, match="at character"):
        parse_path(written)
