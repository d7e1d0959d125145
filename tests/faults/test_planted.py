"""The tests are tested: each planted bug is found by the test that is there for it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import ROOT, TESTS, planted, postgres_server
from helpers.support import run_program

FAILED = 1
DEADLINE = 110.0


def outcome(bug: str) -> str:
    """Plant a bug and run its test; return whether it was caught, or what the test said instead."""
    done = run_program(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", TESTS / planted.BUGS[bug].found_by],
        timeout=DEADLINE,
        cwd=ROOT,
        env={**os.environ, planted.VARIABLE: bug},
    )
    # A bug that breaks the program outright is none that a test must be clever to find.
    broken = re.search(r"\b(Type|Attribute|Name|Import)Error\b", done.stdout)
    if done.returncode != FAILED or broken or not re.search(r"^E +(assert|AssertionError|Failed)", done.stdout, re.M):
        return f"missed {bug}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-500:]}"
    return "caught"


@pytest.mark.timeout(290)
def test_each_planted_bug_is_caught(figure: Callable[[str], None]) -> None:
    """Each bug makes the test that is named for it fail. That they pass without it, the rest of a run shows."""
    has_server = postgres_server.reason_to_skip() is None
    bugs = [name for name, bug in planted.BUGS.items() if has_server or not bug.found_by.startswith("postgres/")]
    postgres_server.share_pattern()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = dict(zip(bugs, pool.map(outcome, bugs), strict=True))
    caught = list(outcomes.values()).count("caught")
    text = f"planted bugs caught: {caught}/{len(outcomes)}"
    print(text)
    figure(text)
    missed = [result for result in outcomes.values() if result != "caught"]
    assert not missed, "\n".join(missed)
