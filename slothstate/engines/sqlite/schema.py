"""The file format: tables, identification, and what an existing file must look like to be opened.

`docs/file-format.md` describes it for readers; the SQL text below is compared with `sqlite_schema` on every open, so a
file with an added trigger, view or constraint is not taken for a store.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Container, Mapping
from contextlib import closing, suppress

import apsw

from slothstate.engines.sqlite.triggers import NAMES_AND_TEXTS
from slothstate.errors import StateCorrupt, UnsafeState
from slothstate.hints import Final

__all__ = [
    "APPLICATION_ID",
    "PAGE_SIZE",
    "SCHEMA_VERSION",
    "TABLES",
    "check",
    "check_library",
    "check_tables",
    "check_version",
    "create",
    "describe_foreign",
    "identify",
    "open_immutable",
    "open_plain",
]

APPLICATION_ID: Final = 0x736C6F74
"""`application_id` in the database header: "slot" in ASCII, the mark of our files."""

SCHEMA_VERSION: Final = 2

# The WAL carries whole pages: small ones make small writes cheap, large ones large values. With 1 KiB a small set takes
# a fifteenth less time and a value of 1 MiB nearly twice as long; see bench/bench_page_size.py.
PAGE_SIZE: Final = 2048

# A rowid table and not WITHOUT ROWID: a large value then spills into overflow pages from a leaf instead of from every
# level of the tree (1 KiB values: 25 us an upsert against 35), and `id` gives a list's items a short owner.
# `value` of a list whose items are rows of list_items is NULL or an INTEGER (docs/file-format.md).
TABLES: Final = {
    "entries": """\
create table entries (
  id integer primary key,
  key text not null unique,
  kind text not null,
  value any,
  expires_at_ms integer
) strict""",
    # Covers both "which keys are expired" and the sweep; keys without a TTL never touch it.
    "entries_by_expiry": """\
create index entries_by_expiry on entries (expires_at_ms)
where expires_at_ms is not null""",
    # Positions grow at both ends; an item is JSON text. How often it was claimed and not done stays with it.
    "list_items": """\
create table list_items (
  list_id integer not null,
  position integer not null,
  item text not null,
  attempts integer not null default 0,
  primary key (list_id, position)
) strict, without rowid""",
    # Found by its place, which a claim knows: one tree is written instead of two.
    "claims": """\
create table claims (
  list_id integer not null,
  position integer not null,
  item text not null,
  attempts integer not null,
  nonce integer not null,
  owner text,
  host text,
  pid integer,
  boot_id text,
  since_ms integer not null,
  expires_boot_ms integer,
  due_ms integer,
  primary key (list_id, position)
) strict, without rowid""",
    # The token is the fencing number: AUTOINCREMENT never gives a number twice, whatever was deleted.
    "locks": """\
create table locks (
  token integer primary key autoincrement,
  name text not null,
  nonce integer not null,
  slots integer not null,
  owner text not null,
  host text not null,
  pid integer not null,
  boot_id text not null,
  since_ms integer not null,
  expires_boot_ms integer,
  unique (name, nonce)
) strict""",
    # Few and short-lived rows, read all together: no index.
    "lock_waiters": """\
create table lock_waiters (
  nonce integer primary key,
  name text not null,
  slots integer not null,
  owner text not null,
  host text not null,
  pid integer not null,
  since_ms integer not null
) strict""",
    # Filled by triggers, which are there as long as anybody watches. Its newest row always stays, so that revisions
    # rise: AUTOINCREMENT would write one page more for each change.
    "changes": """\
create table changes (
  revision integer primary key,
  key text not null,
  op text not null,
  step integer,
  at_ms integer not null
) strict""",
    "watches": """\
create table watches (
  id integer primary key,
  name text unique,
  pattern text,
  revision integer not null,
  nonce integer not null,
  owner text,
  host text,
  pid integer,
  since_ms integer not null
) strict""",
}
"""Every table and index by its name."""

# SQLite keeps the text but writes the first words in capitals.
_STORED: Final = {
    statement.replace("create table", "CREATE TABLE", 1).replace("create index", "CREATE INDEX", 1)
    for statement in TABLES.values()
}

_SCHEMA: Final = "select sql from sqlite_schema where sql is not null and name not like 'sqlite_%'"


def check_library() -> str:
    """Refuse an SQLite that can corrupt a store that several connections write to; return its version, for people.

    Raises: `UnsafeState`.

    https://sqlite.org/wal.html#walresetbug: all from 3.7.0 to 3.51.2, but for the fixes in 3.50.7 and 3.44.6.
    """
    text = apsw.sqlite_lib_version()
    version = tuple(map(int, text.split(".")))
    if not (version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)):
        raise UnsafeState(
            f"this apsw brings SQLite {text}, which can corrupt a database that several processes write to "
            "(the WAL-reset bug): slothstate needs 3.51.3 or later; pip install -U 'apsw>=3.51.3'"
        )
    return f"{text}, from apsw {apsw.apsw_version()}"


def create(db: apsw.Connection) -> None:
    """Lay out a new store in an empty database and leave it in WAL mode; after an error the database is of no use."""
    db.execute(f"pragma page_size = {PAGE_SIZE}")
    # Not `with db`: after an I/O error SQLite has rolled back on its own, and apsw's own rollback would be the error.
    db.execute("begin")
    for statement in TABLES.values():
        db.execute(statement)
    db.execute(f"pragma application_id = {APPLICATION_ID}")
    db.execute(f"pragma user_version = {SCHEMA_VERSION}")
    db.execute("commit")
    db.execute("pragma journal_mode = wal").fetchall()


def open_immutable(path: str) -> apsw.Connection:
    """Open a database to read the file alone: no lock is taken and no -wal or -shm appears beside it."""
    uri = "file:" + path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?immutable=1"
    return apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def open_plain(path: str) -> apsw.Connection:
    """Open an existing database to read and write it, with nothing set up."""
    return apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW)


_MAIN_FILE: Final = 0
_HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
_OUR_HEADER: Final = struct.Struct(">60xI4xI28x")
"""`user_version` and `application_id` in the header of a database: https://sqlite.org/fileformat2.html#database_header."""


def is_ours(db: apsw.Connection) -> bool:
    """Return whether the header of the file says that it is a store of our version; False does not say what it is.

    Read through the descriptor that SQLite has just opened, without a lock and without a look at the log: a database
    of another program is left as it was, and needs no second connection.
    """
    try:
        is_whole, header = db.read("main", _MAIN_FILE, 0, _HEADER_BYTES)
    except apsw.Error:
        return False
    is_sqlite = is_whole and header.startswith(_MAGIC)
    return is_sqlite and _OUR_HEADER.unpack(header) == (SCHEMA_VERSION, APPLICATION_ID)


def identify(path: str) -> tuple[int, int]:
    """Return `application_id` and `user_version` of an existing database without changing it or its neighbours.

    Ours are complete in the main file before they get their name, so nothing can be missing from it.
    """
    db = open_immutable(path)
    try:
        # Skips a test of the page count against the file's size, which fails while a checkpoint is copying pages.
        db.pragma("writable_schema", True)
        return db.pragma("application_id"), db.pragma("user_version")
    except apsw.NotADBError as error:
        raise UnsafeState(f"{path} is not a slothstate store: it is not an SQLite database") from error
    except (apsw.CorruptError, apsw.FullError) as error:
        raise StateCorrupt(f"{path} is damaged: {error}") from error
    finally:
        db.close()


# https://github.com/chalkan3-sloth/sloth-runner, internal/state.
_SLOTH_RUNNER: Final = "select count(*) from pragma_table_info('state') where name in ('key', 'value')"


def describe_foreign(path: str) -> str:
    """Return what to say of another program's database; of sloth-runner's, whose default path is ours, what to do."""
    import shlex

    with suppress(apsw.Error), closing(open_immutable(path)) as db:
        if db.execute(_SLOTH_RUNNER).get == 2:
            other = os.path.join(os.path.dirname(path), "slothstate.db")
            ours, its = shlex.quote(other), shlex.quote(path)
            return (
                f"{path} is not a slothstate store: it is another program's SQLite database, sloth-runner's own state. "
                f"Use another file: export SLOTHSTATE_DB={ours} - or take its keys over into one, it is only read: "
                f"slothstate import sloth-runner {its} --db {ours}"
            )
    return f"{path} is not a slothstate store: it is another program's SQLite database"


def check_version(version: int, path: str, *, oldest: int = SCHEMA_VERSION) -> None:
    """Refuse a store of a later version than ours, or one before `oldest`. Raises: `UnsafeState` that names both."""
    if not oldest <= version <= SCHEMA_VERSION:
        advice = "upgrade slothstate" if version > SCHEMA_VERSION else "no release ever wrote that version"
        raise UnsafeState(
            f"{path} has schema version {version}, this slothstate reads version {SCHEMA_VERSION}: {advice}"
        )


def check(db: apsw.Connection, path: str) -> None:
    """Refuse a database whose version or tables are not ours, and leave it in WAL mode. Raises: `UnsafeState`."""
    # Once more, through the log: before, only what the main file holds was looked at.
    check_version(db.pragma("user_version"), path)
    check_tables(db, path)
    if db.pragma("journal_mode") != "wal":
        # Some tool switched it. The first statement in the new mode makes the -wal and -shm, whose identity matters.
        db.execute("pragma journal_mode = wal").fetchall()
        db.execute(_SCHEMA).fetchall()


def check_tables(
    db: apsw.Connection, path: str, former: Mapping[str, str] | None = None, *, without: Container[str] = ()
) -> None:
    """Refuse a database whose tables, indexes, triggers and views are not ours. Raises: `UnsafeState`.

    `former` are those that an earlier version had in other words, `without` those that it did not have.
    """
    stored = {text for (text,) in db.execute(_SCHEMA)}
    if stored == _STORED and former is None:
        return
    wanted = {name: statement for name, statement in TABLES.items() if name not in without} | dict(former or {})
    found = set(map(_plain, stored))
    tables = set(map(_plain, wanted.values()))
    # All of the triggers, or none.
    if not found >= tables or found - tables not in (set(), set(map(_plain, NAMES_AND_TEXTS.values()))):
        raise UnsafeState(f"{path} is not a slothstate store: its tables, indexes or triggers are not ours")


def _plain(statement: str) -> str:
    """Return a statement without its layout, which added columns do not keep, and the capitals of SQLite."""
    first, second, *rest = statement.split()
    return " ".join((first.lower(), second.lower(), *rest))
