"""Claims of the model: what is out of a list, with how many of its items stand before it."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from helpers.model.entries import Part
from slothstate.descriptions import ClaimDescription
from slothstate.engines.claiming import Claimed, dead_key
from slothstate.native import json_decode, json_encode

if TYPE_CHECKING:
    from helpers.model.memory import Rows

__all__ = ["Claims", "Out", "shifted"]

PAUSE = 0.01


class Out(NamedTuple):
    """An item that is out. `before`: how many items of the list stand before it; `ends`: `time.monotonic`."""

    item: str
    attempts: int
    before: int
    nonce: int
    owner: object
    since: float
    ends: float | None
    due_ms: int | None


def shifted(rows: Rows, key: str, at: int, added: int, removed: int) -> None:
    """Tell the claims of a list that items were added or removed at an index, those before all claims at -1."""
    rows.claims[key] = tuple(
        out._replace(before=out.before + added if at < out.before else out.before)
        if added
        else out._replace(before=max(at, out.before - removed) if at < out.before else out.before)
        for out in rows.claims.get(key, ())
    )


class Claims(Part):
    """`slothstate.engines.claiming.Claims`; its owners are the engines themselves."""

    def bring_back(self, rows: Rows, key: str) -> None:
        """Put what is due of a list back into it."""
        for out in rows.claims.get(key, ()):
            if self._is_due(out):
                self._put_back(rows, key, out)

    def _is_due(self, out: Out) -> bool:
        if out.due_ms is not None:
            return out.due_ms <= self.engine.now_ms()
        is_late = out.ends is not None and out.ends <= time.monotonic()
        return is_late or out.owner in self.engine.memory.dead

    def is_due(self, key: str) -> bool:
        with self.engine.reading() as rows:
            return any(map(self._is_due, rows.claims.get(key, ())))

    def _put_back(self, rows: Rows, key: str, back: Out) -> None:
        items = self.engine.lists.items(rows, key, "claim from")
        self._remove(rows, key, back)
        later = False
        claims = []
        for out in rows.claims.get(key, ()):
            later = later or out.place > back.place
            claims.append(out._replace(before=out.before + 1) if out.place > back.place else out)
        items.insert(back.before, json_decode(back.item))
        rows.attempts[key, back.item] = back.attempts
        rows.claims[key] = tuple(claims)
        rows[key] = "list", json_encode(items, "items"), rows[key][2] if key in rows else None
