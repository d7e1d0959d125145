"""The embedded engine: the only code that knows SQL.

`Engine` gives out connections and turns SQLite's errors into ours; `keys`, `counters`, `lists`, `locks`, `waiters`,
`sweep`, `moving`, `entries`, `audit`, `health`, `backup` and `compact` hold one family of operations each, as functions
`operation(connection, now, ...)` that `Engine.read` and `Engine.write` run. `now` is the one clock reading of the
operation, in milliseconds.
"""

from slothstate.sqlite.engine import Engine

__all__ = ["Engine"]
