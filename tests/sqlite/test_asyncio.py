"""A State in an asyncio program: verbs run in threads (`asyncio.to_thread`), and tasks are cancelled at any moment."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import slothstate
from helpers.sqlite import store_of
from slothstate import State

TASKS = 1000
POOL = 16
CANCELLED = 400


def move(state: State, number: int) -> None:
    """Write five keys and a list in one transaction."""
    with state.transaction():
        for part in range(5):
            state.set(f"task:{number}:{part}", number)
        state.list_push("done", number)
        state.increment("counter")


def count_under_a_lock(state: State) -> None:
    """Read, add one and write, which only the lock makes exact."""
    with state.locked("job", timeout=60) as lock:
        number = state.get("locked", 0)
        with lock.transaction():
            state.set("locked", number + 1)


async def run_tasks(state: State, job: Callable[[int], None]) -> set[int]:
    """Start `TASKS` tasks in a pool, cancel some at random, let all end; return which were not cancelled."""
    chance = random.Random(1)
    finished = set()

    async def one(number: int) -> None:
        await asyncio.to_thread(job, number)
        finished.add(number)

    with ThreadPoolExecutor(POOL) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        tasks = [asyncio.create_task(one(number)) for number in range(TASKS)]
        for victim in chance.sample(tasks, CANCELLED):
            await asyncio.sleep(chance.choice((0, 0, 0.001)))
            victim.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [result for result in results if result is not None and not isinstance(result, asyncio.CancelledError)]
    assert errors == []
    # The pool has ended: what a cancelled task had begun in a thread has ended too.
    assert not store_of(state).in_transaction
    return finished


def test_cancelled_tasks_write_all_or_nothing(path: str, figure: Callable[[str], None]) -> None:
    """Of 1,000 tasks on one State, many cancelled, each wrote all of its keys or none; those that returned wrote."""
    with slothstate.open(path) as state:
        finished = asyncio.run(run_tasks(state, lambda number: move(state, number)))
        done = state.list_range("done")
        assert len(done) == len(set(done)) == state.get("counter", 0)
        assert finished <= set(done)
        wanted = {f"task:{number}:{part}": number for number in done for part in range(5)}
        assert state.get_many(state.keys("task:*")) == wanted
        assert TASKS - CANCELLED <= len(finished) < TASKS
        with state.transaction():
            state.set("after", 1)
        with slothstate.open(path, busy_timeout=0) as other:
            assert other.increment("after") == 2, "nobody sits in a transaction"
    figure(
        f"asyncio: {TASKS} tasks, {TASKS - len(finished)} cancelled, {len(set(done) - finished)} of them done, torn 0"
    )


def test_cancelled_tasks_leave_no_lock(path: str) -> None:
    """Tasks that are cancelled while they wait for a lock or hold it leave it free, and it excluded the others."""
    with slothstate.open(path) as state:
        finished = asyncio.run(run_tasks(state, lambda number: count_under_a_lock(state)))
        assert len(finished) <= state.get("locked") <= TASKS
        assert state.locks() == []
        assert state.lock("job", timeout=0) is True


def test_timeout_of_a_wait_for_a_lock(path: str) -> None:
    """`asyncio.wait_for` returns in time though its thread still waits; the lock it may get then can be given back."""

    async def wait(state: State) -> str:
        try:
            await asyncio.wait_for(asyncio.to_thread(state.lock, "job", 1), timeout=0.1)
        except TimeoutError:
            return "timeout"
        return "acquired"

    with slothstate.open(path) as state, slothstate.open(path) as other:
        assert other.lock("job") is True
        assert asyncio.run(wait(state)) == "timeout"
        assert state.unlock("job") is False
        assert other.unlock("job") is True
        assert state.lock("job", timeout=0) is True
