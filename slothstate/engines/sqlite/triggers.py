"""The triggers that fill the table `changes` while anybody watches.

SQLite's own schema cookie has every connection of every process notice them at its next statement. They call functions
of ours, which each connection brings: the clock of its operations, and the number of the verb that is under way. So a
program without them cannot write to a store that is watched.

A verb of several statements may write more than once about a key; `watches.page` makes one change of it.
"""

from __future__ import annotations

from slothstate.hints import Final

__all__ = ["KEPT_CHANGES", "NAMES_AND_TEXTS"]

KEPT_CHANGES: Final = 100_000
"""Changes that are kept for whoever has not handled them."""

_TRIM_EVERY: Final = 1_000

_NOW: Final = "slothstate_now()"

_COLUMNS: Final = "insert into changes (key, op, step, at_ms)"


def _note(key: str, op: str) -> str:
    return f"begin {_COLUMNS} values ({key}, '{op}', slothstate_step(), {_NOW}); end"


def _items(event: str, row: str) -> str:
    """An item of a live list is a `set` of its key, of one that has expired or is deleted it is nothing.

    The many items of one verb are noted once.
    """
    newest = "select 1 from changes where revision = (select max(revision) from changes)"
    return (
        f"after {event} on list_items begin {_COLUMNS} select key, 'set', slothstate_step(), {_NOW} from entries "
        f"where id = {row}.list_id and ifnull(expires_at_ms > {_NOW}, 1) "
        f"and not exists ({newest} and step = slothstate_step() and key = entries.key and op = 'set'); end"
    )


# `expires_at_ms` 0 is a list without items that has claims: it is not there.
_WAS_THERE: Final = "old.expires_at_ms is not 0"
_IS_THERE: Final = "new.expires_at_ms is not 0"
_HAD_EXPIRED: Final = f"old.expires_at_ms > 0 and old.expires_at_ms <= {_NOW}"

_TRIGGERS: Final = {
    "watch_insert": f"after insert on entries when {_IS_THERE} {_note('new.key', 'set')}",
    # What is written over an expired key comes after its end.
    "watch_overwrite": f"before update on entries when {_HAD_EXPIRED} {_note('old.key', 'expire')}",
    "watch_rename": f"before update of key on entries when old.key <> new.key {_note('old.key', 'delete')}",
    "watch_update": f"after update on entries when {_IS_THERE} {_note('new.key', 'set')}",
    "watch_empty": (
        f"after update of expires_at_ms on entries when {_WAS_THERE} and new.expires_at_ms is 0 "
        f"and not ifnull({_HAD_EXPIRED}, 0) {_note('old.key', 'delete')}"
    ),
    "watch_delete": (
        f"after delete on entries when {_WAS_THERE} and not ifnull({_HAD_EXPIRED}, 0) {_note('old.key', 'delete')}"
    ),
    "watch_expire": f"after delete on entries when {_HAD_EXPIRED} {_note('old.key', 'expire')}",
    "watch_item_insert": _items("insert", "new"),
    "watch_item_update": _items("update", "new"),
    "watch_item_delete": _items("delete", "old"),
    # Bounded also while nobody handles them; a watch that is behind finds its revision negative.
    "watch_bound": (
        f"after insert on changes when new.revision % {_TRIM_EVERY} = 0 begin "
        f"update watches set revision = {KEPT_CHANGES} - new.revision "
        f"where abs(revision) < new.revision - {KEPT_CHANGES}; "
        f"delete from changes where revision <= new.revision - {KEPT_CHANGES}; end"
    ),
}

NAMES_AND_TEXTS: Final = {name: f"create trigger {name} {text}" for name, text in _TRIGGERS.items()}
"""The triggers by their names."""
