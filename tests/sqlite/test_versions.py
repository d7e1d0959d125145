"""Other versions of the store, other modes of the interpreter, and calls that no version should have allowed."""

from __future__ import annotations

import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers import TESTS
from helpers.processes import Channel, let_go, processes
from helpers.sqlite import raw, store_of
from helpers.support import in_time, run_python
from helpers.verbs import KINDS, VERBS
from slothstate import SlothStateError, State, UnsafeState, Watch
from slothstate.engines.sqlite import schema
from slothstate.engines.sqlite.pool import IDENTITY_CHECK_INTERVAL

OPENERS = 8
NOTICED = IDENTITY_CHECK_INTERVAL + 0.05

OURS = schema.SCHEMA_VERSION
LATER = OURS + 1


def migrate(path: str, version: int) -> None:
    """Do the first thing that a slothstate of another version would do to a store."""
    raw(path, f"pragma user_version = {version}")


@pytest.mark.damaged
@pytest.mark.parametrize(
    "use",
    [
        lambda state: state.get("k"),
        lambda state: state.set("k", 2),
        lambda state: state.increment("k"),
        lambda state: state.clear(),
        lambda state: state.set_many({"k": 2}),
        lambda state: state.try_lock("l"),
        lambda state: state.sweep(),
        lambda state: state.transaction().__enter__(),
    ],
)
def test_store_of_a_new_version_is_refused_by_who_has_it_open(path: str, use: Callable[[State], object]) -> None:
    """50 ms after another process has raised the version, an open State refuses, naming both, and writes nothing."""
    state = slothstate.open(path)
    state.set("k", 1)
    assert state.get("k") == 1
    migrate(path, LATER)
    time.sleep(NOTICED)
    rows = raw(path, "select * from entries")
    with pytest.raises(UnsafeState, match=f"schema version {LATER}, this slothstate reads version {OURS}: upgrade"):
        use(state)
    assert raw(path, "select * from entries") == rows
    migrate(path, schema.SCHEMA_VERSION)
    with pytest.raises(UnsafeState, match=f"version {LATER}"):
        use(state)
    state.close()
    with slothstate.open(path) as again:
        assert again.get("k") == 1


@pytest.mark.damaged
def test_busy_writer_notices_a_new_version_within_its_interval(path: str) -> None:
    """A State that writes without pause stops within 100 ms of the change; what it wrote until then is there."""
    attempts = itertools.count()

    def noticed() -> float:
        store = f"{path}-{next(attempts)}"
        with slothstate.open(store) as state:
            written = state.increment("n")
            migrate(store, LATER)
            changed = time.monotonic()
            with pytest.raises(UnsafeState):
                while time.monotonic() < changed + 5:
                    written = state.increment("n")
            took = time.monotonic() - changed
        assert raw(store, "select value from entries where key = 'n'") == [(written,)]
        return took

    assert in_time(noticed, 0.1)


def open_and_report(channel: Channel, path: str) -> str:
    channel.ready()
    try:
        slothstate.open(path).close()
    except UnsafeState as error:
        return str(error)
    return "opened"


@pytest.mark.damaged
@pytest.mark.parametrize("version", [0, LATER])
def test_processes_that_open_another_version_at_once(path: str, version: int) -> None:
    """Of several processes that meet another version, all refuse, also when it stands only in the log."""
    with processes() as start, slothstate.open(path) as state:
        state.set("k", 1)
        migrate(path, version)
        workers = [start(open_and_report, path) for _ in range(OPENERS)]
        let_go(workers)
        reports = [worker.result() for worker in workers]
    assert all(f"has schema version {version}, this slothstate reads version {OURS}" in report for report in reports)
    assert raw(path, "pragma user_version", "select key, value from entries") == [("k", 1)]


JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    math.nan,
    math.inf,
    1j,
    "",
    "\0",
    "\ud800",
    "[",
    b"x",
    (),
    [],
    [1],
    {},
    {1: 2},
    {"a": {1, 2}},
    object(),
    int,
    len,
    iter("ab"),
    b"\xff",
    bytearray(b"x"),
)

GOOD: dict[str, Any] = {
    "key": "k",
    "keys_": ["k"],
    "name": "n",
    "value": 1,
    "old": 1,
    "new": 2,
    "text": "t",
    "pattern": "*",
    "seconds": 5,
    "ttl": 5,
    "timeout": 0,
    "delta": 1,
    "start": 0,
    "stop": -1,
    "mapping": {"k": 1},
    "fn": lambda: None,
    "default": None,
    "items": 1,
}

MAPPING = ("pop", "popitem", "setdefault", "update", "items", "values", "keys", "clear", "get")
"""What comes from or looks like the mapping protocol, which has errors of its own."""

WAITS = ("list_claim", "list_pop", "list_shift", "wait")

VERBS_OF_STATE = sorted(
    name for name, _ in inspect.getmembers(State, callable) if not name.startswith("_") and name != "close"
)


def consume(result: object) -> None:
    """Use a result up: a generator runs only then, and so does what enters a context."""
    if isinstance(result, Watch):
        # It would wait for the next change.
        result.close()
    elif isinstance(result, AbstractContextManager) and not isinstance(result, State):
        with result:
            pass
    elif isinstance(result, Iterator):
        list(result)


def attempt(call: Callable[[], object], allowed: tuple[type[Exception], ...]) -> None:
    with suppress(*allowed):
        consume(call())


@pytest.mark.parametrize("name", VERBS_OF_STATE)
def test_wrong_arguments_are_type_errors_or_ours(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Too many, too few, unknown or nonsensical arguments raise TypeError or an error of ours, and harm nothing."""
    # A backup may well be written to a file whose name is nonsense.
    monkeypatch.chdir(tmp_path)
    allowed = (TypeError, SlothStateError, *((KeyError, ValueError) if name in MAPPING else ()))
    with slothstate.open(path, busy_timeout=1) as state:
        verb = getattr(state, name)
        parameters = list(inspect.signature(getattr(State, name)).parameters.values())[1:]
        good = {
            one.name: GOOD.get(one.name, str(tmp_path / "other") if one.name == "path" else one.default)
            for one in parameters
            if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        }
        variadic = any(one.kind == one.VAR_POSITIONAL for one in parameters)
        if not variadic:
            with pytest.raises(TypeError):
                verb(*good.values(), 1, 2, 3)
        if any(one.default is one.empty and one.kind == one.POSITIONAL_OR_KEYWORD for one in parameters):
            with pytest.raises(TypeError):
                verb()
        if not any(one.kind == one.VAR_KEYWORD for one in parameters):
            with pytest.raises(TypeError):
                verb(**good, no_such_argument=1)
        for junk in JUNK:
            for position, parameter in enumerate(good):
                if parameter == "timeout" and junk is None and name in WAITS:
                    # For ever.
                    continue
                arguments = list(good.values())
                arguments[position] = junk
                attempt(partial(verb, *arguments), allowed)
                state.unlock("n")
            if variadic:
                attempt(partial(verb, *good.values(), junk), allowed)
        assert not store_of(state).in_transaction
        assert state.set("after", 1)
        assert state.get("after") == 1


@pytest.mark.parametrize("name", [one.name for one in inspect.signature(slothstate.open).parameters.values()])
def test_wrong_arguments_of_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """`open` answers nonsense with TypeError or an error of ours, and makes no file of another name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLOTHSTATE_DB", str(tmp_path / "default.db"))
    for junk in JUNK:
        if name == "path" and junk == "[":
            continue
        arguments: dict[str, Any] = {"path": tmp_path / "state.db", name: junk}
        with suppress(TypeError, SlothStateError):
            slothstate.open(**arguments).close()
    with pytest.raises(TypeError):
        slothstate.open(tmp_path / "state.db", "full")  # type: ignore[call-arg]
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} <= {"state.db", "default.db"}


EVERY_VERB = """
import sys
sys.path.insert(0, sys.argv[2])
from helpers.verbs import KINDS, VERBS, put
import slothstate
from slothstate import lua

with slothstate.open(sys.argv[1]) as state:
    for verb in VERBS:
        for kind in KINDS:
            state.clear()
            put(state, "k", kind)
            try:
                result = verb.call(state, "k")
            except slothstate.SlothStateError as error:
                result = error
            print(verb, kind, repr(result), repr(state.get("k")))
    with state.locked("l", timeout=1) as lock, lock.transaction():
        print(lock.token, lock.lost)
    print(state.try_lock("l"), state.unlock("l"), state.check(), sorted(state.stats()))
    runtime = lua.new_runtime()
    lua.bind(runtime, state)
    print(runtime.eval("state.increment('n')"), repr(runtime.eval("select(2, pcall(state.set))")))
"""


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What every verb prints in the usual mode."""
    return run_every_verb(tmp_path_factory.mktemp("usual"))


def run_every_verb(directory: Path, *options: str) -> str:
    return run_python(EVERY_VERB, directory / "state.db", TESTS, options=options)


@pytest.mark.parametrize("options", [("-bb", "-W", "error", "-X", "dev"), ("-O",), ("-OO",), ("-X", "utf8=0")], ids=str)
def test_every_verb_in_every_mode_of_the_interpreter(tmp_path: Path, usual: str, options: tuple[str, ...]) -> None:
    """Nothing depends on assertions, docstrings or the locale, nothing warns, no str is compared with bytes."""
    assert run_every_verb(tmp_path, *options) == usual
    assert usual.count("\n") > len(VERBS) * len(KINDS)
