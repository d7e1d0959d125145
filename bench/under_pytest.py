"""How a lane, measured in a worker, becomes a figure of pytest-benchmark.

pytest-benchmark times a call in its own process. Here the call asks the worker for a round, and the clock is moved on
by what the worker measured for one operation: the statistics are then those of the rounds, their unit one operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from bench import peers
from bench.compare import Lane, Series, Workers
from bench.measure import Round

__all__ = ["Clock", "require", "run_lane", "run_measured", "skip"]

ROUNDS: Final = 7
BUDGET: Final = 0.02


class Clock:
    """A timer for pytest-benchmark that only moves when it is told to."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        # It calibrates its timer until two readings differ.
        self._now += 1e-12
        return self._now

    def advance(self, nanoseconds: float) -> None:
        self._now += nanoseconds / 1e9


def run_measured(benchmark: Any, measure: Callable[[], Round], group: str, rounds: int = ROUNDS) -> None:
    """Give a benchmark fixture so many rounds, each of them one call of `measure`."""
    clock = Clock()
    series = Series()

    def one_round() -> None:
        measured = measure()
        series.samples.extend(measured.samples)
        clock.advance(measured.mean)

    benchmark.group = group
    benchmark._timer = clock
    benchmark.pedantic(one_round, rounds=rounds)
    for name, value in zip(("p50", "p95", "p99", "max"), series.percentiles(50, 95, 99, 100), strict=True):
        benchmark.extra_info[f"{name}_us"] = round(value / 1000, 3)


def run_lane(benchmark: Any, workers: Workers, lane: Lane) -> None:
    """Measure a lane by itself; `python -m bench` is what interleaves lanes."""
    require(lane.peer)
    worker = workers.of(lane)
    run_measured(benchmark, lambda: worker.round(lane.workload, lane.options, lane.limit, BUDGET), lane.what)


def require(peer: str) -> None:
    """Skip the bench when a peer cannot run here."""
    if reason := peers.missing(peer):
        skip(f"{peer}: {reason}")


def skip(reason: str) -> NoReturn:
    # Here and not above: the topics are imported in every worker, which has no use for pytest and its 0.2 s.
    import pytest

    pytest.skip(reason)
