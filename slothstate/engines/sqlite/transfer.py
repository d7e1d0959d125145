"""Keys as they leave one store and come into another: with their kind, value and moment of expiry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from slothstate.engines.protocol import Row
from slothstate.engines.sqlite.connection import Atomic, Connection
from slothstate.engines.sqlite.keys import get, page_of_keys, put
from slothstate.values import Kind, Stored

__all__ = ["load", "rows"]

PAGE_OF_ROWS: Final = 1000


def rows(connection: Connection, now: int, pattern: str | None) -> Iterator[tuple[str, Row]]:
    """Yield the live rows whose keys match, in the order of keys; the caller holds the snapshot they come from."""
    after: str | None = ""
    while after is not None:
        page, after = page_of_keys(connection, now, pattern, after, PAGE_OF_ROWS)
        for key in page:
            row = get(connection, now, key)
            if row is not None:
                yield key, row


def load(connection: Connection, now: int, new: Sequence[tuple[str, Kind, Stored, int | None]]) -> int:
    """Store rows of key, kind, value and expiry in one transaction, each replacing its key.

    Returns how many, without those that have expired.
    """
    stored = 0
    with Atomic(connection):
        for key, kind, value, expires_at_ms in new:
            if expires_at_ms is not None and expires_at_ms <= now:
                continue
            put(connection, now, key, kind, value, None if expires_at_ms is None else expires_at_ms - now)
            stored += 1
    return stored
