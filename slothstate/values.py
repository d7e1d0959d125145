"""What can be stored: keys, values and their kinds, and how each becomes a column of SQLite's own types.

A kind is stored beside every value. Scalars keep SQLite's types (str as TEXT, bytes as BLOB, int and bool as INTEGER,
float as REAL); a table (dict) or list is JSON text written by the C codec. Nothing is ever pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite

from slothstate.errors import InvalidKey, InvalidValue, OutOfRange, StateCorrupt
from slothstate.hints import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias
from slothstate.native import json_decode, json_encode, json_encode_item

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = [
    "EMPTY_LIST",
    "EMPTY_TABLE",
    "INTEGER_MAX",
    "INTEGER_MIN",
    "KEY_MAX_BYTES",
    "KINDS",
    "LEVELS_MAX",
    "STORABLE",
    "VALUE_MAX_BYTES",
    "Encoded",
    "Kind",
    "Seconds",
    "Stored",
    "as_encoded",
    "as_python",
    "check_flag",
    "check_key",
    "check_levels",
    "check_number",
    "check_seconds",
    "damaged",
    "decoded",
    "describe",
    "encode",
    "encode_item",
    "encode_mapping",
    "item_of",
    "kind_of",
    "parse_json",
    "same",
    "shorten",
    "to_json",
    "unreadable",
    "verify",
]

Kind: TypeAlias = Literal["string", "number", "boolean", "table", "list", "bytes"]
Stored: TypeAlias = str | bytes | int | float
Seconds: TypeAlias = "float | timedelta"
"""A duration, wherever seconds are taken."""

KEY_MAX_BYTES: Final = 4096
VALUE_MAX_BYTES: Final = 1_000_000_000
"""SQLite's default SQLITE_MAX_LENGTH."""
LEVELS_MAX: Final = 500
"""How deep a value may nest."""
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
EMPTY_LIST: Final = "[]"
EMPTY_TABLE: Final = "{}"
SECONDS_MAX: Final = 10**10
"""The longest time to live: some three centuries, so that a deadline in milliseconds stays far inside 64 bits."""

_COLUMN_TYPES: Final[frozenset[tuple[Kind, type]]] = frozenset(
    (
        *(("string", str), ("number", int), ("number", float), ("boolean", int)),
        *(("table", str), ("list", str), ("bytes", bytes)),
    )
)
"""What type the column of each kind may have."""

KINDS: Final[tuple[Kind, ...]] = ("string", "number", "boolean", "table", "list", "bytes")


class Encoded(NamedTuple):
    """A table or list that is already JSON text; every verb that takes a value stores it as it is.

    What a binding of another language passes, which builds the text from its own values (see `slothstate.lua`).
    The text is trusted to be what `json_encode` would write.
    """

    kind: Kind
    stored: str


def to_json(value: Any) -> str:
    """Return the JSON text of a value, as a store keeps tables and lists: strict, and a float always marked as one.

    Raises: `InvalidValue` naming the path to what JSON cannot hold; `OutOfRange` for an integer past 64 bits.

    >>> import slothstate
    >>> slothstate.to_json({"ratio": 1.0, "ports": (80, 443)})
    '{"ratio":1.0,"ports":[80,443]}'
    """
    return json_encode(value, "value")


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text, as strictly as a store reads it: what cannot be held exactly is an error.

    Raises: `ValueError` naming the byte where it stopped.

    >>> import slothstate
    >>> slothstate.parse_json('{"ratio": 1.0, "ports": [80, 443]}')
    {'ratio': 1.0, 'ports': [80, 443]}
    """
    return json_decode(text)


def check_key(key: str, name: str = "key") -> str:
    """Return `key` as a plain str that can be stored; `name` is the argument's name in the message.

    Raises: `InvalidKey` unless it is a non-empty str of at most 4096 bytes of UTF-8, without NUL or lone surrogates.
    """
    if not isinstance(key, str):
        raise InvalidKey(f"{name} must be a str, got {describe(key)}")
    if not key:
        raise InvalidKey(f"{name} must not be empty")
    if "\0" in key:
        raise InvalidKey(f"{name} {shorten(key)} must not contain NUL (at index {key.index(chr(0))})")
    if key.isascii():
        size = len(key)
    else:
        try:
            size = len(key.encode())
        except UnicodeEncodeError as error:
            raise InvalidKey(f"{name} {shorten(key)} has a lone surrogate at index {error.start}") from error
    if size > KEY_MAX_BYTES:
        raise InvalidKey(f"{name} {shorten(key)} has {size} bytes of UTF-8, expected at most {KEY_MAX_BYTES}")
    return key if type(key) is str else str.__str__(key)


def encode(value: Any, name: str = "value") -> tuple[Kind, Stored]:
    """Return the kind and the column value of `value`; `name` begins the path in error messages.

    Subclasses of the storable types are stored as their base type.
    Raises: `InvalidValue` naming the path; `OutOfRange` for an integer past 64 bits.
    """
    # The two most common cases first; the rest of the function is right for them too.
    if type(value) is int and INTEGER_MIN <= value <= INTEGER_MAX:
        return "number", value
    if type(value) is str and value.isascii() and len(value) <= VALUE_MAX_BYTES:
        return "string", value
    kind = kind_of(value)
    if kind is None:
        raise InvalidValue(f"{name}: {describe(value)} cannot be stored; expected {STORABLE}")
    if kind == "string":
        return kind, _check_text(value, name)
    if kind == "number":
        return kind, check_number(value, name)
    if kind == "boolean":
        return kind, 1 if value else 0
    if type(value) is Encoded:
        return kind, value.stored
    if kind == "bytes":
        octets: bytes = bytes.__getitem__(value, slice(None))
        _check_size(len(octets), name)
        return kind, octets
    return kind, json_encode(value, name)


STORABLE: Final = "str, bytes, bool, int, float, dict or list"


def kind_of(value: object) -> Kind | None:
    """Return the kind `value` would be stored as, or None if it cannot be stored."""
    exact = _KIND_OF_TYPE.get(type(value))
    if exact is not None:
        return exact
    if type(value) is Encoded:
        return value.kind
    for base, kind in _KIND_OF_TYPE.items():
        if isinstance(value, base):
            return kind
    return None


_KIND_OF_TYPE: Final[dict[type, Kind]] = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    dict: "table",
    list: "list",
    tuple: "list",
    bytes: "bytes",
}


def encode_mapping(mapping: Mapping[str, Any]) -> dict[Kind, list[tuple[str, Stored]]]:
    """Return the keys and column values of a mapping, by kind. Raises: as `check_key` and `encode`."""
    rows: dict[Kind, list[tuple[str, Stored]]] = {}
    for key, value in mapping.items():
        kind, stored = encode(value, f"value of {shorten(key)}")
        rows.setdefault(kind, []).append((check_key(key), stored))
    return rows


def encode_item(item: object, name: str) -> str:
    """Return the JSON text of an item of a list, which nests at most 499 levels: the list is one more.

    Raises: `InvalidValue`, `OutOfRange`, naming the path.
    """
    if type(item) is not Encoded:
        return json_encode_item(item, name)
    check_levels(item.stored, name, LEVELS_MAX - 1)
    return item.stored


def check_levels(item: str, name: str, most: int = LEVELS_MAX) -> None:
    """Check that the JSON text of an item can be read inside its list. Raises: `InvalidValue`: `most` levels fit."""
    # The rare text with so many brackets that it may nest too deep.
    if item.count("[") + item.count("{") >= LEVELS_MAX:
        try:
            json_decode(f"[{item}]")
        except ValueError as error:
            raise InvalidValue(f"{name}: nested too deep; at most {most} levels can be stored") from error


def as_python(kind: Kind, stored: Stored) -> Any:
    """Return the Python value of a verified row: a dict or list is built anew each time.

    Raises: `ValueError` for a damaged table or list.
    """
    if kind == "boolean":
        return stored == 1
    if kind == "table" or kind == "list":
        value = json_decode(stored)  # type: ignore[arg-type]
        if type(value) is not (dict if kind == "table" else list):
            raise ValueError(f"its JSON is not a {kind}")
        return value
    return stored


def as_encoded(kind: Kind, stored: Stored) -> Any:
    """Like `as_python`, but a table or list stays JSON, as `Encoded`."""
    if kind == "boolean":
        return stored == 1
    if kind == "table" or kind == "list":
        return Encoded(kind, stored)  # type: ignore[arg-type]
    return stored


def verify(key: str, kind: Kind, stored: object) -> None:
    """Check what no write of ours can produce. Raises: `StateCorrupt` naming the key."""
    if (kind, type(stored)) not in _COLUMN_TYPES:
        what = "items are missing" if stored is None else f"a {kind!r} cannot be stored as {type(stored).__name__}"
        raise damaged(key, what)
    if type(stored) is float and not isfinite(stored):
        raise damaged(key, f"{stored} is no number that can be stored")


def decoded(decode: Callable[[Kind, Stored], Any], key: str, kind: Kind, stored: Stored) -> Any:
    """Return the value of a row. Raises: `StateCorrupt` naming the key if its JSON cannot be read."""
    try:
        return decode(kind, stored)
    except ValueError as error:
        raise damaged(key, error) from error


def item_of(key: str, text: str) -> Any:
    """Return the value of an item of a list, or of a field. Raises: `StateCorrupt` naming the key."""
    try:
        return json_decode(text)
    except ValueError as error:
        raise unreadable(key, error) from error


def unreadable(key: str, error: ValueError) -> StateCorrupt:
    """Return the error for an item that cannot be read."""
    return damaged(key, f"an item cannot be read: {error}")


def damaged(key: str | bytes, what: object) -> StateCorrupt:
    """Return the error for a key whose row no write of ours can have left."""
    return StateCorrupt(f"key {key!r} is damaged: {what}")


def same(left: object, right: object) -> bool:
    """Return whether two values are deeply equal: 1 equals 1.0, but True is not 1, and a tuple is a list."""
    # No recursion: 500 levels of dicts would take a thousand frames, all that Python allows by default.
    pairs: list[tuple[object, object]] = [(left, right)]
    while pairs:
        left, right = pairs.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            if left.keys() != right.keys():
                return False
            pairs += [(value, right[name]) for name, value in left.items()]
        elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
            if len(left) != len(right):
                return False
            pairs += zip(left, right, strict=True)
        elif type(left) in _NUMBERS and type(right) in _NUMBERS:
            if left != right:
                return False
        elif type(left) is not type(right) or left != right:
            return False
    return True


_NUMBERS: Final = (int, float)


def check_number(number: float, name: str) -> int | float:
    """Return `number` as a plain int or float that fits SQLite's types.

    Raises: `InvalidValue` for anything but a finite int or float; `OutOfRange` for an integer past 64 bits.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InvalidValue(f"{name}: expected an int or float, got {describe(number)}")
    if type(number) is not int and type(number) is not float:
        # The number itself, which a subclass may present as another one.
        number = int.__pos__(number) if isinstance(number, int) else float.__pos__(number)
    if isinstance(number, int):
        if not INTEGER_MIN <= number <= INTEGER_MAX:
            raise OutOfRange(f"{name}: {shorten(number)} does not fit in 64 bits")
        return number
    if not isfinite(number):
        raise InvalidValue(f"{name}: {number} cannot be stored; expected a finite number")
    return number


def check_seconds(seconds: Seconds, name: str, *, zero: bool = False) -> float:
    """Return a duration in seconds. Raises: `InvalidValue` unless > 0 (or >= 0 with `zero`)."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        # Imported here: few programs pass one, and none that has not imported it.
        from datetime import timedelta

        if not isinstance(seconds, timedelta):
            raise InvalidValue(f"{name} must be a number of seconds or a timedelta, got {describe(seconds)}")
        seconds = seconds.total_seconds()
    if not (0 <= seconds <= SECONDS_MAX) or (seconds == 0 and not zero):
        bound = ">= 0" if zero else "> 0"
        raise InvalidValue(
            f"{name} must be a number of seconds {bound} and at most {SECONDS_MAX}, got {shorten(seconds)}"
        )
    return seconds


def check_flag(flag: bool, name: str) -> bool:
    """Return a flag. Raises: `InvalidValue` unless a bool: "no" would count as yes."""
    if not isinstance(flag, bool):
        raise InvalidValue(f"{name} must be True or False, got {describe(flag)}")
    return flag


def _check_text(text: str, name: str) -> str:
    if text.isascii():
        _check_size(len(text), name)
    else:
        try:
            _check_size(len(text.encode()), name)
        except UnicodeEncodeError as error:
            raise InvalidValue(
                f"{name}: a str with a lone surrogate at index {error.start} cannot be stored as UTF-8"
            ) from error
    return text if type(text) is str else str.__str__(text)


def _check_size(size: int, name: str) -> None:
    if size > VALUE_MAX_BYTES:
        raise InvalidValue(f"{name}: {size} bytes cannot be stored; expected at most {VALUE_MAX_BYTES}")


def describe(value: object) -> str:
    """Name a value for a message: its type, and the value where that is short and harmless to show."""
    if value is None:
        return "None"
    kind = type(value)
    if kind in (bool, int, float, str, bytes):
        return f"{kind.__name__} {shorten(value)}"
    if kind.__name__ in _TYPE_NAMES and kind not in _KIND_OF_TYPE:
        # "bool cannot be stored; expected … bool" would be of no help.
        return f"{kind.__module__}.{kind.__name__}"
    return kind.__name__


_TYPE_NAMES: Final = frozenset(kind.__name__ for kind in _KIND_OF_TYPE)


def shorten(value: object) -> str:
    """Return `repr(value)`, cut to a length that fits an error message."""
    # An int of more than 4300 digits cannot even be converted to text (CVE-2020-10735).
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = str(value) if isinstance(value, int) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
