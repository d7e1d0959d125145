"""`slothstate import`: what comes over from other programs' stores and what not; that they stay as they were."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import sqlitedict

from helpers import TESTS
from helpers.command import command, slothstate
from helpers.sqlite import raw
from slothstate import open as open_state

# As sloth-runner creates it: https://github.com/chalkan3-sloth/sloth-runner, internal/state/state.go.
SLOTH_RUNNER = """
create table state (
  key text primary key,
  value text not null,
  created_at datetime default current_timestamp,
  updated_at datetime default current_timestamp
);
create table locks (name text primary key, holder text not null, expires_at datetime not null);
create trigger update_state_timestamp after update on state
begin
  update state set updated_at = current_timestamp where key = new.key;
end;
"""

TEXTS: dict[str, Any] = {
    "v1.2.3": "v1.2.3",
    "": "",
    "42": 42,
    "-7": -7,
    "007": "007",
    "-0": 0,
    "1.50": 1.5,
    "1e+06": 1_000_000,
    "1.5e-07": 1.5e-07,
    "9223372036854775808": "9223372036854775808",
    "1e999": "1e999",
    "nan": "nan",
    "true": True,
    "false": False,
    "True": "True",
    '{"a": [1, 2.0]}': {"a": [1, 2.0]},
    "[1]": [1],
    "[broken": "[broken",
    "é 😀": "é 😀",
}


def files(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and time of change of every file below a directory."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.rglob("*") if path.is_file()}


def theirs(home: Path) -> Path:
    """The directory of the other program."""
    directory = home / "theirs"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture
def sloth_runner(home: Path) -> Path:
    """A database of sloth-runner with every text as a value."""
    path = theirs(home) / "runner.sqlite"
    with closing(apsw.Connection(str(path))) as db:
        db.execute("pragma journal_mode = wal;" + SLOTH_RUNNER).fetchall()
        db.executemany("insert into state (key, value) values (?, ?)", [(f"k:{text}", text) for text in TEXTS])
        db.execute("insert into state (key, value) values ('binary', cast(x'ff00' as text))")
    return path


def import_in_part(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run an import that leaves keys out, which is its exit code 1."""
    process = subprocess.run(
        command("import", *arguments, "--db", home / "state.db"), capture_output=True, text=True, cwd=home, check=False
    )
    assert process.returncode == 1, process.stderr
    return process


def stored(home: Path) -> dict[str, Any]:
    """Everything in the store."""
    with open_state(home / "state.db") as state:
        return dict(state)


def exact(values: dict[str, Any]) -> str:
    """A text that tells 1 from 1.0 from True."""
    return repr(sorted(values.items()))


def test_sloth_runner(home: Path, sloth_runner: Path) -> None:
    """Every row becomes a string, bytes that are no text stay bytes; the file and its neighbours are as they were."""
    before = files(theirs(home))
    assert slothstate("import", "sloth-runner", sloth_runner, home=home) == f"imported {len(TEXTS) + 1} keys\n"
    assert exact(stored(home)) == exact({"binary": b"\xff\x00", **{f"k:{text}": text for text in TEXTS}})
    assert files(theirs(home)) == before


def test_guessed_types(home: Path, sloth_runner: Path) -> None:
    """Guessing makes numbers, booleans, tables and lists of texts that are nothing else, and of no others."""
    slothstate("import", "sloth-runner", sloth_runner, "--guess-types", "--prefix", "old:", home=home)
    expected = {f"old:k:{text}": value for text, value in TEXTS.items()}
    assert exact(stored(home)) == exact({"old:binary": b"\xff\x00", **expected, "old:k:-0": -0.0})


@pytest.mark.parametrize("how", ["in use", "left with its log"])
def test_a_log_beside_the_file(home: Path, sloth_runner: Path, how: str) -> None:
    """What is only in the log of a file is imported too, whether its program runs or was killed."""
    script = (
        "import sqlite3, sys, os; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('pragma wal_autocheckpoint = 0');"
        "db.execute(\"insert into state (key, value) values ('late', 'x')\");"
        "print('ready', flush=True); sys.stdin.read(); os._exit(0)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script, str(sloth_runner)], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if how != "in use":
            process.kill()
            process.wait()
            Path(f"{sloth_runner}-shm").unlink()
        before = {name: content[0] for name, content in files(theirs(home)).items() if not name.endswith("-shm")}
        names = sorted(files(theirs(home)))
        slothstate("import", "sloth-runner", sloth_runner, home=home)
        after = {name: content[0] for name, content in files(theirs(home)).items() if not name.endswith("-shm")}
        assert after == before
        assert sorted(files(theirs(home))) == names
        process.kill()
    assert stored(home)["late"] == "x"


def test_keys_are_merged(home: Path, sloth_runner: Path) -> None:
    """An imported key replaces what was under it; other keys stay."""
    with open_state(home / "state.db") as state:
        state.set_many({"k:42": [1], "mine": 1}, ttl=60)
    slothstate("import", "sloth-runner", sloth_runner, home=home)
    assert stored(home)["k:42"] == "42"
    assert stored(home)["mine"] == 1
    with open_state(home / "state.db") as state:
        assert state.get_ttl("k:42") == -1


def test_what_is_no_store_of_theirs(home: Path, sloth_runner: Path) -> None:
    """A missing, foreign or wrong path is named, and no store of ours appears."""
    (home / "text").write_text("not a database\n" * 100)
    other = theirs(home) / "other.sqlite"
    raw(other, "create table something (key)")
    (home / "empty").touch()
    for source, path, problem in [
        ("sloth-runner", home / "missing", "no such file"),
        ("sloth-runner", home / "text", "not a database"),
        ("sloth-runner", other, "has no table 'state'"),
        ("sloth-runner", home / "empty", "has no table 'state'"),
        ("sloth-runner", theirs(home), "cannot read"),
        ("diskcache", theirs(home), "no cache.db"),
        ("diskcache", sloth_runner, "no cache.db"),
        ("sqlitedict", sloth_runner, "has no table 'unnamed'"),
        ("redis", sloth_runner, "is not one of"),
    ]:
        assert problem in slothstate("import", source, path, home=home, code=2)
    assert not (home / "state.db").exists()
    error = slothstate("--db", sloth_runner, "import", "sloth-runner", sloth_runner, home=home, code=2)
    assert "name the store to import into with --db" in error


CACHED: dict[str, Any] = {
    "text": "é",
    "long text": "é\n" * 30_000,
    "bytes": b"\x00\xff",
    "long bytes": b"\xff" * 50_000,
    "integer": -5,
    "float": 1.0,
}


def fill_cache(cache: Any) -> None:
    """Put plain values, others, odd keys and TTLs into a cache of diskcache."""
    for key, value in CACHED.items():
        cache.set(key, value)
    cache.set("dict", {"a": 1})
    cache.set("true", True)
    cache.set(5, "an int for a key")
    cache.set(("a", 1), "a tuple for a key")
    cache.set("session", "s", expire=1000)
    cache.set("gone", "s", expire=0.001)
    time.sleep(0.01)


@pytest.mark.parametrize("kind", ["Cache", "FanoutCache"])
def test_diskcache(home: Path, kind: str) -> None:
    """Plain values come over with their TTLs; pickles and odd keys are counted and named; the cache is as it was."""
    directory = theirs(home)
    script = (
        "import sys; sys.path[:0] = sys.argv[2:]; import diskcache, test_cli_import;"
        f"cache = diskcache.{kind}(sys.argv[1]); test_cli_import.fill_cache(cache); cache.close()"
    )
    subprocess.run([sys.executable, "-c", script, str(directory), os.path.dirname(__file__), str(TESTS)], check=True)
    before = files(directory)
    process = import_in_part("diskcache", directory, home=home)
    assert process.stdout == "imported 7 keys, 1 key had expired\n"
    assert "left out 2 keys: it is pickled\n" in process.stderr
    assert "left out 2 keys: its key is not text\n" in process.stderr
    assert set(process.stderr.splitlines()) >= {"  dict", "  true", "  5", "  (a pickled key)"}
    assert files(directory) == before
    assert exact(stored(home)) == exact({**CACHED, "session": "s"})
    with open_state(home / "state.db") as state:
        assert 900 < state.get_ttl("session") <= 1000


def test_a_cache_that_names_files_elsewhere(home: Path) -> None:
    """A value whose file lies outside the cache, or is gone, is left out."""
    directory = theirs(home)
    (home / "secret").write_text("secret")
    columns = "key, raw, expire_time, mode, filename, value"
    raw(
        directory / "cache.db",
        f"create table Cache ({columns})",
        f"insert into Cache ({columns}) values ('out', 1, null, 3, '../secret', null), ('gone', 1, null, 3, 'x', null)",
    )
    process = import_in_part("diskcache", directory, home=home)
    assert process.stdout == "imported 0 keys\n"
    assert process.stderr == "left out 2 keys: it has no value\n  out\n  gone\n"


class Harmful:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("unpickled"),)


def make_table(path: Path, table: str, rows: dict[str, Any]) -> None:
    """Make a table as sqlitedict makes it."""
    with closing(apsw.Connection(str(path))) as db:
        db.execute(f'create table "{table}" (key text primary key, value blob)')
        db.executemany(f'insert into "{table}" values (?, ?)', rows.items())


def test_sqlitedict(home: Path) -> None:
    """Plain values come over; pickles of every protocol are named and never unpickled."""
    path = theirs(home) / "dict.sqlite"
    pickles = {f"p{protocol}": pickle.dumps({"a": [1]}, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)}
    plain = {"text": "é", "bytes": b"\x00\xff.", "integer": 5, "float": 1.0, "dot": b"."}
    make_table(path, "unnamed", {**plain, **pickles, "harmful": pickle.dumps(Harmful()), "none": None})
    before = files(theirs(home))
    process = import_in_part("sqlitedict", path, home=home)
    assert process.stdout == "imported 5 keys\n"
    assert f"left out {len(pickles) + 1} keys: it is pickled\n" in process.stderr
    assert set(process.stderr.splitlines()) >= {
        "  p0",
        "  p5",
        "  harmful",
        "left out 1 key: it has no value",
        "  none",
    }
    assert exact(stored(home)) == exact(plain)
    assert files(theirs(home)) == before
    assert not (home / "unpickled").exists()


def test_sqlitedict_by_itself(home: Path) -> None:
    """A file that sqlitedict wrote with JSON for its encoding comes over whole, tables and lists as such."""
    path = theirs(home) / "dict.sqlite"
    values = {"table": {"a": [1, 2.0, None]}, "list": [], "text": "x", "number": 5, "true": True}
    with sqlitedict.SqliteDict(str(path), tablename='odd "name"', encode=json.dumps, decode=json.loads) as rows:
        rows.update(values)
        rows["null"] = None
        rows.commit()
    table = ("--table", 'odd "name"')
    process = import_in_part("sqlitedict", path, "--json", *table, home=home)
    assert process.stdout == "imported 5 keys\n"
    assert exact(stored(home)) == exact(values)


def test_many_names(home: Path) -> None:
    """Of many keys that are left out the first are named and the rest counted, unless all are asked for."""
    path = theirs(home) / "dict.sqlite"
    make_table(path, "unnamed", {f"key:{number:03}": None for number in range(50)})
    few = import_in_part("sqlitedict", path, home=home).stderr
    assert few.count("  key:") == 20
    assert "and 30 more" in few
    every = import_in_part("sqlitedict", path, "--all-names", home=home).stderr
    assert every.count("  key:") == 50


def test_rows_that_cannot_be_keys(home: Path) -> None:
    """Rows whose key or value we cannot hold are left out and named, the others come over."""
    path = theirs(home) / "dict.sqlite"
    make_table(path, "unnamed", {"": "x", "k" * 5000: "x", "infinite": float("inf"), "good": "x"})
    shutil.copyfile(path, home / "copy")
    process = import_in_part("sqlitedict", path, home=home)
    assert process.stdout == "imported 1 key\n"
    assert "left out 2 keys: its key cannot be one here" in process.stderr
    assert "left out 1 key: its value cannot be stored here\n  infinite\n" in process.stderr


def test_a_source_that_was_cut(home: Path) -> None:
    """Where the other store cannot be read any further, it is said how much came before that."""
    raw(home / "runner.db", "create table state (key text primary key, value text)")
    numbers = "with recursive n(i) as (select 10000 union all select i + 1 from n where i < 16000)"
    raw(home / "runner.db", f"{numbers} insert into state select i, hex(zeroblob(500)) from n")
    with (home / "runner.db").open("r+b") as file:
        file.seek(4_000_000)
        file.write(b"\xa5" * 500_000)
    said = slothstate("import", "sloth-runner", "runner.db", home=home, code=2)
    found = re.search(r"cannot read runner.db: .*; imported before that: ([0-9,]+) keys", said)
    assert found is not None
    with open_state(home / "state.db") as state:
        assert len(state) == int(found[1].replace(",", ""))


def test_an_import_in_part(home: Path) -> None:
    """One key that is left out is the exit code 1, whatever came over; --partial accepts it and still names the key."""
    path = theirs(home) / "dict.sqlite"
    make_table(path, "unnamed", {"good": "x", "none": None})
    assert import_in_part("sqlitedict", path, home=home).stdout == "imported 1 key\n"
    process = subprocess.run(
        command("import", "sqlitedict", path, "--partial", "--db", home / "state.db"), capture_output=True, check=True
    )
    assert process.stderr == b"left out 1 key: it has no value\n  none\n"
