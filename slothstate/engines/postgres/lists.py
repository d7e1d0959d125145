"""`protocol.Lists`: the ends by functions of the server, the middle by small transactions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress

from slothstate.engines.listing import bounds, check_item, matching
from slothstate.engines.postgres.rows import LIVE, key_of, split
from slothstate.errors import SlothStateError, StateReadOnly, WrongType
from slothstate.hints import TYPE_CHECKING, Final, NamedTuple
from slothstate.native import json_encode
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, as_python, damaged, decoded

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Lists", "refusal_of"]

_PUSH: Final = "select size, other_kind from list_push_v1(%s, %s, %s::text[], %s)"

_TAKE: Final = "select texts, other_kind from list_take_v1(%s, %s, %s)"

_LENGTH: Final = f"""
select
  case when not {LIVE} then null when e.kind = 'table' and e.t = '{EMPTY_TABLE}' then 'list' else e.kind end,
  case when e.kind = 'list' and e.t is null then e.n when e.kind = 'list' then json_size_v1(e.t) else 0 end,
  e.kind = 'list' and e.t is null
  and exists (select from claims c where c.list_id = e.id and is_due(c.owner, c.expires_ms, c.due_ms))
from entries e
where key = %s
"""

_RETURN: Final = "select list_length_v1(%s)"

# A list without gaps is asked for by position, one with gaps by rank.
_SECTION: Final = f"""
select
  e.kind, e.t,
  case
    when e.kind <> 'list' or e.t is not null then null
    when hi < lo then ''
    when e.n = e.last - e.first + 1 then (
      select string_agg(item, ',' order by pos) from items
      where list_id = e.id and pos between e.first + lo and e.first + hi
    )
    else (
      select string_agg(item, ',' order by pos)
      from (select pos, item from items where list_id = e.id order by pos offset lo limit hi - lo + 1) few
    )
  end
from entries e, lateral (
  select
    greatest(0, %s::bigint + case when %s::bigint < 0 then e.n else 0 end) as lo,
    least(e.n - 1, %s::bigint + case when %s::bigint < 0 then e.n else 0 end) as hi
) asked
where key = %s and {LIVE}
"""

_FIND: Final = f"select e.id, e.kind, e.t, e.n from entries e where key = %s and {LIVE}"

_OPEN: Final = "select id, kind from open_list_v1(%s, %s)"

_ITEMS: Final = "select pos, item from items where list_id = %s order by pos"

_POSITION: Final = "select pos from items where list_id = %s order by pos offset %s limit 1"

_REPLACE: Final = "update items set item = %s where list_id = %s and pos = %s"

_TOUCH: Final = "update entries set n = n where key = %s"

_FAR: Final = 2**50
"""Positions that nothing in a list is apart: what moves by one goes so far first, where nothing is in its way."""

_MOVE: Final = [
    f"update {table} set pos = pos {by} where list_id = %s and pos >= %s"
    for table in ("items", "claims")
    for by in ("+ %s", "- %s + 1")
]

_ADD: Final = "insert into items (list_id, pos, item) values (%s, %s, %s)"

_CUT: Final = "delete from items where list_id = %s and pos = any(%s)"

_SETTLE: Final = """
select settle_v1(
  list, (select count(*) from items where list_id = list),
  (select min(pos) from items where list_id = list), (select max(pos) from items where list_id = list)
)
from (values (%s::bigint)) as one (list)
"""


_MISSING: Final = "items are missing"


def refusal_of(verb: str, key: str, kind: str) -> SlothStateError:
    """Return the error for what a function of the server says of a key that is no list, or a damaged one."""
    if kind == "damaged":
        return damaged(key, "the list cannot be read, or items are missing")
    return WrongType.of(verb, key, "list", kind)


class StoredList(NamedTuple):
    """A live list as it is stored: its identity, its JSON text (None: in rows) and how many items it has."""

    identity: int
    text: str | None
    size: int


class Lists:
    """Lists, whose items are JSON texts."""

    def __init__(self, pool: Store) -> None:
        self._pool = pool

    def push(self, key: str, items: Sequence[str], /) -> int:
        return self._push(key, items, at_front=False)

    def unshift(self, key: str, items: Sequence[str], /) -> int:
        return self._push(key, items, at_front=True)

    def _push(self, key: str, items: Sequence[str], *, at_front: bool) -> int:
        verb, counted = ("unshift to", "list_unshift") if at_front else ("push to", "list_push")
        if not items:
            self._pool.require_writable()
            return self._length(key, verb, counted, may_write=False)
        ((size, kind),) = self._pool.write(_PUSH, (*split(key), list(items), at_front), verb=counted)
        if kind is not None:
            raise refusal_of(verb, key, kind)
        return int(size)

    def pop(self, key: str, /) -> str | None:
        return next(iter(self._take(key, 1, "pop from", "list_pop", at_end=True)), None)

    def shift(self, key: str, /) -> str | None:
        return next(iter(self._take(key, 1, "shift from", "list_shift", at_end=False)), None)

    def pop_first(self, keys: Sequence[str], /) -> tuple[str, str] | None:
        return self._take_first(keys, "pop from", "list_pop", at_end=True)

    def shift_first(self, keys: Sequence[str], /) -> tuple[str, str] | None:
        return self._take_first(keys, "shift from", "list_shift", at_end=False)

    def _take_first(self, keys: Sequence[str], verb: str, counted: str, *, at_end: bool) -> tuple[str, str] | None:
        for key in keys:
            for item in self._take(key, 1, verb, counted, at_end=at_end):
                return key, item
            # However many lists are looked into, it is one verb.
            counted = ""
        return None

    def pop_many(self, key: str, count: int, /) -> list[str]:
        return self._take(key, count, "pop from", "list_pop_many", at_end=True)

    def shift_many(self, key: str, count: int, /) -> list[str]:
        return self._take(key, count, "shift from", "list_shift_many", at_end=False)

    def _take(self, key: str, count: int, verb: str, counted: str, *, at_end: bool) -> list[str]:
        """Take items, as texts that can be read: a damaged one stays to be looked at."""
        with self._pool.step(counted) if self._pool.in_transaction else nullcontext():
            found = self._pool.write(_TAKE, (key_of(key), count, at_end), verb=counted)
            texts, kind = found[0] if found else ((), None)
            for text in texts or ():
                check_item(key, text)
            if kind is not None:
                raise refusal_of(verb, key, kind)
            return list(texts or ())

    def length(self, key: str, /) -> int:
        return self._length(key, "measure", "list_length", may_write=True)

    def _length(self, key: str, verb: str, counted: str, *, may_write: bool) -> int:
        found = self._pool.read(_LENGTH, (key_of(key),), verb=counted)
        if not found:
            return 0
        kind, size, is_due = found[0]
        if kind is not None and kind != "list":
            raise WrongType.of(verb, key, "list", kind)
        own = self._pool.own()
        if is_due and may_write and not (own is not None and own.moment):
            # Whose role may only read sees what is there.
            with suppress(StateReadOnly):
                return int(self._pool.write(_RETURN, (key_of(key),))[0][0])
        if kind is not None and size is None:
            raise refusal_of(verb, key, "damaged")
        return 0 if kind is None else int(size)

    def section(self, key: str, start: int, stop: int, /) -> str:
        # Beyond what any list has, and inside 64 bits.
        first, last = (max(-_FAR, min(_FAR, index)) for index in (start, stop))
        found = self._pool.read(_SECTION, (first, first, last, last, key_of(key)), verb="list_range", bulk=True)
        if not found:
            return EMPTY_LIST
        kind, text, items = found[0]
        if kind == "table" and text == EMPTY_TABLE:
            return EMPTY_LIST
        if kind != "list":
            raise WrongType.of("read a range of", key, "list", kind)
        if text is None:
            if items is None:
                raise damaged(key, _MISSING)
            return f"[{items}]"
        values = decoded(as_python, key, "list", text)
        begin, end = bounds(len(values), start, stop)
        return json_encode(values[begin : end + 1], "items") if begin <= end else EMPTY_LIST

    def replace(self, key: str, index: int, item: str, /) -> bool:
        with self._pool.step("list_set"):
            found = self.find(key, "set an item of")
            if found is None or not -found.size <= index < found.size:
                return False
            self.replace_at(key, self.open(key), index % found.size, item)
            return True

    def replace_at(self, key: str, identity: int, index: int, item: str) -> None:
        """Replace an item of a list in rows, inside the caller's transaction."""
        place = self._position(key, identity, index)
        self._pool.write(_REPLACE, (item, identity, place))
        self._pool.write(_TOUCH, (key_of(key),))

    def _position(self, key: str, identity: int, index: int) -> int:
        found = self._pool.read(_POSITION, (identity, index))
        if not found:
            raise damaged(key, _MISSING)
        return int(found[0][0])

    def insert(self, key: str, index: int, item: str, /) -> int | None:
        with self._pool.step("list_insert"):
            found = self.find(key, "insert into")
            size = 0 if found is None else found.size
            at = index if index >= 0 else index + size
            if not 0 <= at <= size:
                return None
            if at == size:
                return self.push(key, [item])
            if at == 0:
                return self.unshift(key, [item])
            identity = self.open(key)
            place = self._position(key, identity, at)
            for there, back in (_MOVE[:2], _MOVE[2:]):
                self._pool.write(there, (_FAR, identity, place))
                self._pool.write(back, (_FAR, identity, place + _FAR))
            self._pool.write(_ADD, (identity, place, item))
            self._pool.write(_SETTLE, (identity,))
            return size + 1

    def remove(self, key: str, item: object, count: int, /) -> int:
        with self._pool.step("list_remove"):
            if self.find(key, "remove from") is None:
                return 0
            gone = matching(key, self.items(key), item, count)
            if gone:
                self.cut(key, self.open(key), gone)
            return len(gone)

    def items(self, key: str) -> list[str]:
        """Return the JSON texts of all items of a live list."""
        found = self.find(key, "read")
        if found is None:
            return []
        if found.text is None:
            return [text for _, text in self._pool.read(_ITEMS, (found.identity,), bulk=True)]
        return [json_encode(value, "item") for value in decoded(as_python, key, "list", found.text)]

    def cut(self, key: str, identity: int, indexes: Sequence[int]) -> None:
        """Remove items of a list in rows, inside the caller's transaction."""
        places = [place for place, _ in self._pool.read(_ITEMS, (identity,), bulk=True)]
        if len(places) <= max(indexes):
            raise damaged(key, _MISSING)
        self._pool.write(_CUT, (identity, [places[index] for index in indexes]), bulk=True)
        self._pool.write(_SETTLE, (identity,), bulk=True)

    def trim(self, key: str, start: int, stop: int, /) -> int:
        with self._pool.step("list_trim"):
            found = self.find(key, "trim")
            if found is None:
                return 0
            begin, end = bounds(found.size, start, stop)
            kept = set(range(begin, end + 1))
            if len(kept) < found.size:
                self.cut(key, self.open(key), [index for index in range(found.size) if index not in kept])
            return len(kept)

    def find(self, key: str, verb: str) -> StoredList | None:
        """Return the live list of a key, None if the key is missing; an empty table is an empty list."""
        found = self._pool.read(_FIND, (key_of(key),))
        if not found:
            return None
        identity, kind, text, size = found[0]
        if kind == "table" and text == EMPTY_TABLE:
            return StoredList(identity, EMPTY_LIST, 0)
        if kind != "list":
            raise WrongType.of(verb, key, "list", kind)
        if text is not None:
            size = len(decoded(as_python, key, "list", text))
        elif size is None:
            raise damaged(key, _MISSING)
        return StoredList(identity, text, size)

    def open(self, key: str) -> int:
        """Have the items of a live list in rows, and return its identity; inside the caller's transaction."""
        ((identity, kind),) = self._pool.write(_OPEN, split(key))
        if kind != "list":
            raise refusal_of("open", key, kind)
        return int(identity)
