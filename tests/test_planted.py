"""The tests are tested: each of eight planted bugs is found by the test that is there for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import planted
import pytest

TESTS = Path(__file__).parent
PASSED, FAILED = 0, 1
DEADLINE = 110.0


def run(tests: list[str], bug: str = "") -> subprocess.CompletedProcess[str]:
    """Run tests in a run of their own, with a bug planted."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *(f"{TESTS}/{test}" for test in tests)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        cwd=TESTS.parent,
        env={**os.environ, planted.VARIABLE: bug},
    )


def outcome(bug: str) -> str:
    """Return whether a bug was caught, or what its test said instead."""
    done = run([planted.BUGS[bug].found_by], bug)
    if done.returncode != FAILED or "error" in done.stdout.splitlines()[-1]:
        return f"missed {bug}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-500:]}"
    return "caught"


@pytest.mark.timeout(DEADLINE + 10)
def test_each_planted_bug_is_caught(figure: Callable[[str], None]) -> None:
    """Each bug makes the test that is named for it fail; without a bug the same tests pass."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sound = pool.submit(run, sorted({bug.found_by for bug in planted.BUGS.values()}))
        outcomes = dict(zip(planted.BUGS, pool.map(outcome, planted.BUGS), strict=True))
    assert sound.result().returncode == PASSED, sound.result().stdout
    caught = list(outcomes.values()).count("caught")
    text = f"planted bugs caught: {caught}/{len(outcomes)}"
    print(text)
    figure(text)
    missed = [result for result in outcomes.values() if result != "caught"]
    assert not missed, "\n".join(missed)
