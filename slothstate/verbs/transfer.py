"""Whole keys, out of one store and into another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slothstate.errors import InvalidValue, importing
from slothstate.hints import TYPE_CHECKING
from slothstate.values import decoded, describe
from slothstate.verbs.base import Verbs, check_pattern

if TYPE_CHECKING:
    from slothstate.record import Record

__all__ = ["TransferVerbs"]


class TransferVerbs(Verbs):
    """The verbs of whoever moves keys."""

    def dump(self, pattern: str | None = None) -> Iterator[Record]:
        """Iterate over the keys that match as `Record`s, sorted, all as they were at one moment.

        Until the iterator is exhausted or closed the log of the store grows with every write: be quick.
        Raises: `PatternError`; `StateCorrupt` at a damaged key, naming it.

        >>> state.set("answer", 42)
        True
        >>> list(state.dump())
        [Record(key='answer', kind='number', value=42, expires_at_ms=None)]
        """
        return self._dump(check_pattern(pattern))

    def _dump(self, pattern: str | None) -> Iterator[Record]:
        with importing():
            from slothstate.record import Record

        decode = self._codec.decode
        for key, kind, stored, expires_at_ms in self._engine.transfer.records(pattern):
            yield Record(key, kind, decoded(decode, key, kind, stored), expires_at_ms)

    def load(self, records: Iterable[Record]) -> int:
        """Store records in one transaction, each replacing its key; return how many, without those already expired.

        Raises: `InvalidValue` for what is no record, a value that is not of the record's kind, or one that cannot be
        stored; `InvalidKey`; `OutOfRange`. Nothing is then stored.

        >>> from slothstate import Record
        >>> state.load([Record("answer", "number", 42), Record("gone", "string", "x", expires_at_ms=1)])
        1
        """
        with importing():
            from slothstate.record import encode_record

        if not isinstance(records, Iterable):
            raise InvalidValue(f"records must be an iterable of Records, got {describe(records)}")
        return self._engine.transfer.load([encode_record(record) for record in records])
