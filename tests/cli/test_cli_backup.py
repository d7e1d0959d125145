"""`slothstate backup`, `restore` and `compact`: whole stores, as they were or as they are to be, never a mixture."""

from __future__ import annotations

import os
import pkgutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import apsw
import pytest

import slothstate as package
from helpers.command import SECONDS, other, slothstate, start
from helpers.faulty_disk import RecordingDisk
from helpers.sqlite import raw
from helpers.support import exact_dump
from helpers.terminal import Terminal, invoke, output
from helpers.verbs import VALUES
from slothstate import State
from slothstate.engines.sqlite import location
from slothstate.engines.sqlite.schema import PAGE_SIZE


@pytest.fixture
def full(home: Path) -> list[str]:
    """A store with a value of every kind, one with a TTL, and a list that was pushed; what it holds."""
    with package.open(home / "state.db") as state:
        state.set_many(VALUES)
        state.set("session", {"user": 7}, ttl=3600.5)
        state.list_push("queue", 1, 2.0, {"job": [None]}, "é")
        return exact_dump(state)


def test_backup_and_restore(home: Path, full: list[str]) -> None:
    """A restored store holds what the backup holds, no more and no less, and the backup is left as it was."""
    assert slothstate("backup", "copy.db", home=home).startswith("copy.db: ")
    before = (home / "copy.db").read_bytes()
    with package.open(home / "state.db") as state:
        state.clear()
        state.set("new", 1)
    assert f"{len(full)} keys restored from copy.db" in slothstate("restore", "--yes", "copy.db", home=home)
    with package.open(home / "state.db") as state:
        assert exact_dump(state) == full
    assert (home / "copy.db").read_bytes() == before
    assert sorted(path.name for path in home.iterdir()) == ["copy.db", "state.db", "state.db-locks"]


def test_backup_into_a_directory(home: Path, full: list[str]) -> None:
    """A backup into a directory gets a name that says when; one onto an existing file is refused."""
    (home / "backups").mkdir()
    printed = slothstate("backup", "backups", home=home)
    (made,) = (home / "backups").iterdir()
    assert made.match("state-????????-??????.db")
    assert printed.startswith(f"backups/{made.name}: ")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert "exists" in slothstate("backup", made, home=home, code=3)


def test_backup_into_a_directory_that_is_not_there(home: Path, full: list[str]) -> None:
    """A / at the end means a directory, the first time too: it is made, 0700; and it cannot be a file."""
    for nights in (1, 2):
        slothstate("backup", "~/new/nightly/", home=home)
        assert len(list((home / "new" / "nightly").iterdir())) == nights
    assert stat.S_IMODE((home / "new" / "nightly").stat().st_mode) == 0o700
    assert "cannot back up into state.db: File exists" in slothstate("backup", "state.db/", home=home, code=3)
    assert "backup path '' is not" in slothstate("backup", "", home=home, code=3)
    assert "there is no user" in slothstate("backup", "~nobody-of-this-name", home=home, code=3)
    slothstate("backup", "./~nobody-of-this-name", home=home)
    assert (home / "~nobody-of-this-name").is_file()


def test_backups_of_the_same_second(home: Path, full: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Backups that get the same time do not collide, one after the other or at once; each is whole, none is lost."""
    monkeypatch.setattr("slothstate.cli.backup.time.strftime", lambda *_: "20261124-031500")
    nightly = home / "nightly"
    for _ in range(3):
        output("backup", f"{nightly}/", home=home)
    stem = "state-20261124-031500"
    assert sorted(path.name for path in nightly.iterdir()) == [f"{stem}.db", f"{stem}_2.db", f"{stem}_3.db"]
    with ExitStack() as stack:
        processes = [stack.enter_context(start("backup", "nightly/", home=home)) for _ in range(4)]
        assert [process.communicate(timeout=SECONDS)[1] for process in processes] == [b""] * 4
    assert len(list(nightly.iterdir())) == 7
    for path in nightly.iterdir():
        with package.open(path) as copy:
            assert exact_dump(copy) == full


def test_restore_needs_a_yes(home: Path, full: list[str]) -> None:
    """Where nobody can be asked, restoring over a store needs --yes; where there is no store it does not."""
    slothstate("backup", "copy.db", home=home)
    assert "--yes" in slothstate("restore", "copy.db", home=home, code=2)
    slothstate("restore", home / "copy.db", home=other(home))
    with package.open(other(home) / "state.db") as state:
        assert exact_dump(state) == full


def test_restore_of_a_store_in_use(home: Path, full: list[str]) -> None:
    """While any process has the store open, even idle, nothing is restored."""
    slothstate("backup", "copy.db", home=home)
    with package.open(home / "state.db") as state:
        state.set("new", 1)
        assert "is open, here or in another process" in slothstate("restore", "--yes", "copy.db", home=home, code=3)
        with pytest.raises(package.StateBusy):
            package.restore(home / "copy.db", home / "state.db")
        assert state.get("new") == 1
        assert state.check() == []
    package.restore(home / "copy.db", home / "state.db")
    with package.open(home / "state.db") as state:
        assert not state.exists("new")


def acquire(path: Path, times: int) -> int:
    """Acquire and free the lock "deploy"; return its last token."""
    token = 0
    with package.open(path) as state:
        for _ in range(times):
            with state.locked("deploy") as lock:
                token = lock.token
    return token


def test_fencing_numbers_never_go_back(home: Path) -> None:
    """After a restore the next token is above those of the backup and those that the replaced store gave."""
    path, copy = home / "state.db", home / "copy.db"
    acquire(path, 3)
    with package.open(path) as state:
        state.backup(copy)
    last = acquire(path, 5)
    package.restore(copy, path)
    assert acquire(path, 1) > last
    path.unlink()  # nobody can tell what it had given
    package.restore(copy, path)
    assert acquire(path, 1) > last + 10**9


def test_locks_are_not_restored(home: Path) -> None:
    """A lock that was held when the backup was made is free in the restored store."""
    with package.open(home / "state.db") as state:
        state.lock("deploy")
        state.backup(home / "copy.db")
    package.restore(home / "copy.db", home / "state.db")
    with package.open(home / "state.db") as state:
        assert state.locks() == []
        assert state.lock("deploy", timeout=0)


def test_restore_from_a_store_in_use(home: Path) -> None:
    """Restoring from a store that is open elsewhere takes what is in its log as well."""
    with package.open(home / "live.db") as live:
        live.set("answer", 42)
        assert (home / "live.db-wal").stat().st_size > 0
        package.restore(home / "live.db", home / "state.db")
        assert live.get("answer") == 42
    with package.open(home / "state.db") as state:
        assert dict(state) == {"answer": 42}


@pytest.mark.damaged
def test_what_is_no_backup(home: Path) -> None:
    """A missing, empty, foreign or damaged file is not restored, nor the store from itself."""
    path = home / "state.db"
    with package.open(path) as state:
        state.set_many({f"key:{number}": "x" * 200 for number in range(500)})
        state.backup(home / "damaged.db")
    with (home / "damaged.db").open("r+b") as damaged:
        damaged.seek(20_000)
        damaged.write(b"\xa5" * 4000)
    (home / "empty.db").touch()
    (home / "text.db").write_text("not a database\n" * 100)
    raw(home / "foreign.db", "create table state (key text, value text)")
    for name, problem in [
        ("missing.db", "it is not there"),
        (".", "it is a directory"),
        ("empty.db", "nothing is in it"),
        ("text.db", "not an SQLite database"),
        ("foreign.db", "another program's"),
        ("damaged.db", "damaged"),
        ("state.db", "the store itself"),
    ]:
        assert problem in slothstate("restore", "--yes", name, home=home, code=3)
    with package.open(path) as state:
        assert len(state) == 500
        assert state.check() == []


@pytest.mark.damaged
def test_restore_over_a_damaged_store(home: Path) -> None:
    """A damaged store is replaced like any other, and fencing numbers still go on."""
    path = home / "state.db"
    acquire(path, 3)
    with package.open(path) as state:
        state.set_many({f"key:{number}": "x" * 200 for number in range(500)})
        state.backup(home / "copy.db")
    size = path.stat().st_size
    with path.open("r+b") as damaged:
        damaged.seek(PAGE_SIZE)
        damaged.write(b"\xa5" * (size - PAGE_SIZE))
    slothstate("restore", "--yes", "copy.db", home=home)
    with package.open(path) as state:
        assert len(state) == 500
        assert state.check() == []
    assert acquire(path, 1) > 3


def test_killed_restore(home: Path) -> None:
    """A restore that is killed at any moment leaves the old contents or the new, sound, never a mixture."""
    with package.open(home / "state.db") as state:
        state.set_many({f"new:{number}": "x" * 300 for number in range(3000)})
        state.backup(home / "copy.db")
        state.clear()
        state.set_many({f"old:{number}": "x" * 300 for number in range(3000)})
    for delay in (0.1, 0.15, 0.2, 0.22, 0.25, 0.3):
        with start("restore", "--yes", "copy.db", home=home) as process:
            try:
                process.wait(delay)
            except subprocess.TimeoutExpired:
                process.kill()
        with package.open(home / "state.db") as state:
            assert state.check() == []
            assert {key.partition(":")[0] for key in state} in ({"old"}, {"new"})
            assert len(state) == 3000


def test_compact(home: Path) -> None:
    """Compacting gives the space of deleted and expired keys back and keeps the rest, while others have it open."""
    with package.open(home / "state.db") as state:
        state.set_many({f"key:{number}": "x" * 500 for number in range(2000)})
        state.list_push("queue", *range(100))
        state.clear("key:*[1-9]")
        before = exact_dump(state)
        full = (home / "state.db").stat().st_size + (home / "state.db-wal").stat().st_size
        printed = slothstate("compact", home=home)
        assert " before, " in printed
        assert exact_dump(state) == before
        assert state.list_pop("queue") == 99
    assert (home / "state.db").stat().st_size < full / 5


def test_compact_inside_a_transaction(state: State) -> None:
    """Inside a transaction compacting is refused, and the transaction goes on."""
    with state.transaction():
        state.set("a", 1)
        with pytest.raises(package.SlothStateError, match="transaction"):
            state.compact()
    assert state.get("a") == 1


def test_compact_while_another_connection_empties_the_log(path: str) -> None:
    """Compacting succeeds although another connection is copying the log into the database, and nothing is lost."""

    class Copying(RecordingDisk):
        compacted = False

        def before(self, call: str, file: str, place: int, data: bytes) -> int:
            if call == "xWrite" and file == "state.db" and not self.compacted:
                self.compacted = True
                state.compact()
            return super().before(call, file, place, data)

    with package.open(path) as state:
        state.set_many({f"key:{number}": "x" * 500 for number in range(100)})
        disk = Copying("copying")
        with closing(apsw.Connection(path, vfs=disk.name)) as other:
            # Before its first read a connection knows of no log.
            other.execute("pragma user_version").fetchall()
            other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        assert disk.compacted
        assert len(state) == 100


def test_restore_on_a_network_file_system(home: Path, full: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store on a network file system is refused by restore() as by open(), and restored with `allow_remote`."""
    with package.open(home / "state.db") as state:
        state.backup(home / "copy.db")
    monkeypatch.setattr(location, "file_system", lambda path: "nfs4")
    with pytest.raises(package.UnsafeState, match="nfs4"):
        package.restore(home / "copy.db", home / "other.db")
    package.restore(home / "copy.db", home / "other.db", allow_remote=True)
    with package.open(home / "other.db", allow_remote=True) as state:
        assert exact_dump(state) == full


def test_restore_looks_before_it_asks(home: Path, full: list[str]) -> None:
    """A backup that is not there is named without first asking whether everything may be replaced by it."""
    assert "missing.db: it is not there" in slothstate("restore", "missing.db", home=home, code=3)


@pytest.mark.parametrize("source", [None, 5, b"copy.db"])
def test_a_backup_that_is_no_path(home: Path, source: object) -> None:
    """restore() names the argument that is no path, and makes no store."""
    with pytest.raises(package.InvalidValue, match=r"^source must be"):
        package.restore(source, home / "state.db")  # type: ignore[arg-type]
    assert not (home / "state.db").exists()


@pytest.fixture(params=["SIGTERM", "SIGHUP"])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that would end a process; not this one, whatever is tested."""
    found = signal.Signals[request.param]
    before = signal.signal(found, lambda *_: None)
    yield found
    signal.signal(found, before)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (("backup", "copies/copy.db"), "slothstate.engines.sqlite.backup.copy_pages"),
        (("backup", "copies/"), "slothstate.engines.sqlite.backup.copy_pages"),
        (("dump", "-o", "copies/all.jsonl"), "slothstate.cli.dump._line"),
        (("restore", "--yes", "--db", "copies/new.db", "state.db"), "slothstate.engines.sqlite.restore.copy_pages"),
    ],
)
def test_a_signal_leaves_nothing_behind(
    home: Path, full: list[str], number: int, arguments: tuple[str, ...], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timeout(1) or a service manager ends it: what was written aside, as large as the store, is gone."""
    monkeypatch.chdir(home)
    Path("copies").mkdir()
    called = pkgutil.resolve_name(place)

    def ended(*given: object) -> object:
        result = called(*given)
        os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(place, ended)
    ending = invoke(*arguments, home=home)
    assert (ending.exit_code, ending.stdout) == (128 + number, "")
    assert ending.stderr == f"slothstate: ended by {signal.Signals(number).name}\n"
    assert [path for path in Path("copies").iterdir() if path.is_file()] == []


def test_restore_asks_who_can_answer(home: Path, full: list[str]) -> None:
    """A line of a list on stdin is no answer, and a terminal that shows the question is none either."""
    slothstate("backup", "copy.db", home=home)
    reading, writing = os.pipe()
    os.write(writing, b"yes\nyes\n")
    os.close(writing)
    with Terminal("restore", "copy.db", home=home, stdin=reading) as terminal:
        assert terminal.end() == 2
        assert "stdin is no terminal: give --yes" in " ".join(terminal.shown.split())
    os.close(reading)
    with Terminal("restore", "copy.db", home=home, stdout=subprocess.DEVNULL) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0


@pytest.mark.parametrize("target", ["~/copies/", "~/copy.db"])
def test_backup_without_a_home(home: Path, full: list[str], target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows what ~ is, no directory of that name appears."""
    monkeypatch.chdir(home)
    ending = invoke("backup", target, "--db", home / "state.db", home=Path("relative"))
    assert (ending.exit_code, ending.stdout) == (3, "")
    assert "there is no home directory" in ending.stderr
    assert sorted(path.name for path in home.iterdir()) == ["state.db", "state.db-locks"]
