"""`edit`: a value in the user's editor, written back only if nobody else has changed it meanwhile."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import click

from slothstate import InvalidValue
from slothstate.cli.exits import Failure
from slothstate.cli.formatting import is_terminal, styled
from slothstate.cli.options import DONE, MISUSE, NO, key_argument, open_state, store_command
from slothstate.cli.values import parse_value, write

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
    with open_state(db, create=True) as state:
        old = state.get(key)
    # 0600, for nobody else to read.
    descriptor, name = tempfile.mkstemp(prefix="slothstate-", suffix=_suffix(old))
    with os.fdopen(descriptor, "wb") as file:
        file.write(_octets(old))
    before = Path(name).read_bytes()
    try:
        click.edit(filename=name)
    except click.ClickException as error:
        raise Failure(f"{error.format_message()}; nothing was set, the text is in {name}", MISUSE) from error
    octets = Path(name).read_bytes()
    if octets != before:
        new = _read(octets, old, name)
        with open_state(db, create=True) as state:
            try:
                is_set = state.compare_swap(key, old, new)
            except InvalidValue as error:
                raise Failure(f"{error}; nothing was set, your text is in {name}", MISUSE) from error
        if not is_set:
            raise Failure(f"key {key!r} was changed meanwhile: nothing was set, your text is in {name}", NO)
    elif is_terminal():
        write(styled("not changed", dim=True))
    os.unlink(name)
    return DONE


def _suffix(value: Any) -> str:
    return ".txt" if isinstance(value, str) else ".bin" if isinstance(value, bytes) else ".json"


def _octets(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return b"" if value is None else json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def _read(octets: bytes, old: Any, name: str) -> Any:
    """Return the value that was written; `old` says of what kind. Raises: `Failure`."""
    if isinstance(old, bytes):
        return octets
    try:
        text = octets.decode()
        if not (isinstance(old, str) and old.endswith("\n")):
            # Editors end the last line.
            text = text.removesuffix("\n")
        value = text if isinstance(old, str) else parse_value(text, None if old is None else "json")
    except UnicodeDecodeError as error:
        raise Failure(f"it is not UTF-8 any more; nothing was set, your text is in {name}", MISUSE) from error
    except Failure as error:
        raise Failure(f"{error}; nothing was set, your text is in {name}", MISUSE) from error
    if value is None:
        raise Failure(f"null is no value; nothing was set, your text is in {name}", MISUSE)
    return value
