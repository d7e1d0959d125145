"""How the encoder walks through dicts and lists: their order, their depth, code that runs meanwhile, foreign types."""

from __future__ import annotations

import collections
import gc
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from slothstate.errors import InvalidValue
from slothstate.native import json_decode, json_encode, json_encode_item


def encode(value: object) -> str:
    return json_encode(value, "value")


class Reversed(dict[str, object]):
    """A dict that iterates backwards, as SortedDict and others iterate in an order of their own."""

    def __iter__(self) -> Any:
        return reversed(list(super().__iter__()))


class Forgetful(dict[str, object]):
    def __iter__(self) -> Any:
        return iter(["a"])


class Endless(dict[str, object]):
    def __iter__(self) -> Any:
        return itertools.repeat("a")


class Failing(dict[str, object]):
    def __iter__(self) -> Any:
        raise RuntimeError("no order today")


def moved() -> collections.OrderedDict[str, object]:
    entries: collections.OrderedDict[str, object] = collections.OrderedDict(a=1, b=[2], c=3)
    entries.move_to_end("a")
    return entries


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (moved(), '{"b":[2],"c":3,"a":1}'),
        ({"in": [moved()]}, '{"in":[{"b":[2],"c":3,"a":1}]}'),
        (Reversed(a=1, b=moved()), '{"b":{"b":[2],"c":3,"a":1},"a":1}'),
        (collections.Counter("aab"), '{"a":2,"b":1}'),
        (collections.defaultdict(int, b=1, a=2), '{"b":1,"a":2}'),
    ],
    ids=repr,
)
def test_a_dict_is_stored_in_its_own_order(value: object, text: str) -> None:
    """The order of the keys is that of iterating over the dict, OrderedDict and other subclasses included."""
    assert encode(value) == text
    assert encode([value, value]) == f"[{text},{text}]"


def test_an_order_that_is_none_is_refused() -> None:
    """A dict whose iteration leaves keys out is refused with its path; an error of the iteration comes through."""
    with pytest.raises(InvalidValue, match=r"^value\['x'\]\[1\]: iterating over this dict does not give its keys"):
        encode({"x": [1, Forgetful(a=1, b=2)]})
    with pytest.raises(InvalidValue, match="does not give its keys"):
        encode(Endless(a=1, b=2))
    with pytest.raises(RuntimeError, match="no order today"):
        encode([Failing(a=1)])


def test_code_that_runs_meanwhile_may_change_what_is_encoded() -> None:
    """An iteration that empties and drops everything around it harms nothing; errors still name a path."""

    class Wrecker(dict[str, object]):
        def __iter__(self) -> Any:
            inner.clear()
            outer.clear()
            outer.update({f"new{number}": [number] for number in range(1000)})
            gc.collect()
            return super().__iter__()

    for last in (1, {1}):
        inner: list[Any] = [Wrecker(a=1, b=last), "after"]
        outer: dict[str, Any] = {"first": inner, "second": [2]}
        if last == 1:
            assert json_decode(encode(outer))["first"] == [{"a": 1, "b": 1}]
        else:
            with pytest.raises(InvalidValue, match="a set cannot be stored"):
                encode(outer)


class TypeNames:
    """Types whose names are those of storable ones."""

    bool = type("bool", (), {"__module__": "numpy"})
    str = type("str", (), {"__module__": "foreign.text"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([TypeNames.bool()], "value[0]: a numpy.bool cannot be stored"),
        ({TypeNames.str(): 1}, "value: the keys of a dict must be str, not foreign.text.str"),
        ([set()], "value[0]: a set cannot be stored"),
    ],
)
def test_a_foreign_type_is_told_from_a_storable_one(value: object, message: str) -> None:
    """A type that has the name of a storable one is named with its module."""
    with pytest.raises(InvalidValue) as caught:
        encode(value)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}], ids=["list", "dict"])
def test_an_item_may_nest_one_level_less(wrap: Callable[[object], object]) -> None:
    """Its list is the five hundredth level."""
    value: object = 1
    for _ in range(499):
        value = wrap(value)
    assert json_encode_item(value, "item") == encode(value)
    with pytest.raises(InvalidValue, match=r"^item\[.*nested too deep; at most 499 levels"):
        json_encode_item(wrap(value), "item")
