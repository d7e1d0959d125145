"""Claims of the model: what is out of a list stays beside it (see `helpers.model.memory.Places`)."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

from helpers.model.entries import Part
from helpers.model.lists import Whole
from helpers.model.memory import Out
from slothstate.descriptions import ClaimDescription
from slothstate.engines.claiming import Claimed, Waiter, dead_key
from slothstate.native import json_encode

__all__ = ["Claims"]

PAUSE = 0.01


class Claims(Part):
    """`slothstate.engines.claiming.Claims`; its owners are the engines themselves."""

    def take(
        self, keys: Sequence[str], nonce: int, ttl_ms: int | None, max_attempts: int | None, dead: str | None, /
    ) -> Claimed | None:
        self.engine.require_writable()
        self.engine.become_owner()
        for key in keys:
            while self.engine.lists.length(key):
                claimed = self._take(key, nonce, ttl_ms, max_attempts, dead or dead_key(key))
                if claimed is not None:
                    return claimed
        return None

    def _take(self, key: str, nonce: int, ttl_ms: int | None, max_attempts: int | None, dead: str) -> Claimed | None:
        def change(whole: Whole) -> Claimed | str:
            first = whole.items.pop(0)
            text = json_encode(first.value, "item")
            if max_attempts is not None and first.attempts >= max_attempts:
                return text
            ends = None if ttl_ms is None else time.monotonic() + ttl_ms / 1000
            attempts = first.attempts + 1
            out = Out(first.place, first.value, attempts, nonce, self.engine, self.engine.now_ms(), ends)
            whole.outs.append(out)
            return Claimed(key, text, attempts, key)

        with self.engine.transaction():
            taken: Claimed | str = self.engine.lists.change(key, "claim from", change, takes=True)
            if isinstance(taken, str):
                self.engine.lists.push(dead, [taken])
                return None
            return taken

    def pause(self, keys: Sequence[str], waiter: Waiter, /) -> float:
        return PAUSE

    def _held(self, nonce: int, fenced: bool, change: Callable[[str, Whole, Out], object] | None) -> bool:
        """Do something with a claim that is still held; return whether it was."""
        with self.engine.writing() if change else self.engine.reading() as rows:
            for name, places in list(rows.places.items()):
                for out in places.outs:
                    if out.nonce == nonce and (fenced or not self.engine.lists.is_due(out)):
                        if change is not None:
                            whole = self.engine.lists.open(rows, name, "claim from")
                            change(name, whole, out)
                            self.engine.lists.store(rows, name, whole)
                        return True
            return False

    def done(self, place: Any, nonce: int, fenced: bool, /) -> bool:
        return self._held(nonce, fenced, lambda _, whole, out: whole.outs.remove(out))

    def release(self, place: Any, nonce: int, delay_ms: int, fenced: bool, /) -> bool:
        def change(_: str, whole: Whole, out: Out) -> None:
            if not delay_ms:
                whole.put_back(out)
            else:
                due_ms = self.engine.now_ms() + delay_ms
                whole.outs[whole.outs.index(out)] = out._replace(nonce=0, owner=None, ends=None, due_ms=due_ms)

        return self._held(nonce, fenced, change)

    def extend(self, place: Any, nonce: int, ttl_ms: int, fenced: bool, /) -> bool:
        def change(_: str, whole: Whole, out: Out) -> None:
            whole.outs[whole.outs.index(out)] = out._replace(ends=time.monotonic() + ttl_ms / 1000)

        return self._held(nonce, fenced, change)

    def holds(self, place: Any, nonce: int, fenced: bool, /) -> bool:
        return self._held(nonce, fenced, None)

    def abandon(self, nonce: int, /) -> None:
        self._held(nonce, False, lambda _, whole, out: whole.put_back(out))

    def describe(self, key: str | None, /) -> list[ClaimDescription]:
        with self.engine.reading() as rows:
            return [
                {
                    "key": name,
                    "owner": None if out.owner is None else {"host": platform.node(), "pid": os.getpid()},
                    "since": out.since_ms / 1000,
                    "attempt": out.attempts,
                    "alive": None if out.owner is None else out.owner not in self.engine.memory.dead,
                    "due": None if out.due_ms is None else out.due_ms / 1000,
                }
                for name, places in sorted(rows.places.items())
                for out in sorted(places.outs, key=lambda out: out.place)
                if key in (None, name)
            ]

    def end(self) -> None:
        self.engine.memory.dead.add(self.engine)
