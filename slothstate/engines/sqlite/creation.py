"""How a new store comes to be: whole, under its name in one step, and without a trace where that fails."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Final

import apsw

from slothstate.engines.sqlite import access, location, schema, turn
from slothstate.engines.sqlite.connection import translate
from slothstate.errors import StateIOError, UnsafeState

__all__ = ["create_file", "create_missing", "directory_for", "prepare", "refuse_foreign"]

CREATION_TIMEOUT: Final = 60.0
CREATION_POLL: Final = 0.005

_TURN: Final = "create.lock"

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")


def prepare(path: str) -> None:
    """Make sure that `path` holds a store of our version: create it if there is nothing, refuse what is not ours.

    Raises: `UnsafeState`, `StateCorrupt`, `StateIOError`; an existing file is left as it was.
    """
    create_missing(path)
    refuse_foreign(path)


def create_missing(path: str) -> None:
    """Create a store if there is nothing at `path`, or an empty file. Raises: `StateIOError`."""
    if location.size(path):
        return
    with directory_for(path), directory_for(turn.file(path, _TURN)), _creating(path):
        if not location.size(path):
            _create(path)


def refuse_foreign(path: str, db: apsw.Connection | None = None) -> None:
    """Refuse an existing file that is no store of our version, and leave it as it was.

    `db` is a connection that has just been opened to it and has not read anything.
    """
    if db is not None and schema.is_ours(db):
        return
    application, version = schema.identify(path)
    if application != schema.APPLICATION_ID:
        raise UnsafeState(schema.describe_foreign(path))
    schema.check_version(version, path)


def _create(path: str) -> None:
    # Built aside and renamed: whoever dies in between leaves no half-made store under the name.
    draft = path + "-new"
    try:
        _remove(draft)
        create_file(draft)
        with closing(schema.open_plain(draft)) as db:
            schema.create(db)
        os.replace(draft, path)
    except OSError as error:
        raise access.refusal(f"{path} cannot be created", error) from error
    except apsw.FullError as error:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise access.refusal(f"{path} cannot be created", full) from error
    except apsw.Error as error:
        raise translate(error, draft) from error
    finally:
        with suppress(OSError):
            _remove(draft)


def _remove(database: str) -> None:
    for suffix in _SUFFIXES:
        with suppress(FileNotFoundError):
            os.unlink(database + suffix)


@contextmanager
def _creating(path: str) -> Iterator[None]:
    """Have no other process create this store in the block; the file of this lock goes after it.

    It would be its maker's: who else may use the store could not make it anew where it was removed.
    """
    deadline = time.monotonic() + CREATION_TIMEOUT
    while True:
        with ExitStack() as stack:
            try:
                is_our_turn = stack.enter_context(turn.hold(path, _TURN))
            except OSError as error:
                raise access.refusal(f"{path} cannot be created", error) from error
            if is_our_turn:
                try:
                    yield
                finally:
                    with suppress(OSError):
                        os.unlink(turn.file(path, _TURN))
                return
        if time.monotonic() >= deadline:
            raise StateIOError(f"another process has been creating {path} for {CREATION_TIMEOUT:.0f} s")
        time.sleep(CREATION_POLL)


@contextmanager
def directory_for(path: str) -> Iterator[None]:
    """Have the directory of a file, made 0700 with those above it; if the block fails, what was made goes again."""
    made = location.make_directory(os.path.dirname(path))
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for directory in reversed(made):
                os.rmdir(directory)
        raise


def create_file(path: str) -> None:
    """Create an empty file that only its owner reads, for SQLite to fill. Raises: `OSError` if there is anything."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600))
