"""Queues: an item through one, how soon a waiting process has it, and what waiting and watching cost."""

from __future__ import annotations

import threading
from array import array
from contextlib import ExitStack
from itertools import count
from time import perf_counter_ns, process_time, sleep
from typing import Any, Final

from bench import peers
from bench.compare import Lane, Series, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import OURS, Report
from bench.under_pytest import run_lane
from bench.worker import Worker, directory_for
from bench.workloads import set_scalar

TOPIC: Final = "queues"

TAKEN: Final = "an item pushed and taken"
CLAIMED: Final = "an item pushed, claimed and done"
WAITED: Final = "push until a waiting process has the item"
WAITED_CLAIM: Final = "push until a waiting process has claimed it"
KILLED: Final = "kill -9 of a worker until a waiting process has its item"
FLOODED: Final = "push until one of {} waiting processes has the item, 5,000/s"
PLAIN: Final = "set, int (beside the watched one)"
WATCHED: Final = "set, int, while somebody watches"

STREAMS: Final[dict[str, Any]] = {"variant": "streams", "open": {"streams": True}}

QUEUE: Final = "jobs"
PATIENCE: Final = 20.0
WAITING_SECONDS: Final = 0.03
"""Long enough that the other process has reached its wait."""

RATE: Final = 5_000
HEAD_START_NS: Final = 300_000_000
END: Final = 0
"""The item that ends a worker; the others say when they were pushed."""


# One process


def through(peer: Peer, *, claims: bool) -> Source:
    """Push an item to a queue and take it from there; with `claims` it is acknowledged, too."""
    push, claim, shift, tidy = peer.push, peer.claim, peer.shift, peer.tidy
    assert push is not None
    name = peer.key(f"through:{claims}")
    numbers = count()

    def take(item: Any) -> Any:
        push(name, item)
        if claims:
            assert claim is not None
            return claim(name, PATIENCE)
        assert shift is not None
        return shift(name)

    def source(operations: int) -> Batch:
        items = [peer.value(next(numbers)) for _ in range(operations)]
        return Batch(take, (items,), items, verify=None if tidy is None else lambda: tidy(name))

    return source


def set_watched(peer: Peer) -> Source:
    """`set_scalar` of a store that is watched; what there was to see is read outside the clock."""
    source, watch = set_scalar(peer), peer.native.watch()

    def watched(operations: int) -> Batch:
        while watch.next(0) is not None:
            pass
        return source(operations)

    return watched


LANES: Final = (
    *(
        Lane(what=TAKEN, peer=peer, workload=through, options={"claims": False})
        for peer in ("slothstate", "redis", "huey")
    ),
    *(
        Lane(what=CLAIMED, peer=peer, workload=through, options={"claims": True}, **extra)
        for peer, extra in (("slothstate", {}), ("redis", STREAMS), ("persist_queue", {}))
    ),
    Lane(what=PLAIN, peer="slothstate", workload=set_scalar),
    Lane(what=WATCHED, peer="slothstate", workload=set_watched, variant="watched"),
)


# Two processes


def push(peer: Peer) -> int:
    """Push an item; return when that began, by the system's monotonic clock."""
    assert peer.push is not None
    item, now = peer.value(1), perf_counter_ns()
    peer.push(peer.key(QUEUE), item)
    return now


def take(peer: Peer, claims: bool) -> int:
    """Wait for an item; return when it was there."""
    wait = peer.claim if claims else peer.wait
    assert wait is not None
    if wait(peer.key(QUEUE), PATIENCE) is None:
        raise AssertionError("no item came")
    return perf_counter_ns()


def claim_and_stay(peer: Peer) -> None:
    """Claim an item and never say that it is done; only slothstate says who has one."""
    if peer.native.list_claim(QUEUE) is None:
        raise AssertionError("there was no item to claim")


def pushed_to_waiting(name: str, times: int, claims: bool, **options: Any) -> Series:
    """One process pushes an item now and then, another one waits for it."""
    samples = array("d")
    with directory_for(name) as directory, ExitStack() as stack:
        pushing, waiting = (stack.enter_context(Worker(name, directory, **options)) for _ in range(2))
        pushing.load(push)
        waiting.load(take)
        for turn in range(times):
            waiting.send(take, claims)
            # Not always the same: a waiter that polls must not be met in the same phase each time.
            sleep(WAITING_SECONDS + turn % 10 * 0.003)
            began = pushing.run(push)
            samples.append(waiting.receive() - began)
    return Series([sum(samples) / len(samples)], samples)


def killed_to_waiting(times: int) -> Series:
    """A worker is killed with an item while another process waits for one."""
    samples = array("d")
    with directory_for(OURS) as directory, Worker(OURS, directory) as waiting:
        waiting.load(take)
        for turn in range(times):
            with Worker(OURS, directory) as worker:
                worker.run(push)
                worker.run(claim_and_stay)
                waiting.send(take, True)
                sleep(WAITING_SECONDS + turn % 10 * 0.003)
                killed = perf_counter_ns()
                worker.kill()
                samples.append(waiting.receive() - killed)
    return Series([sum(samples) / len(samples)], samples)


# Many waiters


def idle(peer: Peer, waiters: int, seconds: float) -> float:
    """Let threads wait for items that never come; return the share of a core that this takes, in percent."""
    wait = peer.wait
    assert wait is not None
    threads = [threading.Thread(target=wait, args=(f"idle:{number}", seconds)) for number in range(waiters)]
    for thread in threads:
        thread.start()
    # Without their start and their end.
    sleep(0.2 * seconds)
    before, began = process_time(), perf_counter_ns()
    sleep(0.6 * seconds)
    share = (process_time() - before) / ((perf_counter_ns() - began) / 1e9)
    for thread in threads:
        thread.join()
    return 100 * share


def collect(peer: Peer) -> tuple[array[float], float]:
    """Take items until `END`; return how long each was on its way, and the processor time that took."""
    wait = peer.wait
    assert wait is not None
    key, samples, before = peer.key(QUEUE), array("d"), process_time()
    while (pushed := int(wait(key, PATIENCE))) != END:
        samples.append(perf_counter_ns() - pushed)
    return samples, process_time() - before


def pour(peer: Peer, begin_at: int, seconds: float, waiters: int) -> tuple[int, float]:
    """Push `RATE` items a second, or as many as it can; return how many, and how long it took."""
    assert peer.push is not None
    key, many = peer.key(QUEUE), max(waiters, int(seconds * RATE))
    sleep(max(0, begin_at - perf_counter_ns()) / 1e9)
    began = perf_counter_ns()
    for number in range(many):
        early = began + number * 1_000_000_000 // RATE - perf_counter_ns()
        if early > 0:
            sleep(early / 1e9)
        peer.push(key, peer.value(perf_counter_ns()))
    elapsed = (perf_counter_ns() - began) / 1e9
    for _ in range(waiters):
        peer.push(key, peer.value(END))
    return many, elapsed


def flood(report: Report, name: str) -> Series:
    """Let many processes wait for the items of one list, while another pushes as fast as it is told to."""
    waiters, seconds = report.scale.waiters, report.scale.contention_seconds
    with directory_for(name) as directory, ExitStack() as stack:
        pushing, *waiting = (stack.enter_context(Worker(name, directory)) for _ in range(1 + waiters))
        pushing.load(pour)
        for worker in waiting:
            worker.load(collect)
            worker.send(collect)
        many, elapsed = pushing.run(pour, perf_counter_ns() + HEAD_START_NS, seconds, waiters)
        found = [worker.receive() for worker in waiting]
    samples = array("d", (sample for each, _ in found for sample in each))
    if len(samples) != many:
        raise AssertionError(f"{name}: of {many} items {len(samples)} were taken")
    counts, cores = [len(each) for each, _ in found], sum(used for _, used in found) / elapsed
    share, rate = min(counts) / max(counts), many / elapsed
    report.note(
        f"{waiters} processes wait for one list, {RATE:,} pushes/s asked for, {name}: {rate:,.0f}/s pushed, "
        f"slowest/fastest waiter {share:.2f}, the waiters take {cores:.2f} cores"
    )
    if name == OURS:
        what = f"{waiters} waiters of one list, {RATE:,} pushes/s"
        report.at_least(f"{what}: share of the slowest beside the fastest", 0.4, share, "")
        report.at_least(f"{what}: pushed, of what was asked for", 70, 100 * rate / RATE, " %")
    return Series([sum(samples) / len(samples)], samples)


def run(report: Report) -> None:
    scale = report.scale
    report.measure(TOPIC, LANES)
    report.at_most(WATCHED + ", times unwatched", 1.7, report.times(WATCHED, f"{OURS}, watched", its=PLAIN))
    for what, claims, rivals in (
        (WAITED, False, (("redis", "redis", {}),)),
        (WAITED_CLAIM, True, (("redis, streams", "redis", {"streams": True}),)),
    ):
        ours = pushed_to_waiting(OURS, scale.handovers, claims)
        report.add(TOPIC, what, OURS, ours, ours)
        for label, name, options in rivals:
            if peers.missing(name) is None:
                report.add(TOPIC, what, label, pushed_to_waiting(name, scale.handovers, claims, **options), ours)
        median, p99 = ours.percentiles(50, 99)
        report.at_most(f"{what}: p50", 1, median / 1e6, " ms")
        report.at_most(f"{what}: p99", 5, p99 / 1e6, " ms")
    killed = killed_to_waiting(scale.takeovers)
    report.add(TOPIC, KILLED, OURS, killed)
    report.at_most(f"{KILLED}: p50", 50, killed.percentiles(50)[0] / 1e6, " ms")
    with directory_for(OURS) as directory, Worker(OURS, directory) as worker:
        for waiters, most in ((1, 3), (100, 5)):
            share = worker.run(idle, waiters, scale.contention_seconds)
            report.at_most(f"{waiters} idle waiter{'s' * (waiters > 1)} of a process: of a core", most, share, " %")
    flooded = {name: flood(report, name) for name in (OURS, "redis") if peers.missing(name) is None}
    for name, series in flooded.items():
        report.add(TOPIC, FLOODED.format(scale.waiters), name, series, flooded[OURS])


PARAMETERS: Final = {"lane": LANES}


def bench_queues(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
