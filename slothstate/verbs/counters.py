"""Numbers and texts that grow in place."""

from __future__ import annotations

from slothstate.errors import InvalidValue
from slothstate.values import INTEGER_MIN, Seconds, check_key, check_number, describe, encode, kind_of
from slothstate.verbs.base import Verbs, milliseconds

__all__ = ["CounterVerbs"]


class CounterVerbs(Verbs):
    """The verbs of numbers and texts."""

    def increment(self, key: str, delta: float = 1, *, ttl: Seconds | None = None) -> int | float:
        """Add `delta` to a number and return the sum; a missing key counts as 0. The TTL stays.

        `ttl` in seconds is for the number that this call creates, one that is there keeps its own.
        int + int stays int; a float makes a float.
        Raises: `WrongType` unless the key holds a number; `OutOfRange` past 64 bits (or the largest float), and the
        value is then as it was; `InvalidValue` for a delta that is no finite number.

        >>> state.increment("page_views")
        1
        >>> state.increment("page_views", 10)
        11
        """
        if ttl is None:
            return self._engine.counters.increment(check_key(key), check_number(delta, "delta"))
        return self._engine.counters.increment(check_key(key), check_number(delta, "delta"), milliseconds(ttl, "ttl"))

    def decrement(self, key: str, delta: float = 1, *, ttl: Seconds | None = None) -> int | float:
        """Subtract `delta` from a number and return the difference: `increment` with the opposite sign.

        >>> state.decrement("stock", 5)
        -5
        """
        delta = check_number(delta, "delta")
        if delta != INTEGER_MIN or isinstance(delta, float):
            return self.increment(key, -delta) if ttl is None else self.increment(key, -delta, ttl=ttl)
        # 2^63 itself does not fit; in two steps every difference that fits is reached without leaving the range.
        with self._engine.transaction():
            self.increment(key, -(delta + 1), ttl=ttl)
            return self.increment(key, 1)

    def append(self, key: str, text: str | bytes) -> int:
        """Append to a text (or to bytes) and return its new length in code points (or bytes).

        A missing key counts as empty, and exists afterwards. The TTL stays.
        Raises: `WrongType` when str meets bytes or another kind; `InvalidValue` unless `text` is str or bytes.

        >>> state.append("log", "started")
        7
        """
        check_key(key)
        if kind_of(text) not in ("string", "bytes"):
            raise InvalidValue(f"text must be str or bytes, got {describe(text)}")
        kind, stored = encode(text, "text")
        return self._engine.counters.append(key, kind, stored, self._codec.unit)  # type: ignore[arg-type]
