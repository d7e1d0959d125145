"""Locks of the model: rows in a dict, tokens that rise for ever; whoever waits looks again and again."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from helpers.model.entries import Part
from helpers.model.memory import Holder
from slothstate.descriptions import LockDescription
from slothstate.errors import NotSupported, SlothStateError, StateBusy

__all__ = ["Changes", "LockTable"]

POLL: Final = 0.001


class LockTable(Part):
    """`slothstate.engines.protocol.LockTable`; its owners are the engines themselves."""

    def _find(self, name: str) -> Holder | None:
        holder = self.engine.memory.holders.get(name)
        if holder is not None and holder.ends is not None and holder.ends <= time.monotonic():
            return None
        return holder

    def _require_usable(self, name: str) -> None:
        self.engine.require_usable()
        self.engine.require_writable()
        if self.engine.in_transaction:
            raise SlothStateError(f"lock {name!r} cannot be taken or freed inside a transaction")

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
        self._require_usable(name)
        if shared or slots != 1:
            raise NotSupported("the model has plain locks only")
        memory = self.engine.memory
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0, deadline - time.monotonic())
            try:
                with self.engine.exclusively(left):
                    if self._find(name) is None:
                        token = memory.tokens[name] = memory.tokens.get(name, 0) + 1
                        ends = None if ttl_ms is None else time.monotonic() + ttl_ms / 1000
                        memory.holders[name] = Holder(token, nonce, self.engine, time.time(), ends)
                        return token
            except StateBusy:
                if deadline is None or time.monotonic() < deadline:
                    raise
            if deadline is not None and time.monotonic() >= deadline:
                return None
            holder = self._find(name)
            if holder is not None and timeout != 0:
                blocked(holder.nonce)
            time.sleep(POLL)

    def release(self, name: str, nonce: int, /) -> bool:
        self._require_usable(name)
        with self.engine.exclusively():
            return self._remove(name, nonce)

    def _remove(self, name: str, nonce: int) -> bool:
        was_held = self.holds(name, nonce)
        holder = self.engine.memory.holders.get(name)
        if holder is not None and holder.nonce == nonce:
            del self.engine.memory.holders[name]
        return was_held

    def release_own(self, name: str, /) -> bool:
        self._require_usable(name)
        with self.engine.exclusively():
            holder = self._find(name)
            return holder is not None and holder.owner is self.engine and self._remove(name, holder.nonce)

    def holder(self, name: str, /) -> int | None:
        self.engine.require_usable()
        holder = self._find(name)
        return None if holder is None else holder.nonce

    def holds(self, name: str, nonce: int, /) -> bool:
        return self.holder(name) == nonce

    def extend(self, name: str, nonce: int, ttl_ms: int, /) -> bool:
        with self.engine.exclusively():
            holder = self._find(name)
            if holder is None or holder.nonce != nonce:
                return False
            self.engine.memory.holders[name] = holder._replace(ends=time.monotonic() + ttl_ms / 1000)
            return True

    def remove(self, name: str, alive: bool, /) -> bool:
        self._require_usable(name)
        with self.engine.exclusively():
            there = name in self.engine.memory.holders and (alive or self._find(name) is None)
            if there:
                del self.engine.memory.holders[name]
            return there

    def describe(self) -> list[LockDescription]:
        self.engine.require_usable()
        holders = {name: holder for name in sorted(self.engine.memory.holders) if (holder := self._find(name))}
        return [
            {
                "name": name,
                "owner": {"host": platform.node(), "pid": os.getpid()},
                "token": holder.token,
                "since": holder.since,
                "expires": None if holder.ends is None else time.time() + holder.ends - time.monotonic(),
                "alive": True,
                "waiting": [],
            }
            for name, holder in holders.items()
        ]

    def sweep(self) -> int:
        with self.engine.exclusively():
            gone = [name for name in self.engine.memory.holders if self._find(name) is None]
            for name in gone:
                del self.engine.memory.holders[name]
            return len(gone)

    def forget(self) -> None:
        pass

    def end(self) -> None:
        holders = self.engine.memory.holders
        for name in [name for name, holder in holders.items() if holder.owner is self.engine]:
            del holders[name]


class Changes(Part):
    """`slothstate.engines.protocol.Changes`."""

    def token(self) -> int | None:
        return self.engine.memory.commits

    def wait(self, token: int | None, seconds: float, /) -> bool:
        deadline = time.monotonic() + seconds
        while token == self.engine.memory.commits and time.monotonic() < deadline:
            time.sleep(POLL)
        return token != self.engine.memory.commits

    def within(self, seconds: float, /) -> AbstractContextManager[None]:
        return self.engine.within(seconds)

    def forget(self) -> None:
        pass
