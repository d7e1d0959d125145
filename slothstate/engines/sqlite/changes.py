"""Waiting for the next commit of any process: the wal-index tells (see `read_cache`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slothstate.engines.sqlite.store import Store

__all__ = ["CommitWatch"]

POLL: Final = 0.001
"""Seconds until whoever waits looks again where the wal-index cannot be asked."""


class CommitWatch:
    """`protocol.Changes`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def token(self) -> int | None:
        self._store.ensure_identity()
        return self._store.cache.sync()

    def wait(self, token: int | None, seconds: float, /) -> bool:
        if token is None:
            time.sleep(min(seconds, POLL))
            return True
        return self._store.cache.wait(token, seconds)
