"""A store of a thousand keys beside one of a million."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any, Final

from bench.bench_keys import fill
from bench.compare import Lane, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import OURS, Report
from bench.scale import QUICK, Scale
from bench.under_pytest import run_lane
from bench.workloads import KEYS

TOPIC: Final = "growth"

SMALL: Final = 1_000

HOT: Final = "hot get"
COLD: Final = "cold get (read_cache=False), any key"
SET: Final = "set, any key"


def get_some(peer: Peer, *, keys: int, distinct: int) -> Source:
    """Read keys in no order, out of `distinct` ones (0: of all) in a store of so many."""
    assert peer.get is not None
    names = list(enumerate(fill(peer, keys)))
    random = Random(7)
    if distinct:
        names = random.sample(names, distinct)

    def source(operations: int) -> Batch:
        chosen = random.choices(names, k=operations)
        assert peer.get is not None
        return Batch(peer.get, ([name for _, name in chosen],), [value for value, _ in chosen])

    return source


def set_some(peer: Peer, *, keys: int) -> Source:
    """Overwrite keys in no order in a store of so many."""
    names = fill(peer, keys)
    numbers = count(keys)
    random = Random(8)

    def source(operations: int) -> Batch:
        chosen = random.choices(names, k=operations)
        values = [next(numbers) for _ in range(operations)]

        def verify() -> None:
            assert peer.get is not None
            assert peer.get(chosen[-1]) == values[-1]

        assert peer.set is not None
        return Batch(peer.set, (chosen, values), verify=verify)

    return source


def _variant(keys: int, use: str) -> str:
    return f"{keys:,} keys, {use}"


def lanes(scale: Scale) -> list[Lane]:
    result = []
    for keys in (SMALL, scale.many_keys):
        result += [
            Lane(
                what=HOT,
                peer=OURS,
                workload=get_some,
                options={"keys": keys, "distinct": KEYS},
                variant=_variant(keys, "hot"),
            ),
            Lane(
                what=COLD,
                peer=OURS,
                workload=get_some,
                options={"keys": keys, "distinct": 0},
                variant=_variant(keys, "cold"),
                open={"read_cache": False},
            ),
            Lane(what=SET, peer=OURS, workload=set_some, options={"keys": keys}, variant=_variant(keys, "set")),
        ]
    return result


def run(report: Report) -> None:
    many = report.scale.many_keys
    report.measure(TOPIC, lanes(report.scale))
    for what, use, goal in ((HOT, "hot", 1.2), (COLD, "cold", 2.0), (SET, "set", 2.0)):
        value = report.times(what, f"{OURS}, {_variant(many, use)}", than=f"{OURS}, {_variant(SMALL, use)}")
        report.at_most(f"{what}: {many:,} keys beside {SMALL:,}", goal, value)


PARAMETERS: Final = {"lane": lanes(QUICK)}


def bench_growth(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
