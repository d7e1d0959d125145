"""slothstate: a persistent state store for Python and Lua programs that run side by side on one machine.

Keys with a time to live, exact counters, compare-and-swap, lists, locks across processes and wildcard search, in one
SQLite file that any number of processes open at once.

>>> import slothstate
>>> with slothstate.open(path) as state:
...     state.increment("visits")
1
"""

from typing import TYPE_CHECKING, Any, Final

# First of all: it refuses a Python that the rest would fail on in some other way.
from slothstate import interpreter as _interpreter  # noqa: F401  # isort: skip
from slothstate.errors import (
    AlreadyHeld,
    InvalidKey,
    InvalidValue,
    LockLost,
    LockTimeout,
    OutcomeUnknown,
    OutOfRange,
    PatternError,
    SlothStateError,
    StateBusy,
    StateClosed,
    StateCorrupt,
    StateFull,
    StateIOError,
    StateReadOnly,
    UnsafeState,
    WrongType,
)
from slothstate.lock import Lock, LockDescription, Owner, Waiter
from slothstate.patterns import literal
from slothstate.sqlite.naming import absolute_path, default_path, refuse_address
from slothstate.sqlite.schema import check_library
from slothstate.state import State, open
from slothstate.values import parse_json, to_json

if TYPE_CHECKING:
    from slothstate.escaping import printable
    from slothstate.record import Record
    from slothstate.sqlite.entries import Entry, Usage
    from slothstate.sqlite.health import Health, User
    from slothstate.sqlite.restore import restore
    from slothstate.sqlite.watching import Activity

__all__ = [
    "Activity",
    "AlreadyHeld",
    "Entry",
    "Health",
    "InvalidKey",
    "InvalidValue",
    "Lock",
    "LockDescription",
    "LockLost",
    "LockTimeout",
    "OutOfRange",
    "OutcomeUnknown",
    "Owner",
    "PatternError",
    "Record",
    "SlothStateError",
    "State",
    "StateBusy",
    "StateClosed",
    "StateCorrupt",
    "StateFull",
    "StateIOError",
    "StateReadOnly",
    "UnsafeState",
    "Usage",
    "User",
    "Waiter",
    "WrongType",
    "absolute_path",
    "check_library",
    "default_path",
    "literal",
    "open",
    "parse_json",
    "printable",
    "refuse_address",
    "restore",
    "to_json",
]


_LATE: Final = {
    "Activity": "slothstate.sqlite.watching",
    "Entry": "slothstate.sqlite.entries",
    "Health": "slothstate.sqlite.health",
    "Record": "slothstate.record",
    "Usage": "slothstate.sqlite.entries",
    "User": "slothstate.sqlite.health",
    "printable": "slothstate.escaping",
    "restore": "slothstate.sqlite.restore",
}
"""What few programs need, and the modules that have it: imported when it is asked for."""


def __getattr__(name: str) -> Any:
    if name in _LATE:
        from importlib import import_module

        return getattr(import_module(_LATE[name]), name)
    if name == "__version__":
        # Looked up when asked for: importlib.metadata costs more than the rest of the import.
        from importlib.metadata import version

        return version("slothstate")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
