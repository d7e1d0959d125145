"""`protocol.Entries`: one statement a verb, and a small transaction where one does not do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

from slothstate.descriptions import Entry, Usage
from slothstate.engines.postgres import listing
from slothstate.engines.postgres.rows import EXPIRED, LIVE, STORED, columns, key_of, row_of, split
from slothstate.engines.postgres.schema import GATED
from slothstate.engines.protocol import NO_KEY, NO_TTL, Row, When
from slothstate.hints import TYPE_CHECKING, Any, Final
from slothstate.native import glob_match
from slothstate.values import Kind, Stored, as_python, decoded

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Entries"]

_GET: Final = f"select {STORED} from entries e where key = %s and {LIVE}"

_GET_MANY: Final = f"select e.key, {STORED} from entries e where key = any(%s) and {LIVE}"

_COLUMNS: Final = "key, long_key, kind, n, f, t, b, expires_at_ms"

# `now_ms() + null` is null.
_VALUES: Final = (
    "values (%s::text, %s::text, %s::text, %s::bigint, %s::float8, %s::text, %s::bytea, now_ms() + %s::bigint)"
)

_SET: Final = (
    "kind = excluded.kind, n = excluded.n, f = excluded.f, t = excluded.t, b = excluded.b, first = null, last = null"
)

_UPSERT: Final = (
    f"with {GATED} insert into entries as e ({_COLUMNS}) {_VALUES} on conflict (key) do update set {_SET}, "
    "expires_at_ms = {end} {where}"
)

_PUT: Final = _UPSERT.format(end="excluded.expires_at_ms", where="")

_PUT_KEEPING: Final = _UPSERT.format(end=f"case when {LIVE} then e.expires_at_ms end", where="")

_PUT_ABSENT: Final = _UPSERT.format(end="excluded.expires_at_ms", where=f"where {EXPIRED}")

_UPDATE: Final = f"""
with {GATED}
update entries e
set kind = %s, n = %s, f = %s, t = %s, b = %s, first = null, last = null, expires_at_ms = {{end}}
where key = %s and {LIVE} {{where}}
"""

_PUT_PRESENT: Final = _UPDATE.format(end="now_ms() + %s::bigint", where="")

_PUT_PRESENT_KEEPING: Final = _UPDATE.format(end="e.expires_at_ms", where="")

_PUT_MANY: Final = f"""
with {GATED}
insert into entries as e ({_COLUMNS})
select key, long_key, kind, n, f, t, b, now_ms() + %s::bigint
from unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::float8[], %s::text[], %s::bytea[])
as new (key, long_key, kind, n, f, t, b)
order by key
on conflict (key) do update
set {_SET}, expires_at_ms = excluded.expires_at_ms
"""

# The server would compare 2^53 + 1 with 2^53 as equal: each type is compared with its own, made exact here.
_IS_SCALAR: Final = "and e.kind = %s and (e.n = %s::bigint or e.f = %s::float8 or e.t = %s::text or e.b = %s::bytea) "

_IS_TEXT: Final = "and e.kind in ('table', 'list') and e.t = %s"

_END: Final = "coalesce(now_ms() + %s::bigint, e.expires_at_ms)"

_SWAP_SCALAR: Final = _UPDATE.format(end=_END, where=_IS_SCALAR)

_SWAP_TEXT: Final = _UPDATE.format(end=_END, where=_IS_TEXT)

_DELETE_SCALAR: Final = f"with {GATED} delete from entries e where key = %s and {LIVE} {_IS_SCALAR}"

_DELETE_TEXT: Final = f"with {GATED} delete from entries e where key = %s and {LIVE} {_IS_TEXT}"

_IS_LIST_IN_ROWS: Final = f"select 1 from entries e where key = %s and kind = 'list' and t is null and {LIVE}"

# Live, or a list of which all is claimed.
_WAS_THERE: Final = f"({LIVE} or exists (select from claims c where c.list_id = e.id))"

_DELETE: Final = f"with {GATED} delete from entries e where key = %s returning {_WAS_THERE}"

_TAKE: Final = "select * from key_take_v1(%s)"

_RENAME: Final = "update entries set key = %s, long_key = %s where key = %s"

_COPY: Final = """
insert into entries (key, long_key, kind, n, f, t, b, first, last, expires_at_ms)
select %s, %s, kind, n, f, t, b, first, last, expires_at_ms from entries where key = %s
returning id, kind = 'list' and t is null
"""

_COPY_ITEMS: Final = """
insert into items (list_id, pos, item)
select %s, pos, item from items where list_id = (select id from entries where key = %s)
"""

_EXISTS: Final = f"select 1 from entries e where key = %s and {LIVE}"

_REMAINING: Final = f"select e.expires_at_ms - now_ms() from entries e where key = %s and {LIVE}"

_SET_EXPIRY: Final = (
    f"with {GATED} update entries e set expires_at_ms = now_ms() + %s::bigint where key = %s and {LIVE}"
)

_PERSIST: Final = (
    f"with {GATED} update entries e set expires_at_ms = null where key = %s and expires_at_ms is not null and {LIVE}"
)

_COUNT: Final = f"select count(*) from entries e where {LIVE}"

_CLEAR: Final = (
    f"with gone as (delete from entries e returning {_WAS_THERE} as was_there) "
    "select count(*) filter (where was_there) from gone"
)

_CLEAR_KEYS: Final = (
    f"with gone as (delete from entries e where key = any(%s) returning {_WAS_THERE} as was_there) "
    "select count(*) filter (where was_there) from gone"
)

_CLAIMED_ALONE: Final = f"select coalesce(long_key, key) from entries e where kind = 'list' and t is null and {EXPIRED}"


class Entries:
    """Keys of every kind."""

    def __init__(self, pool: Store) -> None:
        self._pool = pool

    def get(self, key: str, /) -> Row | None:
        found = self._pool.read(_GET, (key_of(key),), verb="get")
        return row_of(key, found[0]) if found else None

    def get_many(self, keys: Sequence[str], /) -> dict[str, Row]:
        names = {key_of(key): key for key in keys}
        found = {
            names[name]: row_of(names[name], tuple(row))
            for name, *row in self._pool.read(_GET_MANY, (list(names),), verb="get_many", bulk=True)
        }
        return {key: found[key] for key in keys if key in found}

    def put(self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, /) -> None:
        self._pool.write(_PUT, (*split(key), *columns(kind, stored), ttl_ms), verb="set")

    def put_many(self, rows: Mapping[Kind, Sequence[tuple[str, Stored]]], ttl_ms: int | None, /) -> None:
        new = [(*split(key), *columns(kind, stored)) for kind, group in rows.items() for key, stored in group]
        if new:
            arrays = [list(column) for column in zip(*new, strict=True)]
            self._pool.write(_PUT_MANY, (ttl_ms, *arrays), verb="set_many", bulk=True)
        else:
            self._pool.require_writable()

    def put_when(
        self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, when: When | None, keep_ttl: bool, /
    ) -> bool:
        value = columns(kind, stored)
        if when == "present":
            ends = () if keep_ttl else (ttl_ms,)
            statement = _PUT_PRESENT_KEEPING if keep_ttl else _PUT_PRESENT
            return bool(self._pool.write(statement, (*value, *ends, key_of(key)), verb="set"))
        statement = _PUT_ABSENT if when == "absent" else _PUT_KEEPING if keep_ttl else _PUT
        found = self._pool.write(statement, (*split(key), *value, ttl_ms), verb="set")
        return when is None or bool(found)

    def insert(self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, /) -> bool:
        return bool(self._pool.write(_PUT_ABSENT, (*split(key), *columns(kind, stored), ttl_ms), verb="compare_swap"))

    def swap_scalar(self, key: str, old: tuple[Kind, Stored], new: tuple[Kind, Stored], ttl_ms: int | None, /) -> bool:
        parameters = (*columns(*new), ttl_ms, key_of(key), *_exact(*old))
        return bool(self._pool.write(_SWAP_SCALAR, parameters, verb="compare_swap"))

    def swap_text(self, key: str, old: str, new: tuple[Kind, Stored], ttl_ms: int | None, /) -> bool:
        parameters = (*columns(*new), ttl_ms, key_of(key), old)
        if self._pool.write(_SWAP_TEXT, parameters, verb="compare_swap"):
            return True
        return self._of_list(key, old, lambda: self.put_when(key, *new, ttl_ms, "present", ttl_ms is None))

    def delete_scalar(self, key: str, old: tuple[Kind, Stored], /) -> bool:
        return bool(self._pool.write(_DELETE_SCALAR, (key_of(key), *_exact(*old)), verb="compare_swap"))

    def delete_text(self, key: str, old: str, /) -> bool:
        if self._pool.write(_DELETE_TEXT, (key_of(key), old), verb="compare_swap"):
            return True
        return self._of_list(key, old, lambda: self.delete(key))

    def _of_list(self, key: str, text: str, change: Callable[[], bool]) -> bool:
        """Make a change of a list in rows if its items are those of a text."""
        if not self._pool.read(_IS_LIST_IN_ROWS, (key_of(key),)):
            return False
        with self._pool.step():
            found = self._pool.read(_GET, (key_of(key),))
            return bool(found) and row_of(key, found[0])[:2] == ("list", text) and change()

    def delete(self, key: str, /) -> bool:
        found = self._pool.write(_DELETE, (key_of(key),), verb="delete")
        return bool(found) and bool(found[0][0])

    def take(self, key: str, /) -> Row | None:
        # In a savepoint: a damaged one stays to be looked at.
        with self._pool.transaction() if self._pool.in_transaction else nullcontext():
            found = self._pool.write(_TAKE, (key_of(key),), verb="take")
            row = row_of(key, found[0]) if found else None
            if row is not None:
                decoded(as_python, key, row[0], row[1])
            return row

    def rename(self, key: str, to: str, /) -> bool:
        self._pool.require_writable()
        with self._pool.step("rename"):
            if not self.exists(key):
                return False
            if key != to:
                self._pool.write(_DELETE, (key_of(to),))
                self._pool.write(_RENAME, (*split(to), key_of(key)))
            return True

    def copy(self, key: str, to: str, /) -> bool:
        with self._pool.step("copy"):
            if not self.exists(key):
                return False
            if key != to:
                self._pool.write(_DELETE, (key_of(to),))
                ((identity, in_rows),) = self._pool.write(_COPY, (*split(to), key_of(key)))
                if in_rows:
                    self._pool.write(_COPY_ITEMS, (identity, key_of(key)))
            return True

    def exists(self, key: str, /) -> bool:
        return bool(self._pool.read(_EXISTS, (key_of(key),), verb="exists"))

    def remaining_ms(self, key: str, /) -> int:
        found = self._pool.read(_REMAINING, (key_of(key),), verb="get_ttl")
        if not found:
            return NO_KEY
        return NO_TTL if found[0][0] is None else int(found[0][0])

    def set_expiry(self, key: str, ttl_ms: int, /) -> bool:
        return bool(self._pool.write(_SET_EXPIRY, (ttl_ms, key_of(key)), verb="set_ttl"))

    def persist(self, key: str, /) -> bool:
        return bool(self._pool.write(_PERSIST, (key_of(key),), verb="persist"))

    def count(self) -> int:
        return int(self._pool.read(_COUNT, bulk=True)[0][0])

    def clear(self, pattern: str | None, /) -> int:
        with self._pool.step("clear"):
            if pattern is None:
                return int(self._pool.write(_CLEAR, bulk=True)[0][0])
            found = self.keys(pattern, "", None, False)
            found += [key for (key,) in self._pool.read(_CLAIMED_ALONE, bulk=True) if glob_match(pattern, key)]
            removed = self._pool.write(_CLEAR_KEYS, ([key_of(key) for key in found],), bulk=True)
            return int(removed[0][0])

    def keys(self, pattern: str | None, after: str, limit: int | None, reverse: bool, /) -> list[str]:
        return listing.keys(self._pool, pattern, after, limit, reverse)

    def page(self, pattern: str | None, after: str, limit: int, reverse: bool, /) -> tuple[list[str], str | None]:
        return listing.page(self._pool, pattern, after, limit, reverse, verb="scan")

    def describe(self, key: str, preview: int, /) -> Entry | None:
        found = listing.describe(self._pool, [key], preview)
        return found[0] if found else None

    def page_of_descriptions(
        self, pattern: str | None, after: str, limit: int, preview: int, /
    ) -> tuple[list[Entry], str | None]:
        found, following = listing.page(self._pool, pattern, after, limit, False)
        return listing.describe(self._pool, found, preview), following

    def usage(self, prefix: str, delimiter: str, /) -> list[Usage]:
        return listing.usage(self._pool, prefix, delimiter)


def _exact(kind: Kind, stored: Stored) -> tuple[Any, ...]:
    """Return kind, n, f, t, b of what equals a scalar: 1 and 1.0 are equal, 2^53 + 1 equals no float."""
    if kind != "number" or isinstance(stored, str | bytes):
        return columns(kind, stored)
    whole = int(stored) if stored == int(stored) and -(2**63) <= stored < 2**63 else None
    try:
        real = float(stored) if float(stored) == stored else None
    except OverflowError:
        real = None
    return kind, whole, real, None, None
