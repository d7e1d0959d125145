"""The embedded engine, one SQLite file that any number of processes open: the only code that knows SQL.

`Store` gives out connections and turns SQLite's errors into ours; `keys`, `counters`, `lists`, `locks`, `sweep`,
`transfer`, `entries`, `audit`, `health`, `backup` and `compact` hold one family of operations each, as functions
`operation(connection, now, ...)` that `Store.read` and `Store.write` run. `now` is the one clock reading of the
operation, in milliseconds.
"""

from slothstate.engines.sqlite.store import Store

__all__ = ["Store"]
