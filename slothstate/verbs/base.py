"""What every family of verbs shares: the engine, and how a stored value becomes one of the calling language."""

from __future__ import annotations

from collections.abc import Sequence

from slothstate.engines.protocol import Codec, Engine
from slothstate.errors import InvalidKey, InvalidValue, PatternError
from slothstate.hints import Any, Final, Self
from slothstate.locks import Locks
from slothstate.native import StateBase, glob_check
from slothstate.values import INTEGER_MAX, Seconds, check_key, check_seconds, decoded, describe, item_of

__all__ = [
    "MISSING",
    "SCAN_PAGE",
    "NotSetUp",
    "Verbs",
    "check_count",
    "check_keys",
    "check_pattern",
    "check_timeout",
    "milliseconds",
]

MISSING: Final = object()
"""A default that no value is."""

SCAN_PAGE: Final = 1000
"""Keys that an iteration reads at a time."""


class Verbs(StateBase):
    """The base of the families of verbs, which `slothstate.State` puts together."""

    _engine: Engine
    _locks: Locks
    _codec: Codec

    def __new__(cls, *_arguments: Any, **_named: Any) -> Self:
        self = super().__new__(cls)
        # So that an __init__ that forgets the inherited one is named by whatever is done first.
        self._engine = self._locks = self._codec = NotSetUp(cls.__name__)  # type: ignore[assignment]
        return self

    def _part(self, key: str, text: str) -> Any:
        """Return the value of a JSON text that is a part of a key's: an item of a list, a field."""
        if text.startswith(("{", "[")):
            return decoded(self._codec.decode, key, "table" if text.startswith("{") else "list", text)
        return item_of(key, text)


class NotSetUp:
    """Stands for the parts of a State until `State.__init__` has set them."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        raise TypeError(f"{self._kind} is not set up: its __init__ must call super().__init__")


def milliseconds(seconds: Seconds, name: str) -> int:
    """Return a time to live in milliseconds, at least one. Raises: `InvalidValue`."""
    return max(1, round(check_seconds(seconds, name) * 1000))


def check_timeout(timeout: Seconds | None) -> float | None:
    """Return how long to wait, in seconds; None for ever. Raises: `InvalidValue`."""
    return None if timeout is None else check_seconds(timeout, "timeout", zero=True)


def check_count(number: int, name: str, least: int = 0) -> int:
    """Return a number of things. Raises: `InvalidValue` unless it is an int from `least` to 2^63 - 1."""
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= INTEGER_MAX:
        most = f" and at most {INTEGER_MAX}" if isinstance(number, int) and number > INTEGER_MAX else ""
        raise InvalidValue(f"{name} must be an int >= {least}{most}, got {describe(number)}")
    return number


def check_keys(keys: str | Sequence[str]) -> list[str]:
    """Return one key, or the keys of a sequence, as a list. Raises: `InvalidKey`; `InvalidValue` for an empty one."""
    if isinstance(keys, str):
        return [check_key(keys)]
    if not isinstance(keys, Sequence) or isinstance(keys, bytes | bytearray):
        raise InvalidKey(f"key must be a str or a sequence of them, got {describe(keys)}")
    if not keys:
        raise InvalidValue("key: a sequence of keys must not be empty")
    return [check_key(key, f"key[{index}]") for index, key in enumerate(keys)]


def check_pattern(pattern: str | None) -> str | None:
    """Return a pattern; None for every key. Raises: `PatternError`."""
    if pattern is not None:
        if not isinstance(pattern, str):
            raise PatternError(f"pattern must be a str, got {describe(pattern)}")
        glob_check(pattern)
    return pattern
