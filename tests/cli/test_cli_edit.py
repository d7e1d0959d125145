"""`edit`: a value in the user's editor, and what becomes of the text when it cannot be set."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.command import command, environment
from helpers.terminal import Terminal, refusal
from slothstate import State
from slothstate import open as open_state


@pytest.fixture
def state(home: Path) -> Iterator[State]:
    """The store, open in this process while the editor works on it."""
    with open_state(home / "state.db") as opened:
        opened.set_many({"a": 1, "b": "two\nlines", "t": {"servers": [{"port": 80}], "ratio": 1.0}})
        opened.set("blob", b"\xff\x00")
        opened.set("short", "lived", ttl=600)
        yield opened


def edit(home: Path, key: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `edit` with a program in place of an editor: Python, with the path in `path`; files are made in `files`."""
    (home / "files").mkdir(exist_ok=True)
    editor = home / "editor.py"
    editor.write_text(f"import os, pathlib, signal, sys\npath = pathlib.Path(sys.argv[1])\n{script}\n")
    variables = environment(
        home,
        {
            "SLOTHSTATE_DB": str(home / "state.db"),
            "EDITOR": f"{sys.executable} {editor}",
            "TMPDIR": str(home / "files"),
        },
    )
    variables.pop("VISUAL", None)
    return subprocess.run(
        command("edit", key, *options), env=variables, capture_output=True, text=True, check=False, timeout=60
    )


def left(home: Path) -> list[Path]:
    """The files that are still there."""
    return list((home / "files").iterdir())


@pytest.mark.parametrize(
    ("key", "script", "value"),
    [
        ("short", r"path.write_text('5\n')", "5"),
        ("short", "path.write_text('')", ""),
        ("b", "assert path.read_text() == 'two\\nlines'; path.write_text('one')", "one"),
        ("t", "path.write_text(path.read_text().replace('80', '8080'))", {"servers": [{"port": 8080}], "ratio": 1.0}),
        ("blob", r"path.write_bytes(b'\xfe\n')", b"\xfe\n"),
        ("new", "assert path.read_text() == ''; path.write_text('[1, 2]')", [1, 2]),
        ("new", r"path.write_text('two words\n')", "two words"),
        ("new", "path.write_text('-')", "-"),
        ("a", "other = path.with_suffix('.new'); other.write_text('2'); other.replace(path)", 2),
        ("a", "assert path.stat().st_mode & 0o77 == 0", 1),
        ("a", "os.kill(os.getppid(), signal.SIGINT); path.write_text('2')", 2),
        ("new", "pass", None),
    ],
)
def test_edit(home: Path, state: State, key: str, script: str, value: object) -> None:
    """Text as text, the rest as JSON, typed as before; the TTL stays, and no file is left behind."""
    ttl = state.get_ttl(key)
    done = edit(home, key, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = state.get(key)
    assert (found, type(found)) == (value, type(value))
    # The machine may be slow; a TTL that was lost is -1.
    assert ttl < 0 or ttl - 60 < state.get_ttl(key) <= ttl
    assert left(home) == []


@pytest.mark.parametrize(
    ("key", "script", "code", "says"),
    [
        ("t", "path.write_text('{')", 2, "this is not JSON"),
        ("t", "path.write_text('')", 2, "this is not JSON"),
        ("t", "path.write_text('-')", 2, "this is not JSON"),
        ("t", "path.write_text('null')", 2, "null is no value"),
        ("a", "path.write_text('12345678901234567890')", 2, "an integer past 64 bits"),
        ("b", r"path.write_bytes(b'a\xff')", 2, "the text is not UTF-8 any more, at byte 1"),
        ("a", "path.write_text('5'); sys.exit(3)", 2, "Editing failed"),
        ("a", "path.write_text('5'); os.kill(os.getpid(), signal.SIGKILL)", 2, "Editing failed"),
        ("a", "path.write_text('5'); import slothstate; slothstate.open().set('a', 7)", 1, "'a' was changed meanwhile"),
        ("a", "path.write_text('5'); import slothstate; slothstate.open().delete('a')", 1, "'a' was changed meanwhile"),
    ],
)
def test_edit_that_sets_nothing(home: Path, state: State, key: str, script: str, code: int, says: str) -> None:
    """The store is as the others left it; one line says why, and where the text is kept."""
    before = state.get(key)
    done = edit(home, key, script)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert says in done.stderr
    [kept] = left(home)
    assert done.stderr.endswith(f"; nothing was set, your text is in {kept}\n")
    assert state.get(key) == (7 if "set('a'" in script else None if "delete" in script else before)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("sys.exit(3)", "Editing failed; nothing was set"),
        ("path.unlink()", "cannot read what was written: No such file or directory; nothing was set"),
    ],
)
def test_no_file_is_kept_without_a_new_text(home: Path, state: State, script: str, says: str) -> None:
    """An editor that fails, or throws the file away, leaves nothing that could be wanted."""
    done = edit(home, "a", script)
    assert done.returncode == 2
    assert done.stderr.endswith(f"{says}\n")
    assert (left(home), state.get("a")) == ([], 1)


def test_an_editor_that_is_not_there(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named; $VISUAL comes before $EDITOR."""
    (home / "files").mkdir()
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.setenv("VISUAL", "no-such-editor")
    monkeypatch.setattr(tempfile, "tempdir", str(home / "files"))
    assert refusal("edit", "a", home=home, code=2).startswith("no-such-editor: ")
    assert left(home) == []


def test_edit_creates_a_store_only_for_a_value(home: Path) -> None:
    """Leaving the editor without a text makes none; nor is one made anew that has gone meanwhile."""
    store = home / "state.db"
    assert edit(home, "new", "pass").returncode == 0
    assert not store.exists()
    assert edit(home, "new", "path.write_text('1')").returncode == 0
    done = edit(home, "new", f"path.write_text('2'); os.unlink({str(store)!r})")
    assert (done.returncode, done.stderr.count("your text is in")) == (3, 1)
    assert not store.exists()


def test_edit_when_nobody_else_comes_in(home: Path, state: State) -> None:
    """A store that stays busy loses no text."""
    (home / "files").mkdir()
    with state.transaction():
        done = edit(home, "a", "path.write_text('5')", "--busy-timeout", "0")
    assert done.returncode == 3
    [kept] = left(home)
    assert (kept.read_text(), str(kept) in done.stderr) == ("5", True)
    assert state.get("a") == 1


def test_at_a_terminal(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The editor has the terminal; that nothing was changed is said."""
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("VISUAL", raising=False)
    with Terminal("edit", "a", home=home) as terminal:
        assert terminal.end() == 0
        assert "not changed" in terminal.shown


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal(home: Path, state: State, name: str) -> None:
    """Whoever ends `edit` while the editor is open is told where the text is."""
    done = edit(home, "a", f"path.write_text('6'); os.kill(os.getppid(), signal.{name}); import time; time.sleep(1)")
    (text,) = left(home)
    assert done.returncode == 128 + signal.Signals[name]
    assert done.stderr == f"slothstate: ended by {name}; nothing was set, your text is in {text}\n"
    assert text.read_text() == "6"
    assert state["a"] == 1
