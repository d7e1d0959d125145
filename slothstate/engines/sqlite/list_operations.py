"""`protocol.Lists` as operations on a connection (see `operations`), imported when it is first asked for."""

from __future__ import annotations

from slothstate.engines.sqlite import edits, list_rows, lists, returning
from slothstate.engines.sqlite.operations import VERBS, reading, writing, writing_key
from slothstate.engines.sqlite.read_cache import ABSENT, LENGTH
from slothstate.errors import StateReadOnly
from slothstate.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from slothstate.engines.sqlite.lender import Runner

__all__ = ["ListOperations"]

VERBS.update(
    {
        lists.push: "list_push",
        lists.pop: "list_pop",
        lists.pop_first: "list_pop",
        lists.shift: "list_shift",
        lists.shift_first: "list_shift",
        lists.unshift: "list_unshift",
        lists.pop_many: "list_pop_many",
        lists.shift_many: "list_shift_many",
        edits.replace: "list_set",
        edits.insert: "list_insert",
        edits.remove: "list_remove",
        edits.trim: "list_trim",
        lists.measure: "list_length",
        lists.section: "list_range",
    }
)


class ListOperations:
    """`protocol.Lists`."""

    def __init__(self, store: Runner) -> None:
        self._store = store
        self.push = writing_key(store, lists.push)
        self.pop = writing_key(store, lists.pop)
        self.shift = writing_key(store, lists.shift)
        self.pop_first = writing(store, lists.pop_first)
        self.shift_first = writing(store, lists.shift_first)
        self.unshift = writing_key(store, lists.unshift)
        self.pop_many = writing_key(store, lists.pop_many)
        self.shift_many = writing_key(store, lists.shift_many)
        self.replace = writing_key(store, edits.replace)
        self.insert = writing_key(store, edits.insert)
        self.remove = writing_key(store, edits.remove)
        self.trim = writing_key(store, edits.trim)
        self.section = reading(store, lists.section)

    def length(self, key: str, /) -> int:
        self._store.ensure_identity()
        cache = self._store.cache
        token = cache.sync()
        measured = self._store.read(lists.measure, key)
        if measured.is_due:
            try:
                return self._store.write_key(returning.length, key)
            except StateReadOnly:
                return self._store.read(list_rows.length, key)
        size = measured.size or 0
        if not measured.may_have_claims:
            if measured.size is None:
                cache.store(token, key, ABSENT, None, None)
            cache.store(token, key, LENGTH, size, measured.expires_at_ms)
        return size
