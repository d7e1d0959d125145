"""How a new store comes to be: whole, under its name in one step, and without a trace where that fails."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import apsw

from slothstate.engines.sqlite import access, location, schema, turn
from slothstate.engines.sqlite.translation import translate
from slothstate.errors import StateIOError, UnsafeState, importing
from slothstate.hints import Final

__all__ = ["create_file", "directory_for", "identify", "prepare"]

CREATION_TIMEOUT: Final = 60.0
CREATION_POLL: Final = 0.005

OLDEST_VERSION: Final = 1
"""The earliest that can be brought to ours."""

_TURN: Final = "create.lock"

_DRAFT: Final = "new"

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")


def prepare(path: str, timeout: float) -> None:
    """Make sure that `path` holds a store of our version: create it if there is nothing, refuse what is not ours.

    One of an earlier version is brought to ours once nobody else has it open, for which it waits `timeout` seconds.
    Raises: `UnsafeState`, `StateCorrupt`, `StateIOError`, `StateBusy`; an existing file is left as it was.
    """
    if not location.size(path):
        with directory_for(path), directory_for(turn.file(path, _TURN)), _creating(path):
            if not location.size(path):
                _create(path)
                return
    version = identify(path)
    if version < schema.SCHEMA_VERSION:
        # Imported here: most stores were made by this release.
        with importing():
            from slothstate.engines.sqlite import migration

        migration.migrate(path, timeout, _TURN)


def identify(path: str) -> int:
    """Return the version of an existing store, ours or one that can be brought to it. Raises: `UnsafeState`."""
    application, version = schema.identify(path)
    if application != schema.APPLICATION_ID:
        raise UnsafeState(schema.describe_foreign(path))
    schema.check_version(version, path, oldest=OLDEST_VERSION)
    return version


def _create(path: str) -> None:
    # Built aside and renamed: whoever dies in between leaves no half-made store under the name. Aside is where all is
    # ours: a file beside the store may be anybody's, whatever it is called.
    draft = os.path.join(location.lock_directory(path), _DRAFT)
    try:
        location.refuse_leftovers(path)
        _remove(draft)
        create_file(draft)
        with closing(schema.open_plain(draft)) as db:
            schema.create(db)
        # Empty, or shared memory: who was killed left it, or still has a database open that is no longer there, and
        # would go on writing what the new one reads.
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(path + suffix)
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
