"""`edit`: a value in the user's editor, written back only if nobody else has changed it meanwhile."""

from __future__ import annotations

import json
import os
import shlex
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from slothstate import OutcomeUnknown, SlothStateError
from slothstate.cli.exits import DONE, INTERRUPTED, MISUSE, NO, Failure, exit_code_of
from slothstate.cli.formatting import escaped, is_terminal, styled
from slothstate.cli.opening import has_store, open_state
from slothstate.cli.options import key_argument, store_command
from slothstate.cli.signals import Ended, clearing_up_when_ended
from slothstate.cli.values import parse_line, write
from slothstate.hints import Any

__all__ = ["edit"]


@store_command("edit")
@key_argument
def edit(db: str | None, key: str) -> int:
    """Edit the value of KEY with $VISUAL or $EDITOR.

    A string is edited as text, bytes as bytes, anything else as JSON; a missing key begins empty, and is typed by how
    it is written. If somebody else has changed the key meanwhile, or what was written cannot be stored, nothing is set,
    and the file with the text is kept. The time to live stays.

    \b
    Example:
      EDITOR=nano slothstate edit config
    """
    _check_editor()
    old = None
    if has_store(db):
        with open_state(db) as state:
            old = state.get(key)
    # 0600, for nobody else to read.
    descriptor, name = tempfile.mkstemp(prefix="slothstate-", suffix=_suffix(old))
    with os.fdopen(descriptor, "wb") as file:
        file.write(_octets(old))
    path = Path(name)
    with _keeping_what_was_written(path):
        with clearing_up_when_ended(), _leaving_ctrl_c_to_the_editor():
            click.edit(filename=name)
        octets = path.read_bytes()
        if octets != _octets(old):
            new = _read(octets, old)
            # A store that was there and is gone is not made anew.
            with open_state(db, create=old is None) as state:
                if not state.compare_swap(key, old, new):
                    raise Failure(f"key {key!r} was changed meanwhile", NO)
        elif is_terminal():
            write(styled("not changed", dim=True))
        path.unlink()
    return DONE


def _check_editor() -> None:
    """Raise `Failure` for an editor that is no command: click takes the words of it as a shell does."""
    for name in ("VISUAL", "EDITOR"):
        if editor := os.environ.get(name):
            try:
                words = shlex.split(editor)
            except ValueError as error:
                raise Failure(f"${name} is no command: {str(error).lower()}: {editor!r}", MISUSE) from error
            if not words:
                raise Failure(f"${name} is no command: {editor!r}", MISUSE)
            return


def _suffix(value: Any) -> str:
    return ".txt" if isinstance(value, str) else ".bin" if isinstance(value, bytes) else ".json"


def _octets(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return b"" if value is None else json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


@contextmanager
def _keeping_what_was_written(path: Path) -> Iterator[None]:
    """Let a failure of the block say where the user's text is; a file that nobody has changed goes."""
    before = path.read_bytes()
    try:
        yield
    except (Failure, click.ClickException, SlothStateError, OSError, KeyboardInterrupt, Ended) as error:
        what, code = _failure(error)
        # Whether it was set is what the store cannot say then.
        what += "" if isinstance(error, OutcomeUnknown) else "; nothing was set"
        if path.exists() and path.read_bytes() != before:
            what += f", your text is in {path}"
        else:
            path.unlink(missing_ok=True)
        raise Failure(what, code) from error


def _failure(error: BaseException) -> tuple[str, int]:
    """Return the words and the exit code of what ended `edit`."""
    if isinstance(error, Failure):
        return str(error), error.exit_code
    if isinstance(error, SlothStateError):
        return escaped(str(error)), exit_code_of(error)
    if isinstance(error, click.ClickException):
        return error.format_message(), MISUSE
    if isinstance(error, Ended):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return f"cannot read what was written: {error.strerror}", MISUSE
    return "interrupted", INTERRUPTED


@contextmanager
def _leaving_ctrl_c_to_the_editor() -> Iterator[None]:
    """Let SIGINT end nothing here while the block runs: Emacs has it sent by Ctrl-G, and goes on."""
    # Not SIG_IGN, which the editor would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _read(octets: bytes, old: Any) -> Any:
    """Return the value that was written; `old` says of what kind. Raises: `Failure`."""
    if isinstance(old, bytes):
        return octets
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        raise Failure(f"the text is not UTF-8 any more, at byte {error.start}", MISUSE) from error
    if not (isinstance(old, str) and old.endswith("\n")):
        # Editors end the last line.
        text = text.removesuffix("\n")
    value = text if isinstance(old, str) else parse_line(text, None if old is None else "json")
    if value is None:
        raise Failure("null is no value", MISUSE)
    return value
