"""Writes of one step between processes, what they cost, and damage."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import raw
from helpers.support import processor_time
from slothstate import State, StateCorrupt

JOBS = 200
"""Keys that the processes of a test contend for."""

PUSHED = 50
"""Items that each process of a test adds."""


@pytest.mark.damaged
def test_damaged_text(state: State, path: str) -> None:
    """A text that cannot be read up to the part is `StateCorrupt` that names the key."""
    state.set("k", {"a": 1, "b": 2})
    raw(path, "update entries set value = '{\"a\":1,\"b' where key = 'k'")
    for call in (lambda: state.get_field("k", "b"), lambda: state.set_field("k", "b", 1)):
        with pytest.raises(StateCorrupt, match="'k'"):
            call()


def count(channel: Channel, path: str, number: int) -> None:
    channel.receive()
    with slothstate.open(path) as state:
        for _ in range(100):
            state.increment_field("k", ("all", "n"))
            state.set_field("k", str(number), [number])


def test_processes_write_beside_each_other(path: str) -> None:
    """Fields of one key that processes write at the same time are all there, and no count is lost."""
    with processes() as start:
        workers = [start(count, path, number) for number in range(3)]
        for worker in workers:
            worker.send()
        for worker in workers:
            worker.result()
    with slothstate.open(path) as state:
        assert state.get("k") == {"all": {"n": 300}, "0": [0], "1": [1], "2": [2]}


def test_the_ends_of_a_long_list_are_near(state: State) -> None:
    """What is done at the front of a list takes no longer however long the list is."""
    state.list_push("short", *range(10))
    state.list_push("long", *range(100_000))

    def work(key: str) -> None:
        for _ in range(50):
            state.list_unshift(key, 1, 2)
            state.list_set(key, 1, 3)
            state.list_trim(key, 1)
            state.list_shift_many(key, 1)

    seconds = {key: min(processor_time(partial(work, key)) for _ in range(5)) for key in ("short", "long")}
    assert seconds["long"] < 3 * seconds["short"]


def produce(channel: Channel, path: str, number: int) -> None:
    channel.receive()
    with slothstate.open(path) as state:
        for item in range(PUSHED):
            state.list_unshift("queue", [number, item])


def consume(channel: Channel, path: str) -> list[Any]:
    channel.receive()
    taken: list[Any] = []
    with slothstate.open(path) as state:
        while len(taken) < PUSHED:
            taken += state.list_pop_many("queue", min(7, PUSHED - len(taken)))
    return taken


def test_each_item_goes_to_one_process(path: str) -> None:
    """Items that processes put in front and take many at a time come once, those of a process in their order."""
    with processes() as start:
        workers = [*(start(produce, path, number) for number in (0, 1)), *(start(consume, path) for _ in (0, 1))]
        for worker in workers:
            worker.send()
        taken = [worker.result() for worker in workers][2:]
    everything = sorted(item for items in taken for item in items)
    assert everything == [[number, item] for number in (0, 1) for item in range(PUSHED)]
    for items in taken:
        for number in (0, 1):
            order = [item for producer, item in items if producer == number]
            assert order == sorted(order)


def claim(channel: Channel, path: str) -> int:
    channel.receive()
    with slothstate.open(path) as state:
        return sum(state.set(f"job:{job}", 1, when="absent") for job in range(JOBS))


def take(channel: Channel, path: str) -> int:
    channel.receive()
    with slothstate.open(path) as state:
        return sum(state.take(f"job:{job}") is not None for job in range(JOBS))


@pytest.mark.parametrize("step", [claim, take])
def test_each_key_goes_to_one_process(path: str, step: Any) -> None:
    """Of processes that set an absent key, or take one, at the same time, one alone succeeds."""
    with slothstate.open(path) as state:
        if step is take:
            state.set_many({f"job:{job}": job for job in range(JOBS)})
        with processes() as start:
            workers = [start(step, path) for _ in range(3)]
            for worker in workers:
                worker.send()
            assert sum(worker.result() for worker in workers) == JOBS
        assert state.check() == []
