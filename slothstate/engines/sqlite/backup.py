"""A consistent copy of a store that is in use, through SQLite's online backup (https://sqlite.org/backup.html)."""

from __future__ import annotations

import os
from contextlib import closing, suppress

import apsw

from slothstate.engines.sqlite import access, creation, location, schema
from slothstate.engines.sqlite.connection import Connection
from slothstate.engines.sqlite.naming import absolute_path
from slothstate.engines.sqlite.translation import translate
from slothstate.errors import SlothStateError, UnsafeState
from slothstate.hints import Final

__all__ = ["copy", "copy_pages", "remove_draft"]

ALL_PAGES: Final = -1


def copy_pages(source: apsw.Connection, target: apsw.Connection) -> None:
    """Make a database what another is now."""
    with target.backup("main", source, "main") as progress:
        # One step: pages copied between other processes' commits would be copied again from the start.
        progress.step(ALL_PAGES)


def copy(connection: Connection, now: int, path: str, target: str) -> None:
    """Copy the store at `path` to a new file `target` (0600), written aside and renamed when it is complete.

    Raises: `UnsafeState` when the target exists, whatever it is; `StateIOError` when it cannot be written.
    """
    if connection.depth:
        raise SlothStateError("a backup cannot be made inside a transaction, whose writes may yet be undone")
    if target.endswith((os.sep, os.altsep or os.sep)):
        raise UnsafeState(f"backup path {target!r} names a directory: name a new file in it")
    if not target or "\0" in target:
        raise UnsafeState(f"backup path {target!r} is not the path of a file")
    target = absolute_path(target, "backup path")
    if os.path.lexists(target):
        raise _exists(target)
    draft = f"{target}.{os.getpid()}-new"
    try:
        creation.create_file(draft)
    except OSError as error:
        raise access.refusal(f"the backup {target} cannot be written", error) from error
    try:
        location.refuse_leftovers(target)
        with closing(schema.open_plain(draft)) as copied:
            copy_pages(connection.db, copied)
        # link and unlink, not rename: a file that appeared meanwhile under the name must not be overwritten.
        os.link(draft, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except apsw.FullError as error:
        raise translate(error, target) from error
    except SlothStateError:
        # Some of them are an OSError, too.
        raise
    except OSError as error:
        raise access.refusal(f"the backup {target} cannot be written", error) from error
    finally:
        remove_draft(draft)


def remove_draft(draft: str) -> None:
    """Remove a file that was written aside, and the journal that SQLite leaves where the disk is full."""
    with suppress(FileNotFoundError):
        os.unlink(f"{draft}-journal")
    os.unlink(draft)


def _exists(target: str) -> UnsafeState:
    return UnsafeState(f"backup path {target} exists: name a new file, or remove it first")
