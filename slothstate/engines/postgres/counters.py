"""`protocol.Counters`: one statement for what is common; a small transaction names what is wrong."""

from __future__ import annotations

from slothstate.engines.postgres.rows import EXPIRED, LIVE, STORED, columns, key_of, packed, row_of, split
from slothstate.engines.postgres.schema import GATED
from slothstate.engines.protocol import Unit
from slothstate.errors import OutOfRange, WrongType
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.values import INTEGER_MAX, INTEGER_MIN, Kind, check_number, damaged

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Counters"]

_GET: Final = f"select {STORED} from entries e where key = %s and {LIVE}"

_FLOAT_SAFE: Final = 8e307
"""Two floats below this have a finite sum."""

# A sum past 64 bits would be an error, which ends a transaction: it is refused by the condition instead.
_ADD: Final = f"""
with {GATED}
update entries e set {{0}} = e.{{0}} + %s where key = %s and {LIVE} and e.kind = 'number' and {{1}}
returning {{0}}
"""

_INTEGER_FITS: Final = "e.n between %s::bigint and %s::bigint"

_FLOAT_FITS: Final = f"abs(e.f) < {_FLOAT_SAFE}"

# For a number that is there. It takes the server two thirds of the time.
_ADD_INTEGER: Final = _ADD.format("n", _INTEGER_FITS)

_ADD_FLOAT: Final = _ADD.format("f", _FLOAT_FITS)

# The first number is the value of a key that is created. A row that was there has been locked for this.
_INCREMENT: Final = f"""
with {GATED}
insert into entries as e (key, long_key, kind, {{column}}, expires_at_ms)
values (%s, %s, 'number', %s::{{type}}, now_ms() + %s::bigint)
on conflict (key) do update
set
  kind = 'number', n = {{n}}, f = {{f}}, t = null, b = null, first = null, last = null,
  expires_at_ms = case when {EXPIRED} then excluded.expires_at_ms else e.expires_at_ms end
where {EXPIRED} or e.kind = 'number' and {{fits}}
returning {{column}}, e.xmax = 0
"""

_SUM: Final = f"case when {EXPIRED} then excluded.{{0}} else e.{{0}} + excluded.{{0}} end"

_INCREMENT_INTEGER: Final = _INCREMENT.format(
    column="n", type="bigint", n=_SUM.format("n"), f="null", fits=_INTEGER_FITS
)

_INCREMENT_FLOAT: Final = _INCREMENT.format(column="f", type="float8", n="null", f=_SUM.format("f"), fits=_FLOAT_FITS)

_PUT_NUMBER: Final = "update entries set n = %s, f = %s where key = %s"

# Each escape of a string counts one character, and one byte, more than what it stands for.
_APPEND: Final = f"""
with {GATED}
insert into entries as e (key, long_key, kind, {{column}}) values (%s, %s, %s, %s)
on conflict (key) do update
set
  kind = excluded.kind, n = null, f = null, t = {{t}}, b = {{b}}, first = null, last = null,
  expires_at_ms = case when {EXPIRED} then null else e.expires_at_ms end
where {EXPIRED} or e.kind = excluded.kind
returning {{length}}
"""

_JOINED: Final = f"case when {EXPIRED} then excluded.{{0}} else e.{{0}} || excluded.{{0}} end"

_TEXT: Final = "replace(e.t, chr(1), '')"

_APPEND_TEXT: Final[dict[Unit, str]] = {
    "characters": _APPEND.format(column="t", t=_JOINED.format("t"), b="null", length=f"length({_TEXT})"),
    "octets": _APPEND.format(column="t", t=_JOINED.format("t"), b="null", length=f"octet_length({_TEXT})"),
}

_APPEND_BYTES: Final = _APPEND.format(column="b", t="null", b=_JOINED.format("b"), length="octet_length(e.b)")


class Counters:
    """Numbers and texts that grow in place."""

    def __init__(self, pool: Store) -> None:
        self._pool = pool
        # Whether the last number that was looked for in vain, or not looked for, was created: so will the next one be.
        self._creates = False

    def increment(self, key: str, delta: int | float, ttl_ms: int | None = None, /) -> int | float:
        pool = self._pool
        pool.count("increment")
        name, whole = split(key)
        bounds: tuple[int, ...] = ()
        if isinstance(delta, int):
            low, high = max(INTEGER_MIN, INTEGER_MIN - delta), min(INTEGER_MAX, INTEGER_MAX - delta)
            add, create, bounds = _ADD_INTEGER, _INCREMENT_INTEGER, (low, high)
        elif abs(delta) < _FLOAT_SAFE:
            add, create = _ADD_FLOAT, _INCREMENT_FLOAT
        else:
            return self._increment_slowly(key, delta, ttl_ms)
        found = [] if self._creates else pool.write(add, (delta, name, *bounds))
        if not found:
            found = pool.write(create, (name, whole, delta, ttl_ms, *bounds))
            self._creates = bool(found) and found[0][1]
        if not found:
            return self._increment_slowly(key, delta, ttl_ms)
        total: int | float = found[0][0]
        return total

    def _increment_slowly(self, key: str, delta: int | float, ttl_ms: int | None) -> int | float:
        with self._pool.step():
            found = self._pool.read(_GET, (key_of(key),))
            if not found:
                from slothstate.engines.postgres.entries import Entries

                Entries(self._pool).put(key, "number", delta, ttl_ms)
                return delta
            kind, before, _ = row_of(key, found[0])
            if kind != "number" or isinstance(before, str | bytes):
                raise WrongType.of("increment", key, "number", kind)
            try:
                total = check_number(before + delta, "sum")
            except (OutOfRange, ValueError, OverflowError) as error:
                raise OutOfRange(
                    f"increment of {key!r}: {before!r} + {delta!r} is out of range; the value is unchanged"
                ) from error
            _, n, f, _, _ = columns("number", total)
            self._pool.write(_PUT_NUMBER, (n, f, key_of(key)))
            return total

    def append(self, key: str, kind: Kind, text: str | bytes, unit: Unit, /) -> int:
        if isinstance(text, str):
            statement, stored = _APPEND_TEXT[unit], packed(text)
        else:
            statement, stored = _APPEND_BYTES, text  # type: ignore[assignment]
        while True:
            found = self._pool.write(statement, (*split(key), kind, stored), verb="append")
            if found:
                if found[0][0] is None:
                    raise damaged(key, "it holds nothing")
                return int(found[0][0])
            now = self._pool.read(_GET, (key_of(key),))
            if now and now[0][0] != kind:
                raise WrongType.of("append to", key, kind, now[0][0])
