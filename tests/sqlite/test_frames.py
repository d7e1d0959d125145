"""What a commit writes to the log goes there by one call, and nothing else of it differs (csrc/engine/frames.h)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any, Final

import apsw
import pytest

from helpers.faulty_disk import FailingDisk, RecordingDisk
from slothstate.engines.sqlite import wal_hook

PAGE: Final = 512
FRAME: Final = 24 + PAGE
FRAMES_AT_ONCE: Final = 16 * (24 + 2048) // FRAME

Table = dict[int, int]


def connect(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open a database as the package does; the first commit of all is behind it."""
    db = apsw.Connection(str(path), vfs=vfs)
    db.execute("pragma synchronous = normal")
    wal_hook.attach(db, 2**40)
    db.execute("insert or replace into t values (0, 0, '')")
    return db


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(apsw.Connection(str(tmp_path / "x.db"))) as db:
        db.execute(f"pragma page_size = {PAGE}")
        db.execute("pragma journal_mode = wal").fetchall()
        db.execute("create table t (id integer primary key, value integer, text text) strict")
    return tmp_path / "x.db"


@pytest.fixture
def disk() -> Iterator[RecordingDisk]:
    disk = RecordingDisk("frames")
    yield disk
    disk.unregister()


def put(db: apsw.Connection, key: int, value: int) -> None:
    """Write a row that has a page for itself."""
    db.execute("insert or replace into t values (?1, ?2, ?3)", (key, value, "x" * (PAGE * 3 // 5)))


def rows(db: apsw.Connection) -> Table:
    found: Any = db.execute("select id, value from t where id > 0").fetchall()
    return dict(found)


def recovered(path: Path, into: Path) -> Table:
    """Return what whoever finds these files after a crash makes of them."""
    into.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", into / f"x.db{suffix}")
    with closing(apsw.Connection(str(into / "x.db"))) as db:
        assert db.execute("pragma integrity_check").get == "ok"
        found = rows(db)
    shutil.rmtree(into)
    return found


def writes(disk: RecordingDisk) -> list[int]:
    """Return how many bytes each write to the log had since this was asked last."""
    sizes = [len(event.data) for event in disk.events if event.kind == "write" and event.file.endswith("-wal")]
    disk.events.clear()
    return sizes


def test_a_commit_is_one_write(path: Path, disk: RecordingDisk) -> None:
    """Whatever number of pages it has, up to what waits at most."""
    with closing(connect(path, disk.name)) as db:
        for key in range(1, 40):
            put(db, key, 1)
        for pages in (1, 2, 5, 20):
            writes(disk)
            with db:
                for key in range(1, pages + 1):
                    put(db, key, pages)
            sizes = writes(disk)
            assert len(sizes) == 1
            assert sizes[0] % FRAME == 0
            assert sizes[0] >= pages * FRAME


def test_a_long_commit_is_as_few_writes_as_it_can_be(path: Path, disk: RecordingDisk) -> None:
    with closing(connect(path, disk.name)) as db:
        with db:
            for key in range(1, 400):
                put(db, key, 1)
        writes(disk)
        with db:
            db.execute("update t set value = 2")
        sizes = writes(disk)
        frames = sum(sizes) // FRAME
        assert frames >= 399
        assert len(sizes) <= frames // (FRAMES_AT_ONCE - 1) + 1


def test_what_does_not_fit_the_cache(path: Path, disk: RecordingDisk) -> None:
    """It is written page by page before its commit, and nothing of it waits any longer than that takes."""
    with closing(connect(path, disk.name)) as db:
        db.execute("pragma cache_size = 10")
        db.execute("begin immediate")
        writes(disk)
        for key in range(1, 100):
            put(db, key, 1)
        sizes = writes(disk)
        assert sizes
        assert set(sizes) <= {FRAME, PAGE}
        db.execute("rollback")
        assert writes(disk) == []
        assert rows(db) == {}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_two_connections_do_by_turns(path: Path, seed: int, tmp_path: Path) -> None:
    """Transactions and savepoints, kept and undone; pages that do not fit the cache; a log that begins anew."""
    random = Random(seed)
    kept: Table = {}
    with closing(connect(path)) as one, closing(connect(path)) as two:
        for db in (one, two):
            db.execute(f"pragma cache_size = {random.choice((5, 10, 1000))}")
        for step in range(120):
            db = random.choice((one, two))
            if random.random() < 0.1:
                mode = random.choice((apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_TRUNCATE))
                db.wal_checkpoint(mode=mode)
                continue
            db.execute("begin immediate")
            inside = dict(kept)
            undone: list[Table] = []
            for _ in range(random.choice((1, 3, 40))):
                what = random.random()
                if what < 0.1:
                    db.execute(f"savepoint s{len(undone)}")
                    undone.append(dict(inside))
                elif what < 0.2 and undone:
                    inside = undone.pop()
                    db.execute(f"rollback to s{len(undone)}")
                    db.execute(f"release s{len(undone)}")
                elif what < 0.3:
                    assert rows(db) == inside
                else:
                    key = random.randrange(1, 60)
                    put(db, key, step)
                    inside[key] = step
            if random.random() < 0.4:
                db.execute("rollback")
            else:
                db.execute("commit")
                kept = inside
            # Not always, and the files first: a read has written what waits, too.
            if random.random() < 0.2:
                assert recovered(path, tmp_path / "copy") == kept
            for reader in random.sample((one, two), random.randrange(3)):
                assert rows(reader) == kept
        assert one.execute("pragma integrity_check").get == "ok"
    with closing(apsw.Connection(str(path))) as db:
        assert rows(db) == kept


@pytest.mark.parametrize("error", [apsw.IOError, apsw.FullError])
@pytest.mark.parametrize("sticky", [False, True])
def test_each_call_that_fails(path: Path, error: type[apsw.Error], sticky: bool) -> None:
    """What is not committed is not there, for this connection and another, and the next commit is whole."""
    disk = FailingDisk("frames-fail")
    kept: Table = {}
    failures = 0
    with closing(connect(path, disk.name)) as db, closing(connect(path)) as other:
        db.execute("pragma cache_size = 5")
        for at in range(1, 60):
            inside = dict(kept)
            done = False
            with disk.fail(at, error, sticky=sticky), suppress(apsw.Error):
                with db:
                    for key in range(at, at + 30):
                        put(db, key, at)
                        inside[key] = at
                done = True
            failures += disk.failed > 0
            kept = inside if done else kept
            put(other, at, 1000 + at)
            kept[at] = 1000 + at
            assert rows(db) == rows(other) == kept
            put(db, at + 1, 2000 + at)
            kept[at + 1] = 2000 + at
            assert rows(db) == rows(other) == kept
        assert other.execute("pragma integrity_check").get == "ok"
    disk.unregister()
    assert failures > 20


def test_a_connection_that_closes_in_a_transaction(path: Path) -> None:
    """Nothing of it is written any more, whoever has committed meanwhile."""
    with closing(connect(path)) as other:
        db = connect(path)
        db.execute("pragma cache_size = 5")
        db.execute("begin immediate")
        for key in range(1, 50):
            put(db, key, 1)
        db.close()
        put(other, 1, 2)
        assert rows(other) == {1: 2}
        assert other.execute("pragma integrity_check").get == "ok"
