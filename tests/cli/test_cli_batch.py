"""`slothstate batch`: many commands in one process, one a line."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.command import SECONDS, command, start
from helpers.terminal import in_terminal, invoke
from slothstate import State, StateClosed
from slothstate import open as open_state
from slothstate.cli.batch import words_of
from slothstate.cli.exits import Failure


def batch(*lines: str, home: Path, options: tuple[str, ...] = ()) -> tuple[int, str, list[str]]:
    """Run lines; return the exit code, what was printed, and the lines of stderr."""
    result = invoke("batch", *options, home=home, stdin="\n".join(lines).encode(errors="surrogateescape"))
    return result.exit_code, result.stdout, result.stderr.splitlines()


LINES = {
    "set key value": ["set", "key", "value"],
    "  set\tkey   value\t": ["set", "key", "value"],
    "set 'two words' \"and 'more'\"": ["set", "two words", "and 'more'"],
    r"""a\ b'c d'"e f"g""": ["a bc de fg"],
    "set key '' \"\"": ["set", "key", "", ""],
    r"'\n' \n \\ '\'": [r"\n", "n", "\\", "\\"],
    r'''"\$5 \` \" \\ \n \' \é"''': [r"""$5 ` " \ \n \' \é"""],
    "$HOME `id` $(id) ~ * ?[a] {a,b}": ["$HOME", "`id`", "$(id)", "~", "*", "?[a]", "{a,b}"],
    "a;b a|b <a> & ! (a)": ["a;b", "a|b", "<a>", "&", "!", "(a)"],
    "": [],
    " \t ": [],
    "# set key value": [],
    "   # it's": [],
    "get a # it's": ["get", "a"],
    "get a#b '#' \\# \"#\"c ''#": ["get", "a#b", "#", "#", "#c", "#"],
    "a\xa0b \u2003 \x0b\x0c": ["a\xa0b", "\u2003", "\x0b\x0c"],
}


@pytest.mark.parametrize(("line", "words"), LINES.items())
def test_words(line: str, words: list[str]) -> None:
    """Words are those of POSIX sh without any expansion; a # ends the line only at the beginning of a word."""
    assert words_of(line) == words


@pytest.mark.parametrize("line", ["set a 'open", 'set a "open', "set a \\", 'set a "open\\', "'", '"a\\"'])
def test_words_that_do_not_end(line: str) -> None:
    """A quote that is not closed, and a backslash at the end, do not reach into the next line."""
    with pytest.raises(Failure, match="a command is one line"):
        words_of(line)


@given(st.lists(st.text(st.characters(exclude_characters="\n\0"))))
def test_quoted_words_come_back(words: list[str]) -> None:
    """What shlex.join quotes, whatever it is, reads as the same words."""
    assert words_of(shlex.join(words)) == words


def test_the_words_of_a_shell(home: Path) -> None:
    """Lines without expansions have the words that sh finds in them."""
    for line in (r"a\ b'c d'\"e", r'"\$5 \` \" \\ \n"', "a#b '#' ''#c", "x # y", r"'\' \\", '"a  b"c\td'):
        shown = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}\n"], capture_output=True, text=True, check=True)
        assert words_of(line) == shown.stdout.splitlines()


def test_a_batch(home: Path) -> None:
    """Each line prints what the command prints alone; blank lines and comments are none."""
    lines = ("# begin", "", "set a 'two words'", "get a", "push q 1 '{\"b\": 2}'", "ls", "rpop q", "get a --json")
    assert batch(*lines, home=home) == (0, 'two words\n2\na\nq\n{"b":2}\n"two words"\n', [])
    with open_state(home / "state.db") as state:
        assert dict(state) == {"a": "two words", "q": [1]}


def test_a_no_goes_on(home: Path, state: State) -> None:
    """A no does not stop the batch, nor take later output away; it is the exit code if nothing is worse."""
    state["b"] = 1
    lines = ("get none", "pop none", "get b", "exists none", "compare-swap b 2 3", "rm none b", "get b")
    assert batch(*lines, home=home) == (1, "1\n", [])
    assert "b" not in state


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("frobnicate", 2, "No such command 'frobnicate'"),
        ("setnx q 1", 2, "No such command 'setnx': there is"),
        ("set a", 2, "Missing argument 'VALUE' (see 'slothstate set --help')"),
        ("set a b c", 2, "Got unexpected extra argument (c)"),
        ("set a --frob", 2, "No such option"),
        ("set 'a", 2, "a quote ' that is not closed"),
        ("increment text", 2, "cannot increment 'text': expected a number, found a string"),
        ("set a -", 2, "stdin holds the commands of the batch"),
        ("push q 1 -", 2, "stdin holds the commands of the batch"),
        ("load", 2, "stdin holds the commands of the batch"),
        ("clear", 2, "clear asks before it deletes"),
        ("slothstate get text", 2, "No such command 'slothstate': leave that word out"),
        ("--db x get text", 2, "a line begins with a command, not with '--db'"),
        ("get text --db x", 2, "--db is for the whole batch"),
        ("set a 1 --durability full", 2, "--durability is for the whole batch"),
        ("get text --busy-timeout 1", 2, "--busy-timeout is for the whole batch"),
        ("get text --allow-remote", 2, "--allow-remote is for the whole batch"),
        *((f"{name} x", 2, f"{name} cannot be part of a batch") for name in ("run", "shell", "batch", "lock", "top")),
        ("edit text", 2, "edit cannot be part of a batch"),
        ("with-lock a -- true", 2, "with-lock cannot be part of a batch"),
        ("restore x", 2, "restore cannot be part of a batch"),
        ("unlock nobody --force x", 2, "Got unexpected extra argument"),
        ("get ''", 2, "key"),
    ],
)
def test_what_stops_a_batch(home: Path, state: State, line: str, code: int, error: str) -> None:
    """A misuse is named with its line and ends the batch; with --keep-going the others run, the code is the highest."""
    state["text"] = "x"
    ended, out, said = batch("get none", "set a 1", line, "get text", home=home)
    assert (ended, out, len(said)) == (code, "", 1)
    assert said[0].startswith(f"slothstate: line 3: {error}")
    assert batch("", "", line, "get text", "get none", home=home, options=("--keep-going",)) == (code, "x\n", said)
    assert state["a"] == 1


def test_an_error_of_the_store(home: Path) -> None:
    """A store that is missing is an error for a line that reads, and is made by one that writes."""
    missing = f"slothstate: line 1: there is no store at {home}/state.db: name another with --db or $SLOTHSTATE_DB;"
    code, out, said = batch("get a", "set a 1", home=home)
    assert (code, out, said[0].startswith(missing)) == (3, "", True)
    assert not list(home.iterdir())
    code, out, said = batch("get a", "set a 1", "get a", home=home, options=("--keep-going",))
    assert (code, out, len(said)) == (3, "1\n", 1)


def test_one_open_store(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lines work on one open store, which is closed at the end: that of --db, wherever it stands."""
    opened = []

    def opening(*arguments: object, **options: object) -> State:
        opened.append(open_state(*arguments, **options))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr("slothstate.open", opening)
    other = home / "other.db"
    assert invoke("batch", "--db", other, home=home, stdin=b"set a 1\nget a\ndoctor --quick\nkeys").exit_code in (0, 1)
    assert invoke("--db", other, "batch", "--durability", "full", home=home, stdin=b"get a\npath").stdout == (
        f"1\n{other}\n"
    )
    assert len(opened) == 2
    for state in opened:
        with pytest.raises(StateClosed):
            state.get("a")
    assert not (home / "state.db").exists()


def test_answers_come_at_once(home: Path) -> None:
    """A program at the other end of both pipes gets the answer to a line before it writes the next one."""
    with start("batch", home=home, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(1, 4):
            process.stdin.write(b"increment n\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"%d\n" % number
        process.stdin.close()
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize(("sink", "code"), [("| head -n 1", 141), (">/dev/full", 3), (">&-", 3)])
@pytest.mark.parametrize("line", ["get a", "pop q", "ls"])
def test_output_that_goes_nowhere(home: Path, state: State, sink: str, code: int, line: str) -> None:
    """When nobody can read the answers the batch ends, also with --keep-going, and takes nothing more."""
    state.set_many({"a": "x" * 1000, "q": ["y" * 1000] * 1000})
    slothstate = shlex.join(command("batch", "--keep-going", "--db", home / "state.db"))
    script = f"set -o pipefail; yes {line} | head -n 900 | {slothstate} {sink}"
    done = subprocess.run(["bash", "-c", script], cwd=home, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == code, done.stderr
    assert state.list_length("q") >= (900 if line == "pop q" else 1000)


def test_a_terminal_is_no_batch(home: Path) -> None:
    """At a terminal it says what it wants instead of waiting."""
    assert in_terminal("batch", home=home, code=2) == (
        "slothstate: batch reads commands from stdin: redirect a file or a pipe to it\n"
    )


def test_lines_of_other_systems(home: Path) -> None:
    """Lines may end with CR LF, the last one with nothing; bytes that are not UTF-8 are those of an argument."""
    lines = b"set a 1\r\nget a\r\nset b --bytes \xff\nget b"
    assert invoke("batch", home=home, stdin=lines).stdout_bytes == b"1\n\xff"
    with open_state(home / "state.db") as state:
        assert state["b"] == b"\xff"


@pytest.mark.skipif(os.name != "posix", reason="cat")
def test_a_command_in_a_line_finds_no_line_on_stdin(home: Path, state: State) -> None:
    """Whatever a line runs, or reads, leaves the lines behind it to the batch."""
    watching = ["watch --name w --timeout 0", "set a 1", "watch --name w --count 1 -- cat"]
    lines = [*watching, "load --partial /dev/stdin", *[f"set key:{number} {number}" for number in range(5000)]]
    process = subprocess.run(
        [*command("batch"), "--db", home / "state.db"],
        input="\n".join(lines).encode(),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, b"loaded 0 keys\n", b"")
    assert len(state.keys("key:*")) == 5000


def test_a_line_of_something_else(home: Path, state: State) -> None:
    """A text without an end that is no command is refused at once, whatever its length."""
    code, _, (error,) = batch("x" * 2_000_000, home=home)
    assert code == 2
    assert error.startswith("slothstate: line 1: No such command 'xxx")
