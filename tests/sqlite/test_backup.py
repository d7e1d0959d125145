"""Backups: a consistent copy while others write, complete or not there at all."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

import slothstate
from helpers.sqlite import dump, state_at
from helpers.support import Clock
from slothstate import InvalidValue, SlothStateError, State, StateIOError, UnsafeState


def test_copy_is_a_store_of_its_own(state: State, clock: Clock, tmp_path: Path) -> None:
    """The copy opens as a store with every key, list and TTL, and goes its own way."""
    state.set("k", {"a": 1}, ttl=60)
    state.list_push("l", 1, 2)
    target = tmp_path / "copy.db"
    assert state.backup(target) is None
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert dump(target) == dump(tmp_path / "state.db")
    state.clear()
    with state_at(target, clock) as copy:
        assert (copy.get("k"), copy.get("l")) == ({"a": 1}, [1, 2])
        assert copy.list_push("l", 3) == 3
        assert copy.get_ttl("k") == 60
    assert state.keys() == []


def test_copy_of_a_large_store(state: State, tmp_path: Path) -> None:
    """More than one step's worth of pages comes over whole."""
    state.set_many({f"k{number:04}": "x" * 5000 for number in range(500)})
    state.backup(tmp_path / "copy.db")
    assert dump(tmp_path / "copy.db") == dump(tmp_path / "state.db")


TARGETS = {
    "file": lambda path: path.write_text("precious"),
    "empty-file": Path.touch,
    "directory": Path.mkdir,
    "symlink": lambda path: path.symlink_to("precious"),
    **({"fifo": os.mkfifo} if hasattr(os, "mkfifo") else {}),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_existing_target(state: State, tmp_path: Path, kind: str) -> None:
    """Whatever stands under the target's name is refused and stays; no draft is left."""
    target = tmp_path / "copy.db"
    TARGETS[kind](target)  # type: ignore[no-untyped-call]
    before = target.lstat()
    names = sorted(os.listdir(tmp_path))
    with pytest.raises(UnsafeState, match="exists: name a new file"):
        state.backup(target)
    assert (target.lstat().st_ino, target.lstat().st_size) == (before.st_ino, before.st_size)
    assert sorted(os.listdir(tmp_path)) == names


def test_target_that_is_the_store_itself(state: State, path: str) -> None:
    """A store is not backed up onto itself."""
    state.set("k", 1)
    with pytest.raises(UnsafeState):
        state.backup(path)
    assert state.get("k") == 1


@pytest.mark.parametrize("target", ["", "a\0b"])
def test_target_that_is_no_path(state: State, target: str) -> None:
    """A target must be the path of a file."""
    with pytest.raises(UnsafeState):
        state.backup(target)


def test_target_that_names_a_directory(state: State, tmp_path: Path) -> None:
    """A separator at the end means a directory, there or not: no file is made that looks like it."""
    (tmp_path / "there").mkdir()
    for target in ("there/", "missing/"):
        with pytest.raises(UnsafeState, match="names a directory: name a new file in it"):
            state.backup(f"{tmp_path}/{target}")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("target", [None, 7, b"copy.db"])
def test_target_of_another_type(state: State, target: object) -> None:
    """A target that is no str or os.PathLike is `InvalidValue`."""
    with pytest.raises(InvalidValue, match=r"^path must be"):
        state.backup(target)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["missing/copy.db", "n" * 300, "state.db/copy.db"])
def test_target_that_cannot_be_written(state: State, tmp_path: Path, target: str) -> None:
    """No directory, or a name that is too long: `StateIOError` naming the target, and the State goes on."""
    state.set("k", 1)
    names = sorted(os.listdir(tmp_path))
    with pytest.raises(StateIOError, match="cannot be written") as caught:
        state.backup(tmp_path / target)
    assert isinstance(caught.value.__cause__, OSError)
    assert (sorted(os.listdir(tmp_path)), state.get("k")) == (names, 1)


def test_target_that_appears_meanwhile(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears under the name while the copy is made is not overwritten."""
    target = tmp_path / "copy.db"
    (tmp_path / "other").write_text("precious")
    link = os.link

    def race(draft: str, path: str) -> None:
        os.rename(tmp_path / "other", path)
        link(draft, path)

    monkeypatch.setattr(os, "link", race)
    with pytest.raises(UnsafeState, match="exists: name a new file"):
        state.backup(target)
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy.db"]


def test_copy_while_others_write(state: State, tmp_path: Path) -> None:
    """Each copy is one moment of the store: what a transaction wrote is in it whole or not at all."""
    state.set_many({"a": 0, "b": 0})
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with state.transaction():
                state.increment("a")
                state.set("filler", "x" * 3000)
                state.increment("b")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(20):
            state.backup(tmp_path / f"copy{number}.db")
    finally:
        stop.set()
        thread.join()
    for number in range(20):
        with slothstate.open(tmp_path / f"copy{number}.db") as copy:
            assert copy.get("a") == copy.get("b")
            assert copy.check() == []


def test_no_copy_inside_a_transaction(state: State, tmp_path: Path) -> None:
    """A backup inside a transaction is refused: what is not committed yet could be in it."""
    state.set("k", 1)
    with state.transaction():
        state.set("k", 2)
        with pytest.raises(SlothStateError, match="inside a transaction"):
            state.backup(tmp_path / "copy.db")
    assert state.get("k") == 2
    assert not list(tmp_path.glob("copy*"))
