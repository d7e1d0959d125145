"""Fields of tables and items of lists: paths that lead to them, and the JSON texts they are parts of.

A path is a tuple of names and positions; positions count from 0, negative ones from the end. In writing it is jq's:
`.name`, `."any name"`, `["any name"]`, `[0]`, `[-1]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from slothstate.errors import InvalidValue, OutOfRange, WrongType, a_kind
from slothstate.hints import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from slothstate.native import json_decode, json_encode, json_field
from slothstate.values import check_number, damaged, decoded, describe, encode, shorten

if TYPE_CHECKING:
    import re

__all__ = [
    "BEFORE_THE_FIRST",
    "FromOne",
    "Path",
    "add",
    "check_path",
    "cut",
    "format_path",
    "outside",
    "parse_path",
    "part",
    "put",
    "wrong_kind",
]

Path: TypeAlias = tuple[str | int, ...]

BEFORE_THE_FIRST: Final = -(2**62)
"""A position that no list has."""

_FOUND: Final = 0
_MISSING: Final = 1
_OUTSIDE: Final = 2

_PLAIN_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"

# What may come next in a written path: a name, a name in quotes (after a dot or in brackets), a position.
_STEP: Final = r"""\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |   \.(?P<quoted>"(?:[^"\\]|\\.)*")
    |   \.?\[(?P<bracketed>"(?:[^"\\]|\\.)*")\]
    |   \.?\[(?P<position>-?[0-9]+)\]"""


@cache
def _step() -> re.Pattern[str]:
    # Here: few programs write paths.
    import re

    return re.compile(_STEP, re.VERBOSE | re.DOTALL)


class FromOne(int):
    """A position, from 0 as all are, that messages count from 1: who gave it does; `BEFORE_THE_FIRST` was a 0."""

    def __str__(self) -> str:
        return "0" if self == BEFORE_THE_FIRST else str(self + (self >= 0))


def check_path(path: str | Sequence[str | int]) -> Path:
    """Return a path, one name or a sequence of names and positions. Raises: `InvalidValue`."""
    if isinstance(path, str):
        path = (path,)
    if not isinstance(path, Sequence) or isinstance(path, bytes | bytearray):
        raise InvalidValue(f"path must be a name or a sequence of names and positions, got {describe(path)}")
    if not path:
        raise InvalidValue("path must not be empty")
    steps: list[str | int] = []
    for index, step in enumerate(path):
        if isinstance(step, str):
            # Refuses a lone surrogate.
            steps.append(str(encode(step, f"path[{index}]")[1]))
        elif isinstance(step, int) and not isinstance(step, bool):
            steps.append(step if type(step) is FromOne else int(step))
        else:
            raise InvalidValue(f"path[{index}] must be a name or a position, got {describe(step)}")
    return tuple(steps)


def format_path(path: Path) -> str:
    """Return a path as it is written.

    >>> format_path(("servers", 0, "any name"))
    '.servers[0]."any name"'
    """
    import re

    written = ""
    for step in path:
        if isinstance(step, int):
            written += f"[{shorten(step)}]"
        else:
            written += f".{step if re.fullmatch(_PLAIN_NAME, step) else json_encode(step, 'name')}"
    return written or "."


def parse_path(text: str) -> Path:
    """Return the path that is written in a text. Raises: `InvalidValue` naming where it stopped.

    >>> parse_path('.servers[0]."any name"')
    ('servers', 0, 'any name')
    """
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        found = _step().match(text, at)
        if found is None:
            break
        name, position = found["quoted"] or found["bracketed"], found["position"]
        try:
            steps.append(json_decode(name) if name else int(position) if position else found["name"])
        except ValueError:
            break
        at = found.end()
    if at < len(text) or not steps:
        raise InvalidValue(
            f'path {text!r} cannot be read at character {at + 1}: expected .name, ."any name", ["any name"] or [0]'
        )
    return check_path(steps)


def wrong_kind(verb: str, key: str, path: Path, taken: int, kind: str, expected: str = "") -> WrongType:
    """Return the error for a path whose first `taken` steps lead to a value of another kind than the next needs."""
    expected = expected or ("list" if isinstance(path[taken], int) else "table")
    where = f" at {format_path(path[:taken])}" if taken else ""
    problem = f"cannot {verb} {key!r}{where}: expected {a_kind(expected)}, found {a_kind(kind)}"
    return WrongType(problem, key, expected, kind)


def outside(key: str, path: Path, taken: int) -> InvalidValue:
    """Return the error for a path whose step `taken` is a position that no list has."""
    return InvalidValue(f"{key!r} has no position {format_path(path[: taken + 1])}; nothing was changed")


def part(key: str, text: str, path: Path) -> str | None:
    """Return the JSON text that a path leads to, None if there is nothing, or another kind in the way."""
    return _look(key, text, path, None)[2]


def put(key: str, text: str, path: Path, value: str, verb: str = "set a field of", *, base: Path = ()) -> str:
    """Return a JSON text with the value that a path leads to replaced, or added with the tables it needs.

    `base` leads to the text itself, for messages. Raises: `WrongType`, `InvalidValue`.
    """
    found, taken, result, kind = _look(key, text, path, value)
    if result is not None:
        return result
    whole, taken = base + path, len(base) + taken
    raise outside(key, whole, taken) if found == _OUTSIDE else wrong_kind(verb, key, whole, taken, kind)


def cut(key: str, text: str, path: Path, *, base: Path = ()) -> str | None:
    """Return a JSON text without the field or item that a path leads to, None if there is none. Raises: `WrongType`."""
    found, taken, result, kind = _look(key, text, path, False)
    if found not in (_FOUND, _MISSING, _OUTSIDE):
        raise wrong_kind("delete a field of", key, base + path, len(base) + taken, kind)
    return result


def add(key: str, before: str | None, path: Path, delta: int | float) -> int | float:
    """Return the sum of the number of this JSON text (None: 0) and `delta`. Raises: `WrongType`, `OutOfRange`."""
    number: Any = 0 if before is None else decoded(lambda _, text: json_decode(str(text)), key, "number", before)
    if isinstance(number, bool) or not isinstance(number, int | float):
        kind = "null" if number is None else str(encode(number)[0])
        raise wrong_kind("increment a field of", key, path, len(path), kind, "number")
    try:
        return check_number(delta if before is None else number + delta, "sum")
    except (OutOfRange, InvalidValue, OverflowError) as error:
        raise OutOfRange(
            f"increment of {key!r} at {format_path(path)}: {number!r} + {delta!r} is out of range; "
            "the value is unchanged"
        ) from error


def _look(key: str, text: str, path: Path, change: str | Literal[False] | None) -> tuple[int, int, str | None, str]:
    try:
        return json_field(text, path, change)
    except InvalidValue:
        raise
    except ValueError as error:
        raise damaged(key, error) from error
