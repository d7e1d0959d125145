"""The memory that engines of the model share, as the processes of a machine share a file."""

from __future__ import annotations

import threading
from typing import NamedTuple

from slothstate.caller import Caller
from slothstate.engines.protocol import Row

__all__ = ["Holder", "Memory", "WatchEntry"]


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
        self.rows: dict[str, Row] = {}
        self.commits = 0
        # Held by whoever writes, a transaction until it ends.
        self.writing = threading.Lock()
        self.writer: Caller | None = None
        self.holders: dict[str, list[Holder]] = {}
        # Who waits to have a lock alone, by nonce.
        self.alone: dict[int, str] = {}
        self.tokens: dict[str, int] = {}
        # By nonce; and what they may still have to read: (revision, key, op).
        self.watches: dict[int, WatchEntry] = {}
        self.changes: list[tuple[int, str, str]] = []
        self.noted: list[tuple[str, str]] = []
        self.revision = 0

    def log(self) -> None:
        """Give revisions to what was noted, if anybody watches."""
        for key, op in self.noted if self.watches else ():
            self.revision += 1
            self.changes.append((self.revision, key, op))
        self.noted = []
