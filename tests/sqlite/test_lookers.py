"""Of many that wait for the same in one process, one looks whether owners live."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

import slothstate
import slothstate.aio
from helpers.processes import Channel, processes
from helpers.support import in_threads
from slothstate import State
from slothstate.engines.claiming import Waiter
from slothstate.engines.lookout import SELDOM, Lookers
from slothstate.engines.sqlite.claim_table import ClaimTable
from slothstate.engines.sqlite.locks.lock_table import LockTable

THREADS = 20

SECONDS = 3.0


def hold(channel: Channel, path: str) -> None:
    """Have a lock and an item until killed."""
    with slothstate.open(path) as state:
        state.list_push("jobs", "item")
        assert state.lock("job")
        assert state.list_claim("jobs") is not None
        channel.send()
        channel.receive()


@contextmanager
def killed_after(path: str, seconds: float) -> Iterator[None]:
    """Let somebody `hold` both until killed, so many seconds after the block has begun."""
    with processes() as start:
        owner = start(hold, path)
        owner.receive()
        killer = threading.Timer(seconds, owner.kill)
        killer.start()
        yield
        killer.join()


def wait_for_lock(state: State, timeout: float) -> bool:
    return state.lock("job", timeout) and state.unlock("job")


def wait_for_item(state: State, timeout: float) -> bool:
    job = state.list_claim("jobs", timeout)
    return job is not None and job.release()


def ends(path: str, call: Callable[[State, float], bool], timeouts: list[float]) -> list[tuple[bool, float]]:
    """Call in a thread each; return what came of it, and when, in order of the ends."""
    with slothstate.open(path) as state:

        def wait(timeout: float) -> tuple[bool, float]:
            return call(state, timeout), time.monotonic()

        ended = in_threads(partial(wait, timeout) for timeout in timeouts)
    return sorted(ended, key=lambda each: each[1])


@pytest.mark.parametrize("call", [wait_for_lock, wait_for_item])
def test_one_looks_for_all(path: str, monkeypatch: pytest.MonkeyPatch, call: Callable[[State, float], bool]) -> None:
    """The others look twice a second; when the owner dies all of them have their turn soon."""
    looks: Counter[str] = Counter()
    step, pause = LockTable._step, ClaimTable.pause
    monkeypatch.setattr(LockTable, "_step", lambda *arguments: looks.update("x") or step(*arguments))
    monkeypatch.setattr(ClaimTable, "pause", lambda *arguments: looks.update("x") or pause(*arguments))
    with processes() as start:
        owner = start(hold, path)
        owner.receive()
        ended = ends(path, call, [SECONDS] * THREADS)
        assert [found for found, _ in ended] == [False] * THREADS
        # Those of the one, of the others, and of all at first: others that announce themselves, and end, are commits.
        assert looks["x"] < SECONDS / 0.03 + THREADS * (SECONDS / SELDOM + 4) + 2 * THREADS**2
        killed: list[float] = []
        killer = threading.Timer(0.3, lambda: (killed.append(time.monotonic()), owner.kill()))
        killer.start()
        ended = ends(path, call, [10.0] * THREADS)
        killer.join()
    assert [found for found, _ in ended] == [True] * THREADS
    assert ended[0][1] - killed[0] < SELDOM


@pytest.mark.parametrize("call", [wait_for_lock, wait_for_item])
def test_another_looks_when_the_first_has_given_up(path: str, call: Callable[[State, float], bool]) -> None:
    """Nobody commits then; the next one looks for itself."""
    with killed_after(path, 1.5):
        began = time.monotonic()
        ended = ends(path, call, [0.2, 10.0, 10.0])
    assert [found for found, _ in ended] == [False, True, True]
    assert ended[-1][1] - began < 3


def test_in_an_event_loop(path: str) -> None:
    """Tasks that wait for a lock, and one for an item, have them soon after the death of whoever had them."""

    async def have_lock(state: slothstate.aio.AsyncState) -> None:
        async with state.locked("job", 10):
            pass

    async def wait() -> list[object]:
        async with await slothstate.aio.open(path) as state:
            locks = [have_lock(state) for _ in range(5)]
            items = [state.list_shift("jobs", timeout=1) for _ in range(5)]
            return list(await asyncio.gather(*locks, *items))

    with killed_after(path, 0.3):
        began = time.monotonic()
        found = asyncio.run(wait())
    assert found.count("item") == 1
    assert time.monotonic() - began < 3


def test_who_is_first() -> None:
    """The first to ask, until its block ends or nobody refers to it any more."""
    lookers = Lookers()
    with Waiter() as one, Waiter() as other:
        assert lookers.is_first(one, "job")
        assert not lookers.is_first(other, "job")
        assert lookers.is_first(other, "another")
        assert lookers.is_first(one, "job")
    with Waiter() as third:
        # What an exception keeps alive waits no longer.
        assert lookers.is_first(third, "job")
    del third
    assert lookers._first.keys() == {"another"}
    del one, other
    assert not lookers._first
