"""Keys and counters of the model: rows in a dict, lists as JSON text and nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slothstate.descriptions import Entry, Usage
from slothstate.engines.protocol import NO_KEY, NO_TTL, Row, Unit, When
from slothstate.errors import OutOfRange, WrongType
from slothstate.native import glob_match, json_decode, json_encode
from slothstate.values import INTEGER_MAX, INTEGER_MIN, Kind, Stored

if TYPE_CHECKING:
    from helpers.model.engine import ModelEngine
    from helpers.model.memory import Rows

__all__ = ["Counters", "Entries", "Part"]


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

    def put_when(
        self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, when: When | None, keep_ttl: bool, /
    ) -> bool:
        with self.engine.writing() as rows:
            if when is not None and (when == "present") != (key in rows):
                return False
            rows[key] = kind, stored, _ttl(rows.get(key)) if keep_ttl else self._end(ttl_ms)
            return True

    def _end(self, ttl_ms: int | None) -> int | None:
        return None if ttl_ms is None else self.engine.now_ms() + ttl_ms

    def insert(self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, /) -> bool:
        return self.put_when(key, kind, stored, ttl_ms, "absent", False)

    def swap_scalar(self, key: str, old: tuple[Kind, Stored], new: tuple[Kind, Stored], ttl_ms: int | None, /) -> bool:
        return self._swap(key, lambda row: row[:2] == old, new, ttl_ms)

    def swap_text(self, key: str, old: str, new: tuple[Kind, Stored], ttl_ms: int | None, /) -> bool:
        return self._swap(key, lambda row: row[0] in ("table", "list") and row[1] == old, new, ttl_ms)

    def delete_scalar(self, key: str, old: tuple[Kind, Stored], /) -> bool:
        return self._swap(key, lambda row: row[:2] == old, None, None)

    def delete_text(self, key: str, old: str, /) -> bool:
        return self._swap(key, lambda row: row[0] in ("table", "list") and row[1] == old, None, None)

    def _swap(
        self, key: str, matches: Callable[[Row], bool], new: tuple[Kind, Stored] | None, ttl_ms: int | None
    ) -> bool:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is None or not matches(row):
                return False
            if new is None:
                del rows[key]
            else:
                rows[key] = *new, row[2] if ttl_ms is None else self._end(ttl_ms)
            return True

    def take(self, key: str, /) -> Row | None:
        with self.engine.writing() as rows:
            return rows.pop(key, None)

    def rename(self, key: str, to: str, /) -> bool:
        with self.engine.writing() as rows:
            if key not in rows:
                return False
            rows.rename(key, to)
            return True

    def copy(self, key: str, to: str, /) -> bool:
        with self.engine.writing() as rows:
            if key not in rows:
                return False
            rows[to] = rows[key]
            return True

    def delete(self, key: str, /) -> bool:
        with self.engine.writing() as rows:
            places = rows.places.pop(key, None)
            return rows.pop(key, None) is not None or bool(places and places.outs)

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
                rows.keep(key, (row[0], row[1], self.engine.now_ms() + ttl_ms))
            return row is not None

    def persist(self, key: str, /) -> bool:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is None or row[2] is None:
                return False
            rows.keep(key, (row[0], row[1], None))
            return True

    def count(self) -> int:
        with self.engine.reading() as rows:
            return len(rows)

    def clear(self, pattern: str | None, /) -> int:
        with self.engine.writing() as rows:
            claimed = {key for key, places in rows.places.items() if places.outs}
            gone = [key for key in {*rows, *claimed} if pattern is None or glob_match(pattern, key)]
            for key in gone:
                rows.pop(key, None)
            for key in list(rows.places):
                if pattern is None or glob_match(pattern, key):
                    del rows.places[key]
            return len(gone)

    def keys(self, pattern: str | None, after: str, limit: int | None, reverse: bool, /) -> list[str]:
        with self.engine.reading() as rows:
            found = sorted((key for key in rows if pattern is None or glob_match(pattern, key)), reverse=reverse)
            return [key for key in found if not after or (key < after if reverse else key > after)][:limit]

    def page(self, pattern: str | None, after: str, limit: int, reverse: bool, /) -> tuple[list[str], str | None]:
        following = self.keys(None, after, None, reverse)
        page = following[:limit]
        found = [key for key in page if pattern is None or glob_match(pattern, key)]
        return found, page[-1] if len(following) > limit else None

    def describe(self, key: str, preview: int, /) -> Entry | None:
        with self.engine.reading() as rows:
            if key not in rows:
                return None
            kind, stored, expires_at_ms = rows[key]
            out, out_size = self._out(rows, key)
        if kind == "boolean":
            shown: str | bytes = "true" if stored else "false"
        else:
            shown = stored if isinstance(stored, str | bytes) else str(stored)
        size = len(shown.encode()) if isinstance(shown, str) else len(shown)
        length = len(json_decode(str(stored))) if kind == "list" else None
        ttl = None if expires_at_ms is None else (expires_at_ms - self.engine.now_ms()) / 1000
        size = 1 if kind == "boolean" else size + out_size
        return Entry(key, kind, size, length, ttl, shown[:preview], out)

    def _out(self, rows: Rows, key: str) -> tuple[int, int]:
        """Return how many items of a list are out of it, and their bytes."""
        places = rows.places.get(key)
        texts = [] if places is None else [json_encode(out.item, "item") for out in places.outs]
        return len(texts), sum(len(text.encode()) for text in texts)

    def page_of_descriptions(
        self, pattern: str | None, after: str, limit: int, preview: int, /
    ) -> tuple[list[Entry], str | None]:
        page, following = self.page(pattern, after, limit, False)
        described = [self.describe(key, preview) for key in page]
        return [entry for entry in described if entry is not None], following

    def usage(self, prefix: str, delimiter: str, /) -> list[Usage]:
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        with self.engine.reading() as rows:
            keys = {*rows, *(key for key, places in rows.places.items() if places.outs)}
        for key in keys:
            if key.startswith(prefix):
                head, found, _ = key[len(prefix) :].partition(delimiter)
                group = prefix + head + delimiter if found else prefix
                entry = self.describe(key, 0)
                counts[group] += entry is not None
                sizes[group] += self._out(rows, key)[1] if entry is None else len(key.encode()) + entry.size
        sums = [Usage(group, counts[group], sizes[group]) for group in counts]
        return sorted(sums, key=lambda usage: (-usage.size, usage.prefix))


class Counters(Part):
    def increment(self, key: str, delta: int | float, ttl_ms: int | None = None, /) -> int | float:
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
            ends = None if ttl_ms is None else self.engine.now_ms() + ttl_ms
            rows[key] = "number", total, ends if row is None else row[2]
            return total

    def append(self, key: str, kind: Kind, text: str | bytes, unit: Unit, /) -> int:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is not None and row[0] != kind:
                raise WrongType.of("append to", key, kind, row[0])
            whole: Any = text if row is None else row[1] + text  # type: ignore[operator]
            rows[key] = kind, whole, _ttl(row)
            return len(whole.encode()) if unit == "octets" and isinstance(whole, str) else len(whole)
