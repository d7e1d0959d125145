"""slothstate itself at every page size: what `slothstate.engines.sqlite.schema.PAGE_SIZE` was chosen by."""

from __future__ import annotations

from typing import Any, Final

from bench.bench_values import SIZES, get_value, how_many, set_value
from bench.compare import Lane, Workers
from bench.report import OURS, Report
from bench.under_pytest import run_lane
from bench.workloads import set_scalar

TOPIC: Final = "page size"

PAGE_SIZES: Final = (512, 1024, 2048, 4096, 8192)


def _lanes(page_size: int) -> list[Lane]:
    store: dict[str, Any] = {
        "peer": OURS,
        "variant": f"{page_size} B pages",
        "open": {"page_size": page_size, "read_cache": False},
    }
    return [
        Lane(what="set, int", workload=set_scalar, **store),
        *(
            Lane(what=f"{verb} of {name}", workload=workload, options={"size": size}, limit=how_many(size), **store)
            for name, size in SIZES.items()
            for verb, workload in (("set", set_value), ("get, uncached,", get_value))
        ),
    ]


# The same operation at all page sizes, then the next: neighbours in a round are what is compared.
LANES: Final = tuple(lane for same in zip(*map(_lanes, PAGE_SIZES), strict=True) for lane in same)


def run(report: Report) -> None:
    report.measure(TOPIC, LANES, report.scale.few_rounds)


PARAMETERS: Final = {"lane": LANES}


def bench_page_size(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
