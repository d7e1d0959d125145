"""Locks between processes: exclusion, waiting, hand-over."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import slothstate
from helpers.processes import Channel, hold, let_go, processes, sit_in_transaction, wait_until_waiting
from helpers.support import in_time

resource = pytest.importorskip("resource")

LATE = 0.1
"""Seconds that a wait may end after its timeout."""

INTERRUPTED = 0.2
"""Seconds within which Ctrl-C is answered."""

EXCLUSION_PROCESSES = 8
EXCLUSION_ROUNDS = 40
WAITERS = 16
WAITER_ROUNDS = 6
HANDOVERS = 25
HANDOVER = 0.005
"""Seconds, five times what is promised."""

WAITER_SHARE = 0.09
"""Of a core, three times what is promised."""


def count_in_a_file(channel: Channel, path: str, counter: str, rounds: int) -> list[int]:
    """Read, add one and write a number in a plain file, under the lock; return the fencing tokens."""
    tokens = []
    with slothstate.open(path) as state:
        channel.ready()
        for _ in range(rounds):
            with state.locked("job", timeout=60) as lock:
                number = int(Path(counter).read_text())
                Path(counter).write_text(str(number + 1))
                tokens.append(lock.token)
    return tokens


def acquire_again_and_again(channel: Channel, path: str, rounds: int) -> tuple[float, list[int]]:
    """Take the lock `rounds` times; return the longest wait and the tokens."""
    longest, tokens = 0.0, []
    with slothstate.open(path) as state:
        channel.ready()
        for _ in range(rounds):
            began = time.monotonic()
            with state.locked("job", timeout=60) as lock:
                longest = max(longest, time.monotonic() - began)
                tokens.append(lock.token)
                time.sleep(0.002)
    return longest, tokens


def wait_for_the_lock(channel: Channel, path: str) -> str:
    """Wait for the lock for ever; say whether it was acquired or interrupted."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with slothstate.open(path) as state:
        try:
            channel.send("waiting")
            state.lock("job")
        except KeyboardInterrupt:
            channel.send(time.monotonic())
            return "interrupted"
        state.unlock("job")
        return "acquired"


def hand_over(channel: Channel, path: str) -> None:
    with slothstate.open(path) as state:
        while channel.receive():
            state.lock("job")
            channel.send("held")
            channel.receive()
            released = time.monotonic_ns()
            state.unlock("job")
            channel.send(released)


def take_over(channel: Channel, path: str) -> None:
    with slothstate.open(path) as state:
        while channel.receive():
            channel.send("waiting")
            began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
            state.lock("job")
            acquired = time.monotonic_ns()
            after = resource.getrusage(resource.RUSAGE_SELF)
            state.unlock("job")
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            channel.send((acquired, cpu / (time.monotonic() - began)))


def test_counter_in_a_file_under_the_lock_is_exact(path: str, tmp_path: Path) -> None:
    """A read-modify-write of a plain file, which nothing else protects, loses no update under the lock."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    with processes() as start:
        workers = [start(count_in_a_file, path, str(counter), EXCLUSION_ROUNDS) for _ in range(EXCLUSION_PROCESSES)]
        let_go(workers)
        tokens = [worker.result() for worker in workers]
    assert int(counter.read_text()) == EXCLUSION_PROCESSES * EXCLUSION_ROUNDS
    assert all(mine == sorted(mine) for mine in tokens)
    together = [token for mine in tokens for token in mine]
    assert len(set(together)) == len(together)
    with slothstate.open(path) as state:
        assert state.locks() == []


def test_stopped_processes_do_not_break_the_exclusion(path: str, tmp_path: Path) -> None:
    """Processes stopped and continued at any moment, also while they hold the lock, lose no update."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    with processes() as start:
        workers = [start(count_in_a_file, path, str(counter), EXCLUSION_ROUNDS) for _ in range(4)]
        let_go(workers)
        for turn in range(12):
            # Until it ends: the others may be through already.
            if workers[turn % 4].process.is_alive():
                workers[turn % 4].stop_for(0.01)
        for worker in workers:
            worker.result()
    assert int(counter.read_text()) == 4 * EXCLUSION_ROUNDS


def test_sixteen_waiters_and_none_starves(path: str, figure: Callable[[str], None]) -> None:
    """16 processes that wait for one lock all get it as often as they want, each within seconds."""
    with processes() as start:
        workers = [start(acquire_again_and_again, path, WAITER_ROUNDS) for _ in range(WAITERS)]
        let_go(workers)
        results = [worker.result() for worker in workers]
    longest = max(wait for wait, _ in results)
    assert longest < 20
    figure(f"longest wait of {WAITERS} processes for one lock: {longest * 1000:.0f} ms")
    tokens = [token for _, mine in results for token in mine]
    assert len(set(tokens)) == WAITERS * WAITER_ROUNDS


def test_lock_with_a_ttl_of_a_living_owner_expires(path: str, figure: Callable[[str], None]) -> None:
    """A waiter gets a lock when its TTL is up, not before, and not long after."""

    def attempt() -> float:
        began = time.monotonic()
        owner = start(hold, path, 0.5)
        owner.receive()
        granted = time.monotonic()
        assert state.lock("job", timeout=10) is True
        acquired = time.monotonic()
        assert began + 0.5 <= acquired
        state.unlock("job")
        owner.end()
        return acquired - granted - 0.5

    with processes() as start, slothstate.open(path) as state:
        late: list[float] = []
        assert in_time(lambda: late.append(attempt()) or late[-1], LATE)
        figure(f"a lock whose TTL is up was taken over {late[-1] * 1000:.1f} ms later")


def test_interrupt_while_waiting_is_answered_and_leaks_nothing(path: str, figure: Callable[[str], None]) -> None:
    """Ctrl-C ends the wait for a lock within 200 ms, and the interrupted process never gets the lock."""
    with processes() as start, slothstate.open(path) as state:
        state.lock("job")
        answers = []
        for _ in range(3):
            waiter = start(wait_for_the_lock, path)
            wait_until_waiting(waiter)
            sent = time.monotonic()
            waiter.signal(signal.SIGINT)
            answers.append(waiter.receive() - sent)
            assert waiter.result() == "interrupted"
        assert statistics.median(answers) <= INTERRUPTED
        figure(f"Ctrl-C in a wait for a lock: longest answer {max(answers) * 1000:.1f} ms")
        assert state.unlock("job") is True
        assert state.locks() == []


def test_waits_end_in_time_while_another_process_writes(path: str, figure: Callable[[str], None]) -> None:
    """Waiting for a lock ends within its timeout even if the store itself is busy, and try_lock hardly waits."""
    with processes() as start, slothstate.open(path, busy_timeout=30) as state:
        state.set("before", 1)
        sitter = start(sit_in_transaction, path)
        sitter.receive()
        late = []

        def wait(call: Callable[[], bool], timeout: float) -> float:
            began = time.monotonic()
            assert call() is False
            late.append(time.monotonic() - began - timeout)
            return late[-1]

        for timeout in (0.0, 0.2):
            assert in_time(partial(wait, partial(state.lock, "job", timeout=timeout), timeout), LATE)
        assert in_time(partial(wait, partial(state.try_lock, "job"), 0.0), LATE)
        figure(f"a wait for a lock in a busy store: at most {max(late) * 1000:.1f} ms past its timeout")
        sitter.send("leave")
        assert state.lock("job", timeout=10) is True
        sitter.result()


def test_release_that_finds_the_store_busy_can_be_repeated(path: str) -> None:
    """An unlock that raises StateBusy leaves the lock held by this State, and the next unlock frees it."""
    with processes() as start, slothstate.open(path, busy_timeout=0.1) as state:
        state.lock("job")
        sitter = start(sit_in_transaction, path)
        sitter.receive()
        with pytest.raises(slothstate.StateBusy):
            state.unlock("job")
        sitter.send("leave")
        sitter.result()
        assert [held["name"] for held in state.locks()] == ["job"]
        assert state.unlock("job") is True


def test_close_does_not_wait_for_a_busy_store(path: str) -> None:
    """close of a State that holds locks returns soon though another process sits in a transaction; they are free."""
    with processes() as start:

        def close() -> float:
            state = slothstate.open(path, busy_timeout=30)
            for number in range(3):
                state.lock(f"job {number}")
            sitter = start(sit_in_transaction, path)
            sitter.receive()
            began = time.monotonic()
            state.close()
            took = time.monotonic() - began
            sitter.send("leave")
            sitter.result()
            return took

        assert in_time(close, 3 * LATE)
        with slothstate.open(path) as next_state:
            for number in range(3):
                assert next_state.try_lock(f"job {number}") is True


def test_hand_over_is_quick_and_waiting_cheap(path: str, figure: Callable[[str], None]) -> None:
    """A lock goes from one process to one that waits within a millisecond, which costs 3 % of a core (medians)."""

    def measure() -> float:
        delays, shares = [], []
        for _ in range(HANDOVERS):
            giver.send("acquire")
            giver.receive()
            taker.send("wait")
            taker.receive()
            time.sleep(0.1)
            giver.send("release")
            released = giver.receive()
            acquired, share = taker.receive()
            delays.append((acquired - released) / 1e9)
            shares.append(share)
        delay, share = statistics.median(delays), statistics.median(shares)
        figure(f"hand-over: median {delay * 1000:.2f} ms; a waiter takes {share * 100:.1f} % of a core")
        return float(max(delay / HANDOVER, share / WAITER_SHARE))

    with processes() as start:
        giver, taker = start(hand_over, path), start(take_over, path)
        assert in_time(measure, 1)
        for worker in (giver, taker):
            worker.send(None)
            worker.result()
