"""Locks: taken and released alone, handed to a waiting process, and taken over from one that was killed."""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from itertools import count
from time import perf_counter_ns, sleep
from typing import Any, Final

from bench import peers
from bench.compare import Lane, Series, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import OURS, Report
from bench.under_pytest import run_lane
from bench.worker import Worker, directory_for

TOPIC: Final = "locks"

UNCONTENDED: Final = "lock + unlock, uncontended"
TRY: Final = "try_lock + unlock, uncontended"
UPSERTS: Final = "two upserts"
HANDOVER: Final = "unlock until a waiting process has the lock"
TAKEOVER: Final = "kill -9 of the owner until a waiting process has the lock"

NAME: Final = "deploy"

WAITING_SECONDS: Final = 0.03
"""Long enough that the other process has reached its wait."""


def pair(peer: Peer) -> Source:
    """Take and release one lock; one operation is the pair."""
    lock, unlock = peer.lock, peer.unlock
    assert lock is not None
    assert unlock is not None

    def both(name: str) -> None:
        lock(name)
        unlock(name)

    return lambda operations: Batch(both, ([NAME] * operations,))


def try_pair(peer: Peer) -> Source:
    """The same with `try_lock`, which slothstate alone has."""
    try_lock, unlock = peer.native.try_lock, peer.native.unlock

    def both(name: str) -> bool:
        return bool(try_lock(name) and unlock(name))

    return lambda operations: Batch(both, ([NAME] * operations,), [True] * operations)


def two_upserts(peer: Peer) -> Source:
    """Two commits, the least that taking and releasing a lock can be."""
    set_ = peer.set
    assert set_ is not None
    turns = count()

    def both(name: str) -> None:
        set_(name, next(turns))
        set_(name, next(turns))

    return lambda operations: Batch(both, ([NAME] * operations,))


LANES: Final = (
    *(Lane(what=UNCONTENDED, peer=peer, workload=pair) for peer in ("slothstate", "filelock", "diskcache", "redis")),
    Lane(what=TRY, peer="slothstate", workload=try_pair),
    Lane(what=UPSERTS, peer="apsw", workload=two_upserts),
)


def take(peer: Peer) -> int:
    """Acquire the lock; return when that was, by the system's monotonic clock."""
    assert peer.lock is not None
    peer.lock(NAME)
    return perf_counter_ns()


def release(peer: Peer) -> int:
    """Release the lock; return when that began."""
    assert peer.unlock is not None
    now = perf_counter_ns()
    peer.unlock(NAME)
    return now


def hand_over(name: str, times: int, **options: Any) -> Series:
    """Two processes pass a lock to and fro."""
    with directory_for(name) as directory, ExitStack() as stack:
        owner, waiting = (stack.enter_context(Worker(name, directory, **options)) for _ in range(2))
        waiting.load(take)
        owner.run(take)
        samples = array("d")
        for turn in range(times):
            waiting.send(take)
            # Not always the same: a waiter that polls must not be met in the same phase each time.
            sleep(WAITING_SECONDS + turn % 10 * 0.003)
            released = owner.run(release)
            samples.append(waiting.receive() - released)
            owner, waiting = waiting, owner
        owner.run(release)
    return Series([sum(samples) / len(samples)], samples)


def take_over(name: str, times: int, **options: Any) -> Series:
    """The owner is killed while another process waits."""
    samples = array("d")
    with directory_for(name) as directory, ExitStack() as stack:
        # A server belongs to the process that started it.
        stack.enter_context(Worker(name, directory, **options))
        owner = stack.enter_context(Worker(name, directory, **options))
        owner.run(take)
        for turn in range(times):
            waiting = stack.enter_context(Worker(name, directory, **options))
            waiting.load(take)
            waiting.send(take)
            sleep(WAITING_SECONDS + turn % 10 * 0.003)
            killed = perf_counter_ns()
            owner.kill()
            samples.append(waiting.receive() - killed)
            owner = waiting
        owner.run(release)
    return Series([sum(samples) / len(samples)], samples)


def run(report: Report) -> None:
    report.measure(TOPIC, LANES)
    report.at_least("lock + unlock: times faster than filelock", 2, report.times(UNCONTENDED, "filelock"))
    report.at_least(
        "lock + unlock: speed beside two bare upserts", 0.45, report.times(UPSERTS, "apsw", its=UNCONTENDED)
    )
    for what, experiment, times in (
        (HANDOVER, hand_over, report.scale.handovers),
        (TAKEOVER, take_over, report.scale.takeovers),
    ):
        found = {name: experiment(name, times) for name in (OURS, "filelock") if peers.missing(name) is None}
        for name, series in found.items():
            report.add(TOPIC, what, name, series, found[OURS])


PARAMETERS: Final = {"lane": LANES}


def bench_locks(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
