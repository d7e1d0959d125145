"""Numbers and texts that grow in place."""

from __future__ import annotations

from slothstate.errors import InvalidValue
from slothstate.values import INTEGER_MIN, check_key, check_number, describe, encode, kind_of
from slothstate.verbs.base import Verbs

__all__ = ["CounterVerbs"]


class CounterVerbs(Verbs):
    """The verbs of numbers and texts."""

    def increment(self, key: str, delta: float = 1) -> int | float:
        """Add `delta` to a number and return the sum; a missing key counts as 0. The TTL stays.

        int + int stays int; a float makes a float.
        Raises: `WrongType` unless the key holds a number; `OutOfRange` past 64 bits (or the largest float), and the
        value is then as it was; `InvalidValue` for a delta that is no finite number.

        >>> state.increment("page_views")
        1
        >>> state.increment("page_views", 10)
        11
        """
        return self._engine.counters.increment(check_key(key), check_number(delta, "delta"))

    def decrement(self, key: str, delta: float = 1) -> int | float:
        """Subtract `delta` from a number and return the difference: `increment` with the opposite sign.

        >>> state.decrement("stock", 5)
        -5
        """
        delta = check_number(delta, "delta")
        if delta != INTEGER_MIN or isinstance(delta, float):
            return self.increment(key, -delta)
        # 2^63 itself does not fit; in two steps every difference that fits is reached without leaving the range.
        with self._engine.transaction():
            self.increment(key, -(delta + 1))
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
