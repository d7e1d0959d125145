"""The command line on a store of a server: every command that a file has, and what says that it has not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import slothstate
from helpers import postgres_server
from helpers.command import SECONDS, command, environment, finished
from slothstate.processes import command_line

SECRET = "hidden-word"

Run = Callable[..., str]


@pytest.fixture
def url() -> Iterator[str]:
    """An empty store, by a URL with a password, which this server does not ask for."""
    plain = postgres_server.take_url()
    slothstate.open(plain).close()
    yield plain.replace("postgres@", f"postgres:{SECRET}@", 1)
    postgres_server.give_back(plain)


@pytest.fixture
def run(home: Path, url: str) -> Run:
    """A function that runs a command to its end, which never says the password."""

    def run(*words: str, stdin: bytes = b"", code: int = 0, db: str = url) -> str:
        variables = environment(home, {"SLOTHSTATE_DB": db, "TERM": "dumb"})
        done = finished(*words, cwd=home, env=variables, stdin=stdin)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.returncode == code, err
        assert SECRET not in out + err
        assert code or not err, err
        return err if code else out

    return run


def test_values_and_lists(run: Run) -> None:
    """What is plain and what click reads, and what another command sees of it."""
    run("set", "k", "1")
    run("set", "k", "2", "--present")
    assert run("get", "k") == "2\n"
    assert run("incr", "k") == "3\n"
    run("push", "q", "a", "b")
    assert run("keys") == "k\nq\n"
    assert run("claim", "q", "--", "sh", "-c", "printf %s $SLOTHSTATE_ITEM") == "a"
    assert json.loads(run("dump").splitlines()[1])["value"] == ["b"]


def test_db_is_a_url(run: Run, url: str) -> None:
    """`--db` goes before the default, before and behind the command."""
    run("set", "k", "1")
    for words in (("--db", url, "get", "k"), ("get", "k", "--db", url)):
        assert run(*words, db="elsewhere.db") == "1\n"


def test_with_lock_hands_the_store_on(run: Run) -> None:
    """The command finds the same store, with its password, in its environment."""
    run("set", "k", "1")
    assert run("with-lock", "job", "--", *command("get", "k")) == "1\n"
    assert run("with-lock", "job", "--", *command("locks")).split("\t")[0] == "alive"
    assert run("locks") == ""


def test_looking(run: Run, url: str) -> None:
    """`stats`, `doctor`, `top` and `path` name the server, and say what it has not."""
    run("set", "k", "1")
    shown = url.replace(f":{SECRET}", "")
    assert run("path") == f"{shown}\n"
    stats = run("stats")
    assert f"path\t{shown}\n" in stats
    assert "wal_size\t-\n" in stats
    assert "None" not in stats
    metrics = run("stats", "--prometheus")
    # What a file has alone, and what is the whole server's, is no figure of the store.
    for unknown in ("wal_bytes", "free_bytes", "commits_total"):
        assert f"slothstate_{unknown}{{" not in metrics
    assert "free_size\t-\n" in run("stats")
    assert json.loads(run("stats", "--json"))["free_size"] is None
    assert "slothstate_keys{" in metrics
    # The server of the tests does not sync, which is an error.
    run("doctor", code=3)
    seen = run("top", "--once", "--interval", "0.1")
    assert "the server's" in seen
    assert "unused" not in seen


def test_a_command_that_reads_makes_no_store(run: Run, url: str) -> None:
    """As it makes no file."""
    elsewhere = f"{url}_missing"
    for words in (("get", "k"), ("keys",), ("locks",), ("stats",)):
        assert "there is no store at" in run(*words, code=3, db=elsewhere)
    assert not slothstate.has_store(elsewhere)
    assert slothstate.has_store(url)


def test_a_store_moves_between_engines(run: Run, home: Path) -> None:
    """`dump | load` in both directions keeps every kind."""
    path = str(home / "state.db")
    with slothstate.open(path) as state:
        values = {"n": 1, "f": 1.5, "s": "a\0\1b", "b": b"\xff", "t": {"a": [1]}, "l": [1, "x"], "y": True}
        state.set_many(values)
        state.list_push("rows", 1, 2)
        before = [tuple(record) for record in state.dump()]
    run("load", stdin=run("dump", db=path).encode())
    run("load", stdin=run("dump").encode(), db=str(home / "second.db"))
    with slothstate.open(home / "second.db") as state:
        assert [tuple(record) for record in state.dump()] == before


def test_copy_store_between_engines(run: Run, home: Path, url: str) -> None:
    """In both directions, and between two stores of one server: every kind, every end."""
    path = str(home / "state.db")
    with slothstate.open(path) as state:
        state.set_many({"n": 1, "f": 1.0, "s": "a\0\1b", "b": b"\xff", "t": {"a": [1]}, "l": [1, "x"], "y": True})
        state.list_push("rows", *range(2500))
        state.set("session", 7, ttl=3600)
        before = [tuple(record) for record in state.dump()]
    third = url.replace("schema=", "schema=copied_")
    stores = (path, url, third, str(home / "second.db"))
    for source, target in pairwise(stores):
        out = run("copy-store", source, target, db="")
        assert out == f"copied 9 keys to {slothstate.display_address(target)}\n"
    with slothstate.open(stores[-1]) as state:
        assert [tuple(record) for record in state.dump()] == before
        assert state.check() == []
    assert "holds 9 keys" in run("copy-store", path, url, code=2, db="")
    assert "the same store" in run("copy-store", url, url, code=2, db="")
    postgres_server.drop(third)


def test_full_durability_is_refused_where_the_server_syncs_nothing(run: Run) -> None:
    """As in every language; the server of the tests does not."""
    run("set", "k", "1")
    assert "fsync" in run("set", "k", "2", "--durability", "full", code=3)
    assert run("get", "k") == "1\n"


@pytest.mark.parametrize("words", [("backup", "copy.db"), ("compact",), ("restore", "copy.db")])
def test_what_files_have_alone(run: Run, words: tuple[str, ...]) -> None:
    """One line says what to do instead."""
    run("set", "k", "1")
    assert run(*words, code=3).count("\n") == 1
    assert run("get", "k") == "1\n"


@pytest.mark.parametrize(
    ("db", "code"),
    [
        (f"postgresql://me:{SECRET}@nowhere.invalid/x?connect_timeout=1", 3),
        (f"postgresql://me:{SECRET}%@host/x", 2),
        (f"postgresql://me:{SECRET}@host:port/x", 2),
        (f"postgresql://me:{SECRET}@host/x?schema={'s' * 64}", 2),
        (f"redis://me:{SECRET}@host/0", 3),
    ],
)
def test_addresses_that_lead_nowhere(home: Path, run: Run, db: str, code: int) -> None:
    """One line, without the password; a scheme that is not known is named."""
    said = run("get", "k", "--busy-timeout", "200ms", db=db, code=code)
    assert said.count("\n") == 1
    assert ("redis://" in said) == db.startswith("redis")


@pytest.mark.parametrize(
    "words",
    [
        ("{}", "set", "a", "1"),
        ("{}",),
        ("help", "{}"),
        ("restore", "x.db", "{}"),
        ("set", "a", "b", "{}", "c"),
        ("set", "a", "b", "--ttl", "{}"),
        ("set", "a", "--{}"),
        ("increment", "n", "{}"),
        ("get", "a", "--field", "{}"),
        ("get", "a", "--durability", "{}"),
        ("keys", "[{}"),
        ("with-lock", "job", "--timeout", "{}", "--", "true"),
        ("copy-store", "{}"),
        ("run", "{}"),
        ("import", "diskcache", "{}"),
        ("backup", "{}"),
        ("unlock", "{}"),
        ("get", "--db", "{}x", "a", "b", "--c"),
    ],
)
@pytest.mark.parametrize("password", [SECRET, f"a'b {SECRET}", f"a@{SECRET}"])
def test_an_address_in_the_wrong_place(home: Path, words: tuple[str, ...], password: str) -> None:
    """What a command says of its words leaves out what may be a password."""
    typed = [word.format(f"postgresql://me:{password}@host/x") for word in words]
    variables = environment(home, {"TERM": "dumb"})
    done = finished(*typed, cwd=home, env=variables)
    assert done.returncode > 0
    said = (done.stdout + done.stderr).decode()
    assert said
    assert SECRET not in said


@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="this system does not tell")
def test_a_command_line_that_holds_a_password() -> None:
    """What `locks`, `top` and `doctor` say that a process runs is without the password that it was given."""
    words = (f"postgresql://me:{SECRET}@host/x", f"x:y://me:a b'{SECRET}@host?password={SECRET}&a=1", "me:a@host")
    program = (sys.executable, "-c", "print(flush=True); input()")
    with subprocess.Popen([*program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        said = command_line(child.pid) or ""
        child.communicate(b"\n", timeout=SECONDS)
    assert SECRET not in said
    assert said.endswith(" 'postgresql://me:…@host/x' 'x:y://me:…@host?password=…&a=1' me:a@host")


def test_a_script_works_on_it(run: Run, home: Path) -> None:
    """Lua has the same verbs."""
    (home / "a.lua").write_text(
        'state.set("k", {a = 1}); print(state.get("k").a, state.increment("n"), state.list_push("l", 1))'
    )
    assert run("run", "a.lua") == "1\t1\t1\n"
    assert os.listdir(home) == ["a.lua"]


def test_a_dry_run(run: Run, url: str, home: Path) -> None:
    """On a copy: the script sees what is there, and changes nothing of it."""
    (home / "deploy.lua").write_text("""
        assert(state.get("there") == 1 and state.list_pop("l") == "b")
        state.set("new", 1)
        workflow.define("w", { tasks = { { name = "t", command = "touch ran" } } })
    """)
    run("set", "there", "1")
    run("push", "l", "a", "b")
    assert run("run", "deploy.lua", "--dry-run") == "w: 1 task\n  1. t\n"
    assert run("run", "deploy.lua", "--mermaid").startswith("graph TD\n")
    with slothstate.open(url) as state:
        assert (state.keys(), state["l"]) == (["l", "there"], ["a", "b"])
    assert not (home / "ran").exists()
