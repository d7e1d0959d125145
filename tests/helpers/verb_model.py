"""What a store must do, said in plain Python: a dict of values with the moment each expires."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from slothstate import InvalidValue, OutOfRange, WrongType
from slothstate.native import glob_match
from slothstate.values import kind_of, same

Path: TypeAlias = tuple[str | int, ...]

MAX: Final = 2**63 - 1
ABSENT: Final = object()


def _step(value: Any, step: Any) -> Any:
    """Return what a step of a path leads to. Raises: LookupError, `WrongType`."""
    if not isinstance(value, list if isinstance(step, int) else dict):
        raise WrongType("", "")
    return value[step]


class Model:
    """One state of a store: the verbs of `State`, on a dict. `clock` reads milliseconds."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.rows: dict[str, tuple[Any, int | None]] = {}

    def fork(self, clock: Callable[[], int] | None = None) -> Model:
        """Return a copy that goes its own way: what a transaction sees, with another clock a snapshot."""
        twin = Model(clock or self._clock)
        twin.rows = copy.deepcopy(self.rows)
        return twin

    def live(self) -> dict[str, Any]:
        """Return the values of the keys that have not expired, by key, in the order of a listing."""
        now = self._clock()
        return {key: value for key, (value, ends) in sorted(self.rows.items()) if ends is None or ends > now}

    def _find(self, key: str, *kinds: str) -> Any:
        value = self.live().get(key, ABSENT)
        if value is ABSENT:
            self.rows.pop(key, None)
        elif kinds and kind_of(value) not in kinds and not (kinds == ("list",) and value == {}):
            raise WrongType("", key)
        return value

    def _keep(self, key: str, value: Any) -> None:
        """Change the value and not the expiry."""
        self.rows[key] = value, self.rows.get(key, (None, None))[1]

    def set(
        self, key: str, value: Any, ttl: float | None = None, *, when: str | None = None, keep_ttl: bool = False
    ) -> bool:
        is_absent = self._find(key) is ABSENT
        if when is not None and is_absent != (when == "absent"):
            return False
        kept = self.rows[key][1] if keep_ttl and not is_absent else None
        self.rows[key] = copy.deepcopy(value), kept if ttl is None else self._clock() + round(ttl * 1000)
        return True

    def take(self, key: str) -> Any:
        value = self.get(key)
        self.rows.pop(key, None)
        return value

    def rename(self, key: str, to: str) -> bool:
        if self._find(key) is ABSENT:
            return False
        self.rows[to] = self.rows.pop(key)
        return True

    def copy(self, key: str, to: str) -> bool:
        if self._find(key) is ABSENT:
            return False
        self.rows[to] = copy.deepcopy(self.rows[key])
        return True

    def get(self, key: str, default: Any = None) -> Any:
        value = self._find(key)
        return default if value is ABSENT else value

    def delete(self, key: str) -> bool:
        self._find(key)
        return self.rows.pop(key, None) is not None

    def exists(self, key: str) -> bool:
        return self._find(key) is not ABSENT

    def keys(
        self, pattern: str | None = None, *, reverse: bool = False, after: str | None = None, limit: int | None = None
    ) -> list[str]:
        found = [key for key in self.live() if pattern is None or glob_match(pattern, key)]
        if reverse:
            found.reverse()
        return [key for key in found if after is None or (key < after if reverse else key > after)][:limit]

    scan = keys

    def clear(self, pattern: str | None = None) -> int:
        return sum(self.delete(key) for key in self.keys(pattern))

    def set_ttl(self, key: str, seconds: float) -> bool:
        value = self._find(key)
        if value is not ABSENT:
            self.rows[key] = value, self._clock() + round(seconds * 1000)
        return value is not ABSENT

    def get_ttl(self, key: str) -> int:
        if self._find(key) is ABSENT:
            return -2
        ends = self.rows[key][1]
        return -1 if ends is None else -((self._clock() - ends) // 1000)

    def persist(self, key: str) -> bool:
        value = self._find(key)
        had = value is not ABSENT and self.rows[key][1] is not None
        if had:
            self.rows[key] = value, None
        return had

    def increment(self, key: str, delta: float = 1, *, ttl: float | None = None) -> float:
        value = self._find(key, "number")
        if value is ABSENT and ttl is not None:
            return self.set(key, delta, ttl) and delta
        total = delta if value is ABSENT else value + delta
        if isinstance(total, int) and not -MAX - 1 <= total <= MAX:
            raise OutOfRange
        self._keep(key, total)
        return total

    def decrement(self, key: str, delta: float = 1, *, ttl: float | None = None) -> float:
        return self.increment(key, -delta, ttl=ttl)

    def append(self, key: str, text: Any) -> int:
        kind = "bytes" if isinstance(text, bytes) else "string"
        value = self._find(key, kind)
        self._keep(key, text if value is ABSENT else value + text)
        return len(self.rows[key][0])

    def compare_swap(self, key: str, old: Any, new: Any, *, ttl: float | None = None) -> bool:
        value = self._find(key)
        swaps = value is ABSENT if old is None else value is not ABSENT and same(value, old)
        if swaps and new is None:
            self.rows.pop(key, None)
        elif swaps:
            self.set(key, new, ttl, keep_ttl=ttl is None)
        return swaps

    def get_field(self, key: str, path: Path, default: Any = None) -> Any:
        try:
            part = self._find(key)
            for step in path:
                part = _step(part, step)
        except (LookupError, WrongType):
            return default
        return part

    def set_field(self, key: str, path: Path, value: Any) -> bool:
        found = self._find(key)
        if found is ABSENT and isinstance(path[0], int):
            raise InvalidValue
        whole = part = {} if found is ABSENT else copy.deepcopy(found)
        for step, following in zip(path, [*path[1:], None], strict=True):
            try:
                inner = _step(part, step)
            except IndexError as error:
                raise InvalidValue from error
            except KeyError as error:
                if isinstance(following, int):
                    raise InvalidValue from error
                inner = part[step] = {}
            if following is None:
                part[step] = copy.deepcopy(value)
            part = inner
        self._keep(key, whole)
        return True

    def delete_field(self, key: str, path: Path) -> bool:
        if self._find(key) is ABSENT:
            return False
        whole = part = copy.deepcopy(self._find(key))
        try:
            for step in path:
                container, part = part, _step(part, step)
        except LookupError:
            return False
        del container[path[-1]]
        self._keep(key, whole)
        if whole == [] and len(path) == 1:
            del self.rows[key]
        return True

    def increment_field(self, key: str, path: Path, delta: float = 1) -> float:
        number = self.get_field(key, path, ABSENT)
        if number is not ABSENT and type(number) not in (int, float):
            raise WrongType("", key)
        total = delta if number is ABSENT else number + delta
        if isinstance(total, int) and not -MAX - 1 <= total <= MAX:
            raise OutOfRange
        self.set_field(key, path, total)
        return total

    def _list(self, key: str) -> list[Any]:
        value = self._find(key, "list")
        return [] if value is ABSENT else list(value)

    def list_push(self, key: str, *items: Any) -> int:
        value = [*self._list(key), *copy.deepcopy(items)]
        if items:
            self._keep(key, value)
        return len(value)

    def _take(self, key: str, index: int) -> Any:
        value = self._list(key)
        if not value:
            return None
        item = value.pop(index)
        self._keep(key, value)
        if not value:
            del self.rows[key]
        return item

    def list_pop(self, key: str) -> Any:
        return self._take(key, -1)

    def list_shift(self, key: str) -> Any:
        return self._take(key, 0)

    def _change(self, key: str, change: Callable[[list[Any]], Any]) -> Any:
        before = self._list(key)
        items = copy.deepcopy(before)
        result = change(items)
        if before and not items:
            del self.rows[key]
        elif items:
            self._keep(key, items)
        return result

    def list_unshift(self, key: str, *new: Any) -> int:
        self._change(key, lambda items: items.__setitem__(slice(0, 0), new))
        return len(self._list(key))

    def list_pop_many(self, key: str, count: int) -> list[Any]:
        return list(self._change(key, lambda items: [items.pop() for _ in items[:count]]))

    def list_shift_many(self, key: str, count: int) -> list[Any]:
        return list(self._change(key, lambda items: [items.pop(0) for _ in items[:count]]))

    def list_set(self, key: str, index: int, item: Any) -> bool:
        is_there = -self.list_length(key) <= index < self.list_length(key)
        if is_there:
            self._change(key, lambda items: items.__setitem__(index, item))
        return is_there

    def list_insert(self, key: str, index: int, item: Any) -> int:
        if not -self.list_length(key) <= index <= self.list_length(key):
            raise InvalidValue
        self._change(key, lambda items: items.insert(index, item))
        return len(self._list(key))

    def list_remove(self, key: str, item: Any, count: int = 0) -> int:
        items = self._list(key)
        found = [index for index, value in enumerate(items) if same(value, item)]
        gone = found[count:] if count < 0 else found[:count] if count else found
        kept = [value for index, value in enumerate(items) if index not in gone]
        self._change(key, lambda items: items.__setitem__(slice(None), kept))
        return len(gone)

    def list_trim(self, key: str, start: int, stop: int) -> int:
        kept = self.list_range(key, start, stop)
        self._change(key, lambda items: items.__setitem__(slice(None), kept))
        return len(kept)

    def list_length(self, key: str) -> int:
        return len(self._list(key))

    def list_range(self, key: str, start: int, stop: int) -> list[Any]:
        items = self._list(key)
        start = max(start + len(items), 0) if start < 0 else start
        stop = stop + len(items) if stop < 0 else stop
        return items[start : stop + 1] if stop >= 0 else []

    def get_many(self, keys: list[str]) -> dict[str, Any]:
        return {key: self.get(key) for key in keys if self.exists(key)}

    def set_many(self, mapping: dict[str, Any], ttl: float | None = None) -> bool:
        return all(self.set(key, value, ttl) for key, value in mapping.items())
