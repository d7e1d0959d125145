"""The embedded engine, one SQLite file that any number of processes open: the only code that knows SQL.

`Engine` gives out connections and turns SQLite's errors into ours; `keys`, `counters`, `lists`, `locks`, `sweep`,
`transfer`, `entries`, `audit`, `health`, `backup` and `compact` hold one family of operations each, as functions
`operation(connection, now, ...)` that `Engine.read` and `Engine.write` run. `now` is the one clock reading of the
operation, in milliseconds.
"""

from slothstate.engines.sqlite.engine import Engine

__all__ = ["Engine"]
