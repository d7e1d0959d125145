"""`protocol.Fields`: parts of tables and lists, found and changed by the C layer in the text that the row holds."""

from __future__ import annotations

from slothstate import fields
from slothstate.engines.postgres.rows import LIVE, key_of
from slothstate.fields import Path
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.native import json_encode
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, check_levels, damaged

if TYPE_CHECKING:
    from slothstate.engines.postgres.entries import Entries
    from slothstate.engines.postgres.lists import Lists
    from slothstate.engines.postgres.store import Store

__all__ = ["Fields"]

# Of a list in rows the item at a position, which counts from the end if it is negative.
_FIND: Final = f"""
select
  e.kind, e.t, e.n,
  case when e.kind = 'list' and e.t is null and %s::bigint between -e.n and e.n - 1 then (
    select item from items where list_id = e.id order by pos
    offset %s::bigint + case when %s::bigint < 0 then e.n else 0 end limit 1
  ) end
from entries e
where key = %s and {LIVE}
"""

_WRITE: Final = "update entries set t = %s where key = %s"


class Fields:
    """Parts of values, which a path leads to."""

    def __init__(self, pool: Store, entries: Entries, lists: Lists) -> None:
        self._pool = pool
        self._entries = entries
        self._lists = lists

    def get(self, key: str, path: Path, /) -> str | None:
        found = self._find(key, path, verb="get_field")
        if found is None:
            return None
        kind, text, _, item = found
        if kind not in ("table", "list"):
            return None
        if text is not None:
            return fields.part(key, text, path)
        if item is None or isinstance(path[0], str):
            return None
        return fields.part(key, item, path[1:]) if len(path) > 1 else item

    def _find(self, key: str, path: Path, *, verb: str = "") -> tuple[str, str | None, int | None, str | None] | None:
        index = path[0] if isinstance(path[0], int) and abs(path[0]) < 2**62 else None
        found = self._pool.read(_FIND, (index, index, index, key_of(key)), verb=verb)
        return found[0] if found else None

    def put(self, key: str, path: Path, value: str, /) -> None:
        with self._pool.step("set_field"):
            self._put(key, path, value, "set a field of")

    def _put(self, key: str, path: Path, value: str, verb: str) -> None:
        found = self._find(key, path)
        if found is None:
            text = fields.put(key, EMPTY_TABLE, path, value, verb) if isinstance(path[0], str) else None
            if text is None:
                raise fields.outside(key, path, 0)
            self._entries.put(key, "table", text, None)
            return
        kind, text, size, item = found
        if kind not in ("table", "list"):
            raise fields.wrong_kind(verb, key, path, 0, kind)
        if text is not None:
            self._pool.write(_WRITE, (fields.put(key, text, path, value, verb), key_of(key)))
            return
        if isinstance(path[0], str):
            raise fields.wrong_kind(verb, key, path, 0, kind)
        if item is None and size is not None and not -size <= path[0] < size:
            raise fields.outside(key, path, 0)
        if item is None or size is None:
            raise damaged(key, "items are missing")
        new = fields.put(key, item, path[1:], value, verb, base=path[:1]) if len(path) > 1 else value
        check_levels(new, "value")
        self._lists.replace_at(key, self._lists.open(key), path[0] % size, new)

    def increment(self, key: str, path: Path, delta: int | float, /) -> int | float:
        with self._pool.step("increment_field"):
            total = fields.add(key, self.get(key, path), path, delta)
            self._put(key, path, json_encode(total, "sum"), "increment a field of")
            return total

    def delete(self, key: str, path: Path, /) -> bool:
        with self._pool.step("delete_field"):
            found = self._find(key, path)
            if found is None:
                return False
            kind, text, size, item = found
            if kind not in ("table", "list") or (text is None and isinstance(path[0], str)):
                raise fields.wrong_kind("delete a field of", key, path, 0, kind)
            if text is not None:
                return self._cut_text(key, text, path)
            if item is None or size is None:
                return False
            assert isinstance(path[0], int)
            index = path[0] % size
            identity = self._lists.open(key)
            if len(path) == 1:
                self._lists.cut(key, identity, [index])
                return True
            rest = fields.cut(key, item, path[1:], base=path[:1])
            if rest is not None:
                self._lists.replace_at(key, identity, index, rest)
            return rest is not None

    def _cut_text(self, key: str, text: str, path: Path) -> bool:
        rest = fields.cut(key, text, path)
        if rest is None:
            return False
        if rest == EMPTY_LIST and len(path) == 1:
            self._entries.delete(key)
        else:
            self._pool.write(_WRITE, (rest, key_of(key)))
        return True
