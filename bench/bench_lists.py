"""A queue: push to a list and pop from it, at ten items and at a million."""

from __future__ import annotations

from typing import Any, Final

from bench.compare import Lane, Workers
from bench.report import Report
from bench.scale import QUICK, Scale
from bench.under_pytest import run_lane
from bench.workloads import push_pop, set_scalar, take_items

TOPIC: Final = "lists"

SHORT: Final = "list_push + list_pop, 10 items"
LONG: Final = "list_push + list_pop, {:,} items"
SHIFT: Final = "list_shift"
CLAIM: Final = "list_claim + done"
UPSERT: Final = "(bare upsert, beside the lists)"


def lanes(scale: Scale) -> list[Lane]:
    what = LONG.format(scale.many_items)
    return [
        *(
            Lane(what=SHORT, peer=peer, workload=push_pop, options={"length": 10})
            for peer in ("slothstate", "diskcache", "redis")
        ),
        *(
            Lane(what=what, peer=peer, workload=push_pop, options={"length": scale.many_items})
            for peer in ("slothstate", "redis")
        ),
        Lane(what=SHIFT, peer="slothstate", workload=take_items, options={"claims": False}),
        Lane(what=CLAIM, peer="slothstate", workload=take_items, options={"claims": True}),
        Lane(what=UPSERT, peer="apsw", workload=set_scalar),
    ]


def run(report: Report) -> None:
    report.measure(TOPIC, lanes(report.scale))
    what = LONG.format(report.scale.many_items)
    report.at_most(
        "list_push + list_pop: the pair, times the bare upsert",
        3,
        report.times(SHORT, "slothstate", than="apsw", its=UPSERT),
    )
    report.at_most("list_claim + done, times list_shift", 2.5, report.times(CLAIM, "slothstate", its=SHIFT))
    report.at_most(
        f"list_push + list_pop: {report.scale.many_items:,} items beside 10",
        1.2,
        report.times(what, "slothstate", its=SHORT),
    )


PARAMETERS: Final = {"lane": lanes(QUICK)}


def bench_lists(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
