"""Pools of processes, of each start method, beside a parent that goes on using its State."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from typing import Any

import pytest
from processes import Channel, run_function

import slothstate
from slothstate.state import State

POOL_JOBS = 40

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
    with slothstate.open(path) as state:
        assert state.check() == []
