"""A key with everything that is stored of it, as `State.dump` gives and `State.load` takes it."""

from __future__ import annotations

from slothstate.errors import InvalidValue, a_kind
from slothstate.hints import Any, Final, NamedTuple
from slothstate.values import KINDS, STORABLE, Kind, Stored, check_key, describe, encode, kind_of, shorten

__all__ = ["EXPIRY_MAX_MS", "Record", "encode_record"]

EXPIRY_MAX_MS: Final = 2**53
"""The latest moment of expiry of a record: some 285,000 years on, and exact in every language."""


class Record(NamedTuple):
    """A key with everything that is stored of it; what `State.dump` gives and `State.load` takes.

    `expires_at_ms` is the moment of expiry in milliseconds since the epoch, at most 2^53; None without a time to live.
    """

    key: str
    kind: Kind
    value: Any
    expires_at_ms: int | None = None

    @classmethod
    def of(cls, key: str, value: Any, expires_at_ms: int | None = None) -> Record:
        """Return the record of a value, whose kind follows from it. Raises: `InvalidValue` for what has no kind.

        >>> from slothstate import Record
        >>> Record.of("ports", (80, 443)).kind
        'list'
        """
        kind = kind_of(value)
        if kind is None:
            raise InvalidValue(f"value of {shorten(key)}: {describe(value)} cannot be stored; expected {STORABLE}")
        return cls(key, kind, value, expires_at_ms)

    def check(self) -> None:
        """Raise what `State.load` would raise for this record."""
        encode_record(self)


def encode_record(record: Record) -> tuple[str, Kind, Stored, int | None]:
    """Return the row that a record becomes.

    Raises: `InvalidKey`, `InvalidValue`, `OutOfRange`, naming the key; `InvalidValue` for a value of another kind.
    """
    if not isinstance(record, tuple) or len(record) != len(Record._fields):
        raise InvalidValue(f"a record must be a Record, got {describe(record)}")
    key, kind, value, expires_at_ms = record
    check_key(key)
    if kind not in KINDS:
        raise InvalidValue(f"kind of {shorten(key)} must be one of {', '.join(KINDS)}, got {describe(kind)}")
    found, stored = encode(value, f"value of {shorten(key)}")
    if found != kind:
        raise InvalidValue(f"value of {shorten(key)}: {a_kind(kind)} expected, got {a_kind(found)}")
    if expires_at_ms is not None and (type(expires_at_ms) is not int or not 0 <= expires_at_ms <= EXPIRY_MAX_MS):
        raise InvalidValue(
            f"expires_at_ms of {shorten(key)} must be milliseconds since 1970, got {describe(expires_at_ms)}"
        )
    return key, kind, stored, expires_at_ms
