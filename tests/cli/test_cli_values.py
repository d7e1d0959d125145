"""Values on the command line: how they are typed, in what form, and that they come back as they were."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from helpers.command import slothstate
from helpers.terminal import ESC, in_terminal, invoke, output, refusal
from slothstate import State

TYPED: dict[str, Any] = {
    "v1.2.3": "v1.2.3",
    "5": 5,
    "-5": -5,
    "-0.5": -0.5,
    "1.0": 1.0,
    "1e3": 1000.0,
    "007": "007",
    "+5": "+5",
    "true": True,
    "True": "True",
    "NaN": "NaN",
    '"5"': "5",
    '"-"': "-",
    "": "",
    " ": " ",
    "9223372036854775807": 2**63 - 1,
    '{"a": [1, 2.0, null]}': {"a": [1, 2.0, None]},
    "[]": [],
    "{}": {},
    "{broken": "{broken",
    "100%": "100%",
    "größe €": "größe €",
}

NASTY = {
    "dash": "-rf",
    "option": "--json",
    "newline": "a\nb\n",
    "return": "a\r\n",
    "tab": "\t",
    "escape": f"{ESC}[31mred{ESC}]0;title\x07",
    "c1": "\x9b31m",
    "bidi": "\u202etxt.exe",
    "percent": "%s %n %(x)s {} $HOME `id`",
    "quote": "'\"\\",
    "wide": "日本語 é 😀",
    "spaces": "  two  ",
}


def kind_and_value(value: Any) -> tuple[type, Any]:
    """What tells 1 from 1.0 and from True."""
    return type(value), value


@pytest.mark.parametrize("typed", TYPED)
def test_values_are_typed_by_how_they_are_written(home: Path, state: State, typed: str) -> None:
    """What is JSON is stored as that, anything else as a string; a negative number needs no `--`."""
    assert output("set", "key", typed, home=home) == ""
    assert kind_and_value(state["key"]) == kind_and_value(TYPED[typed])
    assert output("set", "key", "-", home=home, stdin=typed + "\n") == ""
    assert kind_and_value(state["key"]) == kind_and_value(TYPED[typed])


@pytest.mark.parametrize(
    ("arguments", "stored"),
    [
        (["key", "-5", "--ttl", "60"], -5),
        (["--ttl", "60", "key", "-5"], -5),
        (["--ttl=60", "--string", "key", "-5"], "-5"),
        (["key", "--ttl", "60", "--", "-5"], -5),
        (["--ttl", "60", "--", "key", "--ttl"], "--ttl"),
        (["--ttl", "60", "key", "--", "--"], "--"),
    ],
)
def test_options_stand_where_they_like(home: Path, state: State, arguments: list[str], stored: object) -> None:
    """Options may come before, between and after values that are negative numbers; after `--` everything is a value."""
    assert output("set", *arguments, home=home) == ""
    assert state["key"] == stored
    assert state.get_ttl("key") == 60


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["key", "5", "--tll", "60"], "No such option '--tll'. Did you mean '--ttl'?"),
        (["key", "-v"], "No such option '-v'"),
        (["key", "5", "--ttl"], "Option '--ttl' requires an argument"),
        (["key", "5", "-6"], "Got unexpected extra argument (-6)"),
        (["key", "5", "--ttl", "-6"], "'-6' is no duration"),
    ],
)
def test_options_that_are_none(home: Path, arguments: list[str], problem: str) -> None:
    """A mistyped option is not taken for a value, nor a value for an option."""
    assert problem in refusal("set", *arguments, home=home, code=2)


@pytest.mark.parametrize(
    ("options", "typed", "value"),
    [
        (["--string"], "5", "5"),
        (["--string"], "null", "null"),
        (["--json"], "5", 5),
        (["--json"], '"a"', "a"),
        (["--bytes"], "5", b"5"),
        (["--base64"], "/wA=", b"\xff\0"),
    ],
)
def test_the_form_of_a_value_can_be_said(home: Path, state: State, options: list[str], typed: str, value: Any) -> None:
    """--string, --json, --bytes and --base64 say how a value is to be read, typed or from stdin."""
    output("set", "key", typed, *options, home=home)
    assert kind_and_value(state["key"]) == kind_and_value(value)
    output("set", *options, "key", "-", home=home, stdin=typed)
    assert kind_and_value(state["key"]) == kind_and_value(value)


def test_bytes_come_and_go_exactly(home: Path, state: State) -> None:
    """--bytes stores stdin to the last byte; a pipe gets the very same bytes back, --json gives base64."""
    content = bytes(range(256)) + b"\n\r\n"
    slothstate("set", "blob", "--bytes", "-", home=home, stdin=content)
    assert state["blob"] == content
    for options in ((), ("--raw",)):
        assert invoke("get", "blob", *options, home=home).stdout_bytes == content
    assert json.loads(output("get", "blob", "--json", home=home)) == base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (["12345678901234567890"], b"", "an integer past 64 bits; --string stores the text"),
        (["[" * 501 + "]" * 501], b"", "nested too deep (past 500 levels); --string stores the text"),
        (["[1, 12345678901234567890]"], b"", "an integer past 64 bits; --string stores the text"),
        (["1e999"], b"", "a number past the largest float; --string"),
        (["null"], b"", "null is no value, except in a table or list: --string null"),
        (["--json", "{broken"], b"", "invalid JSON text at byte 1 of 7"),
        (["--base64", "a"], b"", "not base64"),
        (["-"], b"ab\xff", "stdin is not UTF-8 at byte 2: --bytes"),
        (["a", "--ttl", "5x"], b"", "'5x' is no duration: write 30, 1.5, 500ms, 5m, 1h or 2d, or several"),
        (["a", "--ttl", "0"], b"", "ttl must be a number of seconds > 0"),
        (["a", "--jsno"], b"", "No such option '--jsno'"),
        (["a", "b"], b"", "unexpected extra argument (b): "),
        ([], b"", "Missing argument 'VALUE'"),
    ],
)
def test_what_cannot_be_a_value_is_misuse(home: Path, arguments: list[str], stdin: bytes, says: str) -> None:
    """A value that cannot be stored as it was meant, or a mistyped option, exits with 2 and creates no store."""
    said = refusal("set", "key", *arguments, home=home, code=2, stdin=stdin)
    assert says in said
    assert arguments == ["a", "--ttl", "0"] or not (home / "state.db").exists()


@pytest.mark.parametrize("key", NASTY)
@pytest.mark.parametrize("value", NASTY)
def test_nasty_keys_and_values_round_trip(home: Path, state: State, key: str, value: str) -> None:
    """Dashes, line breaks, escapes and percent signs are stored and given back exactly, behind `--`."""
    output("set", "--string", "--", NASTY[key], NASTY[value], home=home)
    assert dict(state.items()) == {NASTY[key]: NASTY[value]}
    assert output("get", "--raw", "--", NASTY[key], home=home) == NASTY[value]
    assert json.loads(output("get", "--json", "--", NASTY[key], home=home)) == NASTY[value]
    assert json.loads(output("keys", "--json", home=home)) == [NASTY[key]]
    assert output("keys", "--null", home=home) == NASTY[key] + "\0"
    output("delete", "--", NASTY[key], home=home)
    assert len(state) == 0


def test_huge_keys_and_values(home: Path, state: State) -> None:
    """A key of 4096 bytes and a value of megabytes pass; a longer key is refused in one line."""
    value = "x" * 5_000_000
    slothstate("set", "k" * 4096, "-", home=home, stdin=value.encode())
    assert state["k" * 4096] == value
    assert slothstate("get", "k" * 4096, home=home) == value + "\n"
    assert "4097 bytes" in refusal("set", "k" * 4097, "1", home=home, code=2)
    assert len(in_terminal("keys", home=home)) < 10_000


@pytest.mark.parametrize("value", [*NASTY.values(), 1.0, {"a": ["b\x1b", None]}, True])
def test_what_get_prints_set_reads(home: Path, state: State, value: Any) -> None:
    """In pipes `get | set -` copies a value: get adds one newline, set takes one away."""
    state["key"] = value
    output("set", "copy", "-", home=home, stdin=output("get", "key", home=home))
    assert kind_and_value(state["copy"]) == kind_and_value(value)
