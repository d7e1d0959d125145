"""Who waits for a lock: told by State.locks(), gone however the wait ends, and never in anybody's way."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import raw, store_of
from helpers.support import in_time, until
from slothstate.engines.sqlite.locks import table, waiters
from slothstate.engines.sqlite.locks.announcement import ANNOUNCE_AFTER, GRACE
from slothstate.errors import StateBusy, StateFull
from slothstate.state import State

PATIENCE = 30.0
"""Seconds after which what does not come will never come."""

LATE = 0.1
"""Seconds that a wait may end after its timeout."""

WAITERS = 4


@pytest.fixture
def state(path: str) -> Iterator[State]:
    """A State that holds the lock `job`."""
    with slothstate.open(path) as opened:
        opened.lock("job")
        yield opened


def waiting(state: State) -> list[Any]:
    """Who waits for the lock `job`."""
    return [waiter for lock in state.locks() if lock["name"] == "job" for waiter in lock["waiting"]]


def wait(channel: Channel, path: str, timeout: float) -> str:
    """Wait for the lock `job`; say how it ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with slothstate.open(path) as state:
        channel.send("waiting")
        try:
            return "acquired" if state.lock("job", timeout) else "timeout"
        except KeyboardInterrupt:
            assert raw(path, "select count(*) from lock_waiters") == [(0,)]
            return "interrupted"


def rows(path: str) -> list[Any]:
    """The table as it is in the file."""
    return raw(path, "select name, pid from lock_waiters")


def test_processes_that_wait_are_named(path: str, state: State) -> None:
    """Everybody who waits is named with host and pid, whoever has waited for longest first, and nobody afterwards."""
    before = time.time()
    with processes() as start:
        workers = []
        for number in range(WAITERS):
            workers.append(start(wait, path, PATIENCE))
            until(lambda: len(waiting(state)) == number + 1)  # noqa: B023
        found = waiting(state)
        assert [waiter["pid"] for waiter in found] == [worker.pid for worker in workers]
        assert {waiter["host"] for waiter in found} == {state.locks()[0]["owner"]["host"]}
        assert all(before - 0.01 <= waiter["since"] <= time.time() - ANNOUNCE_AFTER + 0.01 for waiter in found)
        state.unlock("job")
        assert [worker.result() for worker in workers] == ["acquired"] * WAITERS
    assert rows(path) == []


@pytest.mark.parametrize("end", ["timeout", "interrupted"])
def test_wait_that_ends_without_the_lock_leaves_no_row(path: str, state: State, end: str) -> None:
    """A timeout and Ctrl-C take the row with them."""
    with processes() as start:
        worker = start(wait, path, 1 if end == "timeout" else PATIENCE)
        until(lambda: waiting(state))
        if end == "interrupted":
            worker.signal(signal.SIGINT)
        assert worker.result() == end
    assert waiting(state) == rows(path) == []


def test_killed_waiter_waits_no_longer(path: str, state: State) -> None:
    """Who died waiting is not listed any more, at once; a sweep removes its row."""
    with processes() as start:
        worker = start(wait, path, PATIENCE)
        until(lambda: waiting(state))
        worker.kill()
        assert rows(path) == [("job", worker.pid)]
    assert waiting(state) == []
    state.sweep()
    assert rows(path) == []


def test_background_sweep_removes_what_the_dead_left(path: str) -> None:
    """Rows of dead owners, of locks and of waiters, go without anybody asking."""
    with slothstate.open(path, sweep_interval=0.05) as state:
        claim = table.Claim("job", 1, "0123456789abcdef", "host", 1, "", None)
        store_of(state).write(table.acquire, claim, lambda row: False, lambda _: True)
        store_of(state).write(waiters.add, 1, "job", 1, "0123456789abcdef", "host", 1, 0)
        until(lambda: not state.locks() and not rows(path))


def test_short_wait_writes_no_row(state: State, other: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for less than a moment does not say so."""
    written: list[object] = []
    monkeypatch.setattr(waiters, "add", written.append)
    monkeypatch.setattr(waiters, "remove", written.append)
    assert other.lock("job", timeout=ANNOUNCE_AFTER / 2) is False
    assert written == []


def test_threads_of_the_holder_are_named_too(path: str, state: State) -> None:
    """A thread that waits for a lock of its own State is listed, and after it has the lock is not."""
    thread = threading.Thread(target=state.lock, args=("job", PATIENCE))
    thread.start()
    until(lambda: waiting(state))
    state.unlock("job")
    thread.join(PATIENCE)
    assert len(state.locks()) == 1
    assert waiting(state) == rows(path) == []


def test_closing_takes_its_rows_along(path: str, state: State, other: State) -> None:
    """A State that is closed while a thread of it waits leaves no row."""

    def lock() -> None:
        with suppress(slothstate.StateClosed):
            other.lock("job", PATIENCE)

    thread = threading.Thread(target=lock)
    thread.start()
    until(lambda: waiting(state))
    other.close()
    assert rows(path) == []
    thread.join(PATIENCE)
    assert rows(path) == []


def test_error_in_a_wait_is_the_one_that_arrives(path: str, state: State, other: State, monkeypatch: Any) -> None:
    """What fails in the middle of a wait arrives as it is, whether or not the row can be removed."""

    def fail(*args: object) -> None:
        raise StateFull("full")

    def look(*args: Any) -> Any:
        if rows(path):
            monkeypatch.setattr(waiters, "remove", fail)
            raise ZeroDivisionError
        return original(*args)

    original = table.look
    monkeypatch.setattr(table, "look", look)
    with pytest.raises(ZeroDivisionError):
        other.lock("job", PATIENCE)
    assert len(rows(path)) == 1
    monkeypatch.undo()
    other.lock("another")
    other.unlock("another")
    assert rows(path) == [], "what was left goes with the next lock"


@pytest.mark.parametrize("error", [StateBusy, StateFull])
def test_row_that_cannot_be_written_is_done_without(
    path: str, state: State, other: State, monkeypatch: Any, error: type[Exception]
) -> None:
    """A wait goes on as ever where the store is too busy or full to say so."""
    tried = []

    def add(*args: object) -> None:
        tried.append(1)
        raise error("no")

    monkeypatch.setattr(waiters, "add", add)
    threading.Timer(4 * ANNOUNCE_AFTER, state.unlock, ("job",)).start()
    assert other.lock("job", PATIENCE) is True
    assert tried
    assert rows(path) == []


def test_wait_in_a_busy_store_ends_in_time(path: str, state: State, other: State) -> None:
    """With somebody else in a long transaction a wait ends with its timeout, and its row goes afterwards."""
    timeout = 0.5

    def wait() -> float:
        took = []

        def lock() -> None:
            began = time.monotonic()
            assert other.lock("job", timeout) is False
            took.append(time.monotonic() - began)

        thread = threading.Thread(target=lock)
        thread.start()
        until(lambda: waiting(state))
        with state.transaction():
            state.set("a", 1)
            thread.join(PATIENCE)
        other.sweep()
        assert rows(path) == []
        return took[0]

    assert in_time(wait, timeout + GRACE + LATE)


def test_row_that_was_left_goes_by_itself(path: str, state: State, other: State) -> None:
    """Who gave up waiting in a busy store does nothing more, and keeps shared holders out no longer."""
    state.unlock("job")
    with state.locked("job", shared=True):
        thread = threading.Thread(target=other.lock, args=("job", 0.3))
        thread.start()
        until(lambda: rows(path))
        with state.transaction():
            state.set("a", 1)
            thread.join(PATIENCE)
        with slothstate.open(path) as third, ThreadPoolExecutor(1) as pool:
            assert pool.submit(share, third).result(PATIENCE) == 2
        until(lambda: not rows(path))


def share(state: State) -> int:
    """Share the lock `job`; return how many hold it then."""
    with state.locked("job", PATIENCE, shared=True):
        return len(state.locks())


def test_restored_store_has_nobody_waiting(path: str, tmp_path: Path, state: State, other: State) -> None:
    """A backup made while somebody waits is sound; who waited there does not wait in the restored store."""
    thread = threading.Thread(target=other.lock, args=("job", PATIENCE))
    thread.start()
    until(lambda: waiting(state))
    state.backup(tmp_path / "copy.db")
    assert list(state.dump()) == []
    state.unlock("job")
    thread.join(PATIENCE)
    assert len(rows(str(tmp_path / "copy.db"))) == 1
    slothstate.restore(tmp_path / "copy.db", tmp_path / "restored.db")
    assert rows(str(tmp_path / "restored.db")) == []
