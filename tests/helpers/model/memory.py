"""The memory that engines of the model share, as the processes of a machine share a file."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from slothstate.caller import Caller
from slothstate.engines.protocol import Row

__all__ = ["Holder", "Memory", "Out", "Places", "Rows", "WatchEntry"]


class Out(NamedTuple):
    """An item that is claimed, or delayed until `due_ms`. `ends` is a reading of `time.monotonic`."""

    place: Fraction
    item: object
    attempts: int
    nonce: int
    owner: object
    since_ms: int
    ends: float | None
    due_ms: int | None = None


class Places(NamedTuple):
    """Where the items of a list are, with their attempts, and what is out of it.

    It counts as long as the key has this very `row`, None for a list that is not there.
    """

    row: Row | None
    items: tuple[tuple[Fraction, int], ...]
    outs: tuple[Out, ...]


class Rows(dict[str, Row]):
    """Keys with their rows, and the places of those lists of which something is or was claimed."""

    def __init__(self, rows: Mapping[str, Row] | None = None, places: Mapping[str, Places] | None = None) -> None:
        super().__init__(rows or {})
        self.places = dict(places or {})

    def live(self, now_ms: int) -> Rows:
        """Return the rows that have not expired; of a list that has, what is out of it stays."""
        live = Rows(self, self.places)
        for key in [key for key, row in self.items() if row[2] is not None and row[2] <= now_ms]:
            del live[key]
        for key, places in self.places.items():
            if places.row is not self.get(key):
                del live.places[key]
            elif key not in live:
                live.places[key] = Places(None, (), places.outs)
        return live

    def keep(self, key: str, row: Row) -> None:
        """Replace a row by one with the same items."""
        places = self.places.get(key)
        if places is not None and key in self and places.row is self[key]:
            self.places[key] = places._replace(row=row)
        self[key] = row

    def rename(self, key: str, to: str) -> None:
        places = self.places.pop(key, None)
        self[to] = self.pop(key)
        self.places.pop(to, None)
        if places is not None:
            self.places[to] = places


class Holder(NamedTuple):
    """An acquisition of a lock: `ends` is a reading of `time.monotonic`, None without a time to live."""

    token: int
    nonce: int
    owner: object
    since: float
    ends: float | None
    shared: bool
    slots: int


class WatchEntry:
    """A watch: `owner` is the engine that runs it, None while nobody does."""

    def __init__(self, name: str | None, pattern: str | None, owner: object, revision: int, since: float) -> None:
        self.name = name
        self.pattern = pattern
        self.owner: object = owner
        self.revision = revision
        self.since = since


class Memory:
    """Rows and locks. `rows` is never changed, only replaced, so whoever reads needs no mutex."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.commits = 0
        # Held by whoever writes, a transaction until it ends.
        self.writing = threading.Lock()
        self.writer: Caller | None = None
        self.holders: dict[str, list[Holder]] = {}
        # Who waits to have a lock alone, by nonce; and who did so when a wait began.
        self.alone: dict[int, str] = {}
        self.ahead: dict[int, set[int]] = {}
        self.tokens: dict[str, int] = {}
        self.dead: set[object] = set()
        """Owners of claims that are closed."""
        # By nonce; and what they may still have to read: (revision, key, op), and when that was.
        self.watches: dict[int, WatchEntry] = {}
        self.changes: list[tuple[int, str, str, int]] = []
        self.noted: list[tuple[str, str]] = []
        self.revision = 0

    def log(self, now_ms: int) -> None:
        """Give revisions to what was noted, if anybody watches."""
        for key, op in self.noted if self.watches else ():
            self.revision += 1
            self.changes.append((self.revision, key, op, now_ms))
        self.noted = []
