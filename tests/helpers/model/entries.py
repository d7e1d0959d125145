"""Keys, counters and lists of the model: rows in a dict, lists as JSON text and nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slothstate.descriptions import Entry, Usage
from slothstate.engines.protocol import NO_KEY, NO_TTL, Row, Unit
from slothstate.errors import OutOfRange, WrongType
from slothstate.native import glob_match, json_decode, json_encode
from slothstate.values import INTEGER_MAX, INTEGER_MIN, Kind, Stored

if TYPE_CHECKING:
    from helpers.model.engine import ModelEngine

__all__ = ["Counters", "Entries", "Lists", "Part"]


class Part:
    def __init__(self, engine: ModelEngine) -> None:
        self.engine = engine


def _ttl(row: Row | None) -> int | None:
    return None if row is None else row[2]


class Entries(Part):
    def get(self, key: str, /) -> Row | None:
        with self.engine.reading() as rows:
            return rows.get(key)

    def get_many(self, keys: Sequence[str], /) -> dict[str, Row]:
        with self.engine.reading() as rows:
            return {key: rows[key] for key in keys if key in rows}

    def put(self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, /) -> None:
        self.put_many({kind: [(key, stored)]}, ttl_ms)

    def put_many(self, new: Mapping[Kind, Sequence[tuple[str, Stored]]], ttl_ms: int | None, /) -> None:
        with self.engine.writing() as rows:
            expires_at_ms = None if ttl_ms is None else self.engine.now_ms() + ttl_ms
            for kind, group in new.items():
                rows.update((key, (kind, stored, expires_at_ms)) for key, stored in group)

    def insert(self, key: str, kind: Kind, stored: Stored, /) -> bool:
        with self.engine.writing() as rows:
            absent = key not in rows
            rows.setdefault(key, (kind, stored, None))
            return absent

    def swap_scalar(self, key: str, old_kind: Kind, old_stored: Stored, kind: Kind, stored: Stored, /) -> bool:
        return self._swap(key, lambda row: row[0] == old_kind and row[1] == old_stored, kind, stored)

    def swap_text(self, key: str, old: str, kind: Kind, stored: Stored, /) -> bool:
        return self._swap(key, lambda row: row[0] in ("table", "list") and row[1] == old, kind, stored)

    def _swap(self, key: str, matches: Callable[[Row], bool], kind: Kind, stored: Stored) -> bool:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is None or not matches(row):
                return False
            rows[key] = kind, stored, row[2]
            return True

    def delete(self, key: str, /) -> bool:
        with self.engine.writing() as rows:
            return rows.pop(key, None) is not None

    def exists(self, key: str, /) -> bool:
        return self.get(key) is not None

    def remaining_ms(self, key: str, /) -> int:
        with self.engine.reading() as rows:
            row = rows.get(key)
            if row is None:
                return NO_KEY
            return NO_TTL if row[2] is None else row[2] - self.engine.now_ms()

    def set_expiry(self, key: str, ttl_ms: int, /) -> bool:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is not None:
                rows[key] = row[0], row[1], self.engine.now_ms() + ttl_ms
            return row is not None

    def persist(self, key: str, /) -> bool:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is None or row[2] is None:
                return False
            rows[key] = row[0], row[1], None
            return True

    def count(self) -> int:
        with self.engine.reading() as rows:
            return len(rows)

    def clear(self, pattern: str | None, /) -> int:
        with self.engine.writing() as rows:
            gone = [key for key in rows if pattern is None or glob_match(pattern, key)]
            for key in gone:
                del rows[key]
            return len(gone)

    def keys(self, pattern: str | None, /) -> list[str]:
        with self.engine.reading() as rows:
            return sorted(key for key in rows if pattern is None or glob_match(pattern, key))

    def page(self, pattern: str | None, after: str, limit: int, /) -> tuple[list[str], str | None]:
        following = [key for key in self.keys(None) if key > after]
        page = following[:limit]
        found = [key for key in page if pattern is None or glob_match(pattern, key)]
        return found, page[-1] if len(following) > limit else None

    def describe(self, key: str, preview: int, /) -> Entry | None:
        with self.engine.reading() as rows:
            if key not in rows:
                return None
            kind, stored, expires_at_ms = rows[key]
        if kind == "boolean":
            shown: str | bytes = "true" if stored else "false"
        else:
            shown = stored if isinstance(stored, str | bytes) else str(stored)
        size = len(shown.encode()) if isinstance(shown, str) else len(shown)
        length = len(json_decode(str(stored))) if kind == "list" else None
        ttl = None if expires_at_ms is None else (expires_at_ms - self.engine.now_ms()) / 1000
        return Entry(key, kind, 1 if kind == "boolean" else size, length, ttl, shown[:preview])

    def page_of_descriptions(
        self, pattern: str | None, after: str, limit: int, preview: int, /
    ) -> tuple[list[Entry], str | None]:
        page, following = self.page(pattern, after, limit)
        described = [self.describe(key, preview) for key in page]
        return [entry for entry in described if entry is not None], following

    def usage(self, prefix: str, delimiter: str, /) -> list[Usage]:
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for key in self.keys(None):
            entry = self.describe(key, 0)
            if key.startswith(prefix) and entry is not None:
                head, found, _ = key[len(prefix) :].partition(delimiter)
                group = prefix + head + delimiter if found else prefix
                counts[group] += 1
                sizes[group] += len(key.encode()) + entry.size
        sums = [Usage(group, counts[group], sizes[group]) for group in counts]
        return sorted(sums, key=lambda usage: (-usage.size, usage.prefix))


class Counters(Part):
    def increment(self, key: str, delta: int | float, /) -> int | float:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is not None and row[0] != "number":
                raise WrongType.of("increment", key, "number", row[0])
            before: Any = 0 if row is None else row[1]
            total = before + delta if row is not None else delta
            fits = INTEGER_MIN <= total <= INTEGER_MAX if isinstance(total, int) else math.isfinite(total)
            if not fits:
                raise OutOfRange(
                    f"increment of {key!r}: {before!r} + {delta!r} is out of range; the value is unchanged"
                )
            rows[key] = "number", total, _ttl(row)
            return total

    def append(self, key: str, kind: Kind, text: str | bytes, unit: Unit, /) -> int:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is not None and row[0] != kind:
                raise WrongType.of("append to", key, kind, row[0])
            whole: Any = text if row is None else row[1] + text  # type: ignore[operator]
            rows[key] = kind, whole, _ttl(row)
            return len(whole.encode()) if unit == "octets" and isinstance(whole, str) else len(whole)


class Lists(Part):
    def _items(self, rows: dict[str, Row], key: str, verb: str) -> list[Any]:
        row = rows.get(key)
        if row is None:
            return []
        if row[0] != "list" and row[:2] != ("table", "{}"):
            raise WrongType.of(verb, key, "list", row[0])
        return list(json_decode(str(row[1])))

    def push(self, key: str, items: Sequence[str], /) -> int:
        with self.engine.writing() as rows:
            whole = [*self._items(rows, key, "push to"), *map(json_decode, items)]
            if items:
                rows[key] = "list", json_encode(whole, "items"), _ttl(rows.get(key))
            return len(whole)

    def pop(self, key: str, /) -> str | None:
        return self._take(key, -1, "pop from")

    def shift(self, key: str, /) -> str | None:
        return self._take(key, 0, "shift from")

    def _take(self, key: str, at: int, verb: str) -> str | None:
        with self.engine.writing() as rows:
            items = self._items(rows, key, verb)
            if not items:
                return None
            taken = json_encode(items.pop(at), "item")
            if items:
                rows[key] = "list", json_encode(items, "items"), _ttl(rows[key])
            else:
                del rows[key]
            return taken

    def length(self, key: str, /) -> int:
        with self.engine.reading() as rows:
            return len(self._items(rows, key, "measure"))

    def section(self, key: str, start: int, stop: int, /) -> str:
        with self.engine.reading() as rows:
            items = self._items(rows, key, "read a range of")
        begin = max(0, start + len(items) if start < 0 else start)
        end = stop + len(items) if stop < 0 else stop
        return json_encode(items[begin : end + 1] if end >= 0 else [], "items")
