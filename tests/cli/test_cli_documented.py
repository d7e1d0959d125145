"""Every command is documented: in its help, with an example, and in docs/command-line.md."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from helpers import ROOT
from helpers.terminal import output, refusal
from slothstate.cli import FAMILIES, batch, commands

PAGE = ROOT / "docs" / "command-line.md"

VERBS = (
    *("get", "set", "delete", "exists", "keys", "scan", "clear", "ttl", "set-ttl", "persist", "increment", "decrement"),
    *("append", "compare-swap", "push", "pop", "shift", "length", "range", "lock", "unlock", "locks", "stats"),
)

NAMES = [name for family in FAMILIES.values() for name in family]


def command(name: str) -> click.Command:
    """The command of this name."""
    found = commands.get_command(click.Context(commands), name)
    assert found is not None
    return found


def test_every_verb_is_a_command() -> None:
    """No verb of the store is missing, and no command is listed twice."""
    assert set(VERBS) <= set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command(name: str, tmp_path: Path) -> None:
    """The help says what the command does and shows an example; each option has a text, and so has each exit code."""
    text = output(name, "--help", home=tmp_path)
    assert text.startswith(f"Usage: slothstate {name} [OPTIONS]")
    example = re.search(r"^  Examples?:\n((?:    .+\n)+)", text, re.MULTILINE)
    assert example is not None
    assert f"slothstate {name}" in example[1]
    assert not list(tmp_path.iterdir())
    found = command(name)
    assert found.help
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts} has no help"


@pytest.mark.parametrize("name", NAMES)
def test_a_command_has_a_store(name: str) -> None:
    """Each command takes --db, so that it can also stand before the command's name."""
    assert any("--db" in parameter.opts for parameter in command(name).params)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_in_the_manual(name: str) -> None:
    """docs/command-line.md has a row of a table for each command."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert any(re.search(rf"`{re.escape(name)}[ `]", row.split(" | ")[0] + " ") for row in rows)


def test_every_option_is_in_a_page() -> None:
    """Each option of each command, and each variable that its help names, stands in a page of docs/ too."""
    pages = "".join(path.read_text(encoding="utf-8") for path in PAGE.parent.glob("*.md"))
    missing = []
    for name in NAMES:
        found = command(name)
        options = [word for option in found.params if isinstance(option, click.Option) for word in option.opts]
        variables = re.findall(r"\$((?:SLOTHSTATE|XDG)_\w+)", found.help or "")
        for word in (*(word for word in options if word.startswith("--")), *variables):
            if not re.search(rf"{re.escape(word)}(?![\w-])", pages):
                missing.append(f"{name} {word}")
    assert missing == []


def test_what_cannot_be_in_a_batch() -> None:
    """The manual names the commands that `batch` refuses."""
    sentence = PAGE.read_text(encoding="utf-8").partition("cannot be in it: ")[2]
    assert re.findall(r"`([\w-]{2,})`", sentence.partition(", and `-`")[0]) == list(batch._ALONE)


def test_the_list_of_commands(tmp_path: Path) -> None:
    """`slothstate --help` lists every command, each in one line of at most 80 columns."""
    text = output("--help", home=tmp_path)
    for family, names in FAMILIES.items():
        assert f"\n{family}:\n" in text
        for name in names:
            assert re.search(rf"^  {re.escape(name)}  +\w.*\.$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 80
    assert output(home=tmp_path) == text


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("list_push", "push"), ("get_ttl", "ttl"), ("compare_swap", "compare-swap"), ("check", "doctor"), ("gett", "get")],
)
def test_a_verb_that_is_no_command(typed: str, meant: str, tmp_path: Path) -> None:
    """Whoever types the name of a Python verb, or a slip of the pen, is told the command's name."""
    advice = "(see 'slothstate --help')"
    assert refusal(typed, home=tmp_path, code=2) == f"No such command '{typed}': did you mean '{meant}'? {advice}"
    assert refusal("frobnicate", home=tmp_path, code=2) == f"No such command 'frobnicate' {advice}"
