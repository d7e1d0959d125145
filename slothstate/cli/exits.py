"""How a command ends: its exit code, and one line on stderr if it failed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator

from slothstate import InvalidKey, InvalidValue, LockTimeout, OutOfRange, PatternError, SlothStateError, WrongType
from slothstate.cli.formatting import escaped, is_terminal
from slothstate.hints import Any, Final, NoReturn, TextIO

__all__ = [
    "CLOSED_PIPE",
    "DONE",
    "INTERRUPTED",
    "MISUSE",
    "NO",
    "NOT_FOUND",
    "STORE_ERROR",
    "Failure",
    "OutputFailure",
    "cannot_read",
    "cannot_run",
    "drop_unread",
    "exit_code",
    "exit_code_of",
    "finish",
    "flush",
    "printing",
    "say",
    "say_no",
    "say_no_key",
]

DONE: Final = 0
NO: Final = 1
"""The answer is no: absent, not swapped, not locked."""
MISUSE: Final = 2
"""What was asked cannot be: an unknown option, a bad key, value or pattern, a verb on a key of another kind."""
STORE_ERROR: Final = 3
"""The store cannot do it now: missing, busy, full, damaged, not one to trust."""
_BUG: Final = 70
"""Something that no code here expects; EX_SOFTWARE of sysexits.h."""
CANNOT_EXECUTE: Final = 126
NOT_FOUND: Final = 127
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141

_MISUSES: Final = (InvalidKey, InvalidValue, OutOfRange, PatternError, WrongType)

_SHOW_TRACEBACK: Final = "SLOTHSTATE_TRACEBACK"


class Failure(Exception):
    """Ends a command with one line on stderr and this exit code; with several `lines` only for what Lua says."""

    def __init__(self, message: str, exit_code: int, *, lines: bool = False) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.lines = lines


class OutputFailure(Failure):
    """Nothing more can be written to stdout: no later command's output could be, either."""


def cannot_read(name: str, error: OSError) -> Failure:
    """Return the end of a command that is to read a file, or stdin."""
    return Failure(f"cannot read {name}: {error.strerror}", MISUSE)


def cannot_run(program: str, number: int, why: str = "") -> Failure:
    """Return the end of a command whose own command cannot be run, with this errno: the exit code is a shell's."""
    code = NOT_FOUND if number == errno.ENOENT else CANNOT_EXECUTE
    return Failure(f"cannot run {program!r}: {why or os.strerror(number)}", code)


def exit_code_of(error: SlothStateError) -> int:
    """Return the exit code that an error of the store ends a command with."""
    if isinstance(error, LockTimeout):
        return NO
    return MISUSE if isinstance(error, _MISUSES) else STORE_ERROR


def say_no(why: str, code: int = NO) -> NoReturn:
    """End the command with the code of a no, and say why where somebody looks at it; a pipe needs only the code."""
    raise Failure(why if is_terminal() else "", code)


def say_no_key(*keys: str) -> NoReturn:
    """End the command with the exit code `NO`: these keys are missing."""
    *others, last = map(repr, keys)
    say_no(f"there is no key {', '.join(others)}{' or ' if others else ''}{last}")


def say(message: str) -> None:
    """Write a line to stderr, if there is anybody to read it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)


def finish(run: Callable[[], Any]) -> Any:
    """Run a command and hand on what it printed; return what it returns.

    Raises: `Failure` when it was interrupted, or if not all could be printed.
    """
    try:
        result = run()
        flush()
        return result
    except KeyboardInterrupt as error:
        raise Failure("interrupted", INTERRUPTED) from error
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`).
        drop_unread(sys.stdout)
        return CLOSED_PIPE


def flush() -> None:
    """Hand on at once what was written: somebody waits for it. Raises: `Failure`, `BrokenPipeError`."""
    with printing():
        sys.stdout.flush()


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Name stdout where the block, which does nothing but print, cannot write. Raises: `Failure`, `BrokenPipeError`."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailure(f"cannot write to stdout: {error.strerror}", STORE_ERROR) from error


def drop_unread(stream: TextIO | None) -> None:
    """Flush; into nothing where nobody reads any more, so that Python does not stumble over it on its way out."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def exit_code(run: Callable[[], Any], where: str = "") -> int:
    """Call what runs a command; return its exit code, after one line on stderr if it failed, which names `where`."""

    def fail(message: str, code: int, keep: str = "") -> int:
        if message:
            # Imported when something failed: few commands do.
            from slothstate.processes import without_passwords

            say(f"slothstate: {escaped(without_passwords(where + message), keep)}")
        return code

    try:
        code = run()
    except Failure as error:
        return fail(str(error), error.exit_code, "\n" if error.lines else "")
    except SlothStateError as error:
        return fail(str(error), exit_code_of(error))
    except OSError as error:
        return fail(f"cannot read or write: {error}", STORE_ERROR)
    except MemoryError:
        return fail("out of memory", STORE_ERROR)
    except ModuleNotFoundError:
        raise  # slothstate.__main__ says which extra is missing
    except Exception as error:
        if os.environ.get(_SHOW_TRACEBACK):
            raise
        what = f"{type(error).__name__}: {error}"
        return fail(f"a bug in slothstate: {what}; {_SHOW_TRACEBACK}=1 shows where: please report it", _BUG)
    return code if isinstance(code, int) else DONE
