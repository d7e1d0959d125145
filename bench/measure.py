"""What runs inside a worker: workloads, and how their operations are timed.

A workload is a function `(peer, **options) -> Source`; a source gives the arguments of the next so many operations and
what must come back. Nothing is prepared, converted or compared while the clock runs.
"""

from __future__ import annotations

import gc
import resource
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Final

__all__ = ["Batch", "Round", "Source", "Waiting", "Workload", "drain", "measure", "sampled"]

SAMPLES: Final = 2_000
"""Operations of a round that are timed one by one, at most."""

WARM_UP: Final = 20


@dataclass(slots=True)
class Batch:
    """So many calls of `function`: each column holds one argument of every call."""

    function: Callable[..., Any]
    columns: tuple[Sequence[Any], ...]
    expected: Sequence[Any] | None = None
    """What every call returns; None where libraries answer differently and `verify` reads back instead."""
    verify: Callable[[], None] | None = None
    """Asserts what the store holds after the calls."""
    before: Callable[[], Any] | None = None
    """Runs before each call, outside the clock; the batch is then timed call by call only."""
    group: int = 1
    """Operations inside one call, where a call is a loop of another language."""


Source = Callable[[int], Batch]
Workload = Callable[..., Source]


@dataclass(slots=True)
class Round:
    """One turn of one lane: nanoseconds an operation, as a whole and one by one."""

    mean: float
    samples: array[float] = field(default_factory=lambda: array("d"))
    operations: int = 0


def measure(source: Source, limit: int, budget: float) -> Round:
    """Time up to `limit` operations in a loop, then up to `SAMPLES` one by one; about `budget` seconds each at most.

    The loop gives the mean (its own cost is some 10 ns a call, alike for every peer), without the time other programs
    took; the second pass the percentiles, with it, but without what reading the clock costs. The garbage collector is
    off while the clock runs, as in `timeit`.
    """
    warming = source(min(limit, WARM_UP))
    few = sampled(warming)
    count = max(1, min(limit, int(budget * 1e9 / max(_median(few.samples) * warming.group, 1.0))))
    if limit == 1:
        return few
    batch = source(count)
    if batch.before is not None:
        return sampled(batch)
    mean = drain(batch)
    one_by_one = sampled(source(min(count, SAMPLES)))
    return Round(mean, one_by_one.samples, count * batch.group)


def drain(batch: Batch) -> float:
    """Return the nanoseconds an operation when the calls follow each other without a pause."""
    _quiet()
    try:
        calls = map(batch.function, *batch.columns)
        waiting = Waiting()
        began = perf_counter_ns()
        deque(calls, maxlen=0)
        elapsed = perf_counter_ns() - began
        elapsed -= waiting.ended(len(batch.columns[0]))
    finally:
        gc.enable()
    if batch.verify is not None:
        batch.verify()
    return elapsed / (len(batch.columns[0]) * batch.group)


def sampled(batch: Batch) -> Round:
    """Time the calls one by one and compare what each returned; the mean is that of the calls."""
    function, before, group = batch.function, batch.before, batch.group
    expected = batch.expected
    samples = array("d")
    clock_cost = _clock_cost()
    _quiet()
    try:
        waiting = Waiting()
        for index, arguments in enumerate(zip(*batch.columns, strict=True)):
            if before is not None:
                before()
            began = perf_counter_ns()
            found = function(*arguments)
            elapsed = perf_counter_ns() - began
            samples.append(max(0, elapsed - clock_cost) / group)
            if expected is not None and found != expected[index]:
                raise AssertionError(f"{function} {arguments}: {found!r} instead of {expected[index]!r}")
        waited = waiting.ended(len(samples))
    finally:
        gc.enable()
    if batch.verify is not None:
        batch.verify()
    # Between two calls with something before them the process sleeps, and is woken late: the median is what they cost.
    mean = _median(samples) if before is not None else max(1.0, sum(samples) - waited / group) / len(samples)
    return Round(mean, samples, len(samples) * group)


class Waiting:
    """What the scheduler did to this thread since the object was made.

    A mean without the time a thread was ready to run while other programs had the processors is the same on a busy
    machine as on an idle one. Waiting for the disk, for locks or for another process counts as ever.
    """

    def __init__(self) -> None:
        self._delay, self._sleeps = _scheduled()

    def ended(self, calls: int) -> int:
        """Return the nanoseconds to leave out of so many calls, 0 where the kernel does not tell.

        Calls that sleep, because a server or another thread does their work, are woken with a delay on an idle machine
        too: if more than a few of them did, nothing is left out.
        """
        delay, sleeps = _scheduled()
        return 0 if sleeps - self._sleeps > calls // 50 else delay - self._delay


def _scheduled() -> tuple[int, int]:
    """Return how many nanoseconds this thread waited for a processor so far, and how often it went to sleep."""
    try:
        with open("/proc/thread-self/schedstat") as counters:
            delay = int(counters.read().split()[1])
    except OSError:
        return 0, 0
    return delay, resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _quiet() -> None:
    gc.collect()
    gc.disable()


def _clock_cost() -> int:
    readings = sorted(-(perf_counter_ns() - perf_counter_ns()) for _ in range(101))
    return readings[50]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
