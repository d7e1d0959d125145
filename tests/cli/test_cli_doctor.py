"""`slothstate doctor`: what it finds, what it advises, and its exit code."""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest

from helpers.command import SECONDS, start
from helpers.sqlite import raw
from helpers.terminal import ESC, in_terminal, invoke
from slothstate import State, StateBusy, StateReadOnly
from slothstate.cli import examination
from slothstate.cli.examination import examine
from slothstate.engines.sqlite import examination as files
from slothstate.engines.sqlite import health, location
from slothstate.engines.sqlite.engine import SqliteEngine


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory of the store state.db, closed to others."""
    (tmp_path / "store").mkdir(mode=0o700)
    return tmp_path / "store"


def examined(home: Path, code: int, *options: str) -> dict[str, tuple[str, str, str]]:
    """Run doctor, which must end with `code`; return the worst finding by subject: severity, text, advice."""
    result = invoke("doctor", "--json", *options, home=home)
    assert result.exit_code == code, result.output
    order = ("ok", "note", "warning", "error")
    found: dict[str, tuple[str, str, str]] = {}
    for row in sorted(json.loads(result.stdout), key=lambda row: -order.index(row["severity"])):
        found.setdefault(row["subject"], (row["severity"], row["text"], row["advice"]))
    return found


def test_a_sound_store(home: Path, state: State) -> None:
    """Everything that is looked at is reported; notes need nothing done, so the exit code is 0."""
    state.set_many({"a": 1, "b": [1, 2]})
    found = examined(home, 0)
    assert set(found) == {
        *("slothstate", "SQLite", "C layer", "Lua", "store", "modes", "file system", "settings", "open in", "log"),
        *("space", "expired", "locks", "claims", "watches", "audit"),
    }
    assert {severity for severity, _, _ in found.values()} <= {"ok", "note"}
    assert found["settings"][1] == "journal wal, durability process, pages of 2048 bytes"
    assert found["audit"][1].startswith("2 keys")
    assert "audit" not in examined(home, 0, "--quick")


def test_what_it_prints(home: Path, state: State) -> None:
    """A pipe gets a line a finding, its fields separated by tabs; a terminal columns that fit, and a verdict."""
    state.set("a", 1)
    for line in invoke("doctor", home=home).stdout.splitlines():
        assert line.count("\t") == 3
        assert line.split("\t")[0] in ("ok", "note")
    shown = in_terminal("doctor", home=home, columns=100)
    assert shown.rstrip().removesuffix(f"{ESC}[0m").endswith(f"{home}/state.db: sound")
    shown = in_terminal("doctor", "--quick", "--db", str(home / "missing.db"), home=home, columns=100, code=3)
    assert "1 error" in shown


def test_no_store(home: Path) -> None:
    """Without a store the software is examined all the same; it is an error, and no store appears."""
    found = examined(home, 3)
    assert found["store"][0] == "error"
    assert found["SQLite"][0] == "ok"
    assert list(home.iterdir()) == []


@pytest.mark.damaged
def test_a_damaged_store(home: Path, state: State) -> None:
    """What the audit finds is an error each, with the advice to restore a backup."""
    state.set_many({"a": 1, "b": 2})
    state.close()
    raw(home / "state.db", "update entries set kind = 'table' where key = 'a'")
    severity, text, advice = examined(home, 3)["audit"]
    assert severity == "error"
    assert "'a' is damaged" in text
    assert "restore a backup" in advice


def test_a_file_that_is_no_store(home: Path) -> None:
    """A foreign file is an error that says so."""
    (home / "state.db").write_text("not a database, but long enough to have a header of one hundred bytes " * 2)
    assert examined(home, 3)["store"][0] == "error"


def test_modes(home: Path, state: State) -> None:
    """Files that others can read, and a directory that they can write to, are warnings that say which chmod helps."""
    state.close()
    (home / "state.db").chmod(0o644)
    severity, text, advice = examined(home, 1)["modes"]
    assert (severity, advice) == ("warning", f"chmod 600 {home}/state.db")
    assert "0644" in text
    (home / "state.db").chmod(0o600)
    home.chmod(0o777)
    assert examined(home, 1)["modes"][2].startswith(f"chmod go-w {home}")
    home.chmod(0o700)
    assert examined(home, 0)["modes"][0] == "ok"


def test_a_store_that_cannot_be_written(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only store is an error that says why even reading fails."""

    def refuse(db: str | None) -> NoReturn:
        raise StateReadOnly("the store cannot be written")

    monkeypatch.setattr(examination, "open_state", refuse)
    severity, text, advice = examined(home, 3)["store"]
    assert (severity, text) == ("error", "the store cannot be written")
    assert advice.startswith("reading needs a log")


def test_dead_locks_are_a_note(home: Path, state: State) -> None:
    """What dead owners left is named, and needs nothing done."""
    with start("lock", "job", home=home) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait(SECONDS)
    severity, text, _ = examined(home, 0)["locks"]
    assert (severity, text) == ("note", "1 lock left by dead owners: 'job'")


def test_expired_keys(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many expired keys that nobody swept are a warning."""
    monkeypatch.setattr(examination, "EXPIRED_WARNING", 2)
    state.set_many({"a": 1, "b": 2}, ttl=60)
    raw(home / "state.db", "update entries set expires_at_ms = 1")
    severity, text, advice = examined(home, 1)["expired"]
    assert (severity, text) == ("warning", "2 expired keys not swept yet")
    assert advice.startswith("slothstate sweep")


READER = """
import sys
import slothstate
from slothstate.engines.sqlite.connection import Snapshot

connection = slothstate.open(sys.argv[1])._engine.store._borrow()
with Snapshot(connection):
    connection.execute("select key from entries").fetchall()
    print("reading", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux lists its locks")
def test_a_log_that_is_held_back(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long log is a warning; the process whose read transaction holds it back is named."""
    monkeypatch.setattr(files, "WAL_WARNING", 1)
    state.set("a", 1)
    assert examined(home, 1)["log"][2].endswith("slothstate compact")
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, home / "state.db"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reading\n"
        found = examined(home, 1)
        reader.kill()
    assert found["log"][::2] == ("warning", f"end process {reader.pid}")
    assert f"held back by process {reader.pid}, in one read transaction" in found["log"][1]
    assert found["open in"][1] == f"1 other process: {reader.pid}"


def test_settings_that_read_back_otherwise(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that SQLite reads back as another is an error that names both."""
    found = state.health()["settings"] | {"journal_mode": "delete"}
    monkeypatch.setattr(health, "settings", lambda connection, now: found)
    assert examined(home, 3)["settings"][:2] == ("error", "journal_mode reads back as delete, not as wal")


def test_the_file_system(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is a warning, next to none an error, a store in memory a note, and so are small blocks."""
    monkeypatch.setattr(files, "FREE_SPACE_WARNING", 2**62)
    assert examined(home, 1)["file system"][0] == "warning"
    monkeypatch.setattr(files, "FREE_SPACE_ERROR", 2**62)
    assert examined(home, 3)["file system"][0] == "error"
    monkeypatch.undo()
    monkeypatch.setattr(location, "file_system", lambda path: "tmpfs")
    assert "gone after a reboot" in [row.text for row in examine(str(home / "state.db"), quick=True)][6]
    monkeypatch.setattr(location, "file_system", lambda path: "ext4")
    monkeypatch.setattr(mmap, "PAGESIZE", 2**20)
    severity, text, advice = examined(home, 0)["file system"]
    assert (severity, advice) == ("note", "keep it from running full, or make it with blocks of 4 KiB")
    assert f"in blocks of {os.statvfs(home).f_bsize} bytes" in text


def test_a_system_without_what_unix_has(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are no device numbers, statvfs, modes or list of locks, as on Windows, doctor says so and goes on."""
    free = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    monkeypatch.setattr(health, "_LOCKS_OF_THE_SYSTEM", str(home / "missing"))
    for name in ("major", "minor", "statvfs"):
        monkeypatch.delattr(os, name)
    assert state.health()["users"] is None
    found = examined(home, 0)
    assert found["open in"][0] == "note"
    assert " free" in found["file system"][1]
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        (modes,) = files._modes(state.stats()["path"])
    assert modes.severity == "note"


def test_unused_space(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is mostly unused is a note that names compact."""
    monkeypatch.setattr(files, "UNUSED_NOTE", 1)
    state.set_many({f"key {number}": "x" * 500 for number in range(500)})
    state.clear()
    severity, _, advice = examined(home, 0)["space"]
    assert severity == "note"
    assert advice.endswith("slothstate compact")


def test_a_store_that_fails_meanwhile(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the middle of the examination is a finding, not the end of the report."""

    def fail(self: State) -> list[str]:
        raise StateBusy("too busy")

    monkeypatch.setattr(State, "check", fail)
    assert examined(home, 3)["store"] == (
        "error",
        "too busy",
        "end the process that keeps it; fuser or lsof name those that have the file open",
    )


def test_lua_that_is_not_installed(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without lupa, or without its LuaJIT, doctor says what is missing."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert examined(home, 0)["Lua"][2] == "pip install 'slothstate[lua]'"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "lupa.lua54" or None)
    assert examined(home, 0)["Lua"][1].startswith("lua54, but not luajit21")


def test_watches(home: Path, state: State) -> None:
    """Who watches, and what is kept; a watch that will soon lose changes is a warning, whoever does not run it."""
    assert examined(home, 0, "--quick")["watches"][1] == "0 running"
    state.watch(name="mailer's").close()
    with State(SqliteEngine(str(home / "state.db"), clock=lambda: time.time() - 13 * 3600)) as earlier:
        earlier.set("order:1", 1)
        severity, text, advice = examined(home, 1, "--quick")["watches"]
        assert severity == "warning"
        assert text.startswith("""the watch "mailer's" has 1 change to handle, the first from 13h ago""")
        assert text.endswith("nobody runs it")
        assert advice == """run it again, or forget it: slothstate unwatch 'mailer'"'"'s'"""
        with state.watch(name="mailer's") as mailer:
            _, text, advice = examined(home, 1, "--quick")["watches"]
            assert "nobody" not in text
            assert f"look whether process {os.getpid()} on" in advice
            assert mailer.next(0) is not None
            assert mailer.next(0) is None
    assert state.unwatch("mailer's")
    state.watch(name="new").close()
    state.set("order:3", 3)
    severity, text, _ = examined(home, 0, "--quick")["watches"]
    assert severity == "ok"
    assert text.startswith("0 running, 1 with a name that nobody runs, 1 change kept since ")
    state.unwatch("new")
    with state.watch("*") as slow:
        for number in range(50):
            state.set_many({f"k{key}": number for key in range(1000)})
        assert "the watch of '*' has 50,000 changes" in examined(home, 1, "--quick")["watches"][1]
        assert slow.next(0) is not None
