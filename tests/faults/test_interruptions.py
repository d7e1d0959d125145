"""Ctrl-C at every single point where CPython looks for signals: nothing stays locked, held or half done."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import store_of
from slothstate import State
from slothstate.engines.sqlite import foreign_sqlite, forking

DEADLINE = 20.0
"""Seconds that another thread may take to find everything free: it hangs if something is not."""

MOST_POINTS = 20_000


@pytest.fixture(scope="session")
def interruptions(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Compile tests/interruptions.c; return the path of the module."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not hasattr(signal, "SIGUSR1"):
        pytest.skip("needs a C compiler and SIGUSR1")
    module = tmp_path_factory.mktemp("interruptions") / f"interruptions{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = Path(__file__).with_name("interruptions.c")
    include = f"-I{sysconfig.get_path('include')}"
    subprocess.run([compiler, "-shared", "-fPIC", include, "-o", str(module), str(source)], check=True)
    return str(module)


def load(module: str) -> Any:
    """Return the compiled module."""
    spec = importlib.util.spec_from_file_location("interruptions", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


opened: list[State] = []
"""What an operation opened, and must have closed."""

sharers: list[contextlib.AbstractContextManager[slothstate.Lock]] = []
"""What shares a lock for as long as the process lives."""


def one_verb(call: Callable[[State], object]) -> Callable[[State, str], None]:
    def operation(state: State, path: str) -> None:
        call(state)

    return operation


def transact(state: State, path: str) -> None:
    with state.transaction():
        state.set("a", 1)
        state.list_push("list", 1)
        state.get("a")


def transact_nested(state: State, path: str) -> None:
    with state.transaction():
        state.set("a", 1)
        with state.transaction():
            state.increment("counter")


def undo(state: State, path: str) -> None:
    try:
        with state.transaction():
            state.set("a", 1)
            raise ValueError
    except ValueError:
        pass


def claim(state: State, path: str) -> None:
    state.list_push("jobs", 1)
    for _ in range(2):
        with contextlib.suppress(ValueError), job_of(state):
            state.increment("jobs done")
            raise ValueError


def claim_in_a_transaction(state: State, path: str) -> None:
    state.list_push("jobs", 1)
    job = job_of(state)
    with job, job.transaction():
        state.increment("jobs done")
        job.done()


def job_of(state: State) -> slothstate.Claim:
    job = state.list_claim("jobs")
    assert job is not None
    return job


def look(state: State, path: str) -> None:
    with state.snapshot():
        state.get("text")
        with state.snapshot():
            list(state.scan())


def look_inside(state: State, path: str) -> None:
    with state.transaction():
        state.set("a", 1)
        with state.snapshot():
            state.get("a")


def dump(state: State, path: str) -> None:
    assert list(state.dump())


def share(state: State, path: str) -> None:
    assert state.locks() == []
    with state.locked("job", 0, shared=True):
        state.get("text")


def take_a_place(state: State, path: str) -> None:
    assert state.locks() == []
    with state.locked("job", 0, slots=2) as lock:
        lock.extend(60)


def begin_to_share(path: str) -> None:
    sharers.append(slothstate.open(path).locked("job", 0, shared=True))
    sharers[0].__enter__()


def wait_to_have_it_alone(state: State, path: str) -> None:
    if not sharers:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(begin_to_share, path).result()
    # Of a wait whose end was struck a thread removes the row a moment later: who waits is not looked at here.
    assert len(state.locks()) == 1
    assert state.lock("job", 0.002) is False


def refused(state: State, path: str) -> None:
    with contextlib.suppress(slothstate.WrongType):
        state.increment("text")


def reopened(state: State, path: str) -> None:
    with slothstate.open(path) as other:
        try:
            other.set("a", 1)
        finally:
            opened.append(other)


def read_once(state: State, path: str) -> None:
    with slothstate.open(path) as other:
        try:
            other.get("text")
            other.get("a")
        finally:
            opened.append(other)


def lock_first(state: State, path: str) -> None:
    with slothstate.open(path) as other:
        try:
            assert [held for held in other.locks() if held["name"] == "first"] == []
            with other.locked("first", 0):
                pass
        finally:
            opened.append(other)


def claim_first(state: State, path: str) -> None:
    state.list_push("first jobs", 1)
    with slothstate.open(path) as other:
        try:
            job = other.list_claim("first jobs")
            assert job is not None
            job.done()
        finally:
            opened.append(other)


def first_use_after_a_fork(state: State, path: str) -> None:
    fork(state, path)
    state.set("a", 1)


def fork(state: State, path: str) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


OPERATIONS: dict[str, Callable[[State, str], None]] = {
    "get": one_verb(lambda state: state.get("text")),
    "get uncached": one_verb(lambda state: (state.set("text", "x"), state.get("text"))),
    "set": one_verb(lambda state: state.set("a", 1)),
    "set with a ttl": one_verb(lambda state: state.set("a", 1, ttl=60)),
    "set_many": one_verb(lambda state: state.set_many({"a": 1, "b": {"c": [1]}})),
    "increment": one_verb(lambda state: state.increment("counter")),
    "append": one_verb(lambda state: state.append("log", "x")),
    "compare_swap": one_verb(lambda state: state.compare_swap("text", "x", "x")),
    "push and pop": one_verb(lambda state: (state.list_push("list", 1, 2), state.list_pop("list"))),
    "many of a list": one_verb(
        # Begun anew, or every run would find more items, and have more points, than the one before.
        lambda state: (state.set("items", [1, 2]), state.list_insert("items", 1, 3), state.list_pop_many("items", 2))
    ),
    "fields": one_verb(
        lambda state: (state.set_field("table", ("a", "b"), 1), state.delete_field("table", ("a", "b")))
    ),
    "moving": one_verb(lambda state: (state.copy("text", "gone"), state.rename("gone", "b"), state.take("b"))),
    "delete": one_verb(lambda state: (state.set("gone", 1), state.delete("gone"))),
    "clear": one_verb(lambda state: (state.set("gone:1", 1), state.clear("gone:*"))),
    "keys": one_verb(lambda state: (state.keys(), list(state.scan()))),
    "set_ttl and persist": one_verb(
        lambda state: (state.set_ttl("text", 60), state.get_ttl("text"), state.persist("text"))
    ),
    "stats": one_verb(lambda state: state.stats()),
    "check": one_verb(lambda state: state.check()),
    "transaction": transact,
    "nested transaction": transact_nested,
    "undone transaction": undo,
    "snapshot": look,
    "snapshot in a transaction": look_inside,
    "dump": dump,
    "refused": refused,
    "claim": claim,
    "claim in a transaction": claim_in_a_transaction,
    "with_lock": one_verb(lambda state: state.with_lock("job", lambda: 1)),
    "sharing a lock": share,
    "one of the slots of a lock": take_a_place,
    "waiting to have a lock alone": wait_to_have_it_alone,
    "open and close": reopened,
    "open, first read and close": read_once,
    "open, first lock and close": lock_first,
    "open, first claim and close": claim_first,
    "fork": fork,
    "first use after a fork": first_use_after_a_fork,
}


def strike_everywhere(channel: Channel, path: str, module: str, name: str) -> int:
    """Run an operation again and again, each time interrupted one point later, until it is not any more."""
    tool = load(module)
    signal.signal(signal.SIGUSR1, tool.handler)
    # After our own hook; an interruption of what a test's child does then would be nobody's.
    os.register_at_fork(after_in_child=tool.disarm)
    # What an interruption makes of a hook of a fork is printed, as by CPython itself.
    sys.unraisablehook = lambda unraisable: ignored.append(place(unraisable.exc_value))
    # Of a fork beside the thread that looks for what is left.
    warnings.simplefilter("ignore")
    ignored: list[str] = []
    operation = OPERATIONS[name]
    state = slothstate.open(path)
    state.set("text", "x")
    operation(state, path)
    point = 0
    with ThreadPoolExecutor(1) as other_thread:
        while True:
            point += 1
            caught: BaseException | None = None
            ignored.clear()
            try:
                tool.arm(point)
                operation(state, path)
                tool.disarm()
            except KeyboardInterrupt as error:
                # Kept, with the frames of its traceback and all they refer to.
                caught = error
            passed = tool.disarm()
            where = f"{name}, struck at point {point}: {ignored} {place(caught)}"
            try:
                other_thread.submit(use_all, state, path).result(DEADLINE)
            except BaseException as error:
                error.add_note(where)
                raise
            assert store_of(state)._transactions == {}, where
            assert leftovers(state) == [], where
            assert all(store_of(other).refusal is not None for other in opened), where
            opened.clear()
            del caught
            if passed < point:
                break
            assert point < MOST_POINTS
    state.close()
    return point


def place(error: BaseException | None) -> str:
    """Return where an exception was raised."""
    traceback = error.__traceback__ if error is not None else None
    steps = []
    while traceback is not None:
        steps.append(f"{os.path.basename(traceback.tb_frame.f_code.co_filename)}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return " > ".join(steps)


def use_all(state: State, path: str) -> None:
    """Do what anything left locked would keep another thread from."""
    with state.transaction():
        state.increment("other thread")
    with slothstate.open(path, busy_timeout=0) as other:
        other.increment("other thread")
    with foreign_sqlite._turn.hold(0) as is_held:
        assert is_held, "the guard is held"
    with forking._turn.hold(0) as is_held:
        assert is_held, "the turn of forks is held"
    with store_of(state)._opening.hold(0) as is_held:
        assert is_held, "the opening of connections is held"
    assert forking._forks == []


def leftovers(state: State) -> list[Any]:
    """Return the connections that are open and neither idle nor the anchor."""
    engine = store_of(state)
    return [each for each in engine._open_connections() if each not in engine._idle and each is not engine._anchor]


@pytest.mark.parametrize("name", OPERATIONS)
def test_ctrl_c_at_every_point(path: str, interruptions: str, name: str, figure: Callable[[str], None]) -> None:
    """Wherever the operation is interrupted, other threads can do everything, and no connection is lost."""
    if "fork" in name and sys.version_info >= (3, 12):
        pytest.skip("filelock's own hook can be struck, and refuses every later fork")
    with processes() as start:
        points = start(strike_everywhere, path, interruptions, name).result(deadline=250)
    figure(f"Ctrl-C in {name}: {points - 1} points, nothing held")
    with slothstate.open(path) as state:
        # Between the return of `list_claim` and the block an item can stay claimed until the State ends.
        assert state.claims() == []
