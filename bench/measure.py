"""What runs inside a worker: workloads, and how their operations are timed.

A workload is a function `(peer, **options) -> Source`; a source gives the arguments of the next so many operations and
what must come back. Nothing is prepared, converted or compared while the clock runs.
"""

from __future__ import annotations

import gc
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, Final

__all__ = ["Batch", "Round", "Source", "Workload", "drain", "measure", "sampled"]

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


def measure(source: Source, limit: int, budget: float, served: bool = False) -> Round:
    """Time up to `limit` operations in a loop, then up to `SAMPLES` one by one; about `budget` seconds each at most.

    The loop gives the mean (its own cost is some 10 ns a call, alike for every peer), without the time other programs
    took; the second pass the percentiles, with it, but without what reading the clock costs. The garbage collector is
    off while the clock runs, as in `timeit`. `served` says that another process or thread does the work: what this one
    waits for a processor then is that work, and nothing is left out.
    """
    warming = source(min(limit, WARM_UP))
    few = sampled(warming, served)
    count = max(1, min(limit, int(budget * 1e9 / max(_median(few.samples) * warming.group, 1.0))))
    if limit == 1:
        return few
    batch = source(count)
    if batch.before is not None:
        return sampled(batch, served)
    mean = drain(batch, served)
    one_by_one = sampled(source(min(count, SAMPLES)), served)
    return Round(mean, one_by_one.samples, count * batch.group)


def drain(batch: Batch, served: bool = False) -> float:
    """Return the nanoseconds an operation when the calls follow each other without a pause."""
    _quiet()
    try:
        calls = map(batch.function, *batch.columns)
        waited = kept_waiting()
        began = perf_counter_ns()
        deque(calls, maxlen=0)
        elapsed = perf_counter_ns() - began
        if not served:
            elapsed -= kept_waiting() - waited
    finally:
        gc.enable()
    if batch.verify is not None:
        batch.verify()
    return elapsed / (len(batch.columns[0]) * batch.group)


def sampled(batch: Batch, served: bool = False) -> Round:
    """Time the calls one by one and compare what each returned; the mean is that of the calls."""
    function, before, group = batch.function, batch.before, batch.group
    expected = batch.expected
    samples = array("d")
    clock_cost = _clock_cost()
    _quiet()
    try:
        waited = kept_waiting()
        for index, arguments in enumerate(zip(*batch.columns, strict=True)):
            if before is not None:
                before()
            began = perf_counter_ns()
            found = function(*arguments)
            elapsed = perf_counter_ns() - began
            samples.append(max(0, elapsed - clock_cost) / group)
            if expected is not None and found != expected[index]:
                raise AssertionError(f"{function} {arguments}: {found!r} instead of {expected[index]!r}")
        waited = 0 if served else kept_waiting() - waited
    finally:
        gc.enable()
    if batch.verify is not None:
        batch.verify()
    # Between two calls with something before them the process sleeps, and is woken late: the median is what they cost.
    mean = _median(samples) if before is not None else max(1.0, sum(samples) - waited / group) / len(samples)
    return Round(mean, samples, len(samples) * group)


def kept_waiting() -> int:
    """Return the nanoseconds this thread was ready to run so far while other programs had the processors.

    A mean without them is the same on a busy machine as on an idle one. Waiting for the disk, for locks or for another
    process counts as ever. 0 where the kernel does not tell.
    """
    try:
        with open("/proc/thread-self/schedstat") as counters:
            return int(counters.read().split()[1])
    except OSError:
        return 0


def _quiet() -> None:
    gc.collect()
    gc.disable()


def _clock_cost() -> int:
    readings = sorted(-(perf_counter_ns() - perf_counter_ns()) for _ in range(101))
    return readings[50]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
