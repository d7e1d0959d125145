"""Values as they are typed on a command line, and as they are printed.

A value is typed by how it is written: what parses as JSON is that JSON, anything else is a string. It is printed the
same way back: a string as its text, everything else as JSON.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from slothstate import SlothStateError, State, parse_json, to_json
from slothstate.cli.exits import CLOSED_PIPE, MISUSE, STORE_ERROR, Failure, OutputFailure, cannot_read, flush
from slothstate.cli.formatting import escaped, is_terminal, one_line
from slothstate.hints import IO, Any, AnyStr, Final, Literal, TypeAlias

__all__ = [
    "MISSING",
    "Form",
    "Shape",
    "as_json",
    "delivering",
    "output_options",
    "parse_line",
    "parse_value",
    "plain",
    "print_item",
    "print_value",
    "read_octets",
    "shown",
    "stdin_lines",
    "value_options",
    "write",
    "write_done",
    "write_octets",
]

Form: TypeAlias = Literal["string", "json", "bytes", "base64"] | None
"""How a typed value is to be read; None: by how it is written."""

Shape: TypeAlias = Literal["json", "raw"] | None
"""How a value is to be printed; None: for eyes on a terminal, plain otherwise."""

STDIN: Final = "-"

MISSING: Final[Any] = object()
"""In the place of a value that is not there."""

DELIVERY_TIMEOUT: Final = 20.0
"""Seconds that a reader may take for what was taken from the store, while all other writers wait."""

_PAST_LIMITS: Final = (
    "an integer past 64 bits",
    "a number past the largest float",
    "nested too deep (past 500 levels)",
)

_NOT_UTF8: Final = "this is not UTF-8"


def value_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a typed value is to be read; the function gets `form`."""
    from click import option  # here and below: what few commands need takes time to import

    for name, text in (
        ("base64", "The value is base64 of bytes."),
        ("bytes", "The value is bytes, kept exactly."),
        ("json", "The value is JSON."),
        ("string", "The value is a string, whatever it looks like."),
    ):
        add: Callable[..., Any] = option(f"--{name}", "form", flag_value=name, default=None, help=text)
        function = add(function)
    return function


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json` and `--raw`; the function gets `shape`."""
    from click import option

    for name, text in (
        ("raw", "Print exactly the value: nothing escaped, no newline."),
        ("json", "Print JSON, bytes as base64."),
    ):
        add: Callable[..., Any] = option(f"--{name}", "shape", flag_value=name, default=None, help=text)
        function = add(function)
    return function


def read_octets(argument: str) -> bytes:
    """Return the bytes of an argument, or all of stdin for `-`. Raises: `Failure` for a stdin that cannot be read."""
    if argument != STDIN:
        return os.fsencode(argument)
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise cannot_read("stdin", error) from error


def stdin_lines(stream: IO[AnyStr]) -> Iterator[AnyStr]:
    """Yield the lines of stdin as they come. Raises: `Failure` for one that cannot be read."""
    try:
        yield from stream
    except OSError as error:
        raise cannot_read("stdin", error) from error


def _read_argument(argument: str) -> str:
    """Return an argument's text, or for `-` that of stdin without the newline at its end."""
    if argument != STDIN:
        return argument
    octets = read_octets(argument)
    try:
        return octets.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise Failure(f"stdin is not UTF-8 at byte {error.start}: --bytes stores bytes as they are", MISUSE) from error


def parse_value(argument: str, form: Form = None) -> Any:
    """Return the value that an argument stands for; `-` is what stdin holds.

    Raises: `Failure` with the code `MISUSE` for what cannot be read so.
    """
    if form == "bytes":
        return read_octets(argument)
    return _parsed(_read_argument(argument), form)


def parse_line(line: str, form: Form = None) -> Any:
    """Return the value that a line of a file stands for, as `parse_value` would read it."""
    return line.encode() if form == "bytes" else _parsed(line, form)


def _parsed(text: str, form: Form) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        byte = f"byte 0x{os.fsencode(text[error.start])[0]:02x} at {len(text[: error.start].encode())}"
        raise Failure(f"the value is not UTF-8: {byte}; --bytes stores bytes as they are", MISUSE) from error
    if form == "string":
        return text
    if form == "base64":
        import base64

        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except ValueError as error:
            raise Failure(f"the value is not base64: {error}", MISUSE) from error
    try:
        return parse_json(text)
    except ValueError as error:
        advice = "" if form else "; --string stores the text"
        if str(error).endswith(_NOT_UTF8) and _is_json(text):
            raise Failure(f"the value has a \\u escape that is half of a character{advice}", MISUSE) from error
        if form is None and not str(error).endswith(_PAST_LIMITS):
            return text
        raise Failure(f"the value is {_reason(error)}{advice}", MISUSE) from error


def _is_json(text: str) -> bool:
    """Whether a text is JSON but for what its strings hold."""
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _reason(error: ValueError) -> str:
    what = str(error)
    return what.rpartition(": ")[2] if what.endswith(_PAST_LIMITS) else what


def print_value(value: Any, shape: Shape) -> None:
    """Print one value and a newline: a string as its text, bytes as they are without a newline, the rest as JSON.

    On a terminal tables and lists are indented, and control characters escaped, but for tabs and newlines.
    """
    if shape == "json":
        write(as_json(value))
    elif shape == "raw":
        write_octets(_octets(value))
    elif not is_terminal():
        if isinstance(value, bytes):
            write_octets(value)
        else:
            write(value if isinstance(value, str) else to_json(value))
    elif isinstance(value, dict | list) and value:
        import json

        write(escaped(json.dumps(value, ensure_ascii=False, indent=2), keep="\n", json=True))
    else:
        write(shown(value, keep="" if isinstance(value, bytes) else "\n\t"))


def print_item(item: Any, shape: Shape) -> None:
    """Print a value as one line among others: a line break in a string is written as `\\n`."""
    if shape is None and not is_terminal() and not isinstance(item, bytes):
        write(one_line(item if isinstance(item, str) else to_json(item)))
    elif shape is None:
        write(shown(item))
    else:
        print_value(item, shape)


def shown(value: Any, keep: str = "") -> str:
    """Return a value's text with control and invisible characters escaped; bytes that are not UTF-8 likewise."""
    if isinstance(value, bytes):
        return escaped(value.decode(errors="surrogateescape"), keep)
    return escaped(value, keep) if isinstance(value, str) else escaped(to_json(value), json=True)


def as_json(value: Any) -> str:
    """Return a value's JSON on one line; bytes, which JSON does not know, as a string of base64.

    For a terminal the characters that could drive it, or cannot be seen, are escaped: it is the same value.
    """
    text = to_json(plain(value))
    return escaped(text, json=True) if is_terminal() else text


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: bytes as a string of base64."""
    if not isinstance(value, bytes):
        return value
    import base64

    return base64.b64encode(value).decode()


def _octets(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else to_json(value)).encode()


def write(text: str) -> None:
    """Write a line to stdout: in UTF-8 to a pipe or file, whatever the locale."""
    if is_terminal():
        print(text)
    else:
        write_octets(text.encode(errors="backslashreplace") + b"\n")


def write_octets(octets: bytes) -> None:
    """Write bytes to stdout as they are. Nothing is flushed: that would be a system call for each key of a listing."""
    # One call is not enough where nothing is buffered (PYTHONUNBUFFERED): a pipe whose reader leaves takes a part.
    try:
        while octets:
            written: int | None = sys.stdout.buffer.write(octets)
            if written is None:
                _wait_for_reader()
            octets = octets[written or 0 :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailure(f"cannot write to stdout: {error.strerror}", STORE_ERROR) from error


def write_done(text: str) -> None:
    """Print what has been done. Raises: `Failure` if that cannot be written, and says that it was done."""
    try:
        write(text)
        flush()
    except (BrokenPipeError, OutputFailure) as error:
        code = CLOSED_PIPE if isinstance(error, BrokenPipeError) else STORE_ERROR
        what = "nobody reads stdout" if isinstance(error, BrokenPipeError) else str(error)
        raise OutputFailure(f"{what}, but it is done: {text}", code) from error


@contextlib.contextmanager
def delivering(state: State, *, timed: bool = True) -> Iterator[None]:
    """Keep what the block writes to the store only if what it prints reached stdout: all in one transaction.

    A `timed` block is given up after `DELIVERY_TIMEOUT`; not so one that takes its time in the store and prints little.
    Raises: `Failure` when it was not written or given up; the store is then as it was.
    """
    _wait_for_reader()
    try:
        with state.transaction(), _in_time() if timed else contextlib.nullcontext():
            yield
            flush()
    except BaseException as error:
        if isinstance(error, SlothStateError | Failure) and not isinstance(error, OutputFailure):
            # Nothing was printed: the store cannot do it, or the answer is no.
            raise
        # Nothing of what is still on its way may come out: it is in the store again. Opened to be read: what is printed
        # after this fails, too.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdout.fileno())
        if isinstance(error, OSError):
            code = CLOSED_PIPE if isinstance(error, BrokenPipeError) else STORE_ERROR
            error = OutputFailure(f"cannot write to stdout: {error.strerror}", code)
        if isinstance(error, OutputFailure):
            raise OutputFailure(f"{error}; the store is as it was", error.exit_code) from error
        raise


def _wait_for_reader() -> None:
    """Wait until something can be written to stdout: before anything is taken, and nobody waits for it."""
    import select

    if not hasattr(select, "poll"):
        return  # Windows: nothing there is written to without waiting
    with contextlib.suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        poll.poll()


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """Raise `TimeoutError` in the block when `DELIVERY_TIMEOUT` has passed."""

    def end(*_: object) -> None:
        raise TimeoutError(0, f"its reader did not take it within {DELIVERY_TIMEOUT:.0f} s")

    import signal
    import threading

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, DELIVERY_TIMEOUT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
