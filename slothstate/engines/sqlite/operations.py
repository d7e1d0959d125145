"""The families of the protocol as operations on a connection: which function each verb is, and whether it writes.

An operation is a function `(connection, now, ...)` that the pool runs on a connection it lends (csrc/engine/lender.c).
The members made with `partial` are called as they are, without a function of Python on the way. What few programs use
is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import apsw

from slothstate.engines.protocol import NO_KEY, Row, StoredRecord
from slothstate.engines.sqlite import clearing, keys, listing
from slothstate.engines.sqlite.read_cache import ABSENT, FORMS
from slothstate.errors import importing
from slothstate.hints import TYPE_CHECKING, Final, TypeVar, TypeVarTuple, cast

if TYPE_CHECKING:
    from slothstate.descriptions import Entry, Usage
    from slothstate.engines.sqlite.connection import Connection
    from slothstate.engines.sqlite.lender import Runner

__all__ = ["VERBS", "EntryOperations", "TransferOperations", "by_verb", "reading", "writing", "writing_key"]

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


def reading(store: Runner, operation: Callable[[Connection, int, *A], R]) -> Callable[[*A], R]:
    return cast("Callable[[*A], R]", partial(store.read, operation))


def writing(store: Runner, operation: Callable[[Connection, int, *A], R]) -> Callable[[*A], R]:
    return cast("Callable[[*A], R]", partial(store.write, operation))


def writing_key(store: Runner, operation: Callable[[Connection, int, str, *A], R]) -> Callable[[str, *A], R]:
    return cast("Callable[[str, *A], R]", partial(store.write_key, operation))


class EntryOperations:
    """`protocol.Entries`."""

    def __init__(self, store: Runner) -> None:
        self._store = store
        self.get = reading(store, keys.get)
        self.put = writing_key(store, keys.put)
        self.put_many = writing(store, keys.put_many)
        self.put_when = writing_key(store, keys.put_when)
        self.insert = writing_key(store, keys.insert)
        self.swap_scalar = writing_key(store, keys.swap_scalar)
        self.swap_text = writing_key(store, keys.swap_text)
        self.delete_scalar = writing_key(store, keys.delete_scalar)
        self.delete_text = writing_key(store, keys.delete_text)
        self.delete = writing_key(store, keys.delete)
        self.take = writing_key(store, keys.take)
        self.rename = writing(store, keys.rename)
        self.copy = writing(store, keys.copy)
        self.set_expiry = writing_key(store, keys.set_expiry)
        self.persist = writing_key(store, keys.persist)
        self.count = reading(store, keys.count)
        self.clear = writing(store, clearing.clear)
        self.keys = reading(store, listing.keys)
        self.page = reading(store, listing.page_of_keys)

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
        with importing():
            from slothstate.engines.sqlite import entries

        return self._store.read(entries.describe, key, preview)

    def page_of_descriptions(
        self, pattern: str | None, after: str, limit: int, preview: int, /
    ) -> tuple[list[Entry], str | None]:
        with importing():
            from slothstate.engines.sqlite import entries

        return self._store.read(entries.page, pattern, after, limit, preview)

    def usage(self, prefix: str, delimiter: str, /) -> list[Usage]:
        with importing():
            from slothstate.engines.sqlite import entries

        return self._store.read(entries.usage, prefix, delimiter)


class TransferOperations:
    """`protocol.Transfer`."""

    def __init__(self, store: Runner) -> None:
        self._store = store

    def records(self, pattern: str | None, /) -> Iterator[StoredRecord]:
        with importing():
            from slothstate.engines.sqlite import transfer
            from slothstate.engines.sqlite.translation import translate

        with self._store.snapshot() as (connection, now):
            try:
                for key, (kind, stored, expires_at_ms) in transfer.rows(connection, now, pattern):
                    yield key, kind, stored, expires_at_ms
            except apsw.Error as error:
                raise translate(error, self._store.path) from error

    def load(self, records: Sequence[StoredRecord], /) -> int:
        with importing():
            from slothstate.engines.sqlite import transfer

        return self._store.write(transfer.load, records)
