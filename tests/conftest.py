"""Shared fixtures, and what holds for every test: no store's file is opened by path, and every store ends sound."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

import helpers
import slothstate
from helpers import opened, planted
from helpers.sqlite import state_at
from helpers.support import Clock
from helpers.tiers import GRIDS, LONGEST, SAMPLE, SAMPLE_OF_GRID, TIERS, TOO_LONG
from slothstate import State

hypothesis.settings.register_profile("quick", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("quick")

planted.plant()


@pytest.fixture(params=["native", "plain"])
def binding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two ways in which a Lua script reaches the store."""
    monkeypatch.setenv("SLOTHSTATE_LUA_BINDING", request.param)
    return str(request.param)


def pytest_configure(config: pytest.Config) -> None:
    # A background job ignores these, one under nohup the last too, and so would every command that a test starts.
    for name, usual in (
        ("SIGINT", signal.default_int_handler),
        ("SIGQUIT", signal.SIG_DFL),
        ("SIGHUP", signal.SIG_DFL),
    ):
        number = getattr(signal, name, None)  # Windows has the first alone
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)
    # Some thousand processes import the package: where bytecode is not kept, each would compile it anew.
    if not hasattr(config, "workerinput") and planted.VARIABLE not in os.environ:
        compileall.compile_dir(Path(slothstate.__file__).parent, quiet=2)
        compileall.compile_dir(Path(helpers.__file__).parent, quiet=2)
    # Making a store syncs it to disk, which takes most of the time of most tests, and a cluster of PostgreSQL is a
    # thousand files; on a RAM disk both cost next to nothing.
    if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 2**30:
        os.environ.setdefault("TMPDIR", "/dev/shm")
        tempfile.tempdir = None
    config.addinivalue_line("markers", "damaged: the test damages its stores, so they do not end sound")


def _is_left_out(item: pytest.Item, sample: int) -> bool:
    """Return whether a test is not in a sample of one in so many, the same at each run."""
    return zlib.crc32(item.nodeid.encode()) % sample != 0


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what no test of the tier is in: importing it would take a tenth of the time of the quick one."""
    modules = TIERS.get(config.option.markexpr)
    name = collection_path.stem
    return (modules is not None and name.startswith("test_") and name.removeprefix("test_") not in modules) or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        is_grid = item.path.stem.removeprefix("test_") in GRIDS and "postgresql" in item.name
        if is_grid and _is_left_out(item, SAMPLE_OF_GRID):
            item.add_marker("long")
        if item.get_closest_marker("long") is None:
            for tier, modules in TIERS.items():
                is_left_out = tier == "quick" and item.name.partition("[")[0] in TOO_LONG
                if tier == "quick" and "postgresql" in item.name and _is_left_out(item, SAMPLE):
                    continue
                if item.path.stem.removeprefix("test_") in modules and not is_left_out:
                    item.add_marker(tier)
    items.sort(key=lambda item: item.name.partition("[")[0] not in LONGEST)


@pytest.fixture(autouse=True)
def _no_file_of_a_store_is_opened_by_path() -> Iterator[None]:
    """Closing such a descriptor would drop the POSIX locks that SQLite holds in this process."""
    opened.PATHS.clear()
    yield
    assert opened.PATHS == []


@pytest.fixture(autouse=True)
def _every_store_ends_sound(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close what the test left open below its `tmp_path`, then audit each store there, whichever process wrote it."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    below = request.getfixturevalue("tmp_path")
    yield
    for state in list(slothstate.state._open_states):
        if below in Path(state._engine.address).parents:
            state.close()
    if request.node.get_closest_marker("damaged"):
        return
    for locks in below.glob("**/*.db-locks"):
        database = locks.with_name(locks.name.removesuffix("-locks"))
        if database.is_file():
            with slothstate.open(database) as state:
                assert state.check() == []


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """A function that notes a measured figure; all of them are printed at the end of the run."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    figures = [text for report in reports for name, text in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.write_line(text)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The path of the store that `state` opens."""
    return str(tmp_path / "state.db")


@pytest.fixture
def open_state(path: str, clock: Clock) -> Callable[[], State]:
    """A function that opens another handle on the same store, with the same clock."""
    return lambda: state_at(path, clock)


@pytest.fixture
def state(open_state: Callable[[], State]) -> Iterator[State]:
    """A new store whose time is told by `clock`."""
    with open_state() as state:
        yield state


@pytest.fixture(scope="module")
def shared_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A store for all tests of a module: for Hypothesis, which calls a test many times within one fixture."""
    with slothstate.open(tmp_path_factory.mktemp("shared") / "state.db") as state:
        yield state
        assert state.check() == []
