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
from slothstate.engines.locking import Wanted, mismatch
from slothstate.errors import SlothStateError, StateBusy

__all__ = ["Changes", "LockTable"]

POLL: Final = 0.001


class LockTable(Part):
    """`slothstate.engines.protocol.LockTable`; its owners are the engines themselves."""

    def _find(self, name: str) -> list[Holder]:
        now = time.monotonic()
        return [
            holder for holder in self.engine.memory.holders.get(name, []) if holder.ends is None or holder.ends > now
        ]

    def _require_usable(self, name: str) -> None:
        self.engine.require_usable()
        if self.engine.in_transaction:
            raise SlothStateError(f"lock {name!r} cannot be taken or freed inside a transaction")

    def acquire(
        self, wanted: Wanted, timeout: float | None, ttl_ms: int | None, blocked: Callable[[int], None], /
    ) -> int | None:
        try:
            return self._wait(wanted, timeout, ttl_ms, blocked)
        finally:
            self.end_wait(wanted.nonce)

    def attempt(self, wanted: Wanted, ttl_ms: int | None, blocked: Callable[[int], None], /) -> int | None:
        token = self._wait(wanted, 0, ttl_ms, blocked, is_attempt=True)
        if token is not None:
            self.end_wait(wanted.nonce)
        return token

    def pause(self, nonce: int, /) -> float:
        return POLL

    def _wait(
        self,
        wanted: Wanted,
        timeout: float | None,
        ttl_ms: int | None,
        blocked: Callable[[int], None],
        *,
        is_attempt: bool = False,
    ) -> int | None:
        name, nonce, shared, slots = wanted.name, wanted.nonce, wanted.shared, wanted.slots
        self._require_usable(name)
        memory = self.engine.memory
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0, deadline - time.monotonic())
            try:
                with self.engine.exclusively(left):
                    self.engine.become_owner()
                    alone = {other for other, at in memory.alone.items() if at == name}
                    if self._is_free(name, shared, slots, memory.ahead.setdefault(nonce, alone)):
                        token = memory.tokens[name] = memory.tokens.get(name, 0) + 1
                        ends = None if ttl_ms is None else time.monotonic() + ttl_ms / 1000
                        holder = Holder(token, nonce, self.engine, time.time(), ends, shared, slots)
                        memory.holders[name] = [*self._find(name), holder]
                        return token
            except StateBusy:
                if deadline is None or time.monotonic() < deadline:
                    raise
            is_over = deadline is not None and time.monotonic() >= deadline
            if is_attempt or not is_over:
                for other in self._find(name):
                    blocked(other.nonce)
                if not shared and slots == 1:
                    memory.alone[nonce] = name
            if is_over:
                return None
            time.sleep(POLL)

    def end_wait(self, nonce: int, /) -> None:
        self.engine.memory.alone.pop(nonce, None)
        self.engine.memory.ahead.pop(nonce, None)

    def _is_free(self, name: str, shared: bool, slots: int, ahead: set[int]) -> bool:
        holders = self._find(name)
        for other in holders:
            if (other.shared, other.slots) != (shared, slots) and {other.slots, slots} != {1}:
                raise mismatch(name, (other.shared, other.slots), (shared, slots))
        if shared:
            return all(other.shared for other in holders) and ahead.isdisjoint(self.engine.memory.alone)
        return len(holders) < slots

    def release(self, name: str, nonce: int, /) -> bool:
        self._require_usable(name)
        with self.engine.exclusively():
            return self._remove(name, nonce)

    def _remove(self, name: str, nonce: int) -> bool:
        was_held = self.holds(name, nonce)
        holders = self.engine.memory.holders
        holders[name] = [holder for holder in holders.get(name, []) if holder.nonce != nonce]
        return was_held

    def release_own(self, name: str, /) -> bool:
        self._require_usable(name)
        with self.engine.exclusively():
            own = next((holder for holder in self._find(name) if holder.owner is self.engine), None)
            return own is not None and self._remove(name, own.nonce)

    def holders(self, name: str, /) -> list[int]:
        self.engine.require_usable()
        return [holder.nonce for holder in self._find(name)]

    def holds(self, name: str, nonce: int, /) -> bool:
        return nonce in self.holders(name)

    def extend(self, name: str, nonce: int, ttl_ms: int, /) -> bool:
        with self.engine.exclusively():
            if not self.holds(name, nonce):
                return False
            ends = time.monotonic() + ttl_ms / 1000
            self.engine.memory.holders[name] = [
                holder._replace(ends=ends) if holder.nonce == nonce else holder for holder in self._find(name)
            ]
            return True

    def remove(self, name: str, alive: bool, /) -> bool:
        self._require_usable(name)
        with self.engine.exclusively():
            before = self.engine.memory.holders.get(name, [])
            self.engine.memory.holders[name] = [] if alive else self._find(name)
            return len(self.engine.memory.holders[name]) < len(before)

    def describe(self) -> list[LockDescription]:
        self.engine.require_usable()
        return [
            {
                "name": name,
                "owner": {"host": platform.node(), "pid": os.getpid()},
                "token": holder.token,
                "shared": holder.shared,
                "slots": None if holder.shared else holder.slots,
                "since": holder.since,
                "expires": None if holder.ends is None else time.time() + holder.ends - time.monotonic(),
                "alive": True,
                "waiting": [],
            }
            for name in sorted(self.engine.memory.holders)
            for holder in self._find(name)
        ]

    def sweep(self) -> int:
        with self.engine.exclusively():
            holders = self.engine.memory.holders
            before = sum(map(len, holders.values()))
            for name in list(holders):
                holders[name] = self._find(name)
            return before - sum(map(len, holders.values()))

    def forget(self) -> None:
        pass

    def end(self) -> None:
        holders = self.engine.memory.holders
        for name in list(holders):
            holders[name] = [holder for holder in holders[name] if holder.owner is not self.engine]


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
