"""Locks of the model: rows in a dict, tokens that rise for ever; whoever waits looks again and again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from helpers.model.entries import Part

from slothstate.descriptions import LockDescription
from slothstate.errors import NotSupported, SlothStateError

__all__ = ["Changes", "LockTable"]

POLL: Final = 0.001


class _Holder(NamedTuple):
    token: int
    nonce: int
    since: float
    ends: float | None


class LockTable(Part):
    """`slothstate.engines.protocol.LockTable`."""

    def __init__(self, engine: object) -> None:
        super().__init__(engine)  # type: ignore[arg-type]
        self._holders: dict[str, _Holder] = {}
        self._tokens: dict[str, int] = {}

    def _holder(self, name: str) -> _Holder | None:
        holder = self._holders.get(name)
        if holder is not None and holder.ends is not None and holder.ends <= time.monotonic():
            return None
        return holder

    def acquire(
        self,
        name: str,
        nonce: int,
        timeout: float | None,
        ttl_ms: int | None,
        blocked: Callable[[int], None],
        /,
        *,
        shared: bool = False,
        slots: int = 1,
    ) -> int | None:
        if self.engine.in_transaction:
            raise SlothStateError(f"lock {name!r} cannot be taken inside a transaction")
        if shared or slots != 1:
            raise NotSupported("the model has plain locks only")
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self.engine.mutex, self.engine.reading():
                if self._holder(name) is None:
                    token = self._tokens[name] = self._tokens.get(name, 0) + 1
                    ends = None if ttl_ms is None else time.monotonic() + ttl_ms / 1000
                    self._holders[name] = _Holder(token, nonce, time.time(), ends)
                    return token
            if deadline is not None and time.monotonic() >= deadline:
                return None
            holder = self.holder(name)
            if holder is not None:
                blocked(holder)
            time.sleep(POLL)

    def release(self, name: str, nonce: int, /) -> bool:
        with self.engine.mutex, self.engine.reading():
            if self.engine.in_transaction:
                raise SlothStateError(f"lock {name!r} cannot be freed inside a transaction")
            held = self.holds(name, nonce)
            if held:
                del self._holders[name]
            return held

    def release_own(self, name: str, /) -> bool:
        with self.engine.mutex, self.engine.reading():
            return self._holders.pop(name, None) is not None

    def holder(self, name: str, /) -> int | None:
        with self.engine.mutex:
            holder = self._holder(name)
            return None if holder is None else holder.nonce

    def holds(self, name: str, nonce: int, /) -> bool:
        with self.engine.mutex:
            holder = self._holder(name)
            return holder is not None and holder.nonce == nonce

    def extend(self, name: str, nonce: int, ttl_ms: int, /) -> bool:
        with self.engine.mutex:
            held = self.holds(name, nonce)
            if held:
                self._holders[name] = self._holders[name]._replace(ends=time.monotonic() + ttl_ms / 1000)
            return held

    def remove(self, name: str, alive: bool, /) -> bool:
        with self.engine.mutex:
            there = name in self._holders and (alive or self._holder(name) is None)
            if there:
                del self._holders[name]
            return there

    def describe(self) -> list[LockDescription]:
        with self.engine.mutex:
            held = {name: holder for name in sorted(self._holders) if (holder := self._holder(name)) is not None}
        return [
            {
                "name": name,
                "owner": {"host": os.uname().nodename, "pid": os.getpid()},
                "token": holder.token,
                "since": holder.since,
                "expires": None if holder.ends is None else time.time() + holder.ends - time.monotonic(),
                "alive": True,
                "waiting": [],
            }
            for name, holder in held.items()
        ]

    def sweep(self) -> int:
        with self.engine.mutex:
            gone = [name for name in self._holders if self._holder(name) is None]
            for name in gone:
                del self._holders[name]
            return len(gone)

    def forget(self) -> None:
        self._holders.clear()

    def end(self) -> None:
        self._holders.clear()


class Changes(Part):
    """`slothstate.engines.protocol.Changes`."""

    def token(self) -> int | None:
        return self.engine.commits

    def wait(self, token: int | None, seconds: float, /) -> bool:
        deadline = time.monotonic() + seconds
        while token == self.engine.commits and time.monotonic() < deadline:
            time.sleep(POLL)
        return token != self.engine.commits
