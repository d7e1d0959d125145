"""The memory that engines of the model share, as the processes of a machine share a file."""

from __future__ import annotations

import threading
from typing import NamedTuple

from slothstate.caller import Caller
from slothstate.engines.protocol import Row

__all__ = ["Holder", "Memory"]


class Holder(NamedTuple):
    """An acquisition of a lock: `ends` is a reading of `time.monotonic`, None without a time to live."""

    token: int
    nonce: int
    owner: object
    since: float
    ends: float | None


class Memory:
    """Rows and locks. `rows` is never changed, only replaced, so whoever reads needs no mutex."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.commits = 0
        # Held by whoever writes, a transaction until it ends.
        self.writing = threading.Lock()
        self.writer: Caller | None = None
        self.holders: dict[str, Holder] = {}
        self.tokens: dict[str, int] = {}
