"""What people type: other names of commands, hints, help, durations, values that look like options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.terminal import in_terminal, invoke, output, refusal
from slothstate import State
from slothstate import open as open_state
from slothstate.cli import FAMILIES, commands, wording
from slothstate.cli.wording import ALIASES, hint

NAMES = [name for family in FAMILIES.values() for name in family]


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("ttl a 5", "(5): 'slothstate set-ttl KEY SECONDS' sets it (see"),
        (
            "set a two words",
            "(words): a value with blanks stands in quotes, a time to live behind --ttl, several keys behind --pairs",
        ),
        ("append a two words", "(words): a value with blanks stands in quotes (see"),
        ("persist a b", "(b) (see"),
    ],
)
def test_an_argument_too_many(home: Path, typed: str, advice: str) -> None:
    """It is named, with what was probably meant."""
    assert f"Got unexpected extra argument {advice}" in refusal(*typed.split(), home=home, code=2)


def test_aliases(home: Path, state: State) -> None:
    """Names of other tools do what our command does, wherever the meaning is the same."""
    typed = ["put a 1", "cat a", "incr a", "incr a 2", "incrby a 2", "decr a", "decrby a 2", "cas a 3 4", "expire a 1h"]
    for line in (*typed, "rpush q x y z", "llen q", "lrange q 0 1", "lpop q", "rpop q", "ls"):
        output(*line.split(), home=home)
    assert dict(state) == {"a": 4, "q": ["y"]}
    assert state.get_ttl("a") == 3600
    for name in ("rm", "del", "unlink"):
        state["b"] = 1
        output(name, "b", home=home)
        assert "b" not in state
    assert output("ls", "a*", home=home) == "a\n"
    assert output("--db", home / "state.db", "cat", "a", home=home) == "4\n"
    assert output("cat", "a", "--db", home / "state.db", home=home) == "4\n"
    assert set(ALIASES.values()) <= set(NAMES)
    assert not set(ALIASES) & set(NAMES)


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("hset", "there is 'slothstate set KEY --field .NAME VALUE'"),
        ("lrem", "there is 'slothstate remove-item KEY ITEM'"),
        ("flushall", "there is 'slothstate clear --yes [PATTERN]'"),
        ("SETEX", "there is 'slothstate set KEY VALUE --ttl SECONDS'"),
        ("setnx", "there is 'slothstate set KEY VALUE --absent'"),
        ("size", "'slothstate length KEY' counts a list"),
        ("version", "there is 'slothstate --version'"),
        ("info", "did you mean 'stats'?"),
        ("LS", "did you mean 'ls'?"),
        ("unset", "did you mean 'delete'?"),
        ("has", "did you mean 'exists'?"),
        ("Get", "did you mean 'get'?"),
        ("list_shift", "did you mean 'shift'?"),
        ("list_set", "there is 'slothstate set KEY --field [INDEX] ITEM'"),
        ("list_remove", "there is 'slothstate remove-item KEY ITEM'"),
        ("list_pop_many", "there is 'slothstate pop KEY --count N'"),
        ("shift-many", "there is 'slothstate shift KEY --count N'"),
        ("get-many", "there is 'slothstate get KEY...'"),
        ("set-many", "there is 'slothstate set --pairs KEY=VALUE...'"),
        ("get_field", "there is 'slothstate get KEY --field PATH'"),
        ("examine", "did you mean 'doctor'?"),
        ("try_lock", "there is 'slothstate with-lock NAME --timeout 0 -- COMMAND...'"),
    ],
)
def test_hints(home: Path, typed: str, instead: str) -> None:
    """What has no command of the same meaning says what to type, with its syntax."""
    said = refusal(typed, "x", home=home, code=2)
    assert said.startswith(f"No such command {typed!r}: {instead}")
    assert said.endswith("(see 'slothstate --help')")


def test_hints_name_what_there_is() -> None:
    """Each command in a hint exists, and so do its options."""
    texts = [*wording._INSTEAD.values(), *re.findall(r"'slothstate ([^']+)'", " ".join(wording._EXPLAINED.values()))]
    for text in texts:
        name, *rest = text.split()
        if name.startswith("-"):
            continue
        command = commands.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None, text
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-") and word != "--"} <= options, text
    assert hint("frobnicate", NAMES) == ""


def test_remove_is_refused(home: Path, state: State) -> None:
    """It could be a key or an item: nothing is deleted, and both commands are named."""
    state["q"] = ["a", "b"]
    for typed in (("remove", "q", "b"), ("remove", "q"), ("help", "remove")):
        said = refusal(*typed, home=home, code=2)
        assert "'slothstate delete KEY...' deletes keys, 'slothstate remove-item KEY ITEM' takes items" in said
    assert state["q"] == ["a", "b"]


def test_every_verb_has_a_command_or_a_hint() -> None:
    """A verb of Python that is no command leads to the one that does it, not to one that looks like it."""
    verbs = {name for name in dir(State) if not name.startswith("_")}
    others = {name for name in verbs if name.replace("_", "-") not in NAMES}
    assert {name for name in others if not hint(name, NAMES)} == set()
    known = {*NAMES, *wording._INSTEAD, *wording._EXPLAINED}
    # Not by likeness alone.
    plain = {name.replace("_", "-") for name in others}
    assert {name for name in plain if not known & {name, name.removeprefix("list-").removeprefix("get-")}} == set()


def test_help(home: Path) -> None:
    """`help` is --help, of a command if one is named; what it cannot explain is refused with a hint."""
    assert output("help", home=home) == output("--help", home=home) == output("help", "help", home=home)
    assert output("help", "set", home=home) == output("set", "--help", home=home) == output("help", "put", home=home)
    assert refusal("help", "sett", home=home, code=2).startswith("No such command 'sett': did you mean 'set'?")
    assert refusal("help", "set", "get", home=home, code=2).startswith("help takes one command")
    assert output("-V", home=home) == output("--version", home=home)


DURATIONS = {
    "90": 90,
    "0.5": 1,
    ".5": 1,
    "1500ms": 2,
    "1h30m": 5400,
    "1h 30m": 5400,
    "1d12h": 129_600,
    "1w": 604_800,
    "1w2d3h4m5s6ms": 604_800 + 2 * 86_400 + 3 * 3_600 + 4 * 60 + 6,
    "1.5h": 5400,
    "2m0.5s": 121,
}


@pytest.mark.parametrize(("typed", "seconds"), DURATIONS.items())
def test_durations(home: Path, state: State, typed: str, seconds: int) -> None:
    """A duration is seconds, or numbers with units, larger units first, as `keys` shows it, too."""
    output("set", "k", "v", "--ttl", typed, home=home)
    assert seconds - 1 <= state.get_ttl("k") <= seconds
    output("expire", "k", typed, home=home)
    assert seconds - 1 <= state.get_ttl("k") <= seconds


@pytest.mark.parametrize(
    "typed", ["", "h", "1x", "1h30", "30m1h", "1h1h", "1 h x", "1,5h", "1e3", "1H", "١h", "5.", "1h-1m"]
)
def test_what_is_no_duration(home: Path, state: State, typed: str) -> None:
    """Anything else is refused with examples, and nothing is stored."""
    said = refusal("set", "k", "v", "--ttl", typed, home=home, code=2)
    assert "is no duration: write 30, 1.5, 500ms, 5m, 1h or 2d, or several: 1w2d, 1h30m" in said
    assert "k" not in state


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["set", "k", "-v"], "'slothstate set -- KEY VALUE'"),
        (["append", "-k", "text"], "'slothstate append -- KEY TEXT'"),
        (["push", "k", "-i"], "'slothstate push -- KEY ITEM...'"),
        (["delete", "-rf"], "'slothstate delete -- KEY...'"),
        (["get", "--k"], "'slothstate get -- KEY...'"),
    ],
)
def test_a_value_with_a_hyphen(home: Path, state: State, arguments: list[str], advice: str) -> None:
    """What looks like an option and is none says how a value like it is given; a slip of the pen names the option."""
    said = refusal(*arguments, home=home, code=2)
    assert f"a value that begins with a hyphen stands behind --, {advice}" in said
    assert "behind --" not in refusal("set", "k", "v", "--tll", "5", home=home, code=2)
    assert "behind --" not in refusal("stats", "--frob", home=home, code=2)
    assert "behind --" not in refusal("with-lock", "--frob", home=home, code=2)


def test_every_missing_key_is_named(home: Path, state: State) -> None:
    """`delete` says on a terminal which of its keys were not there, all of them."""
    state.set_many({"a": 1, "b": 2})
    said = "slothstate: there is no key 'x', 'y' or 'z'\n"
    assert in_terminal("delete", "x", "a", "y", "z", "x", home=home, code=1) == said
    assert in_terminal("delete", "x", "b", home=home, code=1) == "slothstate: there is no key 'x'\n"
    assert not list(state)
    state["c"] = 1
    assert in_terminal("delete", "c", "c", home=home) == ""


@pytest.mark.parametrize("name", [name for name in NAMES if name != "path"])
def test_how_a_store_is_opened(home: Path, name: str) -> None:
    """Each command that opens a store takes --durability and --busy-timeout, before its name as well."""
    text = output(name, "--help", home=home)
    assert "--durability [process|full]" in text
    assert "--busy-timeout SECONDS" in text


def test_the_settings_are_those_of_the_store(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given reaches `open`, the command's own before the group's; nothing given, nothing set."""
    opened: list[dict[str, object]] = []

    def opening(path: str | None, **options: object) -> State:
        opened.append(options)
        return open_state(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("slothstate.open", opening)
    output("set", "a", "1", home=home)
    output("set", "a", "1", "--durability", "full", "--busy-timeout", "1m30s", home=home)
    output("--durability", "full", "--busy-timeout", "5", "get", "a", "--busy-timeout", "0", home=home)
    output("--durability", "full", "shell", "-e", "1", home=home)
    assert opened == [
        {},
        {"durability": "full", "busy_timeout": 90.0},
        {"durability": "full", "busy_timeout": 0.0},
        {"durability": "full"},
    ]
    assert "'half'" in refusal("get", "a", "--durability", "half", home=home, code=2)
    assert "No such option" in refusal("path", "--durability", "full", home=home, code=2)


def test_a_busy_timeout(home: Path, state: State) -> None:
    """Who does not want to wait for another writer is told at once."""
    with state.transaction():
        state["a"] = 1
        result = invoke("set", "b", "1", "--busy-timeout", "0", "--db", home / "state.db", home=home)
    assert result.exit_code == 3
