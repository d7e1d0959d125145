"""Many processes on one store: opening it, counting, queues, visibility, waiting for a writer."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, let_go, processes, sit_in_transaction
from helpers.support import in_time

OPENERS = 64
COUNTERS = 8
INCREMENTS = 250
QUEUE_WORKERS = 4
QUEUE_STEPS = 300
PIPE_ROUNDS = 300
BUSY_TIMEOUT = 0.3
CONTENTION = 1.5
LONGEST_WRITE = 5.0
LEAST_SHARE = 0.2


def open_at_once(channel: Channel, path: str, number: int) -> list[str]:
    channel.ready()
    with slothstate.open(path) as state:
        state.set(f"opener:{number}", number)
        state.increment("openers")
        return state.check()


def count_up(channel: Channel, path: str, times: int) -> int:
    with slothstate.open(path) as state:
        channel.ready()
        return int([state.increment("counter") for _ in range(times)][-1])


def produce_and_consume(channel: Channel, path: str, number: int, steps: int) -> tuple[list[Any], list[Any]]:
    """Push `steps` items, taking one from alternating ends after every push; return what was pushed and taken."""
    pushed, taken = [], []
    with slothstate.open(path) as state:
        channel.ready()
        for step in range(steps):
            item = {"worker": number, "step": step}
            state.list_push("queue", item)
            pushed.append((number, step))
            got = state.list_pop("queue") if step % 2 else state.list_shift("queue")
            if got is not None:
                taken.append((got["worker"], got["step"]))
    return pushed, taken


def consume_in_order(channel: Channel, path: str) -> list[Any]:
    taken = []
    with slothstate.open(path) as state:
        channel.ready()
        while (item := state.list_shift("queue")) != "end":
            if item is not None:
                taken.append(tuple(item))
        state.list_push("queue", "end")
    return taken


def write_when_told(channel: Channel, path: str) -> None:
    with slothstate.open(path) as state:
        channel.send("ready")
        while (value := channel.receive()) is not None:
            state.set("told", value)
            channel.send(value)


def test_64_processes_open_a_new_store_at_once(path: str) -> None:
    """Of 64 processes that create one store together every one succeeds, and nothing half-made is left."""
    with processes() as start:
        workers = [start(open_at_once, path, number) for number in range(OPENERS)]
        let_go(workers)
        assert [worker.result() for worker in workers] == [[]] * OPENERS
    with slothstate.open(path) as state:
        assert state.get("openers") == OPENERS
        assert len(state.keys("opener:*")) == OPENERS
        assert state.check() == []
    left = sorted(os.listdir(os.path.dirname(path)))
    assert left == ["state.db", "state.db-locks"], "the last one to close takes -wal and -shm, and no draft stays"


def test_counter_from_eight_processes_is_exact(path: str) -> None:
    """Increments from 8 processes add up exactly."""
    with processes() as start:
        workers = [start(count_up, path, INCREMENTS) for _ in range(COUNTERS)]
        let_go(workers)
        last = [worker.result() for worker in workers]
    with slothstate.open(path) as state:
        assert state.get("counter") == COUNTERS * INCREMENTS
        assert max(last) == COUNTERS * INCREMENTS


def test_queue_shared_by_four_processes_gives_each_item_once(path: str) -> None:
    """Items pushed and taken from both ends by 4 processes are each taken exactly once or still there."""
    with processes() as start:
        workers = [start(produce_and_consume, path, number, QUEUE_STEPS) for number in range(QUEUE_WORKERS)]
        let_go(workers)
        results = [worker.result() for worker in workers]
    with slothstate.open(path) as state:
        left = [(item["worker"], item["step"]) for item in state.list_range("queue")]
        assert state.list_length("queue") == len(left)
        assert state.check() == []
    pushed = Counter(item for items, _ in results for item in items)
    taken = Counter(item for _, items in results for item in items) + Counter(left)
    assert taken == pushed
    assert set(taken.values()) == {1}


def test_queue_is_first_in_first_out_for_each_consumer(path: str) -> None:
    """Consumers in 4 processes get every item once, and each sees them in the order they were pushed."""
    with processes() as start, slothstate.open(path) as state:
        workers = [start(consume_in_order, path) for _ in range(QUEUE_WORKERS)]
        let_go(workers)
        for number in range(QUEUE_STEPS):
            state.list_push("queue", [number])
        state.list_push("queue", "end")
        results = [worker.result() for worker in workers]
        assert state.list_range("queue") == ["end"]
    assert sorted(item for items in results for item in items) == [(number,) for number in range(QUEUE_STEPS)]
    assert all(items == sorted(items) for items in results)


def test_get_after_an_acknowledged_write_is_never_stale(path: str) -> None:
    """A value that another process acknowledged over a pipe is what the next get returns, cached or not."""
    with processes() as start, slothstate.open(path) as state:
        writer = start(write_when_told, path)
        writer.receive()
        for value in range(PIPE_ROUNDS):
            writer.send(value)
            assert writer.receive() == value
            assert state.get("told") == value
            assert state.get("told") == value, "the second get comes from the cache"
            assert state.exists("told")
        writer.send(None)
        writer.result()


def test_own_write_after_anothers_is_seen_by_both(path: str) -> None:
    """Two processes that write one key in turn always read each other's last value."""
    with processes() as start, slothstate.open(path) as state:
        writer = start(write_when_told, path)
        writer.receive()
        for value in range(PIPE_ROUNDS):
            state.set("told", f"mine {value}")
            assert state.get("told") == f"mine {value}"
            writer.send(value)
            writer.receive()
            assert state.get("told") == value
        writer.send(None)
        writer.result()


def test_busy_store_raises_after_busy_timeout_and_reads_go_on(path: str) -> None:
    """While another process sits in a transaction, writes raise StateBusy after busy_timeout and reads work."""
    with processes() as start, slothstate.open(path, busy_timeout=BUSY_TIMEOUT) as state:
        state.set("before", 1)
        sitter = start(sit_in_transaction, path)
        assert sitter.receive() == "inside"
        for write in (
            lambda: state.set("blocked", 1),
            lambda: state.increment("blocked"),
            lambda: state.list_push("blocked", 1),
            lambda: state.transaction().__enter__(),
        ):
            began = time.monotonic()
            with pytest.raises(slothstate.StateBusy, match="another writer"):
                write()
            waited = time.monotonic() - began
            assert BUSY_TIMEOUT * 0.9 <= waited <= BUSY_TIMEOUT + 0.1
        assert state.get("before") == 1
        assert state.get("sitter") is None, "what is not committed is not seen"
        assert state.keys() == ["before"]
        sitter.send("leave")
        sitter.result()
        assert state.increment("blocked") == 1
        assert state.get("sitter") == 1


def test_writer_goes_on_as_soon_as_the_transaction_ends(path: str) -> None:
    """A writer that waits for another process's transaction finishes right after it, within the timeout."""
    with processes() as start, slothstate.open(path, busy_timeout=30) as state:
        sitter = start(sit_in_transaction, path)
        waiter = start(count_up, path, 1)
        assert sitter.receive() == "inside"
        waiter.receive()
        waiter.send("go")
        sitter.send("leave")
        assert waiter.result(deadline=10) == 1
        assert state.get("counter") == 1


def count_until_told(channel: Channel, path: str) -> tuple[int, float]:
    """Increment one counter until a message comes; return how often, and the longest a single call took."""
    done, longest = 0, 0.0
    with slothstate.open(path) as state:
        channel.ready()
        while not channel.waiting():
            began = time.monotonic()
            state.increment("counter")
            longest = max(longest, time.monotonic() - began)
            done += 1
    return done, longest


def test_contending_writers_share_the_store(path: str, figure: Callable[[str], None]) -> None:
    """Of 8 processes that write without pause none starves: no call takes seconds, no share is tiny."""

    def contend() -> float:
        with processes() as start:
            workers = [start(count_until_told, path) for _ in range(COUNTERS)]
            let_go(workers)
            time.sleep(CONTENTION)
            for worker in workers:
                worker.send("stop")
            results = [worker.result() for worker in workers]
        shares = [done for done, _ in results]
        with slothstate.open(path) as state:
            assert state.pop("counter") == sum(shares)
            assert state.check() == []
        least, longest = min(shares) / max(shares), max(longest for _, longest in results)
        figure(
            f"{COUNTERS} writers: {sum(shares) / CONTENTION:.0f} increments/s, least share {least:.2f}"
            f" of the largest, longest call {longest * 1000:.0f} ms"
        )
        return float(max(LEAST_SHARE / max(least, 0.001), longest / LONGEST_WRITE))

    assert in_time(contend, 1)
