"""The kernel's locks on a store's files, which SQLite's safety rests on: no public call drops or leaves one.

Closing any descriptor of a file drops all POSIX locks that the process has on it, whoever took them. So the lines of
/proc/locks are compared before and after every call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import slothstate
from helpers.sqlite import locks_of
from helpers.terminal import invoke
from helpers.verbs import KINDS, VERBS, Verb, put
from slothstate import State

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux lists its locks")

LOOKING: dict[str, Callable[[State, str], object]] = {
    "keys": lambda state, _: state.keys("*"),
    "scan": lambda state, _: list(state.scan()),
    "items": lambda state, _: list(state.items()),
    "values": lambda state, _: list(state.values()),
    "entries": lambda state, _: list(state.entries()),
    "entry": lambda state, _: state.entry("k"),
    "len": lambda state, _: len(state),
    "locks": lambda state, _: state.locks(),
    "stats": lambda state, _: state.stats(),
    "health": lambda state, _: state.health(),
    "usage": lambda state, _: state.usage(),
    "activity": lambda state, _: state.activity(1),
    "check": lambda state, _: state.check(),
    "dump": lambda state, _: list(state.dump()),
    "backup": lambda state, target: state.backup(target),
    "get": lambda state, _: state.get("k"),
    "get_many": lambda state, _: state.get_many(["k", "list"]),
    "list_range": lambda state, _: state.list_range("list"),
}
"""What only reads, so it can be done beside somebody's transaction."""

CHANGING: dict[str, Callable[[State, str], object]] = {
    "clear": lambda state, _: state.clear("k*"),
    "sweep": lambda state, _: state.sweep(),
    "compact": lambda state, _: state.compact(),
    "load": lambda state, _: state.load(list(state.dump())),
    "lock": lambda state, _: (state.lock("l", 1), state.unlock("l")),
    "try_lock": lambda state, _: (state.try_lock("l"), state.unlock("l")),
    "with_lock": lambda state, _: state.with_lock("l", lambda: state.set("k", 1)),
    "break_lock": lambda state, _: state.break_lock("nobody's"),
    "set_many": lambda state, _: state.set_many({"a": 1, "b": [2]}),
    "update": lambda state, _: state.update(a=2),
    "another State": lambda state, _: slothstate.open(state.stats()["path"]).close(),
    "large value": lambda state, _: state.set("large", "x" * 2**21),
}

COMMANDS_LOOKING = (
    "get k",
    "exists k",
    "keys",
    "scan",
    "ttl k",
    "length list",
    "range list",
    "locks",
    "stats",
    "inspect k",
    "du",
    "doctor",
    "dump",
    "backup TARGET",
    "path",
)

COMMANDS_CHANGING = ("set k 1", "increment n", "push list 1", "pop list", "compact", "sweep", "unlock nobody's")


def command(home: Path, line: str, target: Path) -> None:
    """Run a command of the command line in this process."""
    result = invoke(*(target if word == "TARGET" else word for word in line.split()), home=home)
    assert result.exit_code in (0, 1), result.output


@pytest.fixture
def state(path: str) -> State:
    state = slothstate.open(path)
    state.set("k", "v")
    state.list_push("list", 1, 2, 3)
    return state


@pytest.mark.parametrize("verb", VERBS, ids=str)
def test_verb_leaves_the_locks(path: str, state: State, verb: Verb) -> None:
    """After every verb on every kind, done or refused, the process has the locks it had before."""
    before = locks_of(path)
    assert before
    for kind in KINDS:
        state.delete("key")
        put(state, "key", kind)
        try:
            verb.call(state, "key")
        except slothstate.SlothStateError:
            assert kind not in verb.works_on
        assert locks_of(path) == before


@pytest.mark.parametrize("name", [*LOOKING, *CHANGING])
def test_call_leaves_the_locks(path: str, tmp_path: Path, state: State, name: str) -> None:
    """The same for what is done to a whole store."""
    before = locks_of(path)
    (LOOKING | CHANGING)[name](state, str(tmp_path / "copy.db"))
    assert locks_of(path) == before
    with state.transaction():
        state.set("k", "inside")
        assert locks_of(path) != before
    assert locks_of(path) == before


@pytest.mark.parametrize("line", [*COMMANDS_LOOKING, *COMMANDS_CHANGING])
def test_command_leaves_the_locks(path: str, tmp_path: Path, state: State, line: str) -> None:
    """The same for a command in the same process, with a State of its own."""
    before = locks_of(path)
    command(tmp_path, line, tmp_path / "copy.db")
    assert locks_of(path) == before


def test_nothing_that_looks_takes_the_writers_lock(path: str, tmp_path: Path, state: State) -> None:
    """In the middle of a transaction another State may open, look at everything and close: the write lock stays."""
    with state.transaction():
        state.set("k", "inside")
        before = locks_of(path)
        assert any("WRITE 120 120" in line for line in before), before
        with slothstate.open(path) as second:
            for name, look in LOOKING.items():
                look(second, str(tmp_path / "first.db"))
                assert locks_of(path) == before, name
        assert locks_of(path) == before
        for number, line in enumerate(COMMANDS_LOOKING):
            command(tmp_path, line, tmp_path / f"copy-{number}.db")
            assert locks_of(path) == before, line
    assert state.get("k") == "inside"
