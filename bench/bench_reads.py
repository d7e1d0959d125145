"""Hot reads: a few keys that nobody writes, read over and over."""

from __future__ import annotations

from typing import Any, Final

from bench.compare import Lane, Workers
from bench.report import Report
from bench.under_pytest import run_lane
from bench.workloads import get, get_table

TOPIC: Final = "reads"

INT: Final = "get, hot int"
STR: Final = "get, hot str"
TABLE: Final = "get, hot table of five fields"

_STORES: Final = ("slothstate", "apsw", "lmdb", "diskcache", "sqlitedict", "redis")

LANES: Final = (
    *(Lane(what=INT, peer=peer, workload=get, options={"kind": "int"}) for peer in _STORES),
    *(Lane(what=STR, peer=peer, workload=get, options={"kind": "str"}) for peer in _STORES),
    *(Lane(what=TABLE, peer=peer, workload=get_table) for peer in _STORES),
)

_GOALS: Final = (("lmdb", 3), ("apsw", 12), ("diskcache", 30), ("redis", 200))


def run(report: Report) -> None:
    report.measure(TOPIC, LANES)
    for what in (INT, STR):
        for peer, goal in _GOALS:
            report.at_least(f"{what}: times faster than {peer}", goal, report.times(what, peer))
    report.at_least(f"{TABLE}: times faster than apsw and json.loads", 4, report.times(TABLE, "apsw"))


PARAMETERS: Final = {"lane": LANES}


def bench_reads(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
