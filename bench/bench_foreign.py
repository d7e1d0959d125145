"""Reads while another process writes: the price of never being stale."""

from __future__ import annotations

from array import array
from functools import partial
from itertools import count
from statistics import median
from time import perf_counter_ns, sleep
from typing import Any, Final

from bench.compare import Lane, Series, Workers
from bench.measure import Batch, Round, Source, kept_waiting
from bench.peers import Peer
from bench.report import OURS, Report
from bench.under_pytest import run_lane
from bench.worker import Worker, at_close
from bench.workloads import KEYS

TOPIC: Final = "foreign commits"

AFTER: Final = "get, after a commit of another process each time"
QUIET: Final = "get, 100 hot keys, nobody writes"
BESIDE: Final = "get, 100 hot keys, another process commits 1,000 times a second"

WRITTEN: Final = "written by the other"
PER_SECOND: Final = 1_000
AFTER_LIMIT: Final = 200

_values = count(1)


def commit_once(peer: Peer) -> int:
    """Commit a value that was never there; return it."""
    assert peer.set is not None
    value = next(_values)
    peer.set(WRITTEN, value)
    return value


def commit_steadily(peer: Peer, seconds: float) -> tuple[int, int]:
    """Commit `PER_SECOND` times a second; return how often it was, and the last value."""
    began = perf_counter_ns()
    end = began + int(seconds * 1e9)
    commits = value = 0
    while perf_counter_ns() < end:
        value = commit_once(peer)
        commits += 1
        sleep(max(0, began + commits * 1_000_000_000 // PER_SECOND - perf_counter_ns()) / 1e9)
    return commits, value


def get_after_commit(peer: Peer) -> Source:
    """Read one of a few keys, each time after another process committed."""
    names = _some_keys(peer)
    assert peer.directory is not None
    neighbour = at_close.enter_context(Worker(peer.name, peer.directory))

    def source(operations: int) -> Batch:
        chosen = [number % KEYS for number in range(operations)]
        assert peer.get is not None
        return Batch(peer.get, ([names[i] for i in chosen],), chosen, before=partial(neighbour.run, commit_once))

    return source


def _some_keys(peer: Peer) -> list[str]:
    assert peer.set is not None
    names = [f"hot:{number}" for number in range(KEYS)]
    for number, name in enumerate(names):
        peer.set(name, number)
    return names


_neighbours: Final[list[Worker]] = []


def read_steadily(peer: Peer, seconds: float, disturbed: bool) -> tuple[Round, float]:
    """Read a few keys for so long, beside a writer or not; return what it took and the commits a second meanwhile.

    Every pass over the keys is one sample; the mean is over all of them.
    """
    get = peer.get
    assert get is not None
    names = _some_keys(peer)
    neighbour = None
    if disturbed:
        assert peer.directory is not None
        if not _neighbours:
            _neighbours.append(at_close.enter_context(Worker(peer.name, peer.directory)))
            _neighbours[0].load(commit_steadily)
        neighbour = _neighbours[0]
        neighbour.send(commit_steadily, seconds)
    samples = array("d")
    waited = kept_waiting()
    began = now = perf_counter_ns()
    end = began + int(seconds * 1e9)
    while now < end:
        before = now
        for name in names:
            get(name)
        now = perf_counter_ns()
        samples.append((now - before) / KEYS)
    mean = (now - began - (kept_waiting() - waited)) / (len(samples) * KEYS)
    assert [get(name) for name in names] == list(range(KEYS))
    rate = 0.0
    if neighbour is not None:
        commits, last = neighbour.receive()
        rate = commits / seconds
        assert get(WRITTEN) == last
    return Round(mean, samples), rate


LANES: Final = tuple(
    Lane(what=AFTER, peer=peer, workload=get_after_commit, limit=AFTER_LIMIT) for peer in ("slothstate", "apsw")
)


def run(report: Report) -> None:
    report.measure(TOPIC, LANES, report.scale.few_rounds)
    report.at_most(f"{AFTER}: times the bare SELECT", 1.4, report.times(AFTER, OURS, than="apsw"))

    found = {(what, peer): Series() for what in (QUIET, BESIDE) for peer in (OURS, "apsw")}
    rates = []
    with Workers() as workers:
        for _ in range(report.scale.few_rounds):
            for lane in LANES:
                for what in (QUIET, BESIDE):
                    worker = workers.of(lane)
                    measured, rate = worker.run(read_steadily, report.scale.foreign_seconds, what == BESIDE)
                    found[what, lane.peer].means.append(measured.mean)
                    found[what, lane.peer].samples.extend(measured.samples)
                    if what == BESIDE and lane.peer == OURS:
                        rates.append(rate)
    for (what, peer), series in found.items():
        report.add(TOPIC, what, peer, series, found[what, OURS])
    report.note(f"{BESIDE}: {median(rates):,.0f} commits a second were made beside slothstate's reads")
    report.at_most(f"{BESIDE}: times the undisturbed get", 5, report.times(BESIDE, OURS, its=QUIET))


PARAMETERS: Final = {"lane": LANES}


def bench_foreign(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
