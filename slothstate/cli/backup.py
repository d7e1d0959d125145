"""`slothstate backup`, `restore` and `compact`: whole stores."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

import slothstate
from slothstate import State, UnsafeState
from slothstate.cli.exits import MISUSE, NO, STORE_ERROR, Failure
from slothstate.cli.formatting import escaped, is_terminal, quantity, size
from slothstate.cli.opening import open_settings, open_state, store_path
from slothstate.cli.options import no_stream, store_command
from slothstate.cli.progress import working
from slothstate.cli.signals import clearing_up_when_ended
from slothstate.cli.values import write_done
from slothstate.hints import Final

__all__ = ["backup", "compact", "restore"]

_SEPARATORS: Final = (os.sep, os.altsep or os.sep)


@store_command("backup")
@click.argument("target", callback=no_stream)
def backup(target: str, db: str | None) -> None:
    """Copy the store to the new file TARGET while it is in use.

    \b
    Examples:
      slothstate backup /mnt/backup/state.db
      slothstate backup /mnt/backup/          # state-20261124-031500.db in there

    A TARGET that is a directory gets a file named by date and time; one that ends with a / is made if need be. The copy
    is complete and consistent, whoever writes meanwhile; it appears under its name when it is whole. It is a store
    itself: `slothstate --db TARGET doctor` looks at it, `slothstate restore TARGET` brings it back.
    """
    path = Path(slothstate.absolute_path(target, "backup path") if target.startswith("~") else target)
    with open_state(db) as state, clearing_up_when_ended(), working("copying"):
        # An empty target is none, though Path takes it for the current directory.
        if target and (path.is_dir() or target.endswith(_SEPARATORS)):
            path = _backup_into(state, path, Path(store_path(db)))
        else:
            state.backup(target)
    write_done(f"{escaped(str(path))}: {size(path.stat().st_size)}")


def _backup_into(state: State, directory: Path, store: Path) -> Path:
    """Make a backup in a directory, which is made if it is not there; return its path, named by date and time.

    One of the same second, also of another process, keeps its name: this one then gets `_2` behind the time, `_3` …
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"cannot back up into {escaped(str(directory))}: {error.strerror}", STORE_ERROR) from error
    path = directory / f"{store.stem}-{time.strftime('%Y%m%d-%H%M%S')}{store.suffix}"
    stem, number = path.stem, 1
    while True:
        try:
            state.backup(path)
        except UnsafeState:
            if not os.path.lexists(path):
                raise
            number += 1
            path = path.with_stem(f"{stem}_{number}")
        else:
            return path


@store_command("restore")
@click.argument("file", callback=no_stream)
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
    if slothstate.is_server(db):
        raise Failure("a store on a server is not restored from a file: slothstate load, or pg_restore", STORE_ERROR)
    path = store_path(db)
    if not os.path.isfile(os.path.expanduser(file)):
        what = "is a directory: name a backup in it" if os.path.isdir(os.path.expanduser(file)) else "is not there"
        raise Failure(f"cannot restore {escaped(file)}: it {what}", STORE_ERROR)
    if os.path.exists(path) and not yes:
        if not is_terminal(sys.stdin):
            why = "asks before it does, and stdin is no terminal: give --yes"
            raise Failure(f"restore replaces everything in {path}, {why}", MISUSE)
        if not click.confirm(f"Replace everything in {escaped(path)} by {escaped(file)}?", err=True):
            raise Failure("nothing was restored", NO)
    with clearing_up_when_ended(), working("restoring"):
        slothstate.restore(file, path, allow_remote=open_settings().get("allow_remote", False))
    with open_state(path) as state:
        write_done(f"{escaped(path)}: {quantity(len(state), 'key')} restored from {escaped(file)}")


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
    write_done(f"{escaped(path)}: {size(before)} before, {size(after)} after")


def _size(path: str) -> int:
    return sum(os.stat(path + suffix).st_size for suffix in ("", "-wal") if os.path.exists(path + suffix))
