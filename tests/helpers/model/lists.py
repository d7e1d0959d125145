"""Lists of the model: JSON text, and beside it the place of each item once something of a list was claimed.

A place is a fraction, so there is always one between two others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from helpers.model.entries import Part
from helpers.model.memory import Out, Places, Rows
from slothstate.engines.protocol import Row
from slothstate.errors import WrongType
from slothstate.native import json_decode, json_encode
from slothstate.values import same

__all__ = ["Item", "Lists", "Whole"]


class Item(NamedTuple):
    place: Fraction
    value: Any
    attempts: int = 0


class Whole:
    """A list with what is out of it."""

    def __init__(self, items: list[Item], outs: Sequence[Out]) -> None:
        self.items = items
        self.outs = list(outs)

    def _places(self) -> list[Fraction]:
        return [*(item.place for item in self.items), *(out.place for out in self.outs)]

    def push(self, value: Any) -> None:
        self.items.append(Item(max(self._places(), default=Fraction(0)) + 1, value))

    def unshift(self, value: Any) -> None:
        self.items.insert(0, Item(min(self._places(), default=Fraction(0)) - 1, value))

    def insert(self, index: int, value: Any) -> None:
        if index == len(self.items):
            self.push(value)
        elif index == 0:
            self.unshift(value)
        else:
            after = self.items[index].place
            before = max(place for place in self._places() if place < after)
            self.items.insert(index, Item((before + after) / 2, value))

    def put_back(self, out: Out) -> None:
        self.outs.remove(out)
        self.items = sorted([*self.items, Item(out.place, out.item, out.attempts)], key=lambda item: item.place)


class Lists(Part):
    """`slothstate.engines.protocol.Lists`."""

    def open(self, rows: Rows, key: str, verb: str) -> Whole:
        row, places = rows.get(key), rows.places.get(key)
        if row is not None and row[0] != "list" and row[:2] != ("table", "{}"):
            raise WrongType.of(verb, key, "list", row[0])
        values = list(json_decode(str(row[1]))) if row is not None else []
        if places is None or places.row is not row:
            return Whole([Item(Fraction(index), value) for index, value in enumerate(values)], ())
        return Whole(
            [Item(place, value, attempts) for value, (place, attempts) in zip(values, places.items, strict=True)],
            places.outs,
        )

    def store(self, rows: Rows, key: str, whole: Whole) -> None:
        row: Row | None = None
        if whole.items:
            before = rows.get(key)
            values = [item.value for item in whole.items]
            rows[key] = row = "list", json_encode(values, "items"), None if before is None else before[2]
        else:
            rows.pop(key, None)
        items = tuple((item.place, item.attempts) for item in whole.items)
        rows.places[key] = Places(row, items, tuple(whole.outs))

    def bring_back(self, rows: Rows, key: str) -> None:
        """Put what is due of a list back into it."""
        places = rows.places.get(key)
        due = [] if places is None else [out for out in places.outs if self.is_due(out)]
        if due:
            whole = self.open(rows, key, "claim from")
            for out in due:
                whole.put_back(out)
            self.store(rows, key, whole)

    def is_due(self, out: Out) -> bool:
        if out.due_ms is not None:
            return out.due_ms <= self.engine.now_ms()
        return (out.ends is not None and out.ends <= time.monotonic()) or out.owner in self.engine.memory.dead

    def wholes(self, rows: Rows) -> dict[str, Row]:
        """Return the lists of which something is out, with that in them."""
        found: dict[str, Row] = {}
        for key, places in rows.places.items():
            if places.outs:
                whole = self.open(rows, key, "dump")
                for out in places.outs:
                    whole.put_back(out)
                values = [item.value for item in whole.items]
                row = rows.get(key)
                found[key] = "list", json_encode(values, "items"), None if row is None else row[2]
        return found

    def change(self, key: str, verb: str, change: Callable[[Whole], Any], *, takes: bool = False) -> Any:
        with self.engine.writing() as rows:
            if takes:
                self.bring_back(rows, key)
            whole = self.open(rows, key, verb)
            before = list(whole.items), list(whole.outs)
            result = change(whole)
            if (whole.items, whole.outs) != before or any(
                a is not b for a, b in zip(whole.items, before[0], strict=True)
            ):
                self.store(rows, key, whole)
            return result

    def remove_at(self, rows: Rows, key: str, index: int) -> None:
        whole = self.open(rows, key, "remove from")
        del whole.items[index]
        self.store(rows, key, whole)

    def push(self, key: str, items: Sequence[str], /) -> int:
        def change(whole: Whole) -> int:
            for item in items:
                whole.push(json_decode(item))
            return len(whole.items)

        return int(self.change(key, "push to", change))

    def unshift(self, key: str, items: Sequence[str], /) -> int:
        def change(whole: Whole) -> int:
            for item in reversed(items):
                whole.unshift(json_decode(item))
            return len(whole.items)

        return int(self.change(key, "unshift to", change))

    def pop(self, key: str, /) -> str | None:
        return next(iter(self.pop_many(key, 1)), None)

    def shift(self, key: str, /) -> str | None:
        return next(iter(self.shift_many(key, 1)), None)

    def pop_first(self, keys: Sequence[str], /) -> tuple[str, str] | None:
        return self._take_first(keys, self.pop)

    def shift_first(self, keys: Sequence[str], /) -> tuple[str, str] | None:
        return self._take_first(keys, self.shift)

    def _take_first(self, keys: Sequence[str], take: Callable[[str], str | None]) -> tuple[str, str] | None:
        for key in keys:
            item = take(key) if self.length(key) else None
            if item is not None:
                return key, item
        return None

    def pop_many(self, key: str, count: int, /) -> list[str]:
        return self._take_many(key, count, -1, "pop from")

    def shift_many(self, key: str, count: int, /) -> list[str]:
        return self._take_many(key, count, 0, "shift from")

    def _take_many(self, key: str, count: int, end: int, verb: str) -> list[str]:
        def change(whole: Whole) -> list[str]:
            return [json_encode(whole.items.pop(end).value, "item") for _ in range(min(count, len(whole.items)))]

        return list(self.change(key, verb, change, takes=True))

    def replace(self, key: str, index: int, item: str, /) -> bool:
        def change(whole: Whole) -> bool:
            if not -len(whole.items) <= index < len(whole.items):
                return False
            whole.items[index] = whole.items[index]._replace(value=json_decode(item))
            return True

        return bool(self.change(key, "set an item of", change))

    def insert(self, key: str, index: int, item: str, /) -> int | None:
        def change(whole: Whole) -> int | None:
            at = index if index >= 0 else index + len(whole.items)
            if not 0 <= at <= len(whole.items):
                return None
            whole.insert(at, json_decode(item))
            return len(whole.items)

        length: int | None = self.change(key, "insert into", change)
        return length

    def remove(self, key: str, item: object, count: int, /) -> int:
        def change(whole: Whole) -> int:
            gone = [index for index, each in enumerate(whole.items) if same(each.value, item)]
            gone = gone[count:] if count < 0 else gone[: count or len(gone)]
            for index in reversed(gone):
                del whole.items[index]
            return len(gone)

        return int(self.change(key, "remove from", change))

    def trim(self, key: str, start: int, stop: int, /) -> int:
        def change(whole: Whole) -> int:
            whole.items = _section(whole.items, start, stop)
            return len(whole.items)

        return int(self.change(key, "trim", change))

    def length(self, key: str, /) -> int:
        with self.engine.reading() as rows:
            places = rows.places.get(key)
            due = places is not None and any(map(self.is_due, places.outs))
            if not due or not self.engine.can_write():
                return len(self.open(rows, key, "measure").items)
        return int(self.change(key, "measure", lambda whole: len(whole.items), takes=True))

    def section(self, key: str, start: int, stop: int, /) -> str:
        with self.engine.reading() as rows:
            items = self.open(rows, key, "read a range of").items
        return json_encode([item.value for item in _section(items, start, stop)], "items")


def _section(items: list[Item], start: int, stop: int) -> list[Item]:
    begin = max(0, start + len(items) if start < 0 else start)
    end = stop + len(items) if stop < 0 else stop
    return items[begin : end + 1] if end >= 0 else []
