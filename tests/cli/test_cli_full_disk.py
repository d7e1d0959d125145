"""Commands whose disk fills up: which disk it was, what stays, and that nothing half written is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

import slothstate as package
from helpers.command import slothstate
from helpers.mounts import small_tmpfs

ROOM = 3
KEYS = 20_000
VALUE = "x" * 200


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a disk of its own, with room for `ROOM` MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    with small_tmpfs(directory, ROOM):
        yield directory


@pytest.fixture
def large(home: Path) -> Path:
    """A store that is larger than the disk."""
    with package.open(home / "state.db") as state:
        state.set_many({f"key:{number}": VALUE for number in range(KEYS)})
    return home / "state.db"


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_copies(home: Path, large: Path, disk: Path) -> None:
    """The copy is named, not the store that was read, and nothing of it stays."""
    for arguments in (["backup", disk / "copy.db"], ["backup", f"{disk}/"], ["dump", "-o", disk / "all.jsonl"]):
        error = slothstate(*arguments, home=home, code=3)
        assert str(disk) in error
        assert "No space left" in error or "no room left" in error
        assert str(large) not in error
        assert files(disk) == set()


def test_restore(home: Path, large: Path, disk: Path) -> None:
    """It is the store that has no room, not the backup; it is as it was, and nothing lies beside it."""
    with package.open(disk / "state.db") as state:
        state.set("a", 1)
    before = files(disk)
    error = slothstate("restore", "--yes", "--db", disk / "state.db", large, home=home, code=3)
    assert "no room left" in error
    assert str(disk / "state.db") in error
    assert str(large) not in error
    assert files(disk) == before
    assert slothstate("get", "a", "--db", disk / "state.db", home=home) == "1\n"


def moving(home: Path, large: Path) -> dict[str, tuple[str | Path, ...]]:
    """What stores many keys in batches, by what it calls that."""
    dumped = slothstate("dump", home=home)
    (home / "all.jsonl").write_text(dumped)
    with closing(apsw.Connection(str(home / "other.sqlite"))) as found, found:
        found.execute("create table unnamed (key text primary key, value blob)")
        found.executemany("insert into unnamed values (?, ?)", [(f"key:{n}", json.dumps(VALUE)) for n in range(KEYS)])
    return {
        "loaded": ("load", home / "all.jsonl", "--db"),
        "imported": ("import", "sqlitedict", home / "other.sqlite", "--json", "--db"),
        "copied": ("copy-store", "--merge", large),
    }


def test_batches_that_stay(home: Path, large: Path, disk: Path) -> None:
    """Whatever stores keys in batches says how many of them stay."""
    for done, arguments in moving(home, large).items():
        path = disk / f"{done}.db"
        error = slothstate(*arguments, path, home=home, code=3)
        count = int(slothstate("clear", "--yes", "--db", path, home=home))
        assert count > 1000
        assert error.endswith(f"; {count:,} keys from before it are {done}, and may be {done} again\n")
        assert error.count("from before it") == 1
        for file in disk.glob(f"{path.name}*"):
            if file.is_file():
                file.unlink()


def test_a_full_temporary_directory(home: Path, large: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `load --replace` keeps aside has no room: it is not the dump that cannot be read."""
    (home / "all.jsonl").write_text("".join(f"{line}\n" for line in [slothstate("dump", home=home).strip()] * 18))
    monkeypatch.setenv("TMPDIR", str(disk))
    error = slothstate("load", "--replace", "all.jsonl", home=home, code=3)
    assert "temporary file: No space left on device; $TMPDIR names" in error
    assert error.endswith("; nothing was changed\n")
