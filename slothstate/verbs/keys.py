"""Keys and their values: set, get, delete, compare and swap, time to live, listing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from math import ceil

from slothstate.errors import InvalidKey, InvalidValue
from slothstate.hints import Any
from slothstate.native import encode_rows
from slothstate.values import (
    KINDS,
    Kind,
    Seconds,
    Stored,
    as_python,
    check_flag,
    check_key,
    decoded,
    describe,
    encode,
    encode_mapping,
    same,
)
from slothstate.verbs.base import SCAN_PAGE, Verbs, check_count, check_pattern, milliseconds

__all__ = ["KeyVerbs"]


class KeyVerbs(Verbs):
    """The verbs that every kind of value has; `get` and `set` are those of `slothstate.native.StateBase`."""

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there, or a list of which all is claimed, whose claims it ends.

        >>> state.delete("missing")
        False
        """
        return self._engine.entries.delete(check_key(key))

    def take(self, key: str, default: Any = None) -> Any:
        """Delete a key and return the value it had, `default` if it is missing; one step.

        >>> state.set("code", "4711")
        True
        >>> state.take("code"), state.take("code")
        ('4711', None)
        """
        row = self._engine.entries.take(check_key(key))
        return default if row is None else decoded(self._codec.decode, key, row[0], row[1])

    def rename(self, key: str, to: str) -> bool:
        """Give a key another name, replacing what that one held; return whether `key` was there.

        Value and TTL stay as they are. Onto itself nothing changes.

        >>> state.set("draft", "text")
        True
        >>> state.rename("draft", "page")
        True
        """
        return self._engine.entries.rename(check_key(key), check_key(to, "to"))

    def copy(self, key: str, to: str) -> bool:
        """Copy value and TTL of a key, replacing what `to` held; return whether `key` was there.

        >>> state.copy("missing", "page")
        False
        """
        return self._engine.entries.copy(check_key(key), check_key(to, "to"))

    def exists(self, key: str) -> bool:
        """Return whether a key is there.

        >>> state.exists("missing")
        False
        """
        return self._engine.entries.exists(check_key(key))

    def clear(self, pattern: str | None = None) -> int:
        """Delete the keys that match a pattern, all of them without one; return how many. Locks are never touched.

        Raises: `PatternError`.

        >>> state.set_many({"user:1": "a", "user:2": "b", "site": "c"})
        True
        >>> state.clear("user:*")
        2
        """
        return self._engine.entries.clear(check_pattern(pattern))

    def keys(
        self, pattern: str | None = None, *, reverse: bool = False, after: str | None = None, limit: int | None = None
    ) -> list[str]:
        """Return the keys that match a pattern, all of them without one, sorted by code point.

        `*` matches any run, `?` one character, `[a-z]` `[^a]` `[!a]` one of a class, `\\x` the character x.
        `reverse` begins with the last; only what comes after the key `after` is meant, in that direction, whether or
        not it is there; at most `limit` keys are returned.
        Raises: `PatternError`; `InvalidKey`, `InvalidValue` for the options.

        >>> state.set_many({"user:1": "a", "user:2": "b", "site": "c"})
        True
        >>> state.keys("user:?")
        ['user:1', 'user:2']
        """
        _check_listing(pattern, reverse, after, limit)
        return self._engine.entries.keys(pattern, after or "", limit, reverse)

    def scan(
        self, pattern: str | None = None, *, reverse: bool = False, after: str | None = None, limit: int | None = None
    ) -> Iterator[str]:
        """Iterate over the keys that `keys` would return, in the same order, a page at a time.

        No transaction is open between two keys. A key that is there all the time comes exactly once.
        Raises: as `keys`, at the call.

        >>> state.set("site", "c")
        True
        >>> next(state.scan("s*"))
        'site'
        """
        _check_listing(pattern, reverse, after, limit)
        return islice(self._scan(pattern, after or "", reverse), limit)

    def _scan(self, pattern: str | None, after: str | None, reverse: bool) -> Iterator[str]:
        while after is not None:
            page, after = self._engine.entries.page(pattern, after, SCAN_PAGE, reverse)
            yield from page

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of several keys as they were at one moment, without the missing ones.

        >>> state.set_many({"a": 1, "b": 2})
        True
        >>> state.get_many(["a", "b", "c"])
        {'a': 1, 'b': 2}
        """
        entries = self._engine.entries
        names = list(_check_keys(keys))
        known = self._known_values(names)
        if known is not None:
            return known
        rows = entries.get_many([check_key(key) for key in names])
        decode = self._codec.decode
        return {key: decoded(decode, key, kind, stored) for key, (kind, stored, _) in rows.items()}

    def set_many(self, mapping: Mapping[str, Any], ttl: Seconds | None = None) -> bool:
        """Set several keys in one transaction, all with the same TTL in seconds or none. Returns True.

        >>> state.set_many({"a": 1, "b": [1, 2]}, ttl=60)
        True
        """
        if not isinstance(mapping, Mapping):
            raise InvalidValue(f"mapping must be a mapping of keys to values, got {describe(mapping)}")
        ttl_ms = None if ttl is None else milliseconds(ttl, "ttl")
        rows = encode_rows(mapping, KINDS) or encode_mapping(mapping)
        if rows:
            self._engine.entries.put_many(rows, ttl_ms)
        else:
            self._engine.require_writable()
        return True

    def compare_swap(self, key: str, old: Any, new: Any, *, ttl: Seconds | None = None) -> bool:
        """Set a key to `new` if its value is deeply equal to `old` (None: if it is missing); return whether it was.

        1 equals 1.0, but True is not 1. With `new=None` the key is deleted. The TTL stays, unless `ttl` gives another.
        Raises: `InvalidValue`, `OutOfRange` for values that cannot be stored, and for a `ttl` of what is deleted.

        >>> state.compare_swap("version", None, 1)
        True
        >>> state.compare_swap("version", 7, 8)
        False
        """
        check_key(key)
        row = None if new is None else encode(new, "new")
        ttl_ms = None if ttl is None else milliseconds(ttl, "ttl")
        if row is None and ttl is not None:
            raise InvalidValue("ttl: what new=None deletes has no time to live")
        entries = self._engine.entries
        if old is None and row is None:
            self._engine.require_writable()
        if old is None:
            return not entries.exists(key) if row is None else entries.insert(key, *row, ttl_ms)
        old_row = encode(old, "old")
        if old_row[0] in ("table", "list"):
            return self._swap_text(key, old_row, row, ttl_ms)
        return entries.delete_scalar(key, old_row) if row is None else entries.swap_scalar(key, old_row, row, ttl_ms)

    def _swap_text(
        self, key: str, old_row: tuple[Kind, Stored], new: tuple[Kind, Stored] | None, ttl_ms: int | None
    ) -> bool:
        entries = self._engine.entries
        # Also where nothing will be: only the swap itself would ask.
        self._engine.require_writable()
        # As it would come back: a tuple as a list, a subclass as its base.
        old = as_python(*old_row)
        # Until nobody was quicker: what is swapped is the very text that was found equal.
        while (row := entries.get(key)) is not None and row[0] in ("table", "list"):
            text = str(row[1])
            if not same(decoded(as_python, key, row[0], text), old):
                break
            if entries.delete_text(key, text) if new is None else entries.swap_text(key, text, new, ttl_ms):
                return True
        return False

    def set_ttl(self, key: str, seconds: Seconds) -> bool:
        """Let a key expire `seconds` (> 0, fractions allowed) from now; return whether there is such a key.

        Raises: `InvalidValue`.

        >>> state.set("session", "abc")
        True
        >>> state.set_ttl("session", 300)
        True
        """
        return self._engine.entries.set_expiry(check_key(key), milliseconds(seconds, "seconds"))

    def get_ttl(self, key: str) -> int:
        """Return the whole seconds a key has left, rounded up; -1 without a TTL, -2 if there is no such key.

        >>> state.get_ttl("missing")
        -2
        """
        left_ms = self._engine.entries.remaining_ms(check_key(key))
        return left_ms if left_ms < 0 else ceil(left_ms / 1000)

    def persist(self, key: str) -> bool:
        """Take the TTL of a key away; return whether it had one.

        >>> state.persist("missing")
        False
        """
        return self._engine.entries.persist(check_key(key))


def _check_keys(keys: Iterable[str]) -> Iterable[str]:
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise InvalidKey(f"keys must be an iterable of keys, got {describe(keys)}")
    return keys


def _check_listing(pattern: str | None, reverse: bool, after: str | None, limit: int | None) -> None:
    check_pattern(pattern)
    check_flag(reverse, "reverse")
    if after is not None:
        check_key(after, "after")
    if limit is not None:
        check_count(limit, "limit")
