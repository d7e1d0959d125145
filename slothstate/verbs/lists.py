"""Lists: push and pop at the end, shift at the front, length and ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from slothstate.errors import InvalidValue, importing
from slothstate.hints import Any, Final, TypeVar, overload
from slothstate.native import json_decode
from slothstate.values import Seconds, check_key, decoded, describe, encode_item, shorten
from slothstate.verbs.base import Verbs, check_count, check_keys, check_timeout
from slothstate.verbs.waiting import wait_until

__all__ = ["ListVerbs"]

T = TypeVar("T")

INDEX_MAX: Final = 2**62
"""Past any position of a list, and far enough from 64 bits that adding a length does not leave them."""


class ListVerbs(Verbs):
    """The verbs of lists."""

    def list_push(self, key: str, *items: Any) -> int:
        """Add items to the end of a list and return its new length; without items nothing is written.

        A missing key and an empty table count as an empty list. The TTL stays. O(1) whatever the length.
        Raises: `WrongType` unless the key holds a list; `InvalidValue`, `OutOfRange` naming the item, which may nest
        499 levels deep.

        >>> state.list_push("queue", {"app": "web"}, {"app": "api"})
        2
        """
        check_key(key)
        return self._engine.lists.push(key, _encode_items(items))

    def list_unshift(self, key: str, *items: Any) -> int:
        """Add items to the front of a list, the first of them first of all, and return its new length.

        Else as `list_push`.

        >>> state.list_unshift("queue", "a", "b")
        2
        >>> state.list_range("queue")
        ['a', 'b']
        """
        check_key(key)
        return self._engine.lists.unshift(key, _encode_items(items))

    @overload
    def list_pop(self, key: str, default: Any = None, timeout: Seconds | None = 0) -> Any: ...
    @overload
    def list_pop(
        self, key: Sequence[str], default: None = None, timeout: Seconds | None = 0
    ) -> tuple[str, Any] | None: ...
    @overload
    def list_pop(self, key: Sequence[str], default: T, timeout: Seconds | None = 0) -> tuple[str, Any] | T: ...
    def list_pop(self, key: str | Sequence[str], default: Any = None, timeout: Seconds | None = 0) -> Any:
        """Remove and return the last item of a list, `default` if there is none. An emptied list disappears.

        It waits `timeout` seconds for an item (None: for ever). Of several keys it takes from the first that has one,
        in their order, and returns `(key, item)`, or the default alone.
        Raises: `WrongType`; `InvalidKey`; `SlothStateError` inside a transaction or snapshot unless `timeout` is 0.

        >>> state.list_push("queue", 1, 2)
        2
        >>> state.list_pop("queue")
        2
        >>> state.list_pop(["urgent", "queue"], timeout=5)
        ('queue', 1)
        """
        if timeout == 0 and timeout is not False and isinstance(key, str):
            return self._item(key, self._engine.lists.pop(check_key(key)), default)
        return self._first(key, default, timeout, self._engine.lists.pop_first)

    @overload
    def list_shift(self, key: str, default: Any = None, timeout: Seconds | None = 0) -> Any: ...
    @overload
    def list_shift(
        self, key: Sequence[str], default: None = None, timeout: Seconds | None = 0
    ) -> tuple[str, Any] | None: ...
    @overload
    def list_shift(self, key: Sequence[str], default: T, timeout: Seconds | None = 0) -> tuple[str, Any] | T: ...
    def list_shift(self, key: str | Sequence[str], default: Any = None, timeout: Seconds | None = 0) -> Any:
        """Remove and return the first item of a list, `default` if there is none. Else as `list_pop`.

        >>> state.list_push("queue", 1, 2)
        2
        >>> state.list_shift("queue")
        1
        """
        if timeout == 0 and timeout is not False and isinstance(key, str):
            return self._item(key, self._engine.lists.shift(check_key(key)), default)
        return self._first(key, default, timeout, self._engine.lists.shift_first)

    def _first(
        self,
        key: str | Sequence[str],
        default: Any,
        timeout: Seconds | None,
        take: Callable[[Sequence[str]], tuple[str, str] | None],
    ) -> Any:
        # Here: few programs wait.
        with importing():
            from slothstate.engines.claiming import Waiter

        keys = check_keys(key)
        with Waiter() as waiter:
            found = wait_until(
                self._engine,
                lambda: take(keys),
                check_timeout(timeout),
                # What is claimed of them can come back.
                pause=lambda: self._engine.claims.pause(keys, waiter),
            )
        if found is None:
            return default
        item = self._part(*found)
        return item if isinstance(key, str) else (found[0], item)

    def list_pop_many(self, key: str, count: int) -> list[Any]:
        """Remove and return the last items of a list, at most `count`, in the order they came off; one step.

        An emptied list disappears. Raises: `WrongType`; `InvalidValue` unless `count` is an int >= 0.

        >>> state.list_push("queue", 1, 2, 3)
        3
        >>> state.list_pop_many("queue", 2)
        [3, 2]
        """
        items = self._engine.lists.pop_many(check_key(key), check_count(count, "count"))
        return self._items(key, f"[{','.join(items)}]")

    def list_shift_many(self, key: str, count: int) -> list[Any]:
        """Remove and return the first items of a list, at most `count`, in the order they came off; one step.

        An emptied list disappears. Raises: `WrongType`; `InvalidValue` unless `count` is an int >= 0.

        >>> state.list_push("queue", 1, 2, 3)
        3
        >>> state.list_shift_many("queue", 2)
        [1, 2]
        """
        items = self._engine.lists.shift_many(check_key(key), check_count(count, "count"))
        return self._items(key, f"[{','.join(items)}]")

    def list_set(self, key: str, index: int, item: Any) -> bool:
        """Replace an item of a list; return whether there is one at `index`, which counts as in `list_range`.

        The TTL stays. O(1) whatever the length. Raises: `WrongType`; `InvalidValue`, `OutOfRange`.

        >>> state.list_push("queue", "a", "b")
        2
        >>> state.list_set("queue", -1, "c"), state.list_set("queue", 2, "d")
        (True, False)
        """
        return self._engine.lists.replace(check_key(key), _check_index(index, "index"), encode_item(item, "item"))

    def list_insert(self, key: str, index: int, item: Any) -> int:
        """Insert an item, which stands at `index` then, and return the new length of the list.

        `index` is 0 to the length, negative from the end, as in `list_range`; a missing key is an empty list. The TTL
        stays. Raises: `WrongType`; `InvalidValue` for another index; `OutOfRange`.

        >>> state.list_push("queue", "a", "c")
        2
        >>> state.list_insert("queue", 1, "b")
        3
        """
        text = encode_item(item, "item")
        length = self._engine.lists.insert(check_key(key), _check_index(index, "index"), text)
        if length is None:
            raise InvalidValue(f"index {shorten(index)} is not in the list {key!r} nor its end; nothing was inserted")
        return length

    def list_remove(self, key: str, item: Any, count: int = 0) -> int:
        """Remove the items of a list that are deeply equal to `item`, as in `compare_swap`; return how many.

        At most `count` from the front, with a negative count from the end, with 0 all of them. The TTL stays; an
        emptied list disappears. Raises: `WrongType`; `InvalidValue`, `OutOfRange`.

        >>> state.list_push("queue", "a", "b", "a")
        3
        >>> state.list_remove("queue", "a", -1)
        1
        >>> state.list_range("queue")
        ['a', 'b']
        """
        # As it would come back: a tuple as a list, a subclass as its base.
        value = json_decode(encode_item(item, "item"))
        return self._engine.lists.remove(check_key(key), value, _check_index(count, "count"))

    def list_trim(self, key: str, start: int = 0, stop: int = -1) -> int:
        """Keep the items that `list_range` would return; return the new length. An emptied list disappears.

        The TTL stays. Raises: `WrongType`; `InvalidValue` for bounds that are no int.

        >>> state.list_push("log", "a", "b", "c")
        3
        >>> state.list_trim("log", -2)
        2
        """
        return self._engine.lists.trim(check_key(key), _check_index(start, "start"), _check_index(stop, "stop"))

    def _items(self, key: str, text: str) -> list[Any]:
        items: list[Any] = decoded(self._codec.decode, key, "list", text)
        return items

    def _item(self, key: str, text: str | None, default: Any) -> Any:
        return default if text is None else self._part(key, text)

    def list_length(self, key: str) -> int:
        """Return the number of items of a list, 0 if the key is missing. Raises: `WrongType`.

        >>> state.list_length("missing")
        0
        """
        known = self._known_length(key)
        return self._engine.lists.length(check_key(key)) if known is None else known

    def list_range(self, key: str, start: int = 0, stop: int = -1) -> list[Any]:
        """Return the items from `start` to `stop`, both inclusive, from 0; negative ones count from the end.

        Raises: `WrongType`; `InvalidValue` for bounds that are no int.

        >>> state.list_push("queue", "a", "b", "c")
        3
        >>> state.list_range("queue", 1, -1)
        ['b', 'c']
        """
        check_key(key)
        _check_index(start, "start")
        _check_index(stop, "stop")
        return self._items(key, self._engine.lists.section(key, start, stop))


def _encode_items(items: tuple[Any, ...]) -> list[str]:
    if len(items) == 1:
        return [encode_item(items[0], "items[0]")]
    return [encode_item(item, f"items[{index}]") for index, item in enumerate(items)]


def _check_index(number: int, name: str) -> int:
    """Return a position or count as one of 64 bits: past that, any other as far out means the same."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidValue(f"{name} must be an int, got {describe(number)}")
    return max(-INDEX_MAX, min(INDEX_MAX, number))
