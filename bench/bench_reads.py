"""Hot reads: a few keys that nobody writes, read over and over."""

from __future__ import annotations

from typing import Any, Final

from bench.compare import Lane, Workers
from bench.report import Report
from bench.under_pytest import run_lane
from bench.workloads import get, get_many, get_table, list_length

TOPIC: Final = "reads"

INT: Final = "get, hot int"
STR: Final = "get, hot str"
TABLE: Final = "get, hot table of five fields"
LIST: Final = "get, hot list of 20 ints"
NESTED: Final = "get, hot table of 7 tables and lists"
MANY: Final = "get_many of 100 hot keys"
ONE_BY_ONE: Final = "get, each of 100 hot keys"
LENGTH: Final = "list_length, hot"

_STORES: Final = ("slothstate", "apsw", "lmdb", "diskcache", "sqlitedict", "redis")

LANES: Final = (
    *(Lane(what=INT, peer=peer, workload=get, options={"kind": "int"}) for peer in _STORES),
    *(Lane(what=STR, peer=peer, workload=get, options={"kind": "str"}) for peer in _STORES),
    *(Lane(what=TABLE, peer=peer, workload=get_table) for peer in _STORES),
    *(
        Lane(what=what, peer=peer, workload=get_table, options={"document": document})
        for what, document in ((LIST, "list"), (NESTED, "nested"))
        for peer in ("slothstate", "apsw")
    ),
    Lane(what=MANY, peer="slothstate", workload=get_many, options={"together": True}),
    Lane(what=ONE_BY_ONE, peer="slothstate", workload=get_many, options={"together": False}),
    Lane(what=LENGTH, peer="slothstate", workload=list_length),
)

_GOALS: Final = (("lmdb", 3), ("apsw", 12), ("diskcache", 30), ("redis", 200))


def run(report: Report) -> None:
    report.measure(TOPIC, LANES)
    for what in (INT, STR):
        for peer, goal in _GOALS:
            report.at_least(f"{what}: times faster than {peer}", goal, report.times(what, peer))
    for what, goal in ((TABLE, 30), (LIST, 30), (NESTED, 12)):
        report.at_least(f"{what}: times faster than apsw and json.loads", goal, report.times(what, "apsw"))
    one_by_one = report.times(MANY, "slothstate", than="slothstate", its=ONE_BY_ONE)
    report.at_most(f"{MANY}: times {ONE_BY_ONE}", 1.5, one_by_one)
    report.at_most(f"{LENGTH}: times {INT}", 5, report.times(LENGTH, "slothstate", than="slothstate", its=INT))


PARAMETERS: Final = {"lane": LANES}


def bench_reads(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
