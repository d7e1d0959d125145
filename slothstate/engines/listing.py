"""The part of the protocol that lists are changed by (see `slothstate.engines.protocol`)."""

from __future__ import annotations

from collections.abc import Sequence

from slothstate.hints import Protocol
from slothstate.native import json_check
from slothstate.values import item_of, same, unreadable

__all__ = ["Lists", "bounds", "check_item", "matching"]


class Lists(Protocol):
    """Lists, whose items are JSON texts. An empty table counts as an empty list. Every verb may raise `WrongType`."""

    def push(self, key: str, items: Sequence[str], /) -> int:
        """Add items to the end and return the new length; without items nothing is written. O(1) in the length."""

    def pop(self, key: str, /) -> str | None:
        """Remove and return the last item; None if there is none. An emptied list disappears. O(1) in the length."""

    def shift(self, key: str, /) -> str | None:
        """Remove and return the first item; None if there is none. An emptied list disappears. O(1) in the length."""

    def pop_first(self, keys: Sequence[str], /) -> tuple[str, str] | None:
        """`pop` from the first of the keys that has an item; return that key and the item.

        Where none has, nobody who writes is waited for.
        """

    def shift_first(self, keys: Sequence[str], /) -> tuple[str, str] | None:
        """The same with `shift`."""

    def unshift(self, key: str, items: Sequence[str], /) -> int:
        """Add items to the front, the first of them first, and return the new length. O(1) in the length."""

    def pop_many(self, key: str, count: int, /) -> list[str]:
        """Remove and return the last items, at most `count`, the last one first. An emptied list disappears."""

    def shift_many(self, key: str, count: int, /) -> list[str]:
        """Remove and return the first items, at most `count`. An emptied list disappears."""

    def replace(self, key: str, index: int, item: str, /) -> bool:
        """Replace an item; return whether there is one at `index`, which counts as in `section`."""

    def insert(self, key: str, index: int, item: str, /) -> int | None:
        """Let an item stand at `index` and return the new length; None unless that is 0 to the length.

        Negative ones count from the end. A missing key is an empty list. May cost O(n).
        """

    def remove(self, key: str, item: object, count: int, /) -> int:
        """Remove items that equal the value `item` (`slothstate.values.same`); return how many.

        At most `count`, from the front; with a negative one from the end; with 0 all. An emptied list disappears. May
        cost O(n).
        """

    def trim(self, key: str, start: int, stop: int, /) -> int:
        """Keep what `section` would return and return the new length. An emptied list disappears. O(removed)."""

    def length(self, key: str, /) -> int:
        """Return the number of items, 0 if the key is missing."""

    def section(self, key: str, start: int, stop: int, /) -> str:
        """Return the items from `start` to `stop` as the JSON text of a list.

        Both are inclusive and count from 0; negative ones count from the end, as in Redis's LRANGE.
        """


def bounds(size: int, start: int, stop: int) -> tuple[int, int]:
    """Return where a range of a list of `size` items begins and ends, both from 0; empty if the first is greater."""
    return max(0, start + size if start < 0 else start), min(size - 1, stop + size if stop < 0 else stop)


def matching(key: str, texts: Sequence[str], item: object, count: int) -> list[int]:
    """Return where the items are that `Lists.remove` takes out of a list with these texts."""
    found = [index for index, text in enumerate(texts) if same(item_of(key, text), item)]
    return found[count:] if count < 0 else found[:count] if count else found


def check_item(key: str, text: str) -> None:
    """Check that an item of a list can be read: before it is gone, for a damaged one must be there to look at.

    Raises: `StateCorrupt` naming the key.
    """
    try:
        json_check(text)
    except ValueError as error:
        raise unreadable(key, error) from error
