"""Several processes add to one counter for some seconds: how much in all, how fairly, and the longest wait."""

from __future__ import annotations

from array import array
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter_ns, sleep
from typing import Any, Final

from bench import peers
from bench.compare import Series
from bench.measure import Round
from bench.peers import Peer
from bench.report import OURS, Report
from bench.scale import QUICK
from bench.under_pytest import require, run_measured
from bench.worker import Worker, directory_for

TOPIC: Final = "contention"

COUNTER: Final = "counter"
HEAD_START_NS: Final = 300_000_000

_STORES: Final = ("slothstate", "apsw", "diskcache", "redis")


@dataclass(frozen=True, slots=True)
class Outcome:
    seconds: float
    waits: list[array[float]]
    """Of each process, the nanoseconds of every increment."""

    @property
    def per_second(self) -> float:
        return sum(map(len, self.waits)) / self.seconds

    @property
    def share(self) -> float:
        """What the slowest process got for each one that the fastest got."""
        counts = list(map(len, self.waits))
        return min(counts) / max(counts)

    @property
    def longest_ms(self) -> float:
        return max(map(max, self.waits)) / 1e6

    def pooled(self) -> array[float]:
        pool = array("d")
        for waits in self.waits:
            pool.extend(waits)
        return pool

    def series(self) -> Series:
        return Series([1e9 / self.per_second], self.pooled())


def count_up(peer: Peer, begin_at: int, seconds: float) -> array[float]:
    """Add one over and over from one moment of the system's monotonic clock on; return how long each took."""
    increment = peer.increment
    assert increment is not None
    waits = array("d")
    sleep(max(0, begin_at - perf_counter_ns()) / 1e9)
    end = begin_at + int(seconds * 1e9)
    began = perf_counter_ns()
    while True:
        increment(COUNTER)
        now = perf_counter_ns()
        waits.append(now - began)
        if now >= end:
            return waits
        began = now


def contend(name: str, processes: int, seconds: float, **options: Any) -> Outcome:
    """Let so many processes of one peer count, and check that no increment was lost."""
    with directory_for(name) as directory, ExitStack() as stack:
        workers = [stack.enter_context(Worker(name, directory, **options)) for _ in range(processes)]
        for worker in workers:
            worker.load(count_up)
        begin_at = perf_counter_ns() + HEAD_START_NS
        for worker in workers:
            worker.send(count_up, begin_at, seconds)
        waits = [worker.receive() for worker in workers]
        total = workers[0].run(_read)
        if total != sum(map(len, waits)):
            raise AssertionError(f"{name}: {sum(map(len, waits))} increments made {total}")
        # Those that began in time are all counted, so the last of them may have ended later.
        return Outcome(seconds, waits)


def _read(peer: Peer) -> int:
    assert peer.get is not None
    return int(peer.get(COUNTER))


def what(processes: int) -> str:
    return f"increment, one counter, {processes} process{'es' if processes > 1 else ''}"


def run(report: Report) -> None:
    scale = report.scale
    for processes in scale.processes:
        found = {
            name: contend(name, processes, scale.contention_seconds) for name in _STORES if peers.missing(name) is None
        }
        for name, outcome in found.items():
            report.add(TOPIC, what(processes), name, outcome.series(), found[OURS].series())
            report.note(
                f"{what(processes)}, {name}: {outcome.per_second:,.0f}/s in all, "
                f"slowest/fastest {outcome.share:.2f}, longest wait {outcome.longest_ms:.1f} ms"
            )
        if processes == 1:
            alone = found[OURS].per_second
            continue
        ours = found[OURS]
        name = f"one counter, {processes} processes"
        report.at_least(f"{name}: total beside one process alone", 80, 100 * ours.per_second / alone, " %")
        report.at_least(f"{name}: share of the slowest beside the fastest", 0.6, ours.share, "")
        report.at_most(f"{name}: longest wait", 200, ours.longest_ms, " ms")


PARAMETERS: Final = {"name": _STORES, "processes": QUICK.processes}


def bench_contention(benchmark: Any, name: str, processes: int) -> None:
    require(name)

    def measure() -> Round:
        series = contend(name, processes, QUICK.contention_seconds).series()
        return Round(series.means[0], series.samples)

    run_measured(benchmark, measure, what(processes), rounds=1)
