"""Processes that begin beside a parent in the middle of its work: pools, and forked children with own stores."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import threading
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, Child, processes, run_function
from helpers.support import SANITIZED
from slothstate.state import State

POOL_JOBS = 40
FORKS = 20
FORKS_LONG = 200

_shared: State | None = None


def count_in_pool(path: str, number: int) -> int:
    """A pool's job: with the State that a forked worker inherited, or one of its own."""
    state = _shared if _shared is not None else slothstate.open(path)
    state.list_push("jobs", number)
    state.increment("pool")
    if state is not _shared:
        state.close()
    return number


def use_pool(channel: Channel, path: str, method: str) -> list[Any]:
    """Run jobs in a pool of processes beside the parent's own writes."""
    global _shared
    state = slothstate.open(path)
    _shared = state if method == "fork" else None
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [pool.submit(count_in_pool, path, number) for number in range(POOL_JOBS)]
        for _ in range(POOL_JOBS):
            state.increment("pool")
        numbers = [future.result(60) for future in futures]
    result = [sorted(numbers) == sorted(state.list_range("jobs")), state.get("pool")]
    state.close()
    return result


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_pool_of_processes(path: str, method: str) -> None:
    """Jobs in a pool of each start method and the parent write to one store; nothing is lost."""
    assert run_function(use_pool, path, method) == [True, 2 * POOL_JOBS]


def fork_beside_busy_threads(channel: Channel, path: str, forks: int) -> list[int]:
    """Fork while threads read and write without pause; each child opens a store that is new to it, and uses it."""
    state = slothstate.open(path)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            state.increment("threads")
            state.set("large", "x" * 20_000)
            state.keys("*")

    def child(channel: Channel) -> int:
        with slothstate.open(path + ".child.db") as own, own.locked("job", timeout=30), own.transaction():
            own.set_many({"a": 1, "b": [2]})
            return int(own.increment("children"))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    counted = []
    for _ in range(forks):
        forked = Child(child)
        counted.append(forked.receive())
        assert forked.join() == 0
    stop.set()
    for thread in threads:
        thread.join(60)
    state.close()
    return counted


@pytest.mark.skipif(SANITIZED, reason="forks beside threads")
@pytest.mark.parametrize("forks", [FORKS, pytest.param(FORKS_LONG, marks=pytest.mark.long)])
def test_child_opens_a_new_store_while_threads_are_inside_sqlite(path: str, forks: int) -> None:
    """A child that was forked while threads were anywhere in SQLite opens another store, locks and writes: no hang."""
    with processes() as start:
        assert start(fork_beside_busy_threads, path, forks).result(250) == list(range(1, forks + 1))
