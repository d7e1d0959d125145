"""What is refused before anything is done, and what is said when something was done and could not be told."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from helpers.command import SECONDS, command, environment, slothstate, start
from helpers.terminal import ESC, in_terminal, output, refusal
from slothstate import State


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("load", "dump.jsonl"), ("--merge", "--replace")),
        (("copy-store", "a.db", "b.db"), ("--merge", "--replace")),
        (("set", "k", "1"), ("--json", "--string")),
        (("set", "k", "1"), ("--bytes", "--base64")),
        (("append", "k", "1"), ("--bytes", "--base64")),
        (("push", "k", "1"), ("--json", "--string")),
        (("get", "k"), ("--raw", "--json")),
        (("pop", "k"), ("--raw", "--json")),
        (("keys",), ("--json", "--null")),
        (("keys",), ("--json", "--raw")),
        (("scan",), ("--raw", "--null")),
        (("stats",), ("--json", "--prometheus")),
        (("runs",), ("--json", "--remove=n")),
    ],
)
def test_options_that_contradict_each_other(
    home: Path, state: State, words: tuple[str, ...], options: tuple[str, str]
) -> None:
    """They are misuse in both orders, and nothing is changed."""
    state.set("k", ["kept"])
    (home / "dump.jsonl").write_text('{"key": "other", "value": 1}\n{"records": 1}\n')
    for given in (options, options[::-1]):
        said = refusal(*words, *given, home=home, code=2)
        assert "exclude each other" in said or "not both" in said
    assert dict(state.items()) == {"k": ["kept"]}
    assert output("get", "k", "--json", "--json", home=home) == '["kept"]\n'


@pytest.mark.parametrize("number", ["1_000", " 1", "1 ", "\N{ARABIC-INDIC DIGIT ONE}", "1.0", "x", "", "9" * 5000])
def test_integers(home: Path, state: State, number: str) -> None:
    """They are written as JSON has them, and of 64 bits; a sign is no mistake."""
    state.list_push("l", "a", "b", "c")
    for words in (("keys", "--limit", number), ("range", "l", number), ("pop", "l", "--count", number)):
        said = refusal(*words, home=home, code=2)
        assert "past 64 bits" in said if number.startswith("9") else "is no integer" in said
    assert output("range", "l", "+1", "-1", home=home) == "b\nc\n"
    assert "99999999999999999999 is past 64 bits" in refusal("trim", "l", "99999999999999999999", home=home, code=2)
    assert "0 is less than 1" in refusal("pop", "l", "--count", "0", home=home, code=2)


@pytest.mark.parametrize("value", [r'{"a": "\ud800"}', r'"\udfff"', r'["x", {"\ud800": 1}]'])
def test_half_of_a_character(home: Path, state: State, value: str) -> None:
    """JSON that has one is no string without a word; a text that is no JSON anyway is."""
    for words in (("set", "k", value), ("set", "k", "--json", value), ("push", "k", value), ("wait", "k", value)):
        assert "half of a character" in refusal(*words, home=home, code=2)
    assert "k" not in state
    output("set", "k", "--string", value, home=home)
    output("set", "l", value + "!", home=home)
    assert state["k"] + "!" == state["l"]


def ended(home: Path, *arguments: bytes, code: int) -> str:
    """Return what a command says on stderr that has arguments which are not UTF-8."""
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db")})
    done = subprocess.run([*command(), *arguments], env=variables, capture_output=True, check=False, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (code, b""), done
    return done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((b"set", b"k", b"a\xff"), r"the value is not UTF-8: byte 0xff at 1; --bytes stores bytes as they are"),
        ((b"set", b"k", b"--json", b'["\xe9"]'), r"the value is not UTF-8: byte 0xe9 at 2"),
        ((b"push", b"k", b"\xff"), r"the value is not UTF-8: byte 0xff at 0"),
        ((b"set", b"\xc3\xa9\xff", b"1"), r"KEY 'é\xff' is not UTF-8: byte 0xff at 2"),
        ((b"get", b"\xff"), r"'\xff' is not UTF-8: byte 0xff at 0"),
        ((b"exists", b"\xff"), r"'\xff' is not UTF-8"),
        ((b"rename", b"k", b"\xff"), r"'\xff' is not UTF-8"),
        ((b"keys", b"\xff*"), r"'\xff*' is not UTF-8"),
        ((b"keys", b"--after", b"\xff"), r"'\xff' is not UTF-8"),
        ((b"with-lock", b"\xff", b"--", b"true"), r"'\xff' is not UTF-8"),
        ((b"claim", b"\xff", b"--", b"true"), r"'\xff' is not UTF-8"),
    ],
)
def test_arguments_that_are_not_utf8(home: Path, state: State, words: tuple[bytes, ...], said: str) -> None:
    """They are called that, with the byte, in words that nobody has to know Python for."""
    told = ended(home, *words, code=2)
    assert said in told
    assert "surrogate" not in told


def test_bytes_are_taken_as_they_are(home: Path, state: State) -> None:
    """Where bytes are asked for, an argument may be any."""
    assert ended(home, b"set", b"k", b"--bytes", b"\xff", code=0) == ""
    assert state["k"] == b"\xff"


def test_editors_that_are_none(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """$EDITOR with an open quote, and one of blanks, are misuse; nothing is run, and no file is left."""
    state["k"] = "text"
    monkeypatch.setenv("TMPDIR", str(home))
    monkeypatch.delenv("VISUAL", raising=False)
    for editor in ('vim "', "  ", "vim \\"):
        monkeypatch.setenv("EDITOR", editor)
        assert "$EDITOR is no command" in refusal("edit", "k", home=home, code=2)
    monkeypatch.setenv("VISUAL", "'")
    assert "$VISUAL is no command" in refusal("edit", "k", home=home, code=2)


@pytest.mark.parametrize(
    "words",
    [
        ("load", "no\nsuch"),
        ("run", "no\nsuch"),
        ("import", "diskcache", "no\nsuch"),
        ("dump", "-o", "no\n/such"),
        ("push", "k", "--lines", "no\nsuch"),
        ("restore", "no\nsuch"),
        ("run", "a.lua", "--values", "no\nsuch"),
        ("run", "a.lua", "--task", "no\nsuch"),
    ],
)
def test_errors_are_one_line(home: Path, state: State, words: tuple[str, ...]) -> None:
    """Also where the name of a file, or of a task, has several."""
    (home / "a.lua").write_text('task("t"):command("true"):build()\n')
    with start(*words, home=home) as process:
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode in (2, 3)
    assert said.count(b"\n") == 1
    assert rb"no\n" in said


def test_a_hyphen_as_a_file(home: Path, state: State) -> None:
    """It is stdin or stdout where the manual says so, and refused elsewhere: no file of that name is made or read."""
    state["k"] = 1
    assert output("dump", "-o", "-", home=home) == output("dump", home=home)
    for words in (("backup", "-"), ("restore", "-", "--yes"), ("run", "-"), ("import", "diskcache", "-")):
        assert "./- is one of that name" in refusal(*words, home=home, code=2)
    assert not Path("-").exists()


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "words",
    ["--help", "--version", "help", "help get", "get --help", "top --once --interval 10ms", "inspect k", "claim -h"],
)
def test_help_that_cannot_be_written(home: Path, state: State, words: str) -> None:
    """It is an error of stdout; a reader that has gone is 141."""
    state["k"] = 1
    with FULL.open("wb") as full, start(*words.split(), home=home, stdout=full) as process:
        _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (3, b"slothstate: cannot write to stdout: No space left on device\n")
    read, write = os.pipe()
    os.close(read)
    with start(*words.split(), home=home, stdout=write) as process:
        os.close(write)
        assert process.communicate(timeout=SECONDS)[1] == b""
    assert process.returncode == 141


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(
    "words",
    [
        ("load", "d.jsonl"),
        ("load", "--replace", "d.jsonl"),
        ("copy-store", "state.db", "copy.db"),
        ("compact",),
        ("sweep",),
        ("backup", "b.db"),
    ],
)
def test_what_was_done_and_could_not_be_told(home: Path, state: State, words: tuple[str, ...]) -> None:
    """The error says that it was done, be stdout full or its reader gone."""
    state["k"] = 1
    slothstate("dump", "-o", "d.jsonl", home=home)
    with FULL.open("wb") as full, start(*words, home=home, stdout=full) as process:
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 3
    assert said.startswith(b"slothstate: cannot write to stdout: No space left on device, but it is done: ")
    assert said.count(b"\n") == 1
    if words[0] in ("copy-store", "backup"):
        return
    read, write = os.pipe()
    os.close(read)
    with start(*words, home=home, stdout=write) as process:
        os.close(write)
        assert b"but it is done" in process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 141


def test_styles(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """None in a pipe, whatever FORCE_COLOR says; none on a terminal with NO_COLOR, bold and dim neither."""
    state["k"] = {"a": {"b": 1}}
    monkeypatch.setenv("FORCE_COLOR", "1")
    for words in (("inspect", "k"), ("top", "--once", "--interval", "10ms")):
        assert ESC not in output(*words, home=home)
    monkeypatch.delenv("FORCE_COLOR")
    assert ESC in in_terminal("inspect", "k", home=home)
    for words in ("inspect", "k"), ("top", "--once", "--interval", "10ms"):
        line = " ".join(map(str, command(*words)))
        assert ESC not in in_terminal("with-lock", "l", "--", "sh", "-c", f"NO_COLOR=1 {line}", home=home)


def test_keys_with_null_on_a_terminal(home: Path, state: State) -> None:
    """Nothing there can drive it, --null does not either; in a pipe they are what they are."""
    state[f"a{ESC}[31m"] = 1
    for name in ("keys", "scan"):
        assert ESC not in in_terminal(name, "--null", home=home)
        assert output(name, "--null", home=home) == f"a{ESC}[31m\0"


def test_doctor_of_what_is_no_file(home: Path) -> None:
    """A server has advice for servers; an address that is none is a finding, as JSON too."""
    for address in ("postgresql://nobody@127.0.0.1:1/none", "mysql://h/x", "file:x", "postgresql://[x"):
        with start("doctor", "--json", "--db", address, home=home) as process:
            out, _ = process.communicate(timeout=SECONDS)
        last = json.loads(out)[-1]
        assert (last["severity"], last["subject"]) == ("error", "store")
        assert "URL" in last["advice"]
        assert "dmesg" not in last["advice"]


def test_completion_without_its_variables(home: Path) -> None:
    """There is nothing to complete, and no bug."""
    variables = environment(home, {"_SLOTHSTATE_COMPLETE": "bash_complete"})
    done = subprocess.run(command(), env=variables, capture_output=True, check=False, timeout=SECONDS)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"", b"")


def test_an_option_that_names_a_file(home: Path) -> None:
    """An address in its place is refused by the name that was typed."""
    for arguments in (["push", "q", "--lines"], ["dump", "--output"], ["dump", "-o"], ["run", "a.lua", "--values"]):
        said = refusal(*arguments, "https://ann:secret@host/x", home=home, code=3)
        assert said.startswith(f"{'--output' if arguments[-1] == '-o' else arguments[-1]} is an address (https://…)")


@pytest.mark.parametrize("text", ["x://", "x://u:", "postgres", "x//", "a-", "password=", "a"])
def test_a_long_option(home: Path, text: str) -> None:
    """One that is not known is refused at once, however long it is and whatever looks like an address in it."""
    began = time.monotonic()
    assert "No such option" in slothstate("get", f"--{text * (100_000 // len(text))}", home=home, code=2)
    assert time.monotonic() - began < 5
