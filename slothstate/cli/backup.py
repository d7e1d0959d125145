"""`slothstate backup`, `restore` and `compact`: whole stores."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

import slothstate
from slothstate.cli.failure import Failure
from slothstate.cli.options import (
    MISUSE,
    NO,
    STORE_ERROR,
    file_named,
    open_settings,
    open_state,
    store_command,
    store_path,
)
from slothstate.cli.progress import working
from slothstate.cli.text import escaped, is_terminal, quantity, size

__all__ = ["backup", "compact", "restore"]


@store_command("backup")
@click.argument("target", callback=file_named)
def backup(target: str, db: str | None) -> None:
    """Copy the store to the new file TARGET while it is in use.

    \b
    Examples:
      slothstate backup /mnt/backup/state.db
      slothstate backup /mnt/backup/          # state-20261124-031500.db in there

    The copy is complete and consistent, whoever writes meanwhile; it appears under its name when it is whole. It is a
    store itself: `slothstate --db TARGET doctor` looks at it, `slothstate restore TARGET` brings it back.
    """
    path = Path(target)
    with open_state(db) as state:
        if path.is_dir():
            store = Path(store_path(db))
            path /= f"{store.stem}-{time.strftime('%Y%m%d-%H%M%S')}{store.suffix}"
        with working("copying"):
            state.backup(path)
    click.echo(f"{escaped(str(path))}: {size(path.stat().st_size)}")


@store_command("restore")
@click.argument("file", callback=file_named)
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(file: str, yes: bool, db: str | None) -> None:
    """Replace what is in the store by the backup FILE.

    \b
    Example:
      slothstate restore /mnt/backup/state-20261124-031500.db

    Refused while any process has the store open. The backup is audited first, and only read; the store changes in one
    transaction, or not at all. Nobody holds a lock afterwards, and fencing tokens go on above every one that the backup
    or the replaced store ever gave: they never go back.
    """
    path = store_path(db)
    if not os.path.isfile(os.path.expanduser(file)):
        what = "is a directory: name a backup in it" if os.path.isdir(os.path.expanduser(file)) else "is not there"
        raise Failure(f"cannot restore {escaped(file)}: it {what}", STORE_ERROR)
    if os.path.exists(path) and not yes:
        if not is_terminal():
            raise Failure(f"restore replaces everything in {path}: say so with --yes", MISUSE)
        if not click.confirm(f"Replace everything in {escaped(path)} by {escaped(file)}?", err=True):
            raise Failure("nothing was restored", NO)
    with working("restoring"):
        slothstate.restore(file, path, allow_remote=open_settings().get("allow_remote", False))
    with open_state(path) as state:
        click.echo(f"{escaped(path)}: {quantity(len(state), 'key')} restored from {escaped(file)}")


@store_command("compact")
def compact(db: str | None) -> None:
    """Give the space of deleted keys back to the file system.

    \b
    Example:
      slothstate compact

    Others can read meanwhile and write afterwards. It needs free disk space of about twice the store's size.
    """
    path = store_path(db)
    with open_state(db) as state:
        before = _size(path)
        with working("compacting"):
            state.compact()
        after = _size(path)
    click.echo(f"{escaped(path)}: {size(before)} before, {size(after)} after")


def _size(path: str) -> int:
    return sum(os.stat(path + suffix).st_size for suffix in ("", "-wal") if os.path.exists(path + suffix))
