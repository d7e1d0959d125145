"""Single writes, each a commit of its own: what they cost beside the bare upsert through apsw."""

from __future__ import annotations

from typing import Any, Final

from bench.compare import Lane, Workers
from bench.report import Report
from bench.under_pytest import run_lane
from bench.workloads import append, set_scalar, set_table, swap

TOPIC: Final = "writes"

INT: Final = "set, int"
STR: Final = "set, str"
TABLE: Final = "set, table of five fields"
APPEND: Final = "append"
SWAP: Final = "compare_swap"

AT_4_KIB: Final = "4 KiB pages"

_STORES: Final = ("slothstate", "apsw", "lmdb", "diskcache", "sqlitedict", "redis")
_4_KIB: Final[dict[str, Any]] = {"variant": AT_4_KIB, "open": {"page_size": 4096}}

LANES: Final = (
    *(Lane(what=INT, peer=peer, workload=set_scalar) for peer in _STORES),
    Lane(what=INT, peer="apsw", workload=set_scalar, **_4_KIB),
    *(Lane(what=STR, peer=peer, workload=set_scalar, options={"kind": "str"}) for peer in _STORES),
    *(Lane(what=TABLE, peer=peer, workload=set_table) for peer in _STORES),
    *(Lane(what=APPEND, peer=peer, workload=append) for peer in ("slothstate", "redis")),
    Lane(what=SWAP, peer="slothstate", workload=swap),
)


def run(report: Report) -> None:
    report.measure(TOPIC, LANES)
    report.at_most("set: times the bare upsert", 1.2, report.times(INT, "slothstate", than="apsw"))
    report.at_most(
        "set: times the bare upsert at 4 KiB pages", 1.0, report.times(INT, "slothstate", than=f"apsw, {AT_4_KIB}")
    )
    for peer in ("diskcache", "redis"):
        report.at_least(f"set: times faster than {peer}", 4, report.times(INT, peer))
    for what in (APPEND, SWAP):
        report.at_most(f"{what}: times the bare upsert", 1.6, report.times(what, "slothstate", than="apsw", its=INT))


PARAMETERS: Final = {"lane": LANES}


def bench_writes(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
