"""slothstate: a persistent state store for Python and Lua programs that run side by side.

Keys with a time to live, exact counters, compare-and-swap, lists, locks across processes and wildcard search, in one
SQLite file that any number of processes open at once, or on a PostgreSQL server that any number of machines reach.

>>> import slothstate
>>> with slothstate.open(path) as state:
...     state.increment("visits")
1
"""

from slothstate.hints import TYPE_CHECKING, Any, Final

# First of all: it refuses a Python that the rest would fail on in some other way.
from slothstate import interpreter as _interpreter  # noqa: F401  # isort: skip
from slothstate.engines import display_address, has_store, is_server, restore
from slothstate.engines.sqlite.naming import absolute_path, default_path, refuse_address
from slothstate.engines.sqlite.schema import check_library
from slothstate.errors import (
    AlreadyHeld,
    InvalidKey,
    InvalidValue,
    LockLost,
    LockTimeout,
    NotSupported,
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
    WatchLost,
    WrongType,
)
from slothstate.locks import Lock
from slothstate.patterns import literal, matches
from slothstate.state import State, open
from slothstate.values import parse_json, same, to_json

if TYPE_CHECKING:
    from slothstate.claims import Claim
    from slothstate.descriptions import (
        Activity,
        ClaimDescription,
        Entry,
        Finding,
        Health,
        LockDescription,
        Owner,
        Usage,
        User,
        Waiter,
        WatchDescription,
    )
    from slothstate.escaping import printable
    from slothstate.fields import format_path, parse_path
    from slothstate.record import Record
    from slothstate.watching import Change, Watch

    __version__: str

__all__ = [
    "Activity",
    "AlreadyHeld",
    "Change",
    "Claim",
    "ClaimDescription",
    "Entry",
    "Finding",
    "Health",
    "InvalidKey",
    "InvalidValue",
    "Lock",
    "LockDescription",
    "LockLost",
    "LockTimeout",
    "NotSupported",
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
    "Watch",
    "WatchDescription",
    "WatchLost",
    "WrongType",
    "absolute_path",
    "check_library",
    "default_path",
    "display_address",
    "format_path",
    "has_store",
    "is_server",
    "literal",
    "matches",
    "open",
    "parse_json",
    "parse_path",
    "printable",
    "refuse_address",
    "restore",
    "same",
    "to_json",
]


_LATE: Final = {
    "Activity": "slothstate.descriptions",
    "Change": "slothstate.watching",
    "Claim": "slothstate.claims",
    "ClaimDescription": "slothstate.descriptions",
    "Entry": "slothstate.descriptions",
    "Finding": "slothstate.descriptions",
    "Health": "slothstate.descriptions",
    "LockDescription": "slothstate.descriptions",
    "Owner": "slothstate.descriptions",
    "Record": "slothstate.record",
    "Usage": "slothstate.descriptions",
    "User": "slothstate.descriptions",
    "Waiter": "slothstate.descriptions",
    "Watch": "slothstate.watching",
    "WatchDescription": "slothstate.descriptions",
    "format_path": "slothstate.fields",
    "parse_path": "slothstate.fields",
    "printable": "slothstate.escaping",
}
"""What few programs need, and the modules that have it: imported when it is asked for."""


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})


# A type checker that saw it would take any name for one of these.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _LATE:
            from slothstate.errors import importing

            with importing():
                from importlib import import_module

                return getattr(import_module(_LATE[name]), name)
        if name == "__version__":
            # Looked up when asked for: importlib.metadata costs more than the rest of the import.
            from importlib.metadata import version

            return version("slothstate")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
