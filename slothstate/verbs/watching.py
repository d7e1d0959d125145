"""Verbs that follow what becomes of keys."""

from __future__ import annotations

from slothstate.errors import importing
from slothstate.hints import TYPE_CHECKING
from slothstate.values import check_key
from slothstate.verbs.base import Verbs, check_pattern

if TYPE_CHECKING:
    from slothstate.descriptions import WatchDescription
    from slothstate.watching import Watch

__all__ = ["WatchingVerbs"]


class WatchingVerbs(Verbs):
    """The verbs of watching."""

    def watch(self, pattern: str | None = None, *, name: str | None = None) -> Watch:
        """Follow the changes of the keys that match (None: all) from now on, of any process and any verb.

        With a `name` the store remembers where the watch is, also while nobody runs it, and the next one of that name
        goes on after the last change that was handled: one is handled when the next is asked for. One at a time runs a
        name, a second waits. At most 100,000 changes or 24 hours are kept for one that is behind.
        Raises: `PatternError`, `InvalidKey` for a name; `SlothStateError` inside a transaction.

        >>> with state.watch("user:*") as changes:
        ...     state.set("user:1", "ada")
        ...     changes.next().op
        True
        'set'
        """
        check_pattern(pattern)
        if name is not None:
            check_key(name, "name")
        # Imported here: few programs watch.
        with importing():
            from slothstate.watching import Watch

        return Watch(self._engine, pattern, name)

    def unwatch(self, name: str) -> bool:
        """Forget the watch of a name, and what was kept for it; return whether there was one.

        >>> state.unwatch("missing")
        False
        """
        return self._engine.watches.remove(check_key(name, "name"))

    def watches(self) -> list[WatchDescription]:
        """Return who watches, in the order in which they began.

        >>> state.watches()
        []
        """
        return self._engine.watches.describe()
