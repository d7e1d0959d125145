"""Fields of the model: the whole value is read, changed and written."""

from __future__ import annotations

import math
from typing import Any

from helpers.model.entries import Part
from slothstate.errors import InvalidValue, OutOfRange, WrongType
from slothstate.fields import Path, wrong_kind
from slothstate.native import json_decode, json_encode
from slothstate.values import INTEGER_MAX, INTEGER_MIN, Kind, as_python, kind_of

__all__ = ["Fields"]


def _step(value: Any, path: Path, taken: int, key: str, verb: str = "look into") -> Any:
    """Return what a step of a path leads to. Raises: LookupError, `WrongType`."""
    step: Any = path[taken]
    if isinstance(value, list if isinstance(step, int) else dict):
        return value[step]
    raise wrong_kind(verb, key, path, taken, kind_of(value) or "null")


class Fields(Part):
    def get(self, key: str, path: Path, /) -> str | None:
        with self.engine.reading() as rows:
            if key not in rows:
                return None
            value = as_python(*rows[key][:2])
        try:
            for taken in range(len(path)):
                value = _step(value, path, taken, key)
        except (LookupError, WrongType):
            return None
        return json_encode(value, "part")

    def put(self, key: str, path: Path, text: str, /) -> None:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is None and isinstance(path[0], int):
                raise InvalidValue("a position outside the list")
            whole: Any = {} if row is None else as_python(*row[:2])
            value = whole
            for taken, (step, following) in enumerate(zip(path, (*path[1:], None), strict=True)):
                try:
                    found = _step(value, path, taken, key, "set a field of")
                except IndexError as error:
                    raise InvalidValue("a position outside the list") from error
                except KeyError as error:
                    if isinstance(following, int):
                        raise InvalidValue("a position outside the list") from error
                    found = value[step] = {}
                if following is None:
                    value[step] = json_decode(text)
                value = found
            kind: Kind = "list" if isinstance(whole, list) else "table"
            rows.keep(key, (kind, json_encode(whole, "value"), None if row is None else row[2]))

    def delete(self, key: str, path: Path, /) -> bool:
        with self.engine.writing() as rows:
            row = rows.get(key)
            if row is None:
                return False
            value = whole = as_python(*row[:2])
            try:
                for taken in range(len(path)):
                    container, value = value, _step(value, path, taken, key, "delete a field of")
            except LookupError:
                return False
            del container[path[-1]]
            if len(path) == 1 and isinstance(whole, list):
                self.engine.lists.remove_at(rows, key, int(path[0]))
            else:
                rows.keep(key, (row[0], json_encode(whole, "value"), row[2]))
            return True

    def increment(self, key: str, path: Path, delta: int | float, /) -> int | float:
        with self.engine.transaction():
            text = self.get(key, path)
            number = 0 if text is None else json_decode(text)
            if type(number) not in (int, float):
                raise wrong_kind("increment a field of", key, path, len(path), kind_of(number) or "null", "number")
            total: int | float = delta if text is None else number + delta
            fits = INTEGER_MIN <= total <= INTEGER_MAX if isinstance(total, int) else math.isfinite(total)
            if not fits:
                raise OutOfRange("out of range")
            self.put(key, path, json_encode(total, "sum"))
            return total
