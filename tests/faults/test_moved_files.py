"""Files that are moved, replaced or deleted under an open store: noticed before anything more is acknowledged."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import slothstate
from slothstate import State, UnsafeState
from slothstate.engines.sqlite import pool

pytestmark = pytest.mark.damaged


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "d").mkdir()
    return tmp_path / "d" / "state.db"


@pytest.fixture(autouse=True)
def _look_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at every 50 ms; a test need not wait for that."""
    monkeypatch.setattr(pool, "IDENTITY_CHECK_INTERVAL", 0.0)


def older_copy(path: Path) -> None:
    """Move an older copy over the file, as a careless restore does."""
    copy = path.with_name("older.db")
    # Copied by another process: in this one it would take SQLite's locks away.
    subprocess.run(["cp", path, copy], check=True, timeout=20)
    os.replace(copy, path)


MOVES: dict[str, Callable[[Path], object]] = {
    "database-deleted": lambda path: path.unlink(),
    "database-renamed": lambda path: path.rename(path.with_name("other.db")),
    "database-replaced": older_copy,
    "log-deleted": lambda path: path.with_name("state.db-wal").unlink(),
    "log-replaced": lambda path: older_copy(path.with_name("state.db-wal")),
    "index-deleted": lambda path: path.with_name("state.db-shm").unlink(),
    "all-deleted": lambda path: [path.with_name(path.name + suffix).unlink() for suffix in ("", "-wal", "-shm")],
    "directory-renamed": lambda path: path.parent.rename(path.parent.with_name("elsewhere")),
}

WRITES: dict[str, Callable[[State], object]] = {
    "set": lambda s: s.set("k", 2),
    "increment": lambda s: s.increment("n"),
    "list_push": lambda s: s.list_push("l", 1),
    "delete": lambda s: s.delete("k"),
    "set_many": lambda s: s.set_many({"a": 1}),
    "transaction": lambda s: s.transaction().__enter__(),
    "try_lock": lambda s: s.try_lock("n"),
    "lock": lambda s: s.lock("n", timeout=0),
    "sweep": lambda s: s.sweep(),
    "clear": lambda s: s.clear(),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("move", MOVES)
def test_nothing_is_acknowledged_afterwards(store: Path, move: str, write: str) -> None:
    """The next write is `UnsafeState` that names the file and what to do, and so is every one after it."""
    with slothstate.open(store) as state:
        state.set("k", 1)
        MOVES[move](store)
        for _ in range(2):
            with pytest.raises(
                UnsafeState, match=r"(deleted|replaced) while the store was open.*open the store again"
            ) as caught:
                WRITES[write](state)
            assert re.search(r"state\.db(-wal|-shm)?", str(caught.value))
        with pytest.raises(UnsafeState):
            state.get("k")


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_file_that_comes_back_is_not_trusted(store: Path, suffix: str) -> None:
    """Once a file was missing the handle stays shut, even if one appears under the name again."""
    file = store.with_name(store.name + suffix)
    with slothstate.open(store) as state:
        state.set("k", 1)
        file.rename(store.with_name("moved"))
        with pytest.raises(UnsafeState):
            state.set("k", 2)
        store.with_name("moved").rename(file)
        for call in (lambda: state.set("k", 2), lambda: state.get("k")):
            with pytest.raises(UnsafeState):
                call()
    with slothstate.open(store) as again:
        assert again.get("k") == 1
        assert again.check() == []
        assert again.set("k", 2)
