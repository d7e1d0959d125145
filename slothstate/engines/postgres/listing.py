"""Looking at many keys: pages of them, what there is to say of each, sums by prefix.

A range of the index of keys by the literal prefix of the pattern; the matcher of the C layer decides.
"""

from __future__ import annotations

from slothstate.descriptions import Entry, Usage
from slothstate.engines.postgres.rows import LIVE, STEM_BYTES, is_deep, key_of, stem, unpacked
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.native import KEY_SEPARATOR, glob_filter
from slothstate.patterns import key_range, literal
from slothstate.values import KEY_MAX_BYTES, VALUE_MAX_BYTES

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["describe", "keys", "page", "stored_range", "usage"]

PAGE_OF_KEYS: Final = 50_000
"""Keys that one statement gathers at most."""

FEW_KEYS: Final = 100

PREVIEW_ITEMS: Final = 20

_PAGE: Final = f"""
select key, long_key from entries e where key >= %s {{below}}and {LIVE} order by key {{order}} limit %s
"""

# As one value: a row for each key costs more than the search. No key holds NUL, and no text of the server does.
_JOINED: Final = """
select
  count(*), bool_or(octet_length(key) >= {deep}), string_agg(convert_to(key, 'UTF8'), '\\x00'::bytea)
from ({page}) each
"""

_PAGES: Final = {
    (is_below, reverse): _PAGE.format(below="and key < %s " if is_below else "", order="desc" if reverse else "")
    for is_below in (False, True)
    for reverse in (False, True)
}

_JOINED_PAGES: Final = {order: _JOINED.format(page=page, deep=STEM_BYTES) for order, page in _PAGES.items()}

# What shares the stem of a deep key.
_RUN: Final = f"select key, long_key from entries e where starts_with(key, %s) and key >= %s and {LIVE}"

_IN_ROWS: Final = "e.kind = 'list' and e.t is null"

# Of the text that Python writes: with a point in it, and an exponent from 10^16 on, not from 10^15. Of those on, the
# server's shortest text may have a digit more, so they are measured here.
_IS_LARGE: Final = "(e.kind = 'number' and abs(e.f) >= 1e16)"

_FLOAT_SIZE: Final = f"""
case
  when {_IS_LARGE} then 0
  when abs(e.f) >= 1e15 then 18 + (e.f < 0)::int
  else octet_length(e.f::text) + case when e.f::text ~ '^-?[0-9]+$' then 2 else 0 end
end
"""

_SIZE: Final = f"""
case
  when {_IN_ROWS} then coalesce((select sum(octet_length(item)) + count(*) + 1 from items where list_id = e.id), 0)
  when e.kind = 'string' then coalesce(octet_length(replace(e.t, chr(1), '')), 0)
  when e.kind in ('table', 'list') then coalesce(octet_length(e.t), 0)
  when e.kind = 'bytes' then coalesce(octet_length(e.b), 0)
  when e.kind = 'boolean' then 1
  else coalesce(octet_length(e.n::text), {_FLOAT_SIZE}, 0)
end
"""

_CLAIMED_SIZE: Final = f"""
case when {_IN_ROWS} then coalesce((select sum(octet_length(item)) from claims where list_id = e.id), 0) else 0 end
"""

_DESCRIBE: Final = f"""
select
  coalesce(e.long_key, e.key), e.kind, {_SIZE} + {_CLAIMED_SIZE},
  case when {_IN_ROWS} then e.n when e.kind = 'list' then json_size_v1(e.t) end,
  e.expires_at_ms - now_ms(),
  case
    when {_IN_ROWS} then (
      select left('[' || string_agg(item, ',' order by pos) || case when e.n > {PREVIEW_ITEMS} then '' else ']' end, %s)
      from (select pos, left(item, %s) as item from items where list_id = e.id order by pos limit {PREVIEW_ITEMS}) few
    )
    else left(e.t, %s)
  end,
  substr(e.b, 1, %s), e.n, e.f,
  case when {_IN_ROWS} then (select count(*) from claims where list_id = e.id) else 0 end
from entries e
where key = any(%s) and {LIVE}
"""

_USAGE: Final = f"""
select
  left(whole, %s + case
    when strpos(substr(whole, %s + 1), %s) > 0 then strpos(substr(whole, %s + 1), %s) + %s - 1 else 0
  end) as prefix,
  sum(is_there::int),
  sum(case when is_there then octet_length(whole) + size else 0 end + claimed),
  array_agg(large) filter (where is_there and large is not null)
from (
  select
    coalesce(e.long_key, e.key) as whole, {LIVE} as is_there, {_SIZE} as size, {_CLAIMED_SIZE} as claimed,
    case when {_IS_LARGE} then e.f end as large
  from entries e
  where key >= %s and (%s::text is null or key < %s) and ({LIVE} or {_IN_ROWS})
) each
where starts_with(whole, %s)
group by 1
having sum(case when is_there then octet_length(whole) + size else 0 end + claimed) > 0
"""


def keys(pool: Store, pattern: str | None, after: str, limit: int | None, reverse: bool) -> list[str]:
    """Return the live keys that match, past `after` and at most `limit`, in code point order, all of one moment."""
    size = PAGE_OF_KEYS if limit is None else min(max(limit, FEW_KEYS), PAGE_OF_KEYS)
    found, following = page(pool, pattern, after, size, reverse, verb="keys")
    if following is None or (limit is not None and len(found) >= limit):
        return found[:limit]
    # More than a page: from the first again, with all that follow.
    with pool.snapshot():
        found, following = page(pool, pattern, after, size, reverse)
        while following is not None and (limit is None or len(found) < limit):
            more, following = page(pool, pattern, following, size, reverse)
            found += more
    return found[:limit]


def page(
    pool: Store, pattern: str | None, after: str, limit: int, reverse: bool, *, verb: str = ""
) -> tuple[list[str], str | None]:
    """Return those of the next `limit` live keys past `after` ("": all) that match, and where to go on, or None."""
    found = stored_range(pattern)
    if found is None:
        return [], None
    lower, upper = found
    if after and is_deep(after):
        rest = [name for name in _run(pool, after) if (name < after if reverse else name > after)]
        if rest:
            rest = sorted(rest, reverse=reverse)[:limit]
            return _matching(pattern, rest), rest[-1]
        first, end = _run_of(after)
        if reverse:
            upper = first if upper is None else min(upper, first)
        elif end is None:
            return [], None
        else:
            lower = max(lower, end)
    elif after and reverse:
        upper = after if upper is None else min(upper, after)
    elif after:
        # The least text above it that can be stored: no key holds NUL.
        lower = max(lower, after + "\1")
    order = upper is not None, reverse
    parameters = (lower, limit) if upper is None else (lower, upper, limit)
    ((count, has_deep, joined),) = pool.read(_JOINED_PAGES[order], parameters, verb=verb, bulk=True)
    if not count:
        return [], None
    if not has_deep:
        text = joined.decode()
        names = text.split(KEY_SEPARATOR) if pattern is None else glob_filter(pattern, text)
        return names, None if count < limit else text.rpartition(KEY_SEPARATOR)[2]
    rows = pool.read(_PAGES[order], parameters, bulk=True)
    names = [whole or key for key, whole in rows]
    if len(rows) == limit and is_deep(names[-1]):
        # What comes before it may be stored behind it.
        names = list({*names, *_run(pool, names[-1])})
    names = sorted(names, reverse=reverse)[:limit]
    return _matching(pattern, names), None if len(rows) < limit else names[-1]


def _matching(pattern: str | None, names: list[str]) -> list[str]:
    return names if pattern is None else glob_filter(pattern, KEY_SEPARATOR.join(names))


def _run(pool: Store, key: str) -> list[str]:
    """Return the live keys that a deep one may be stored among in another order."""
    beginning = stem(key)
    return [whole or each for each, whole in pool.read(_RUN, (beginning, beginning), bulk=True)]


def _run_of(key: str) -> tuple[str, str | None]:
    """Return the bounds of those keys, the second exclusive."""
    return key_range(literal(stem(key)) + "*")


def stored_range(pattern: str | None) -> tuple[str, str | None] | None:
    """Return bounds that the stored forms of all matching keys lie between, the second exclusive; None if none can."""
    if pattern is None:
        return "", None
    lower, upper = key_range(pattern)
    if "\0" in lower:
        return None
    if is_deep(lower):
        lower = stem(lower)
    if upper is not None and is_deep(upper):
        upper = _run_of(upper)[1]
    return lower, upper


def describe(pool: Store, names: list[str], preview: int) -> list[Entry]:
    """Return what there is to say about those of some keys that are there, in their order."""
    if not names:
        return []
    # More than any value has, and inside the server's 32 bits; of a text twice as much, for its escapes.
    most = min(preview, VALUE_MAX_BYTES)
    parameters = (most, most, 2 * most, most, [key_of(name) for name in names])
    found = {row[0]: row for row in pool.read(_DESCRIBE, parameters, verb="entry", bulk=True)}
    entries = []
    for name in names:
        if name in found:
            key, kind, size, length, left_ms, text, beginning, n, f, claimed = found[name]
            shown: str | bytes
            if kind == "bytes":
                shown = beginning or b""
            elif kind == "boolean":
                shown = "true" if n else "false"
            elif kind == "number":
                shown = "" if n is None and f is None else repr(f if n is None else n)
                size = len(shown)
            else:
                # What is damaged is described as far as it can be: this is how to look at it.
                shown = unpacked(text or "")
            ttl = None if left_ms is None else left_ms / 1000
            entries.append(Entry(key, kind, int(size), length, ttl, shown[:preview], claimed))
    return entries


def usage(pool: Store, prefix: str, delimiter: str) -> list[Usage]:
    """Return the sums of the keys that begin with `prefix`, by the part up to the next delimiter, the largest first."""
    found = stored_range(literal(prefix) + "*")
    if found is None:
        return []
    lower, upper = found
    size = len(prefix)
    if "\0" in delimiter:
        # Which no key holds: longer than any.
        delimiter = "\1" * (KEY_MAX_BYTES + 1)
    parameters = (size, size, delimiter, size, delimiter, len(delimiter), lower, upper, upper, prefix)
    sums = [
        Usage(name, int(count), int(total) + sum(len(repr(number)) for number in floats or ()))
        for name, count, total, floats in pool.read(_USAGE, parameters, verb="usage", bulk=True)
    ]
    return sorted(sums, key=lambda usage: (-usage.size, usage.prefix))
