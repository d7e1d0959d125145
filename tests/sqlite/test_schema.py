"""What a file must be to be opened as a store: ours, of our version, with our tables and nothing else."""

from __future__ import annotations

import hashlib
import re
import time
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import apsw
import pytest

import slothstate
from helpers.faulty_disk import FailingDisk
from helpers.sqlite import dump, raw, store_of
from helpers.support import run_python
from slothstate import SlothStateError, StateCorrupt, UnsafeState
from slothstate.engines.sqlite import schema
from slothstate.engines.sqlite.pool import IDENTITY_CHECK_INTERVAL

# A foreign database is made by a process of its own, and in WAL mode left as a killed process leaves it.
FOREIGN = """
import apsw, os, sys
db = apsw.Connection(sys.argv[1])
db.pragma("journal_mode", sys.argv[2])
db.execute("create table notes (id integer primary key, text)")
db.execute("insert into notes (text) values ('somebody else''s')")
os._exit(0)
"""


def picture(directory: Path) -> dict[str, str]:
    """Return the names and hashes of a directory's files."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in directory.iterdir()
    }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A closed store with a key."""
    path = tmp_path / "state.db"
    with slothstate.open(path) as state:
        state.set_many({"k": 1, "secret": "s"})
    return path


@pytest.mark.damaged
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_foreign_database(tmp_path: Path, mode: str) -> None:
    """Another program's database is refused with not one byte changed and not one file added."""
    path = tmp_path / "notes.db"
    run_python(FOREIGN, path, mode)
    before = picture(tmp_path)
    assert ("notes.db-wal" in before) == (mode == "wal")
    for _ in range(2):
        with pytest.raises(UnsafeState, match="another program's SQLite database"):
            slothstate.open(path)
    assert picture(tmp_path) == before


@pytest.mark.damaged
@pytest.mark.parametrize(("version", "advice"), [(3, "upgrade slothstate"), (999, "upgrade"), (0, "no release")])
def test_other_schema_version(store: Path, version: int, advice: str) -> None:
    """A store of another version is refused untouched, with both versions named."""
    raw(store, f"pragma user_version = {version}")
    before = picture(store.parent)
    with pytest.raises(UnsafeState, match=f"schema version {version}, this slothstate reads version 2: .*{advice}"):
        slothstate.open(store)
    assert picture(store.parent) == before


@pytest.mark.damaged
def test_other_application_id(store: Path) -> None:
    """Our tables under another application's mark are not ours."""
    raw(store, "pragma application_id = 1")
    before = picture(store.parent)
    with pytest.raises(UnsafeState, match="not a slothstate store"):
        slothstate.open(store)
    assert picture(store.parent) == before


ALTERED = {
    "trigger": "create trigger t after insert on entries begin delete from entries where key = 'secret'; end",
    "update-trigger": "create trigger t after update on entries begin delete from entries where key = 'secret'; end",
    "view": "create view v as select * from entries",
    "table": "create table more (x)",
    "index": "create index i on entries (kind)",
    "column": "alter table entries add column more text",
    "generated": "alter table entries add column more integer as (length(key))",
    "dropped-index": "drop index entries_by_expiry",
    "dropped-table": "drop table locks",
    "renamed": "alter table locks rename to old_locks",
}


@pytest.mark.damaged
@pytest.mark.parametrize("change", ALTERED.values(), ids=ALTERED)
def test_altered_schema(store: Path, change: str) -> None:
    """A store with a trigger, view, table or column of somebody else is refused, and nothing of theirs runs."""
    raw(store, change)
    rows = raw(store, "select * from entries")
    with pytest.raises(UnsafeState, match="its tables, indexes or triggers are not ours"):
        slothstate.open(store).set("k", 2)
    assert raw(store, "select * from entries") == rows


@pytest.mark.damaged
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("added", ["trigger", "update-trigger"])
def test_trigger_that_appears_later(store: Path, added: str, watched: bool) -> None:
    """Triggers of those who watch come and go; with any other in the store it is refused, at the next look."""
    with slothstate.open(store) as state:
        watch = state.watch() if watched else None
        state.set("k", 1)
        time.sleep(IDENTITY_CHECK_INTERVAL)
        raw(store, ALTERED[added])
        time.sleep(IDENTITY_CHECK_INTERVAL)
        with pytest.raises(UnsafeState, match="triggers are not ours"):
            state.set("new", 1)
        with pytest.raises(UnsafeState, match="triggers are not ours"):
            slothstate.open(store)
        raw(store, "drop trigger t")
        del watch


@pytest.mark.damaged
@pytest.mark.parametrize("size", [50, 512, 1024, 3000])
def test_truncated_database(store: Path, size: int) -> None:
    """A database that was cut off is an error that names the file, and is left as it is."""
    with store.open("r+b") as file:
        file.truncate(size)
    before = picture(store.parent)
    with pytest.raises((StateCorrupt, UnsafeState), match=re.escape(str(store))):
        slothstate.open(store).keys()
    assert picture(store.parent) == before


@pytest.mark.damaged
@pytest.mark.parametrize("content", [bytes(100), b"garbage " * 200, b"SQLite format 3\0" + b"\xff" * 500])
def test_damaged_header(store: Path, content: bytes) -> None:
    """A database whose beginning was overwritten is refused and left as it is."""
    with store.open("r+b") as file:
        file.write(content)
    before = picture(store.parent)
    with pytest.raises(SlothStateError, match=re.escape(str(store))):
        slothstate.open(store).keys()
    assert picture(store.parent) == before


def test_layout(store: Path) -> None:
    """A new store has our mark and version in its header, WAL mode, and the page size the benches chose."""
    pragmas = ("application_id", "user_version", "journal_mode", "page_size")
    assert [raw(store, f"pragma {name}")[0][0] for name in pragmas] == [
        0x736C6F74,
        schema.SCHEMA_VERSION,
        "wal",
        schema.PAGE_SIZE,
    ]
    assert schema.identify(str(store)) == (schema.APPLICATION_ID, schema.SCHEMA_VERSION)
    assert len(dump(store)["entries"]) == 2


def test_store_that_was_taken_out_of_wal_mode(store: Path) -> None:
    """A store that some tool left in another journal mode is opened in WAL mode again, with all that is in it."""
    raw(store, "pragma journal_mode = delete")
    with slothstate.open(store) as state, slothstate.open(store) as other:
        assert other.increment("k") == 2
        assert state.get("k") == 2
        assert raw(store, "pragma journal_mode") == [("wal",)]


@pytest.mark.parametrize("version", ["3.51.2", "3.51.0", "3.50.6", "3.44.5", "3.45.0", "3.49.9", "3.40.1", "3.7.0"])
def test_vulnerable_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """An SQLite with the WAL-reset bug is refused before anything is made, with what to install instead."""
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    with pytest.raises(UnsafeState, match=rf"SQLite {re.escape(version)}.*needs 3\.51\.3.*pip install"):
        slothstate.open(tmp_path / "sub" / "state.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "3.54.1", "4.0.0", "3.50.7", "3.50.12", "3.44.6", "3.44.10"])
def test_sound_library(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Every release with the fix will do, the two older lines that it was ported to included."""
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    schema.check_library()


def test_connection_settings(store: Path) -> None:
    """Each connection is defensive, trusts no schema, runs no view, and reads no double-quoted strings."""
    with slothstate.open(store) as state:
        store_of(state).settle()
        db = store_of(state)._anchor.db  # type: ignore[union-attr]
        settings = {
            name: db.config(getattr(apsw, f"SQLITE_DBCONFIG_{name}"), -1)
            for name in ("DEFENSIVE", "TRUSTED_SCHEMA", "ENABLE_TRIGGER", "ENABLE_VIEW", "DQS_DDL", "DQS_DML")
        }
        assert settings == {name: int(name in ("DEFENSIVE", "ENABLE_TRIGGER")) for name in settings}
        assert (db.pragma("synchronous"), db.pragma("mmap_size"), db.pragma("cell_size_check")) == (1, 0, 1)


@pytest.mark.damaged
def test_each_disk_call_fails_in_turn_while_creating(tmp_path: Path) -> None:
    """Whichever call to the disk fails while a store is laid out, that is the error, and none that came of it."""
    disk = FailingDisk()
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    for at in count(1):
        with closing(apsw.Connection(str(tmp_path / f"{at}.db"), flags=flags, vfs=disk.name)) as db:
            with disk.fail(at, apsw.IOError, sticky=False), suppress(apsw.IOError):
                schema.create(db)
            if not disk.failed:
                break
    assert at > 10
