"""`check()`: an audit of every invariant of a store.

What SQL can tell, the server tells; keys and JSON are read here, by what `get` reads them with.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from slothstate.engines.postgres.bounded import Row
from slothstate.engines.postgres.rows import split
from slothstate.errors import InvalidKey, StateCorrupt
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.native import json_check
from slothstate.values import LEVELS_MAX, as_python, check_key, check_levels, decoded, shorten

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["problems"]

PROBLEMS_MAX: Final = 100

PAGE_OF_ROWS: Final = 1000

PAGE_OF_BYTES: Final = 16 * 2**20
"""Of texts that one statement brings, and of one text that is longer."""

_PROBLEMS: Final = (
    (
        "the list {!r} says that it has {} items and has {}",
        """
        select coalesce(long_key, key), n, (select count(*) from items where list_id = e.id) from entries e
        where kind = 'list' and t is null and n <> (select count(*) from items where list_id = e.id)
        and (expires_at_ms is null or expires_at_ms > 0)
        """,
    ),
    (
        "the list {!r} has items outside of its bounds {} to {}",
        """
        select coalesce(long_key, key), first, last from entries e
        where kind = 'list' and t is null
        and exists (select from items where list_id = e.id and (pos < e.first or pos > e.last))
        """,
    ),
    (
        "{} items belong to no list (the first to {})",
        """
        select count(*), min(list_id) from items i
        where not exists (select from entries e where e.id = i.list_id and kind = 'list' and t is null)
        having count(*) > 0
        """,
    ),
    (
        "{} claims belong to no list (the first to {})",
        """
        select count(*), min(list_id) from claims c
        where not exists (select from entries e where e.id = c.list_id and kind = 'list' and t is null)
        having count(*) > 0
        """,
    ),
    (
        "the item of the list {!r} at {} is claimed, and there",
        """
        select coalesce(long_key, key), pos
        from items join claims using (list_id, pos) join entries on entries.id = list_id and kind = 'list'
        """,
    ),
    (
        "the key {!r} of kind {} has no value, or one of another kind",
        """
        select coalesce(long_key, key), kind from entries
        where case kind
          when 'string' then t is null or n is not null or f is not null or b is not null
          when 'table' then t is null or n is not null or f is not null or b is not null
          when 'bytes' then b is null or n is not null or f is not null or t is not null
          when 'number' then (n is null) = (f is null) or t is not null or b is not null
            or f in ('NaN', 'Infinity', '-Infinity')
          when 'boolean' then n is null or n not in (0, 1) or f is not null or t is not null or b is not null
          when 'list' then f is not null or b is not null or (t is null) = (first is null) or t is null and n is null
            or (first is null) <> (last is null)
          else true
        end
        """,
    ),
    (
        # Not by a regular expression, for which the server takes four times the memory of the text.
        "the string {!r} has an escape that stands for nothing",
        """
        select coalesce(long_key, key) from entries
        where kind = 'string' and strpos(t, chr(1)) > 0 and 2 * octet_length(replace(t, chr(1), ''))::bigint <>
          octet_length(replace(t, chr(1) || chr(2), ''))::bigint + octet_length(replace(t, chr(1) || chr(3), ''))
        """,
    ),
)

# The rows that follow one, as many as fit a page; the first of them in any case.
_PAGE: Final = f"""
select {{columns}} from (
  select *, sum(octet_length(text)) over (order by {{order}}) - octet_length(text) as before
  from ({{rows}} order by {{order}} limit {PAGE_OF_ROWS}) page
) sized
where before < {PAGE_OF_BYTES}
order by {{order}}
"""

_ENTRIES: Final = _PAGE.format(
    columns="key, long_key, kind, case when has_text then text end",
    order="key",
    rows="""
      select key, long_key, kind, kind in ('table', 'list') and t is not null as has_text,
        case when kind in ('table', 'list') and t is not null then t else '' end as text
      from entries where key > %s
    """,
)

_ITEMS: Final = {
    table: _PAGE.format(
        columns="list_id, pos, key, text",
        order="list_id, pos",
        rows=f"""
          select list_id, pos, coalesce(long_key, key) as key, item as text
          from {table} join entries on entries.id = list_id and kind = 'list'
          where (list_id, pos) > (%s, %s)
        """,
    )
    for table in ("items", "claims")
}


def problems(pool: Store) -> list[str]:
    """Return a sentence for everything that is wrong with the store, none when it is sound."""
    with pool.snapshot():
        return list(islice(_problems(pool), PROBLEMS_MAX))


def _problems(pool: Store) -> Iterator[str]:
    for sentence, statement in _PROBLEMS:
        for row in pool.read(statement, bulk=True):
            yield sentence.format(*row)
    yield from _entries(pool)
    for table, what in (("items", "an item"), ("claims", "a claimed item")):
        yield from _items(pool, table, what)


def _entries(pool: Store) -> Iterator[str]:
    # Before the empty text, which is no key, there is none.
    for name, whole in pool.read("select key, long_key from entries where key = ''"):
        yield f"the key {name!r} is damaged: {shorten(whole)} is not stored so"
    last = ""
    while page := pool.read(_ENTRIES, (last,), bulk=True):
        last = page[-1][0]
        yield from filter(None, map(_problem_of, page))


def _problem_of(row: Row) -> str | None:
    name, whole, kind, text = row
    key = whole if whole is not None else name
    try:
        check_key(key)
        if split(key) != (name, whole):
            return f"the key {shorten(name)} is damaged: {shorten(key)} is not stored so"
        if text is not None:
            decoded(as_python, key, kind, text)
    except InvalidKey as error:
        return f"the key {shorten(name)} is damaged: {error}"
    except StateCorrupt as error:
        return str(error)
    return None


def _items(pool: Store, table: str, what: str) -> Iterator[str]:
    last = -(2**63), -(2**63)
    while page := pool.read(_ITEMS[table], last, bulk=True):
        last = page[-1][:2]
        for _, _, key, text in page:
            try:
                json_check(text)
                check_levels(text, "item", LEVELS_MAX - 1)
            except ValueError as error:
                yield f"list {key!r} is damaged: {what} cannot be read: {error}"
