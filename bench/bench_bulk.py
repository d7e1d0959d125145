"""`set_many` in one transaction beside `executemany` in one."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from bench.compare import Lane, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import Report
from bench.scale import QUICK, Scale
from bench.under_pytest import run_lane

TOPIC: Final = "bulk"


def set_many(peer: Peer, *, size: int) -> Source:
    """Overwrite so many keys in one call, each time with other values; one operation is the call."""
    numbers = count()

    def source(operations: int) -> Batch:
        mappings = [
            {f"bulk:{number}": number + version for number in range(size)}
            for version in (next(numbers) for _ in range(operations))
        ]

        def verify() -> None:
            assert peer.get is not None
            last = size - 1
            assert peer.get(peer.key(f"bulk:{last}")) == peer.value(mappings[-1][f"bulk:{last}"])

        assert peer.set_many is not None
        return Batch(peer.set_many, (mappings,), verify=verify)

    return source


def lanes(scale: Scale) -> list[Lane]:
    return [
        Lane(what=what(scale), peer=peer, workload=set_many, options={"size": scale.bulk}, limit=1)
        for peer in ("slothstate", "apsw", "lmdb", "diskcache", "sqlitedict", "redis")
    ]


def what(scale: Scale) -> str:
    return f"set_many of {scale.bulk:,}"


def run(report: Report) -> None:
    report.measure(TOPIC, lanes(report.scale))
    name = what(report.scale)
    report.at_most(f"{name}: times executemany", 1.4, report.times(name, "slothstate", than="apsw"))


PARAMETERS: Final = {"lane": lanes(QUICK)}


def bench_bulk(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
