"""`increment` by one process; several at once are in bench_contention.py."""

from __future__ import annotations

from typing import Any, Final

from bench.compare import Lane, Workers
from bench.report import Report
from bench.under_pytest import run_lane
from bench.workloads import increment, set_scalar

TOPIC: Final = "counters"

INCREMENT: Final = "increment"
UPSERT: Final = "(bare upsert, beside the counters)"

LANES: Final = (
    *(Lane(what=INCREMENT, peer=peer, workload=increment) for peer in ("slothstate", "apsw", "diskcache", "redis")),
    Lane(what=UPSERT, peer="apsw", workload=set_scalar),
)


def run(report: Report) -> None:
    report.measure(TOPIC, LANES)
    value = report.times(INCREMENT, "slothstate", than="apsw", its=UPSERT)
    report.at_most("increment: times the bare upsert", 1.6, value)


PARAMETERS: Final = {"lane": LANES}


def bench_counters(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
