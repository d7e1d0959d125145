"""What holds a lock is an acquisition: of one thread, task or greenlet, and not of everybody who uses its State."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import slothstate
from helpers.support import run_script
from slothstate import locks
from slothstate.engines.sqlite.locks import lock_table as lock_module
from slothstate.engines.sqlite.locks.boot_clock import boot_ms
from slothstate.state import State

AT_ONCE = 0.5
"""Seconds; a wait in these tests would take longer."""


@pytest.fixture
def worker() -> Iterator[ThreadPoolExecutor]:
    """A thread that goes on living between calls."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def refused(take: Callable[[], object]) -> str:
    """Return the message of the AlreadyHeld that a call raises at once."""
    began = time.monotonic()
    with pytest.raises(slothstate.AlreadyHeld) as caught:
        take()
    assert time.monotonic() - began < AT_ONCE
    return str(caught.value)


WAITS: dict[str, Callable[[State], object]] = {
    "lock": lambda state: state.lock("job"),
    "with_lock": lambda state: state.with_lock("job", lambda: None),
    "locked": lambda state: state.locked("job").__enter__(),
}


def lose(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acquire with a TTL that is over at once."""
    assert state.try_lock("job", ttl=5)
    now = boot_ms()
    monkeypatch.setattr(lock_module, "boot_ms", lambda: now + 6_000)


def test_late_unlock_frees_nobody_elses_acquisition(
    state: State, worker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread whose TTL ran out unlocks its own acquisition, which is lost, and not what another thread has now."""
    lose(state, monkeypatch)
    assert worker.submit(state.lock, "job", 1).result() is True
    assert state.unlock("job") is False
    (held,) = state.locks()
    assert held["expires"] is None
    assert worker.submit(state.unlock, "job").result() is True
    assert state.locks() == []


def test_late_end_of_a_block_frees_nobody_elses_acquisition(
    state: State, worker: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving a `locked` block after its TTL does not free what another thread of the State has since."""
    now = boot_ms()
    with pytest.raises(slothstate.LockLost), state.locked("job", ttl=5) as lock:
        monkeypatch.setattr(lock_module, "boot_ms", lambda: now + 6_000)
        assert worker.submit(state.lock, "job", 1).result() is True
        assert lock.lost
        assert state.unlock("job") is False
    assert len(state.locks()) == 1
    assert worker.submit(state.unlock, "job").result() is True


def test_unlock_ends_the_latest_acquisition_of_a_caller(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lost a lock and took it again unlocks what it has now."""
    lose(state, monkeypatch)
    assert state.try_lock("job", ttl=60)
    assert state.unlock("job") is True
    assert state.unlock("job") is False


def test_unlock_from_a_thread_without_an_acquisition(state: State, worker: ThreadPoolExecutor) -> None:
    """Any thread unlocks what its State holds; the thread that held it is told so by its own unlock."""
    state.lock("job")
    assert worker.submit(state.unlock, "job").result() is True
    assert worker.submit(state.lock, "job", 0).result() is True
    assert state.unlock("job") is False, "its own acquisition was ended before"
    assert state.locks(), "the worker's is untouched"
    assert worker.submit(state.unlock, "job").result() is True


def test_acquisition_of_a_thread_that_has_ended(state: State) -> None:
    """It is unlocked from any thread, and waited for by any."""
    for _ in range(2):
        thread = threading.Thread(target=state.lock, args=("job",))
        thread.start()
        thread.join()
        assert state.lock("job", timeout=0.1) is False
        threading.Timer(0.2, state.unlock, ("job",)).start()
        assert state.lock("job", timeout=10) is True
        assert state.unlock("job") is True


def test_thread_of_a_pool_waits_for_what_another_job_unlocks(state: State, worker: ThreadPoolExecutor) -> None:
    """A job that waits in the thread in which an earlier job locked gets the lock when somebody else unlocks it."""
    assert worker.submit(state.lock, "job").result() is True
    assert worker.submit(state.lock, "job", 0.1).result() is False
    waiting = worker.submit(state.lock, "job", 10)
    time.sleep(0.1)
    assert state.unlock("job") is True
    assert waiting.result(10) is True
    assert worker.submit(state.unlock, "job").result() is True


def test_block_of_ones_own_is_never_waited_for(state: State, other: State, worker: ThreadPoolExecutor) -> None:
    """What a block of this very thread holds ends with the block alone, whatever other threads there are."""
    worker.submit(int).result()
    with state.locked("job"):
        for taker in (state, other):
            for wait in WAITS.values():
                assert "thread 'MainThread'" in refused(lambda taker=taker, wait=wait: wait(taker))  # type: ignore[misc]
            refused(lambda taker=taker: taker.lock("job", timeout=5))  # type: ignore[misc]
        assert other.lock("job", timeout=0) is False, "that is no wait"
        assert other.try_lock("job") is False
    assert state.locks() == []


@pytest.mark.parametrize("wait", WAITS)
def test_two_states_in_one_thread(state: State, other: State, wait: str) -> None:
    """A wait without end through another State of the process is refused with both names, and the lock stays."""
    state.lock("job")
    message = refused(lambda: WAITS[wait](other))
    assert "'job'" in message
    assert "another State of this process" in message
    assert "thread 'MainThread'" in message
    assert state.unlock("job") is True
    assert other.lock("job") is True


def test_two_states_and_a_lock_that_ends_by_itself(state: State, other: State) -> None:
    """Another State's TTL is waited for: it ends whoever waits."""
    state.try_lock("job", ttl=0.2)
    assert other.lock("job") is True


def test_other_threads_are_waited_for(state: State, other: State, worker: ThreadPoolExecutor) -> None:
    """Neither a lock of another thread of the same State nor one of another State is refused."""
    for holder in (state, other):
        assert worker.submit(holder.lock, "job").result() is True
        threading.Timer(0.2, holder.unlock, ("job",)).start()
        assert state.lock("job") is True
        assert state.unlock("job") is True


def test_tasks_of_a_loop(state: State, other: State) -> None:
    """A task that would wait for another task of its thread is told which, for it keeps that one from going on."""
    messages: list[str] = []

    async def hold(taken: asyncio.Event, done: asyncio.Event) -> None:
        state.lock("job")
        taken.set()
        await done.wait()
        assert state.unlock("job") is True

    async def wait(taken: asyncio.Event, done: asyncio.Event) -> None:
        await taken.wait()
        for taker in (state, other):
            for call in WAITS.values():
                messages.append(refused(lambda taker=taker, call=call: call(taker)))  # type: ignore[misc]
            messages.append(refused(lambda taker=taker: taker.lock("job", timeout=5)))  # type: ignore[misc]
            assert taker.lock("job", timeout=0) is False
            assert taker.try_lock("job") is False
        done.set()

    async def main() -> None:
        taken, done = asyncio.Event(), asyncio.Event()
        both = (asyncio.create_task(hold(taken, done), name="holder"), asyncio.create_task(wait(taken, done), name="w"))
        await asyncio.gather(*both)

    asyncio.run(main())
    assert all("task 'holder'" in message and "task 'w'" in message for message in messages), messages
    assert state.locks() == []


def test_tasks_unlock_what_is_theirs(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late unlock of one task leaves the acquisition of another task of the same thread alone."""

    async def main() -> None:
        async def late() -> None:
            lose(state, monkeypatch)
            await asyncio.sleep(0)
            assert state.unlock("job") is False

        async def next_one() -> None:
            assert state.lock("job", timeout=0) is True
            await asyncio.sleep(0.01)
            assert state.unlock("job") is True

        await asyncio.gather(late(), next_one())

    asyncio.run(main())


def test_what_ended_callers_left_is_forgotten(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A State does not grow with every thread that locks and never unlocks."""
    monkeypatch.setattr(locks, "TIDY_AT", 8)
    state._locks._tidy_at = 8
    for number in range(100):
        thread = threading.Thread(target=state.try_lock, args=(f"job {number}",))
        thread.start()
        thread.join()
    gc.collect()
    assert len(state._locks._held) <= 9
    assert len(state.locks()) == 100
    assert all(state.unlock(f"job {number}") for number in range(100))


GREEN = {
    "gevent": """
from gevent import monkey, spawn, sleep, joinall
monkey.patch_all()
def run(*functions):
    joinall([spawn(function) for function in functions], raise_error=True)
""",
    "eventlet": """
import eventlet
eventlet.monkey_patch()
from eventlet import sleep
def run(*functions):
    for thread in [eventlet.spawn(function) for function in functions]:
        thread.wait()
""",
}

GREENLETS = """
import sys, time
import slothstate
state, other = slothstate.open(sys.argv[1]), slothstate.open(sys.argv[1])
ticks, log = [], []

def tick():
    while not ticks or ticks[-1] is not None:
        ticks.append(time.monotonic())
        sleep(0.01)

def longest():
    return max(b - a for a, b in zip(ticks[:-1], ticks[1:-1]))

def holding(holder):
    def hold():
        holder.lock("job")
        sleep(0.3)
        end = time.monotonic() + 20
        while len(ticks) < 16 and time.monotonic() < end:
            sleep(0.01)
        log.append("released")
        assert holder.unlock("job") is True
    return hold

def waiting(taker, timeout, take=None):
    def wait():
        sleep(0.02)
        if take is None:
            assert taker.lock("job", timeout) is True
        else:
            take(taker, timeout)
        log.append("taken")
        assert take is not None or taker.unlock("job") is True
        ticks.append(None)
    return wait

def with_lock(taker, timeout):
    taker.with_lock("job", lambda: sleep(0.01), timeout)

def locked(taker, timeout):
    with taker.locked("job", timeout):
        sleep(0.01)

for holder in (state, other):
    for timeout in (None, 5):
        for take in (None, with_lock, locked):
            ticks.clear(); log.clear()
            run(holding(holder), waiting(state, timeout, take), tick)
            assert log == ["released", "taken"], log
            assert longest() < 0.15, longest()
            assert len(ticks) > 15, len(ticks)

def gives_up():
    sleep(0.02)
    began = time.monotonic()
    assert state.lock("job", 0.1) is False
    assert 0.1 <= time.monotonic() - began < 0.25
    ticks.append(None)

ticks.clear()
run(holding(other), gives_up, tick)

def own():
    state.lock("own")
    try:
        state.lock("own")
    except slothstate.AlreadyHeld as error:
        assert "greenlet" in str(error), error
        log.append("refused")
    assert state.unlock("own")
log.clear()
run(own)
assert log == ["refused"]

def late():
    state.try_lock("ttl", 0.05)
    sleep(0.2)
    assert state.unlock("ttl") is False
def soon():
    sleep(0.1)
    assert state.lock("ttl", 0) is True
    sleep(0.2)
    assert state.unlock("ttl") is True
run(late, soon)
assert state.locks() == [] == state.check()
state.close(); other.close()
print("done")
"""


@pytest.mark.parametrize("library", GREEN)
def test_greenlets_wait_for_each_other(path: str, library: str) -> None:
    """Under monkey-patching a wait for a lock lets the others run, the holder included, with a timeout or without."""
    # Not imported here: in a process that has it, greenlets of a task count by themselves.
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    done: Any = run_script(f"import warnings; warnings.simplefilter('ignore')\n{GREEN[library]}{GREENLETS}", path)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_greenlets_without_a_hub(path: str, state: State) -> None:
    """A plain greenlet that waits for another of its thread would stop both: it is refused, and both are named."""
    greenlet = pytest.importorskip("greenlet")
    holder = greenlet.greenlet(lambda: (state.lock("job"), greenlet.getcurrent().parent.switch(), state.unlock("job")))
    holder.switch()
    message = refused(lambda: state.lock("job", timeout=5))
    assert "greenlet" in message
    holder.switch()
    assert state.lock("job", timeout=0) is True
