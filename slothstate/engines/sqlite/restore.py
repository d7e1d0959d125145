"""A backup brought back into the place of a store that nobody has open.

The store's own file is kept and filled anew by SQLite, in one transaction: whoever dies in between leaves the store as
it was, and no process can be left with a file that the path no longer leads to.
"""

from __future__ import annotations

import os
from contextlib import closing

import apsw

from slothstate.engines.sqlite import access, audit, creation, location, migration, returning, schema
from slothstate.engines.sqlite.backup import copy_pages, remove_draft
from slothstate.engines.sqlite.busy import BusyWait
from slothstate.engines.sqlite.connection import Connection
from slothstate.engines.sqlite.naming import absolute_path, check_path
from slothstate.engines.sqlite.translation import translate
from slothstate.errors import StateBusy, StateCorrupt, UnsafeState
from slothstate.hints import Final

__all__ = ["restore"]

UNKNOWN_TOKENS: Final = 10**12
"""By how much fencing numbers go ahead where the replaced store cannot tell its own: more than it can have given."""

_LAST_TOKEN: Final = """
select max(
  ifnull((select seq from sqlite_sequence where name = 'locks'), 0),
  ifnull((select max(token) from locks), 0)
)
"""

_LAST_REVISION: Final = "select ifnull(max(revision), 0) from changes"

# By way of negative numbers, for no two may be the same meanwhile.
_LIFT_CHANGES: Final = ("update changes set revision = -revision - ?1", "update changes set revision = -revision")

_LIFT_WATCHES: Final = "update watches set revision = iif(revision < 0, revision - ?1, revision + ?1)"

# Handled by everybody: the newest is what revisions go on from.
_REMEMBER_REVISION: Final = "insert into changes (key, op, at_ms, revision) values ('-', 'set', 0, ?1)"

_REMEMBER_TOKEN: Final = "insert into sqlite_sequence (name, seq) values ('locks', ?1)"


def restore(source: str | os.PathLike[str], path: str | os.PathLike[str] | None, *, allow_remote: bool) -> None:
    """Do what `slothstate.restore` does, to a file."""
    schema.check_library()
    target = location.resolve(path, allow_remote=allow_remote)
    backup = absolute_path(check_path(source, "source"), "source")
    if not os.path.isfile(backup) or not os.path.getsize(backup):
        raise UnsafeState(f"{backup} is not a backup: there is no such file, or nothing is in it")
    if os.path.exists(target) and os.path.samefile(backup, target):
        raise UnsafeState(f"{backup} is the store itself: name a backup of it")
    with creation.directory_for(target):
        _restore(backup, target)


def _restore(backup: str, target: str) -> None:
    draft = f"{target}.{os.getpid()}-restore"
    try:
        creation.create_file(draft)
    except OSError as error:
        raise access.refusal(f"{draft} cannot be written", error) from error
    try:
        with closing(Connection(draft, synchronous="off", wait=BusyWait(0.0))) as copy:
            try:
                _read_backup(copy, backup)
            except (apsw.Error, UnicodeDecodeError) as error:
                # What is full is where the copy of the backup lies: beside the store.
                raise translate(error, target if isinstance(error, apsw.FullError) else backup) from error
            try:
                _replace(target, copy)
            except apsw.Error as error:
                raise translate(error, target) from error
    finally:
        remove_draft(draft)


def _read_backup(copy: Connection, backup: str) -> None:
    """Fill the draft from the backup and audit it. Raises: `UnsafeState`, `StateCorrupt`."""
    creation.identify(backup)
    with closing(_open_backup(backup)) as db:
        version = db.pragma("user_version")
        if version == schema.SCHEMA_VERSION:
            schema.check(db, backup)
        copy_pages(db, copy.db)
    if version != schema.SCHEMA_VERSION:
        # The copy, for a backup is only read.
        copy.execute("begin immediate")
        migration.upgrade(copy.db, backup)
        copy.execute("commit")
    copy.execute("pragma journal_mode = delete").fetchall()
    problems = audit.problems(copy, 0)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise StateCorrupt(f"{backup} is damaged, nothing was restored: {problems[0]}{more}")


def _open_backup(backup: str) -> apsw.Connection:
    # A store in use has a log, which must be read too. A plain backup has none, and nothing must appear beside it.
    if location.size(backup + "-wal"):
        return apsw.Connection(backup, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW)
    return schema.open_immutable(backup)


def _replace(target: str, copy: Connection) -> None:
    existed = location.size(target) > 0
    creation.prepare(target, 0.0)
    with closing(schema.open_plain(target)) as db:
        # Every connection to a store keeps a shared lock on the file from its first read to its close. With this mode
        # set before ours, we ask for the exclusive one, which is refused as long as there is any other.
        db.execute("pragma locking_mode = exclusive").fetchall()
        last_token = copy.execute(_LAST_TOKEN).get
        known = known_revision = 0
        try:
            db.execute("begin exclusive")
            known = db.execute(_LAST_TOKEN).get
            if db.pragma("user_version") == schema.SCHEMA_VERSION:
                known_revision = db.execute(_LAST_REVISION).get
        except apsw.BusyError as error:
            raise StateBusy(
                f"{target} is open, here or in another process: close it and end whatever uses it, then restore "
                f"('fuser {target}' lists the processes)"
            ) from error
        except (apsw.CorruptError, apsw.SQLError):
            # Damaged, which may be why it is to be replaced.
            existed = False
        if db.in_transaction:
            db.execute("rollback")
        last_token = max(last_token, known) if existed else last_token + UNKNOWN_TOKENS
        returning.end_owners(copy, 0)
        copy.execute("delete from locks")
        copy.execute("delete from lock_waiters")
        copy.execute("delete from watches where name is null")
        copy.execute("delete from sqlite_sequence where name = 'locks'")
        copy.execute(_REMEMBER_TOKEN, (last_token,))
        if known_revision:
            _lift_revisions(copy, known_revision)
        page_size = db.pragma("page_size")
        if copy.db.pragma("page_size") != page_size:
            # That of a database in WAL mode stays as it is.
            copy.execute(f"pragma page_size = {page_size}").fetchall()
            copy.execute("vacuum")
        # No pragma that reads the schema may come before: it may be damaged. By SQLite's default all is synced.
        copy_pages(copy.db, db)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _lift_revisions(copy: Connection, known: int) -> None:
    """Let all revisions be past those that the replaced store has given."""
    is_empty = not copy.execute(_LAST_REVISION).get
    lift, turn = _LIFT_CHANGES
    copy.execute(lift, (known,))
    copy.execute(turn)
    copy.execute(_LIFT_WATCHES, (known,))
    if is_empty:
        copy.execute(_REMEMBER_REVISION, (known,))
