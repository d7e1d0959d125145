"""Numbers and texts that grow in place: increment and append.

Each is one statement: a short one for what is there and grows most often, an integer or a text, and where that changed
nothing the one that means the whole, and creates the key too.
"""

from __future__ import annotations

from collections.abc import Callable

from slothstate.engines.sqlite import keys
from slothstate.engines.sqlite.connection import EXPIRED, LIVE, NOT_IN_ROWS, Atomic, Connection, sql
from slothstate.engines.sqlite.operations import VERBS, writing_key
from slothstate.errors import OutOfRange, WrongType
from slothstate.hints import TYPE_CHECKING, Final, cast
from slothstate.values import Kind

if TYPE_CHECKING:
    from slothstate.engines.protocol import Unit
    from slothstate.engines.sqlite.lender import Runner

__all__ = ["CounterOperations", "append", "increment"]

FLOAT_MAX: Final = 1.7976931348623157e308

# Integer overflow makes SQLite answer in floating point, and a text counts as the number it begins with: the guard
# admits only a sum that is exact (both integers, integer sum) or a finite float. What it refuses changes nothing. In
# SQLite's order of types every number comes before every text: below '' means "really a number".
_INCREMENT: Final = sql(f"""
insert into entries (key, kind, value, expires_at_ms)
values (?2, 'number', ?3, ?4)
on conflict (key) do update
set
  kind = 'number',
  value = case when {EXPIRED} then ?3 else value + ?3 end,
  expires_at_ms = case when {EXPIRED} then ?4 else expires_at_ms end
where {NOT_IN_ROWS}
and (
  {EXPIRED}
  or kind = 'number'
  and value < ''
  and case
    when typeof(value + ?3) = 'integer' then 1
    when typeof(value) = 'integer' and typeof(?3) = 'integer' then 0
    else abs(value + ?3) <= {FLOAT_MAX!r}
  end
)
returning value
""")

# A third of the other's text, and less work. Only two integers whose sum fits have an integer sum.
_INCREMENT_INTEGER: Final = sql(f"""
update entries
set value = value + ?3
where key = ?2 and kind = 'number' and value < '' and typeof(value + ?3) = 'integer' and {LIVE}
returning value
""")

# || of two BLOBs would be TEXT; the cast keeps bytes bytes.
_APPEND: Final = f"""
insert into entries (key, kind, value)
values (?2, ?3, ?4)
on conflict (key) do update
set
  kind = ?3,
  value = case
    when {EXPIRED} then ?4
    when ?3 = 'bytes' then cast(value || ?4 as blob)
    else value || ?4
  end,
  expires_at_ms = case when {EXPIRED} then null else expires_at_ms end
where {NOT_IN_ROWS}
and ({EXPIRED} or kind = ?3 and typeof(value) = typeof(?4))
"""

_APPEND_TEXT: Final = f"""
update entries
set value = value || ?3
where key = ?2 and kind = 'string' and typeof(value) = 'text' and {LIVE}
"""

_LENGTHS: Final[dict[Unit, str]] = {
    "octets": "octet_length(value)",
    # length() stops at a NUL: a text with one is returned whole and counted in Python.
    "characters": "case when instr(value, char(0)) then value else length(value) end",
}

_APPEND_BY_UNIT: Final = {unit: sql(f"{_APPEND} returning {length}") for unit, length in _LENGTHS.items()}

_APPEND_TEXT_BY_UNIT: Final = {unit: sql(f"{_APPEND_TEXT} returning {length}") for unit, length in _LENGTHS.items()}


def increment(connection: Connection, now: int, key: str, delta: int | float, *ttl_ms: int | None) -> int | float:
    """Add `delta` to a number (0 if the key is missing, which then gets `ttl_ms`) and return the sum.

    `ttl_ms` may be left out: it has no default, because that would cost every call 260 instructions.

    Raises: `WrongType`; `OutOfRange` past 64 bits or past the largest float, the value is then as it was.
    """
    total: int | float | None = connection.execute(_INCREMENT_INTEGER, (now, key, delta)).get
    if total is not None:
        return total
    (ttl,) = ttl_ms or (None,)
    bindings = (now, key, delta, None if ttl is None else now + ttl)
    total = connection.execute(_INCREMENT, bindings).get
    if total is not None:
        return total
    with Atomic(connection):
        row = keys.get(connection, now, key)
        if row is None:
            # An expired list in rows: the fast path leaves its items to us.
            keys.remove(connection, now, key)
        elif row[0] != "number":
            raise WrongType.of("increment", key, "number", row[0])
        # Only now nobody else can write: what refused the first try may have been another value.
        total = connection.execute(_INCREMENT, bindings).get
        if total is None and row is not None:
            raise OutOfRange(f"increment of {key!r}: {row[1]!r} + {delta!r} is out of range; the value is unchanged")
    assert total is not None
    return total


def append(connection: Connection, now: int, key: str, kind: Kind, text: str | bytes, unit: Unit) -> int:
    """Append to a text or bytes (empty if the key is missing) and return the new length; the expiry stays.

    `unit` says what counts in a text: code points, or bytes of UTF-8.

    Raises: `WrongType` unless the key holds the same kind.
    """
    found: int | str | None = None
    if kind == "string":
        found = connection.execute(_APPEND_TEXT_BY_UNIT[unit], (now, key, text)).get
    statement = _APPEND_BY_UNIT[unit]
    if found is None:
        found = connection.execute(statement, (now, key, kind, text)).get
    if found is None:
        with Atomic(connection):
            row = keys.get(connection, now, key)
            if row is None:
                keys.remove(connection, now, key)
            elif row[0] != kind:
                # Looked at again: what refused the first try may have been another value.
                raise WrongType.of("append to", key, kind, row[0])
            found = connection.execute(statement, (now, key, kind, text)).get
    return found if isinstance(found, int) else len(found or "")


VERBS.update({increment: "increment", append: "append"})


class CounterOperations:
    """`protocol.Counters`."""

    def __init__(self, store: Runner) -> None:
        # The last argument of the three may be left out, which `RunOnKey` does not say.
        self.increment = cast("Callable[..., int | float]", writing_key(store, increment))
        self.append = writing_key(store, append)
