"""Claims of processes that are killed, stopped and forked: what was taken is back at once, nothing is done twice."""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable

import pytest

import slothstate
from helpers.processes import Channel, Child, Worker, processes
from helpers.support import quick_and_long, until
from helpers.verbs import claimed
from slothstate import State

SOON = 0.05
"""Seconds in the median from the death of a process to its item in another's hands."""


def claim_and_stay(channel: Channel, path: str, count: int) -> None:
    """Claim items, tell it, and do nothing more."""
    with slothstate.open(path) as state:
        kept = [claimed(state, "jobs") for _ in range(count)]
        channel.send([claim.item for claim in kept])
        channel.receive()


def test_item_of_a_killed_process(path: str, state: State, figure: Callable[[str], None]) -> None:
    """Whoever waits for an item has that of a killed process within 50 ms in the median."""
    times = []
    with processes() as start:
        for number in range(15):
            state.list_push("jobs", number)
            worker = start(claim_and_stay, path, 1)
            assert worker.receive() == [number]
            (said,) = state.claims("jobs")
            assert (said["alive"], said["owner"]) == (True, {"host": os.uname().nodename, "pid": worker.pid})
            killer = start(kill_a_little_later, worker.pid)
            killed_at, got_at = killer, claimed(state, "jobs", 30)
            times.append(time.monotonic() - killed_at.receive())
            assert (got_at.item, got_at.attempt) == (number, 2)
            assert got_at.done()
    figure(f"item of a killed process in another's hands: {statistics.median(times) * 1000:.0f} ms median of 15")
    assert statistics.median(times) <= SOON


def kill_a_little_later(channel: Channel, pid: int) -> None:
    time.sleep(0.05)
    now = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    channel.send(now)


LOOKS: dict[str, Callable[[State], object]] = {
    "list_claim": lambda state: claimed(state, "jobs").item,
    "list_shift": lambda state: state.list_shift("jobs"),
    "list_pop_many": lambda state: state.list_pop_many("jobs", 9)[-1],
    "list_length": lambda state: state.list_length("jobs") and state.list_range("jobs")[0],
    "sweep": lambda state: state.sweep() or state.list_range("jobs")[0],
}


@pytest.mark.parametrize("look", LOOKS)
def test_whoever_looks_first_after_a_death(path: str, state: State, look: str) -> None:
    """Without a wait, in the old order and before everything else."""
    state.list_push("jobs", "a", "b", "c", "d")
    with processes() as start:
        first, second = start(claim_and_stay, path, 1), start(claim_and_stay, path, 2)
        taken = first.receive() + second.receive()
        assert sorted(taken) == ["a", "b", "c"]
        second.kill()
        first.kill()
        assert not state.exists("nothing")
        assert state.list_range("jobs") == ["d"]
        assert LOOKS[look](state) == "a"
    state.sweep()
    rest = [*(state.get("jobs") or [])]
    assert rest == [item for item in "abcd" if item in rest]


def test_stopped_process_keeps_its_claim(path: str, state: State) -> None:
    """A process that is stopped lives: nobody gets its item, however long."""
    state.list_push("jobs", "a")
    with processes() as start:
        worker = start(claim_and_stay, path, 1)
        worker.receive()
        worker.signal(signal.SIGSTOP)
        assert state.list_claim("jobs", timeout=0.2) is None
        worker.signal(signal.SIGCONT)
        worker.send()
        worker.result()
    # Its State was closed.
    assert claimed(state, "jobs").attempt == 2


def child_owns_nothing(channel: Channel, path: str) -> None:
    state = slothstate.open(path)
    claim = claimed(state, "jobs")

    def in_child(to_parent: Channel) -> None:
        to_parent.send([claim.lost, claim.done(), claim.release(), claim.extend(9), len(state.claims())])
        state.close()

    child = Child(in_child)
    answers = child.receive()
    child.join()
    channel.send([answers, claim.lost, claim.done()])
    state.close()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="warns of threads")
def test_a_forked_child_owns_none_of_its_parents_claims(path: str, state: State) -> None:
    """In the child they are lost, and its end and its `close` leave them to the parent."""
    state.list_push("jobs", "a")
    with processes() as start:
        answers, lost, done = start(child_owns_nothing, path).receive()
    assert answers == [True, False, False, False, 1]
    assert (lost, done) == (False, True)
    assert state.claims() == []


def work(channel: Channel, path: str, number: int) -> None:
    """Do jobs, each with its effect in the claim's transaction, and some of them badly."""
    chance = random.Random(number)
    with slothstate.open(path) as state:
        while not state.get("over"):
            claim = state.list_claim(("urgent", "jobs"), timeout=0.1)
            if claim is None:
                continue
            how = chance.random()
            if how < 0.05:
                claim.release()
            elif how < 0.1:
                claim.release(delay=0.02)
            elif how < 0.15:
                # Forgotten, until its time is up.
                claim.extend(0.02)
            else:
                with claim.transaction():
                    state.increment(f"effect:{claim.item}")
                    assert claim.done()


def produce(channel: Channel, path: str, jobs: int) -> None:
    with slothstate.open(path) as state:
        for number in range(jobs):
            state.list_push("urgent" if number % 5 == 0 else "jobs", number)


def exactly_once(path: str, state: State, jobs: int, workers: int, seed: int) -> str:
    """Let workers do jobs while they are killed and stopped; return what there is to say."""
    chance = random.Random(seed)
    kills = stops = number = 0
    with processes() as start:
        producer = start(produce, path, jobs)
        running: list[Worker] = [start(work, path, each) for each in range(workers)]
        until_done = time.monotonic() + 300

        def done() -> int:
            return len(state.keys("effect:*"))

        while done() < jobs:
            assert time.monotonic() < until_done, f"{done()} of {jobs}: {state.claims()}"
            time.sleep(chance.uniform(0.005, 0.03))
            index = chance.randrange(workers)
            if chance.random() < 0.3:
                running[index].stop_for(chance.uniform(0, 0.05))
                stops += 1
            else:
                running[index].kill()
                number += 1
                running[index] = start(work, path, workers + number)
                kills += 1
        state.set("over", True)
        producer.result()
        for worker in running:
            worker.result()
    state.delete("over")
    effects = dict(state.items())
    assert state.claims() == []
    assert state.check() == []
    lost = [job for job in range(jobs) if f"effect:{job}" not in effects]
    twice = [key for key, count in effects.items() if count != 1]
    assert (lost, twice) == ([], [])
    return f"{jobs} jobs by {workers} workers, {kills} kills, {stops} stops: lost {len(lost)}, twice {len(twice)}"


@quick_and_long("jobs, workers, seed", (400, 4, 1), (10_000, 8, 2), timeout=400)
def test_each_job_has_its_effect_once(
    path: str, state: State, jobs: int, workers: int, seed: int, figure: Callable[[str], None]
) -> None:
    """Every item pushed is done exactly once, whoever is killed and stopped meanwhile."""
    figure(exactly_once(path, state, jobs, workers, seed))


def test_a_killed_waiter_takes_nothing(path: str, state: State) -> None:
    """Who dies as it waits leaves every item to the others."""
    with processes() as start:
        workers = [start(work, path, number) for number in range(3)]
        time.sleep(0.2)
        for worker in workers:
            worker.kill()
        state.list_push("jobs", 1, 2)
    assert [claimed(state, "jobs").item for _ in range(2)] == [1, 2]
    until(lambda: len(state.claims()) == 2)
