"""Writes of one step between processes, what they cost, and damage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import raw
from helpers.support import processor_time
from slothstate import State, StateCorrupt

JOBS = 100
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


Step: TypeAlias = Callable[[State, str], object]

STEPS: dict[str, tuple[Step, Step]] = {
    "set absent": (lambda s, job: None, lambda s, job: s.set(job, 1, when="absent")),
    "take": (lambda s, job: s.set(job, job), lambda s, job: s.take(job)),
    "take a list": (lambda s, job: s.list_push(job, 1, 2), lambda s, job: s.take(job) == [1, 2]),
    "rename": (lambda s, job: s.set(job, 1), lambda s, job: s.rename(job, f"done:{job}")),
    "rename a list": (lambda s, job: s.list_push(job, 1, 2), lambda s, job: s.rename(job, f"done:{job}")),
    "swap to nothing": (lambda s, job: s.set(job, 1), lambda s, job: s.compare_swap(job, 1, None)),
    "swap a table": (lambda s, job: s.set(job, {"a": 1}), lambda s, job: s.compare_swap(job, {"a": 1}, [], ttl=60)),
    "swap a table to nothing": (
        lambda s, job: s.set(job, {"a": 1}),
        lambda s, job: s.compare_swap(job, {"a": 1}, None),
    ),
    "swap in": (lambda s, job: None, lambda s, job: s.compare_swap(job, None, 1, ttl=60)),
    "first of a counter": (lambda s, job: None, lambda s, job: s.increment(job, ttl=60) == 1),
    "first of a field": (lambda s, job: None, lambda s, job: s.increment_field("all", ("n", job)) == 1),
    "delete a field": (lambda s, job: s.set_field("all", job, [1]), lambda s, job: s.delete_field("all", job)),
    "remove": (lambda s, job: s.list_push("all", job), lambda s, job: s.list_remove("all", job)),
    "shift many": (lambda s, job: s.list_push(job, 1, 2, 3), lambda s, job: s.list_shift_many(job, 3) == [1, 2, 3]),
    "pop many": (lambda s, job: s.set(job, [1, 2, 3]), lambda s, job: s.list_pop_many(job, 3) == [3, 2, 1]),
}
"""What makes a job, and a step that only one process can do with it."""


def do(channel: Channel, path: str, name: str) -> int:
    with slothstate.open(path) as state:
        channel.receive()
        return sum(bool(STEPS[name][1](state, f"job:{job}")) for job in range(JOBS))


@pytest.mark.parametrize("name", STEPS)
def test_each_job_is_done_by_one_process(path: str, name: str) -> None:
    """Of processes that do a step at the same time one alone succeeds, for each of many jobs."""
    with slothstate.open(path) as state:
        for job in range(JOBS):
            STEPS[name][0](state, f"job:{job}")
        with processes() as start:
            workers = [start(do, path, name) for _ in range(3)]
            for worker in workers:
                worker.send()
            assert sum(worker.result() for worker in workers) == JOBS


def edit(channel: Channel, path: str, number: int) -> int:
    channel.receive()
    with slothstate.open(path) as state:
        removed = 0
        for turn in range(50):
            state.list_insert("list", turn % 2, [number, turn])
            state.list_set("list", -1, number)
            state.list_unshift("list", number)
            removed += state.list_remove("list", [number, turn]) + state.list_remove("list", number, 1)
        return removed


@pytest.mark.parametrize("how", ["set", "pushed"])
def test_processes_edit_one_list(path: str, how: str) -> None:
    """What a process inserted it finds and removes, whatever others insert, set and remove meanwhile."""
    with slothstate.open(path) as state:
        if how == "set":
            state.set("list", ["first", "last"])
        else:
            state.list_push("list", "first", "last")
        with processes() as start:
            workers = [start(edit, path, number) for number in range(3)]
            for worker in workers:
                worker.send()
            assert [worker.result() for worker in workers] == [100] * 3
        assert state.list_length("list") == 2


def publish(channel: Channel, path: str) -> None:
    channel.receive()
    with slothstate.open(path) as state:
        for version in range(200):
            state.delete("draft")
            state.list_push("draft", *[version] * 20)
            state.rename("draft", "page")
            with state.transaction():
                state.increment("left", -1)
                state.increment("right", 1)


def test_whole_at_any_moment(path: str) -> None:
    """A page that is renamed into its place is seen and copied whole; in a snapshot sums are right."""
    with slothstate.open(path) as state:
        state.set_many({"left": 0, "right": 0, "page": [0] * 20})
        with processes() as start:
            worker = start(publish, path)
            worker.send()
            while state.get("right") < 200:
                assert state.copy("page", "copy")
                copy = state.get("copy")
                assert copy == copy[:1] * 20
                with state.snapshot():
                    assert state.get("left") + state.get("right") == 0
                    assert state.list_range("page") == state.get("page")
            worker.result()


def log(channel: Channel, path: str) -> int:
    channel.receive()
    longest = 0
    with slothstate.open(path) as state:
        for number in range(100):
            state.list_push("log", number)
            longest = max(longest, state.list_trim("log", -10))
    return longest


def test_a_bounded_log(path: str) -> None:
    """A list that several processes push to and trim never grows past its bound by more than they are."""
    with processes() as start:
        workers = [start(log, path) for _ in range(3)]
        for worker in workers:
            worker.send()
        assert max(worker.result() for worker in workers) == 10
    with slothstate.open(path) as state:
        assert state.list_length("log") == 10
