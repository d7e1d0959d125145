"""The families of the protocol as operations on a connection: which function each verb is, and whether it writes.

An operation is a function `(connection, now, ...)` that the pool runs on a connection it lends (csrc/engine/lender.c).
The members made with `partial` are called as they are, without a function of Python on the way. What few programs use
is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, TypeVarTuple, cast

from slothstate.engines.protocol import NO_KEY, Row, StoredRecord
from slothstate.engines.sqlite import clearing, counters, edits, fields, keys, list_rows, listing, lists, returning
from slothstate.engines.sqlite.read_cache import ABSENT, FORMS, LENGTH
from slothstate.errors import StateReadOnly

if TYPE_CHECKING:
    from slothstate.descriptions import Entry, Usage
    from slothstate.engines.sqlite.connection import Connection
    from slothstate.engines.sqlite.lender import Runner

__all__ = [
    "VERBS",
    "CounterOperations",
    "EntryOperations",
    "FieldOperations",
    "ListOperations",
    "TransferOperations",
    "by_verb",
]

A = TypeVarTuple("A")
R = TypeVar("R")

VERBS: Final[dict[Callable[..., object], str]] = {
    keys.get: "get",
    keys.get_many: "get_many",
    keys.put: "set",
    keys.put_when: "set",
    keys.put_many: "set_many",
    keys.delete: "delete",
    keys.take: "take",
    keys.rename: "rename",
    keys.copy: "copy",
    keys.exists: "exists",
    clearing.clear: "clear",
    listing.keys: "keys",
    listing.page_of_keys: "scan",
    keys.set_expiry: "set_ttl",
    keys.remaining_ms: "get_ttl",
    keys.persist: "persist",
    keys.swap_scalar: "compare_swap",
    keys.swap_text: "compare_swap",
    keys.delete_scalar: "compare_swap",
    keys.delete_text: "compare_swap",
    keys.insert: "compare_swap",
    counters.increment: "increment",
    counters.append: "append",
    fields.get: "get_field",
    fields.put: "set_field",
    fields.delete: "delete_field",
    fields.increment: "increment_field",
    lists.push: "list_push",
    lists.pop: "list_pop",
    lists.pop_first: "list_pop",
    lists.shift: "list_shift",
    lists.shift_first: "list_shift",
    lists.unshift: "list_unshift",
    lists.pop_many: "list_pop_many",
    lists.shift_many: "list_shift_many",
    edits.replace: "list_set",
    edits.insert: "list_insert",
    edits.remove: "list_remove",
    edits.trim: "list_trim",
    lists.measure: "list_length",
    lists.section: "list_range",
}
"""What each operation is counted as in `State.stats()`; what is imported late adds its own."""


_NO_ROW: Final = (None, None, None)


def by_verb(counted: dict[Callable[..., object], int]) -> dict[str, int]:
    """Return how often each verb was used, from how often each operation was run."""
    verbs: dict[str, int] = {}
    for operation, count in list(counted.items()):
        verb = VERBS.get(operation)
        if verb is not None:
            verbs[verb] = verbs.get(verb, 0) + count
    return verbs


def _reading(store: Runner, operation: Callable[[Connection, int, *A], R]) -> Callable[[*A], R]:
    return cast("Callable[[*A], R]", partial(store.read, operation))


def _writing(store: Runner, operation: Callable[[Connection, int, *A], R]) -> Callable[[*A], R]:
    return cast("Callable[[*A], R]", partial(store.write, operation))


def _writing_key(store: Runner, operation: Callable[[Connection, int, str, *A], R]) -> Callable[[str, *A], R]:
    return cast("Callable[[str, *A], R]", partial(store.write_key, operation))


class EntryOperations:
    """`protocol.Entries`."""

    def __init__(self, store: Runner) -> None:
        self._store = store
        self.get = _reading(store, keys.get)
        self.put = _writing_key(store, keys.put)
        self.put_many = _writing(store, keys.put_many)
        self.put_when = _writing_key(store, keys.put_when)
        self.insert = _writing_key(store, keys.insert)
        self.swap_scalar = _writing_key(store, keys.swap_scalar)
        self.swap_text = _writing_key(store, keys.swap_text)
        self.delete_scalar = _writing_key(store, keys.delete_scalar)
        self.delete_text = _writing_key(store, keys.delete_text)
        self.delete = _writing_key(store, keys.delete)
        self.take = _writing_key(store, keys.take)
        self.rename = _writing(store, keys.rename)
        self.copy = _writing(store, keys.copy)
        self.set_expiry = _writing_key(store, keys.set_expiry)
        self.persist = _writing_key(store, keys.persist)
        self.count = _reading(store, keys.count)
        self.clear = _writing(store, clearing.clear)
        self.keys = _reading(store, listing.keys)
        self.page = _reading(store, listing.page_of_keys)

    def get_many(self, names: Sequence[str], /) -> dict[str, Row]:
        self._store.ensure_identity()
        cache = self._store.cache
        token = cache.sync()
        rows = self._store.read(keys.get_many, names)
        if token is not None:
            for key in names:
                kind, stored, expires_at_ms = rows.get(key, _NO_ROW)
                if kind is None:
                    cache.store(token, key, ABSENT, None, None)
                else:
                    cache.store(token, key, FORMS[kind], stored == 1 if kind == "boolean" else stored, expires_at_ms)
        return rows

    def exists(self, key: str, /) -> bool:
        left_ms = self._store.cache.remaining_ms(key)
        if left_ms is not None:
            self._store.operations[keys.exists] += 1
            return left_ms != NO_KEY
        self._store.ensure_identity()
        return self._store.read(keys.exists, key)

    def remaining_ms(self, key: str, /) -> int:
        left_ms = self._store.cache.remaining_ms(key)
        if left_ms is not None:
            self._store.operations[keys.remaining_ms] += 1
            return left_ms
        self._store.ensure_identity()
        return self._store.read(keys.remaining_ms, key)

    def describe(self, key: str, preview: int, /) -> Entry | None:
        from slothstate.engines.sqlite import entries

        return self._store.read(entries.describe, key, preview)

    def page_of_descriptions(
        self, pattern: str | None, after: str, limit: int, preview: int, /
    ) -> tuple[list[Entry], str | None]:
        from slothstate.engines.sqlite import entries

        return self._store.read(entries.page, pattern, after, limit, preview)

    def usage(self, prefix: str, delimiter: str, /) -> list[Usage]:
        from slothstate.engines.sqlite import entries

        return self._store.read(entries.usage, prefix, delimiter)


class CounterOperations:
    """`protocol.Counters`."""

    def __init__(self, store: Runner) -> None:
        # The last argument of the three may be left out, which `RunOnKey` does not say.
        self.increment = cast("Callable[..., int | float]", _writing_key(store, counters.increment))
        self.append = _writing_key(store, counters.append)


class FieldOperations:
    """`protocol.Fields`."""

    def __init__(self, store: Runner) -> None:
        self.get = _reading(store, fields.get)
        self.put = _writing_key(store, fields.put)
        self.delete = _writing_key(store, fields.delete)
        self.increment = _writing_key(store, fields.increment)


class ListOperations:
    """`protocol.Lists`."""

    def __init__(self, store: Runner) -> None:
        self._store = store
        self.push = _writing_key(store, lists.push)
        self.pop = _writing_key(store, lists.pop)
        self.shift = _writing_key(store, lists.shift)
        self.pop_first = _writing(store, lists.pop_first)
        self.shift_first = _writing(store, lists.shift_first)
        self.unshift = _writing_key(store, lists.unshift)
        self.pop_many = _writing_key(store, lists.pop_many)
        self.shift_many = _writing_key(store, lists.shift_many)
        self.replace = _writing_key(store, edits.replace)
        self.insert = _writing_key(store, edits.insert)
        self.remove = _writing_key(store, edits.remove)
        self.trim = _writing_key(store, edits.trim)
        self.section = _reading(store, lists.section)

    def length(self, key: str, /) -> int:
        self._store.ensure_identity()
        cache = self._store.cache
        token = cache.sync()
        measured = self._store.read(lists.measure, key)
        if measured.is_due:
            try:
                return self._store.write_key(returning.length, key)
            except StateReadOnly:
                return self._store.read(list_rows.length, key)
        size = measured.size or 0
        if not measured.may_have_claims:
            if measured.size is None:
                cache.store(token, key, ABSENT, None, None)
            cache.store(token, key, LENGTH, size, measured.expires_at_ms)
        return size


class TransferOperations:
    """`protocol.Transfer`."""

    def __init__(self, store: Runner) -> None:
        self._store = store

    def records(self, pattern: str | None, /) -> Iterator[StoredRecord]:
        from slothstate.engines.sqlite import transfer

        with self._store.snapshot() as (connection, now):
            for key, (kind, stored, expires_at_ms) in transfer.rows(connection, now, pattern):
                yield key, kind, stored, expires_at_ms

    def load(self, records: Sequence[StoredRecord], /) -> int:
        from slothstate.engines.sqlite import transfer

        return self._store.write(transfer.load, records)
