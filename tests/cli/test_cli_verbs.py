"""The verbs on the command line: what they print, exit codes, what is refused and how."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.command import command, environment
from helpers.terminal import ESC, Terminal, in_terminal, invoke, output, refusal
from slothstate import State


def test_errors_are_one_line(home: Path, state: State) -> None:
    """A message names the key, whatever is in it, on one line, without control characters."""
    state["evil\n\x1b[31m"] = "text"
    said = refusal("increment", "evil\n\x1b[31m", home=home, code=2)
    assert said == r"cannot increment 'evil\n\x1b[31m': expected a number, found a string"
    assert ESC not in refusal("get", "a", "--db", f"no\n{ESC}[31m.db", home=home, code=3)


EXIT_CODES: list[tuple[list[str], int, str]] = [
    (["get", "text"], 0, "hello\n"),
    (["get", "missing"], 1, ""),
    (["get", "missing", "--default", "5"], 0, "5\n"),
    (["get", "text", "--raw"], 0, "hello"),
    (["get", "text", "--json"], 0, '"hello"\n'),
    (["get", "list"], 0, '[1,"two",[3]]\n'),
    (["delete", "text"], 0, ""),
    (["delete", "missing"], 1, ""),
    (["delete", "text", "missing", "list"], 1, ""),
    (["exists", "text"], 0, ""),
    (["exists", "missing"], 1, ""),
    (["ttl", "text"], 0, "-1\n"),
    (["ttl", "missing"], 1, "-2\n"),
    (["set-ttl", "text", "1h"], 0, ""),
    (["set-ttl", "missing", "5"], 1, ""),
    (["persist", "short"], 0, ""),
    (["persist", "text"], 1, ""),
    (["persist", "missing"], 1, ""),
    (["increment", "number"], 0, "8\n"),
    (["increment", "number", "-9"], 0, "-2\n"),
    (["increment", "number", "0.5"], 0, "7.5\n"),
    (["increment", "missing", "1.0"], 0, "1.0\n"),
    (["decrement", "number", "2"], 0, "5\n"),
    (["append", "text", "!"], 0, "6\n"),
    (["append", "text", "5"], 0, "6\n"),
    (["append", "missing", "ü"], 0, "1\n"),
    (["append", "blob", "--bytes", "ü"], 0, "4\n"),
    (["append", "blob", "--base64", "/w=="], 0, "3\n"),
    (["compare-swap", "text", "hello", "bye"], 0, ""),
    (["compare-swap", "text", "bye", "hello"], 1, ""),
    (["compare-swap", "number", "7.0", "8"], 0, ""),
    (["compare-swap", "list", '[1, "two", [3]]', "[]"], 0, ""),
    (["compare-swap", "missing", "--absent", "1"], 0, ""),
    (["compare-swap", "text", "--absent", "1"], 1, ""),
    (["push", "list", "5", "null", "x"], 0, "6\n"),
    (["push", "missing", "5"], 0, "1\n"),
    (["pop", "list"], 0, "[3]\n"),
    (["shift", "list"], 0, "1\n"),
    (["pop", "missing"], 1, ""),
    (["shift", "missing"], 1, ""),
    (["length", "list"], 0, "3\n"),
    (["length", "missing"], 0, "0\n"),
    (["range", "list"], 0, "1\ntwo\n[3]\n"),
    (["range", "list", "1"], 0, "two\n[3]\n"),
    (["range", "list", "-2", "-2"], 0, "two\n"),
    (["range", "list", "0", "1", "--json"], 0, '[1,"two"]\n'),
    (["range", "missing"], 0, ""),
    (["keys"], 0, "blob\nlist\nnumber\nshort\ntext\n"),
    (["keys", "[nt]*"], 0, "number\ntext\n"),
    (["keys", "x*"], 0, ""),
    (["scan", "--json", "[nt]*"], 0, '"number"\n"text"\n'),
    (["scan", "l*"], 0, "list\n"),
    (["clear", "--dry-run", "t*"], 0, "1\n"),
    (["clear", "--yes", "t*"], 0, "1\n"),
    (["clear", "--yes"], 0, "5\n"),
    (["sweep"], 0, "0\n"),
    (["keys", "["], 2, ""),
    (["increment", "text"], 2, ""),
    (["increment", "number", "x"], 2, ""),
    (["increment", "number", "9223372036854775807"], 2, ""),
    (["push", "text", "1"], 2, ""),
    (["append", "blob", "text"], 2, ""),
    (["get", ""], 2, ""),
    (["compare-swap", "text", "hello"], 2, ""),
    (["compare-swap", "text", "null", "1"], 2, ""),
    (["compare-swap", "text", "--absent", "1", "2"], 2, ""),
    (["compare-swap", "text", "-", "-"], 2, ""),
    (["push", "list", "-", "-"], 2, ""),
    (["clear"], 2, ""),
    (["nonsense"], 2, ""),
    (["import"], 2, ""),
    (["import", "a\x1b\nb", "c"], 2, ""),
]


@pytest.mark.parametrize(
    ("delta", "says"),
    [
        ("x", "'x' is no number"),
        ("[1]", "[1] is no number"),
        ("true", "True is no number"),
        ("1e999", "'1e999' is no number that can be stored: a number past the largest float"),
        ("9223372036854775808", "'9223372036854775808' is no number that can be stored: an integer past 64 bits"),
    ],
)
def test_what_is_no_number(home: Path, delta: str, says: str) -> None:
    """A DELTA that is none is named before a store is made; one out of range says which."""
    assert f": {says} (see" in refusal("increment", "n", delta, home=home, code=2)
    assert not (home / "state.db").exists()


@pytest.mark.parametrize(("arguments", "code", "prints"), EXIT_CODES, ids=lambda value: str(value)[:40])
def test_output_and_exit_code(home: Path, state: State, arguments: list[str], code: int, prints: str) -> None:
    """In a pipe each command prints its answer alone; 1 is a silent no, 2 one line on stderr."""
    state.set_many({"text": "hello", "number": 7, "list": [1, "two", [3]], "blob": b"ab"})
    state.set("short", 1, ttl=100)
    result = invoke(*arguments, home=home)
    assert (result.exit_code, result.stdout) == (code, prints), result.stderr
    assert result.stderr.count("\n") == (code == 2)


def test_verbs_change_what_they_say(home: Path, state: State) -> None:
    """The commands that print nothing have done what they say."""
    state.set_many({"a": 1, "b": 2, "list": [1, None]})
    output("set", "a", "5", "--ttl", "1.5m", home=home)
    assert state["a"] == 5
    assert 60 < state.get_ttl("a") <= 90
    assert 60 < int(output("ttl", "a", home=home)) <= 90
    output("set-ttl", "a", "7200500ms", home=home)
    assert 7100 < state.get_ttl("a") <= 7201
    output("persist", "a", home=home)
    assert state.get_ttl("a") == -1
    invoke("delete", "a", "missing", "b", home=home)
    assert state.keys() == ["list"]
    assert output("pop", "list", home=home) == "null\n"
    assert output("pop", "list", home=home) == "1\n"
    assert state.keys() == []
    output("set", "a", "1", "--ttl", "2d", home=home)
    output("set", "a", "1", home=home)
    assert state.get_ttl("a") == -1


READING = [
    *(["get", "a"], ["delete", "a"], ["exists", "a"], ["keys"], ["scan"], ["clear", "--yes"], ["ttl", "a"]),
    *(["set-ttl", "a", "5"], ["persist", "a"], ["compare-swap", "a", "1", "2"], ["pop", "a"], ["shift", "a"]),
    *(["length", "a"], ["range", "a"], ["unlock", "a"], ["locks"], ["stats"], ["inspect", "a"], ["du"], ["sweep"]),
    ["top", "--once"],
]
WRITING = [
    *(["set", "a", "1"], ["increment", "a"], ["decrement", "a"], ["append", "a", "b"], ["push", "a", "1"]),
    *(["compare-swap", "a", "--absent", "1"], ["lock", "a", "--for", "10ms"]),
]


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_reading_creates_no_store(home: Path, arguments: list[str]) -> None:
    """A command that only reads or removes says with 3 that there is no store, and leaves nothing behind."""
    said = refusal(*arguments, "--db", home / "sub" / "x.db", home=home, code=3)
    assert said.startswith(f"there is no store at {home}/sub/x.db: name another with --db")
    assert list(home.iterdir()) == []
    (home / "empty.db").touch()
    assert "no store" in refusal(*arguments, "--db", home / "empty.db", home=home, code=3)
    assert [path.name for path in home.iterdir()] == ["empty.db"]


@pytest.mark.parametrize("arguments", WRITING, ids=" ".join)
def test_writing_creates_the_store(home: Path, arguments: list[str]) -> None:
    """A command that stores something creates the store, and its directory."""
    invoke(*arguments, "--db", home / "sub" / "x.db", home=home)
    assert (home / "sub" / "x.db").stat().st_size > 0


def test_a_store_that_cannot_be_used_is_3(home: Path) -> None:
    """Another program's file, a link or a directory is refused with 3, in one line, and left as it was."""
    (home / "other.db").write_text("this is somebody's letter, and long enough for a header of SQLite " * 3)
    (home / "link.db").symlink_to("other.db")
    for name in ("other.db", "link.db", "."):
        assert name.rstrip(".") in refusal("get", "a", "--db", home / name, home=home, code=3)
        refusal("set", "a", "1", "--db", home / name, home=home, code=3)
    assert (home / "other.db").read_text().startswith("this is somebody's")
    refusal("get", "a", "--db", "", home=home, code=3)


def test_db_before_or_after_the_command(home: Path) -> None:
    """--db goes before or after the command's name; the latter wins, and both win over $SLOTHSTATE_DB."""
    first, second = home / "first.db", home / "second.db"
    output("--db", first, "set", "a", "1", home=home)
    output("--db", first, "set", "a", "2", "--db", second, home=home)
    output("set", "a", "3", home=home)
    assert output("get", "a", "--db", first, home=home) == "1\n"
    assert output("--db", second, "get", "a", home=home) == "2\n"
    assert output("get", "a", home=home) == "3\n"


def test_path(home: Path) -> None:
    """`path` prints the file that would be used, absolute, also if there is none; a terminal is told why."""
    assert output("path", home=home) == f"{home}/state.db\n"
    assert output("path", "--db", "~/x.db", home=home) == f"{home}/x.db\n"
    assert output("--db", "/a/../b.db", "path", home=home) == "/b.db\n"
    assert in_terminal("path", home=home, columns=300).startswith(f"{home}/state.db  ")
    assert "($SLOTHSTATE_DB, does not exist yet)" in in_terminal("path", home=home, columns=300)
    variables = environment(home)
    done = subprocess.run(command("path"), env=variables, capture_output=True, check=True)
    assert done.stdout.decode() == f"{home}/.sloth-runner/state.db\n"
    assert list(home.iterdir()) == []


def test_keys_are_one_a_line(home: Path, state: State) -> None:
    """A line break in a key does not make two keys of it for a reader of lines; --raw prints it as it is."""
    state.set_many({"a\nb": 1, "c\r": 2, "d\x1b": 3})
    for verb in ("keys", "scan"):
        assert output(verb, home=home) == "a\\nb\nc\\r\nd\x1b\n"
        assert output(verb, "--raw", home=home) == "a\nb\nc\r\nd\x1b\n"
        assert output(verb, "-0", home=home) == "a\nb\0c\r\0d\x1b\0"


def test_raw_reaches_a_terminal(home: Path, state: State) -> None:
    """--raw sends a value to a terminal as it is."""
    state["key"] = f"{ESC}[31mred"
    assert in_terminal("get", "key", "--raw", home=home) == f"{ESC}[31mred"
    assert in_terminal("get", "key", home=home) == "\\x1b[31mred\n"


def test_get_in_a_terminal(home: Path, state: State) -> None:
    """A table is indented for eyes; lines and tabs of a text stay; a missing key is said."""
    state.set_many(
        {"table": {"a": [1, {"b": None}], "c": 1.0}, "text": "two\n\tlines\r", "empty": {}, "blob": b"a\n\xff"}
    )
    assert json.loads(in_terminal("get", "table", home=home)) == state["table"]
    assert in_terminal("get", "table", home=home).count("\n") > 5
    assert in_terminal("get", "text", home=home) == "two\n        lines\\r\n".replace("        ", "\t")
    assert in_terminal("get", "empty", home=home) == "{}\n"
    assert in_terminal("get", "blob", home=home) == "a\\n\\xff\n"
    assert in_terminal("get", "missing", home=home, code=1) == "slothstate: there is no key 'missing'\n"
    assert in_terminal("exists", "missing", home=home, code=1) == ""


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_keys_in_a_terminal(home: Path, state: State, columns: int) -> None:
    """A table shows kind, TTL, size, key and the beginning of the value, within the terminal's width."""
    state.set_many({"number": 5, "text": "long " * 100, "größe:日本": "値" * 100, "list": ["a"]})
    state.set("session", "x", ttl=3600)
    shown = in_terminal("keys", home=home, columns=columns)
    heading, *rows = shown.replace(f"{ESC}[1m", "").replace(f"{ESC}[0m", "").splitlines()
    assert max(map(len, [heading, *rows])) <= columns
    assert heading.split()[:4] == ["KIND", "TTL", "SIZE", "KEY"]
    assert [row.split()[0] for row in rows] == ["string", "list", "number", "string", "string"]
    assert "59m 59s" in rows[3] or "1h" in rows[3]
    if columns > 40:
        assert rows[2].split() == ["number", "1", "B", "number", "5"]
        assert rows[4].endswith("…")


def test_no_color(home: Path, state: State) -> None:
    """NO_COLOR and a dumb terminal get no styles at all."""
    state["key"] = 1
    assert ESC in in_terminal("keys", home=home)
    assert ESC not in in_terminal("keys", home=home, env={"NO_COLOR": "1"})
    assert ESC not in in_terminal("keys", home=home, term="dumb")


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 1), ("n\n", 1, 3), ("\n", 1, 3)])
def test_clear_asks_in_a_terminal(home: Path, state: State, answer: str, code: int, left: int) -> None:
    """It says how many keys would go and from where, and takes only yes for a yes."""
    state.set_many({"user:1": 1, "user:2": 2, "site": 3})
    with Terminal("clear", "user:*", home=home, columns=300) as terminal:
        terminal.wait_for("[y/N]:")
        assert f"Delete 2 keys matching user:* from {home}/state.db?" in terminal.shown
        terminal.type(answer)
        assert terminal.end() == code
    assert len(state) == left


def test_answers_in_a_terminal(home: Path, state: State) -> None:
    """What a pipe gets as a bare number says in a terminal what it is."""
    state.set_many({"a": 1, "b": 2})
    state.set("c", 1, ttl=7200)
    state.list_push("list", "x", "y\x1b")
    assert re.search("1h 59m|2h", in_terminal("ttl", "c", home=home))
    assert "no TTL" in in_terminal("ttl", "a", home=home)
    assert in_terminal("clear", "--yes", "a", home=home) == "1 key deleted\n"
    assert "4 keys" not in in_terminal("clear", "--dry-run", home=home)
    assert (
        in_terminal("clear", "--dry-run", home=home, columns=300) == f"3 keys would be deleted from {home}/state.db\n"
    )
    assert "no keys" in in_terminal("keys", "zz", home=home)
    assert "\\x1b" in in_terminal("range", "list", home=home)
    assert "not swapped: key 'b'" in in_terminal("compare-swap", "b", "1", "2", home=home, code=1)


def test_heavy_modules_are_not_imported_for_get(home: Path, state: State) -> None:
    """`slothstate get` imports neither rich, nor lupa, nor filelock: starting is most of its time."""
    state["key"] = 1
    code = (
        "import sys; from slothstate.cli import run_command_line; run_command_line(['get', 'key']);"
        "print(sorted({'rich', 'lupa', 'filelock', 'asyncio', 'json'} & set(sys.modules)))"
    )
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db")})
    done = subprocess.run([*command()[:1], "-c", code], env=variables, capture_output=True, check=True, timeout=30)
    assert done.stdout == b"1\n[]\n"


def _raise(error: BaseException) -> Callable[..., object]:
    def fail(*_: object, **__: object) -> object:
        raise error

    return fail


def test_interrupted(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a command is one line and 130."""
    monkeypatch.setattr(State, "keys", _raise(KeyboardInterrupt()))
    assert refusal("keys", home=home, code=130) == "interrupted"
    monkeypatch.setattr(State, "keys", _raise(MemoryError()))
    assert refusal("keys", home=home, code=3) == "out of memory"


def test_a_bug_is_one_line(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected is one line and 70, too; the traceback is there for who asks."""
    monkeypatch.setattr(State, "keys", _raise(ZeroDivisionError("by\n0")))
    assert refusal("keys", home=home, code=70).startswith(r"a bug in slothstate: ZeroDivisionError: by\n0; ")
    monkeypatch.setenv("SLOTHSTATE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        invoke("keys", home=home)
