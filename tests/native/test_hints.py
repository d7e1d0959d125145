"""`slothstate.hints` stands in for `typing` while a program runs."""

from __future__ import annotations

import pickle
import typing

import pytest

import slothstate
from slothstate import hints
from slothstate.descriptions import ClaimDescription


class Ours(hints.NamedTuple):
    """A pair."""

    first: int
    second: str = "x"

    @property
    def both(self) -> str:
        return f"{self.first}{self.second}"


class Theirs(typing.NamedTuple):
    """A pair."""

    first: int
    second: str = "x"

    @property
    def both(self) -> str:
        return f"{self.first}{self.second}"


def test_annotations_can_be_evaluated() -> None:
    """A library that asks for the types of what a verb returns gets some that hold."""
    found = typing.get_type_hints(slothstate.Change)
    assert found == {"key": str, "op": str, "revision": int}
    assert typing.get_type_hints(ClaimDescription)["key"] is str
    assert typing.get_type_hints(slothstate.Entry)["ttl"] == float | None


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_named_tuple(kind: type[Ours]) -> None:
    """Fields, a default, members, documentation, pickling and errors are those of any named tuple."""
    made = kind(1)
    assert made == (1, "x")
    assert (made.first, made.second, made.both) == (1, "x", "1x")
    assert (kind._fields, kind._field_defaults) == (("first", "second"), {"second": "x"})
    assert (kind.__doc__, kind.__module__, kind.__mro__[1:]) == ("A pair.", __name__, (tuple, object))
    assert pickle.loads(pickle.dumps(made)) == made
    assert made._replace(second="y") == kind(1, "y")
    assert repr(made) == f"{kind.__name__}(first=1, second='x')"
    with pytest.raises(TypeError):
        kind()  # type: ignore[call-arg]
