"""Every error slothstate raises: one tree under `SlothStateError`, each of its branches also the builtin that fits.

All of them pickle, attributes included, so they cross process pools unchanged.
"""

from __future__ import annotations

from contextlib import contextmanager

from slothstate.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "AlreadyHeld",
    "InvalidKey",
    "InvalidValue",
    "LockLost",
    "LockTimeout",
    "NotSupported",
    "OutOfRange",
    "OutcomeUnknown",
    "PatternError",
    "SlothStateError",
    "StateBusy",
    "StateClosed",
    "StateCorrupt",
    "StateFull",
    "StateIOError",
    "StateReadOnly",
    "UnsafeState",
    "WatchLost",
    "WrongType",
]


def a_kind(kind: str) -> str:
    """Return a kind as it stands in a sentence: of `bytes` there is no single one."""
    return kind if kind == "bytes" else f"a {kind}"


class SlothStateError(Exception):
    """The base of every error of this package; by itself, what cannot be done inside a transaction or a snapshot."""


class InvalidKey(SlothStateError, ValueError):
    """A key or lock name that is not a non-empty str of at most 4096 bytes of UTF-8 without NUL."""


class InvalidValue(SlothStateError, ValueError):
    """A value or argument that cannot be stored or used; the message names the path to it."""


class PatternError(SlothStateError, ValueError):
    """A wildcard pattern that does not follow the grammar; the message names the position."""


class WatchLost(SlothStateError, RuntimeError):
    """A watch was too far behind, or was forgotten: changes before `revision`, from which it goes on, are missing."""

    def __init__(self, message: str, revision: int = 0) -> None:
        super().__init__(message)
        self.revision = revision


class WrongType(SlothStateError, TypeError):
    """The key holds another kind of value than the verb works on.

    `key`, `expected` and `found` carry what the message says; `expected` and `found` are kinds.
    """

    def __init__(self, message: str, key: str = "", expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.key = key
        self.expected = expected
        self.found = found

    @classmethod
    def of(cls, verb: str, key: str, expected: str, found: str) -> WrongType:
        """Return the error for `verb` on a key whose value is of another kind."""
        return cls(f"cannot {verb} {key!r}: expected {a_kind(expected)}, found {a_kind(found)}", key, expected, found)


class NotSupported(SlothStateError, NotImplementedError):
    """What the engine of this store cannot do."""


class OutOfRange(SlothStateError, OverflowError):
    """A number past 64 bits, or past what the calling language can hold exactly."""


class LockTimeout(SlothStateError, TimeoutError):
    """A lock was not acquired within its timeout."""


class StateBusy(SlothStateError, TimeoutError):
    """Another writer kept the store for longer than `busy_timeout`; nothing was written."""


class LockLost(SlothStateError, RuntimeError):
    """A lock that was held is no longer held: it expired or was taken over."""


class AlreadyHeld(SlothStateError, RuntimeError):
    """This thread already holds the lock, by this or another State; waiting for it would never end."""


class StateClosed(SlothStateError, RuntimeError):
    """The State was closed, or cannot be used on this side of a fork."""


class UnsafeState(SlothStateError, RuntimeError):
    """The file was moved, replaced, or is not one to trust: a link, a device, another program's database."""


class StateCorrupt(SlothStateError, OSError):
    """The store is damaged. It is never repaired or re-created silently: restore a backup, check the disk."""


class StateFull(SlothStateError, OSError):
    """The disk, quota or file-size limit left no room; nothing was written, reads still work."""


class StateReadOnly(SlothStateError, OSError):
    """The store cannot be written: the file, the directory or the file system is read-only."""


class StateIOError(SlothStateError, OSError):
    """The operating system reported an I/O error, or a file that cannot be opened; nothing was written."""


class OutcomeUnknown(SlothStateError, RuntimeError):
    """COMMIT or the sync after it failed: the write may or may not be there after the next open. Assume neither."""


@contextmanager
def importing() -> Iterator[None]:
    """Import in the block what few programs need.

    Raises: `StateIOError` where there is no descriptor left to read it by; `StateBusy` in a signal handler that struck
    this very import.
    """
    try:
        yield
    except SlothStateError:
        # Some of them are an OSError, too.
        raise
    except OSError as error:
        raise StateIOError(f"a part of slothstate cannot be loaded: {error}") from error
    except ImportError as error:
        if "partially initialized" not in str(error):
            raise
        raise StateBusy(
            "this thread is itself in the middle of importing a part of slothstate: a signal handler cannot wait for "
            "it; set a flag instead"
        ) from error
