"""The embedded engine: the only code that knows SQL.

`Engine` gives out connections and turns SQLite's errors into ours; `keys`, `counters`, `lists`, `locks`, `waiters`,
`sweep`, `moving`, `entries`, `audit`, `health`, `backup` and `compact` hold one family of operations each, as functions
`operation(connection, now, ...)` that `Engine.read` and `Engine.write` run. `now` is the one clock reading of the
operation, in milliseconds. Those that few processes run are imported when one does.
"""

from types import ModuleType
from typing import TYPE_CHECKING, Final

from slothstate.sqlite.engine import Engine

if TYPE_CHECKING:
    from slothstate.sqlite import audit, backup, compact, entries, health, moving, waiters, watching

__all__ = ["Engine", "audit", "backup", "compact", "entries", "health", "moving", "waiters", "watching"]

_LATE: Final = frozenset(__all__) - {"Engine"}


def __getattr__(name: str) -> ModuleType:
    if name in _LATE:
        from importlib import import_module

        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
