"""What is understood without click does exactly what click would have it do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from helpers.command import command, environment, finished
from slothstate import State
from slothstate.cli.program import commands
from slothstate.cli.quick import plain_call

PLAIN = [
    ["get", "number"],
    ["get", "table"],
    ["get", "text"],
    ["get", "octets"],
    ["get", "missing"],
    ["get", ""],
    ["get", "n\0ul"],
    ["exists", "number"],
    ["exists", "missing"],
    ["set", "new", "5"],
    ["set", "new", "null"],
    ["set", "new", "9223372036854775808"],
    ["set", "", "5"],
    ["with-lock", "job", "--", "sh", "-c", "echo $SLOTHSTATE_LOCK_NAME; exit 7"],
    ["with-lock", "job", "--", "no-such-command"],
    ["with-lock", "", "--", "true"],
    ["with-lock", "job", "--", "printf", "%s.", "--db", "--", "-x", ""],
]

FOR_CLICK = [
    [],
    ["get"],
    ["get", "a", "b"],
    ["get", "-5"],
    ["get", "caf\udce9"],
    ["get", "--", "k"],
    ["get", "k", "--json"],
    ["get", "k", "--help"],
    ["-h"],
    ["--db"],
    ["get", "k", "--db"],
    ["get", "k", "--db", "-"],
    ["get", "k", "--db=x"],
    ["--db", "a", "get", "k", "--db", "b"],
    ["--allow-remote", "get", "k"],
    ["set", "k", "-"],
    ["set", "k"],
    ["cat", "k"],
    ["keys"],
    ["help", "get"],
    ["with-lock", "job"],
    ["with-lock", "job", "true"],
    ["with-lock", "job", "--"],
    ["with-lock", "--", "true"],
    ["with-lock", "job", "--timeout", "1", "--", "true"],
    ["get", "k", "--", "with-lock"],
]

OPTIONS = {
    "get": [
        ["get", "table", "--field", ".a[0]"],
        ["get", "missing", "--default", "5"],
        ["get", "octets", "--json"],
        ["get", "octets", "--raw"],
        ["get", "number", "text", "missing"],
    ],
    "set": [
        ["set", "new", "5", "--ttl", "1h"],
        ["set", "number", "5", "--keep-ttl"],
        ["set", "number", "5", "--absent"],
        ["set", "new", "5", "--present"],
        ["set", "table", "5", "--field", ".b"],
        ["set", "--pairs", "a=1", "b=x"],
        ["set", "new", "5", "--string"],
        ["set", "new", "[", "--json"],
        ["set", "new", "5", "--bytes"],
        ["set", "new", "!", "--base64"],
        ["set", "number", "5", "--absent", "--present"],
        ["set", "new", "-5"],
    ],
    "exists": [],
    "with-lock": [
        ["with-lock", "job", "--timeout", "0", "--", "true"],
        ["with-lock", "job", "--shared", "--", "sh", "-c", "exit 5"],
        ["with-lock", "job", "--slots", "2", "--", "true"],
        ["with-lock", "job", "--ttl", "9", "--", "true"],
        ["with-lock", "job", "-E", "9", "--shared", "--slots", "2", "--", "true"],
    ],
}
"""Calls with each of the options that these commands have alone, and what goes with them."""

STORED = {"number": 1.5, "table": {"a": [1, None]}, "text": "two\nlines", "octets": b"\xff\x00"}

OF_ALL = [["--durability", "full"], ["--busy-timeout", "5"], ["--allow-remote"]]


def outcome(words: list[str], home: Path, *, through_click: bool) -> tuple[int, bytes, bytes]:
    """Run a command line in a process of its own, if need be with the plain way closed."""
    close = "import slothstate.cli as cli; cli.plain_call = lambda words: None"
    done = finished(
        *(word.replace("\0", "") for word in words),
        cwd=Path.cwd(),
        env=environment(home, {"SLOTHSTATE_DB": str(home / "state.db")}),
        patch=close if through_click else "",
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", PLAIN, ids=lambda words: " ".join(map(ascii, words)))
@pytest.mark.parametrize("where", ["variable", "before", "after"])
def test_plain_and_click_agree(home: Path, state: State, words: list[str], where: str) -> None:
    """Output, messages and exit codes are the same, wherever the store is named."""
    assert plain_call(words) is not None
    state.set_many(STORED)
    store = ["--db", str(home / "state.db")]
    if where == "before":
        words = store + words
    elif where == "after" and "--" not in words:
        words = words + store
    plain = outcome(words, home, through_click=False)
    assert plain == outcome(words, home, through_click=True)
    assert b"Traceback" not in plain[2]


def contents(state: State) -> list[tuple[str, object, bool]]:
    return [(key, value, state.get_ttl(key) > 0) for key, value in state.items()]


@pytest.mark.parametrize("name", OPTIONS)
def test_options_mean_the_same_on_both_ways(home: Path, state: State, name: str) -> None:
    """Whatever option a command has or gets, it is none that the plain way overlooks."""
    called = [*OPTIONS[name], *([*words, name, "job", *["--", "true"] * (name == "with-lock")] for words in OF_ALL)]
    for words in called:
        state.clear()
        state.set_many(STORED)
        assert plain_call(words) is None
        plain = outcome(words, home, through_click=False)
        kept = contents(state)
        state.clear()
        state.set_many(STORED)
        assert plain == outcome(words, home, through_click=True)
        assert kept == contents(state)
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    options = [option for option in command.params if isinstance(option, click.Option)]
    spoken = {word for words in called for word in words}
    assert [option.opts for option in options if "--db" not in option.opts and spoken.isdisjoint(option.opts)] == []


def test_plain_and_click_agree_without_a_store(home: Path) -> None:
    """A missing store and a directory in its place are told of in the same words."""
    for words in (
        ["get", "k"],
        ["get", "k", "--db", str(home)],
        ["exists", "k", "--db", ""],
        ["get", "k", "--db", "a://b"],
    ):
        plain = outcome(words, home, through_click=False)
        assert plain == outcome(words, home, through_click=True)
        assert plain[0] in (2, 3)
        assert plain[2].startswith(b"slothstate: ")


@pytest.mark.parametrize("words", FOR_CLICK, ids=lambda words: " ".join(words) or "nothing")
def test_the_rest_is_left_to_click(words: list[str]) -> None:
    """Options, mistakes and what could be either are click's to judge."""
    assert plain_call(words) is None


def test_completion_is_left_to_click(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that asks for completions of a plain command line gets them."""
    monkeypatch.setenv("_SLOTHSTATE_COMPLETE", "bash_complete")
    assert plain_call(["get", "k"]) is None


def test_click_is_not_imported(home: Path, state: State) -> None:
    """The plain way is there because importing click takes longer than all the rest."""
    state["k"] = 1
    code = (
        "import sys; sys.argv = ['slothstate', 'get', 'k']; from slothstate.__main__ import main; main();"
        "print(sorted({'click', 'rich', 'lupa', 'filelock', 'json', 'signal', 'typing', 're'} & set(sys.modules)))"
    )
    # Without .pth files: those of an editable install import half of the standard library.
    found = f"import site, sys; sys.path[:0] = {sys.path!r}; {code}"
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db")})
    done = subprocess.run(
        [*command()[:1], "-S", "-c", found], env=variables, capture_output=True, check=True, timeout=30
    )
    assert done.stdout == b"1\n[]\n"
