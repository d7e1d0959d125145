"""A field of a table of 1 KiB and of 1 MiB: read, set and incremented alone, and by reading and writing the whole."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from bench.compare import Lane, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import OURS, Report
from bench.under_pytest import run_lane

TOPIC: Final = "fields"

ROWS: Final = {"1 KiB": 24, "1 MiB": 21_900}
"""How many rows make a table of a size: one is some fifty bytes of JSON."""

WHOLE: Final = "the whole table"


def table(rows: int) -> dict[str, Any]:
    return {f"row:{number:05}": {"name": f"number {number}", "hits": number} for number in range(rows)}


def operate(peer: Peer, *, verb: str, rows: int, whole: bool) -> Source:
    """Read or write the number in the middle of a table, each time another where it is written."""
    state = peer.native
    key = f"{verb}:{rows}"
    state.set(key, table(rows))
    name = f"row:{rows // 2:05}"
    path = (name, "hits")
    numbers = count(1)

    def get_whole(_: int) -> Any:
        return state.get(key)[name]["hits"]

    def get_part(_: int) -> Any:
        return state.get_field(key, path)

    def set_whole(number: int) -> None:
        value = state.get(key)
        value[name]["hits"] = number
        state.set(key, value)

    def set_part(number: int) -> None:
        state.set_field(key, path, number)

    function = {("get", True): get_whole, ("get", False): get_part, ("set", True): set_whole, ("set", False): set_part}

    def source(operations: int) -> Batch:
        chosen = [next(numbers) for _ in range(operations)]
        if verb == "get":
            return Batch(function[verb, whole], (chosen,), [rows // 2] * operations)

        def verify() -> None:
            found = state.get(key)
            assert found[name]["hits"] == chosen[-1]
            assert len(found) == rows

        return Batch(function[verb, whole], (chosen,), verify=verify)

    return source


def _lane(verb: str, size: str, whole: bool) -> Lane:
    return Lane(
        what=f"{verb} a field of a table of {size}",
        peer=OURS,
        workload=operate,
        options={"verb": verb, "rows": ROWS[size], "whole": whole},
        limit=20_000 if size == "1 KiB" else 50,
        variant=WHOLE if whole else "",
    )


LANES: Final = tuple(_lane(verb, size, whole) for verb in ("get", "set") for size in ROWS for whole in (False, True))


def run(report: Report) -> None:
    report.measure(TOPIC, LANES, report.scale.few_rounds)


PARAMETERS: Final = {"lane": LANES}


def bench_fields(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
