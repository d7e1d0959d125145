"""The deterministic simulation (tests/simulation.py): thousands of interleavings, each decided by its seed."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

import pytest

from helpers import TESTS, planted
from helpers.simulated_store import CRASHES, Run, runs
from helpers.support import quick_and_long, run_program

SECONDS = 8.0
SEEDS = 100_000
SEEDS_LONG = 10_000
SEEDS_TWICE = 25
SEEDS_TO_FIND = 3000
DEADLINE = 200.0


def examine(each: Run) -> Run:
    """Fail with the history of a run in which something is wrong."""
    again = f"cd tests && python -m helpers.simulated_store {each.seed}"
    assert each.violation is None, f"{each.violation}\n{each}\nTo run it again, with its trace: {again}"
    return each


def simulate(directory: Path, seeds: int, seconds: float) -> str:
    """Run seeds until their number or the time is used up; return what they did."""
    began = time.monotonic()
    enough = began + seconds
    done = [
        (len(run.history), len(run.turns.trace))
        for run in takewhile(lambda _: time.monotonic() < enough, map(examine, runs(1, 1 + seeds, str(directory))))
    ]
    each_ms = (time.monotonic() - began) * 1000 / len(done)
    operations, steps = map(sum, zip(*done, strict=True))
    return (
        f"simulation: {len(done)} seeds, {operations} operations, {steps} steps, {len(done) // CRASHES} power cuts, "
        f"{each_ms:.1f} ms a seed, violations 0"
    )


@quick_and_long("seeds, seconds", (SEEDS, SECONDS), (SEEDS_LONG, float("inf")), timeout=1800)
def test_every_history_of_a_simulation_has_an_order(
    tmp_path: Path, seeds: int, seconds: float, figure: Callable[[str], None]
) -> None:
    """Whatever the turns: some order explains all results, transactions, times to live and fenced writes included.

    After a power cut there is a state of the history: with "full" one that has all that was acknowledged.
    """
    figure(simulate(tmp_path, seeds, seconds))


def test_a_seed_decides_every_step(tmp_path: Path) -> None:
    """Run again, a seed takes the same steps to the same results; no two seeds take the same."""
    once, again = (
        [(run.turns.trace, run.history) for run in runs(1, 1 + SEEDS_TWICE, str(tmp_path))] for _ in range(2)
    )
    assert once == again
    assert len({tuple(trace) for trace, _ in once}) == SEEDS_TWICE


FOUND = re.compile("no order explains the results|is no state of the history")


def search(bug: str) -> str:
    """Return what the first seed says that finds a planted bug, or that none does."""
    done = run_program(
        [sys.executable, "-m", "helpers.simulated_store", "1", str(1 + SEEDS_TO_FIND), "1"],
        timeout=DEADLINE,
        cwd=TESTS,
        env={**os.environ, planted.VARIABLE: bug},
    )
    return done.stdout or done.stderr


@pytest.mark.timeout(DEADLINE + 10)
def test_the_simulation_finds_planted_bugs(figure: Callable[[str], None]) -> None:
    """Each planted bug soon gives a history that no order explains, or an image of a power cut that is none of it."""
    bugs = [name for name, bug in planted.BUGS.items() if bug.is_simulated]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(bugs, pool.map(search, bugs), strict=True))
    missed = {bug: text for bug, text in found.items() if not FOUND.search(text)}
    assert missed == {}
    figure(f"planted bugs found by the simulation: {len(found)}/{len(bugs)}")
