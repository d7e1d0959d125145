"""Lists: push and pop at the end, shift at the front, length and ranges."""

from __future__ import annotations

from typing import Any

from slothstate.errors import InvalidValue
from slothstate.native import json_decode
from slothstate.values import check_key, damaged, decoded, describe, encode_item
from slothstate.verbs.base import Verbs

__all__ = ["ListVerbs"]


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
        if len(items) == 1:
            texts = [encode_item(items[0], "items[0]")]
        else:
            texts = [encode_item(item, f"items[{index}]") for index, item in enumerate(items)]
        return self._engine.lists.push(key, texts)

    def list_pop(self, key: str, default: Any = None) -> Any:
        """Remove and return the last item of a list, `default` if there is none. An emptied list disappears.

        Raises: `WrongType`.

        >>> state.list_push("queue", 1, 2)
        2
        >>> state.list_pop("queue")
        2
        """
        return self._item(key, self._engine.lists.pop(check_key(key)), default)

    def list_shift(self, key: str, default: Any = None) -> Any:
        """Remove and return the first item of a list, `default` if there is none. An emptied list disappears.

        Raises: `WrongType`.

        >>> state.list_push("queue", 1, 2)
        2
        >>> state.list_shift("queue")
        1
        """
        return self._item(key, self._engine.lists.shift(check_key(key)), default)

    def _item(self, key: str, text: str | None, default: Any) -> Any:
        if text is None:
            return default
        if text.startswith(("{", "[")):
            return decoded(self._codec.decode, key, "table" if text.startswith("{") else "list", text)
        try:
            return json_decode(text)
        except ValueError as error:
            raise damaged(key, f"an item cannot be read: {error}") from error

    def list_length(self, key: str) -> int:
        """Return the number of items of a list, 0 if the key is missing. Raises: `WrongType`.

        >>> state.list_length("missing")
        0
        """
        return self._engine.lists.length(check_key(key))

    def list_range(self, key: str, start: int = 0, stop: int = -1) -> Any:
        """Return the items from `start` to `stop`, both inclusive, from 0; negative ones count from the end.

        Raises: `WrongType`; `InvalidValue` for bounds that are no int.

        >>> state.list_push("queue", "a", "b", "c")
        3
        >>> state.list_range("queue", 1, -1)
        ['b', 'c']
        """
        check_key(key)
        for name, bound in (("start", start), ("stop", stop)):
            if isinstance(bound, bool) or not isinstance(bound, int):
                raise InvalidValue(f"{name} must be an int, got {describe(bound)}")
        return decoded(self._codec.decode, key, "list", self._engine.lists.section(key, start, stop))
