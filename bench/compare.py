"""Lanes: what is compared with what; and the interleaved run that takes noise of the machine out of their ratios."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from types import TracebackType
from typing import Any, Final, Self

from bench.measure import Workload
from bench.worker import Worker, directory_for

__all__ = ["Lane", "Series", "Workers", "interleave", "ratio"]

UNLIMITED: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One operation of one peer. Lanes with the same `what` are the same operation and stand beside each other."""

    what: str
    peer: str
    workload: Workload
    options: dict[str, Any] = field(default_factory=dict)
    """What the workload is given; it is prepared in the worker, once."""
    limit: int = UNLIMITED
    """Operations a round, at most: for work that must not grow with the speed of a peer, or is slow."""
    variant: str = ""
    """What is unusual about this peer's store, if anything; each variant has a store and a process of its own."""
    open: dict[str, Any] = field(default_factory=dict)
    """What the variant is opened with."""

    @property
    def label(self) -> str:
        return f"{self.peer}, {self.variant}" if self.variant else self.peer

    def __str__(self) -> str:
        return f"{self.what} - {self.label}"


@dataclass(slots=True)
class Series:
    """What was measured of one lane, in nanoseconds an operation."""

    means: list[float] = field(default_factory=list)
    """One a round."""
    samples: array[float] = field(default_factory=lambda: array("d"))
    """Single operations of all rounds and all workers, pooled."""

    def percentiles(self, *percents: float) -> list[float]:
        """Return the values that so many percent of the samples do not exceed (nearest rank)."""
        ordered = sorted(self.samples)
        return [ordered[max(0, ceil(percent / 100 * len(ordered)) - 1)] for percent in percents]

    @property
    def mean(self) -> float:
        """The median of the rounds' means."""
        return median(self.means)


class Workers:
    """The workers of a topic, started when a lane first needs one, each in a directory of its own."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._workers: dict[str, Worker] = {}

    def of(self, lane: Lane) -> Worker:
        worker = self._workers.get(lane.label)
        if worker is None:
            directory = self._stack.enter_context(directory_for(lane.peer))
            worker = self._workers[lane.label] = self._stack.enter_context(Worker(lane.peer, directory, **lane.open))
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()


def interleave(lanes: Sequence[Lane], rounds: int, budget: float) -> list[Series]:
    """Measure lanes in turns and return a series for each: round i of all of them happened at about the same time.

    Every other round goes backwards, so that a drift of the machine favours nobody.
    """
    result = [Series() for _ in lanes]
    with Workers() as workers:
        for turn in range(rounds):
            order = list(zip(lanes, result, strict=True))
            for lane, series in reversed(order) if turn % 2 else order:
                measured = workers.of(lane).round(lane.workload, lane.options, lane.limit, budget)
                series.means.append(measured.mean)
                series.samples.extend(measured.samples)
    return result


def ratio(numerator: Series, denominator: Series) -> float:
    """Return the median of the ratios of the rounds."""
    pairs = zip(numerator.means, denominator.means, strict=False)
    return median(above / below for above, below in pairs)
