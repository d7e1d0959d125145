"""Many threads of one process wait at the cost of one."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

import pytest

import slothstate
from helpers.support import in_threads
from slothstate.engines.postgres.changes import Changes
from slothstate.engines.postgres.claim_table import ClaimTable

THREADS = 20

SECONDS = 2.0


def test_one_asks_for_all(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is committed one thread asks for all of them, and none looks for itself but now and then."""
    asked: Counter[str] = Counter()
    ask, take = Changes._ask, ClaimTable.take

    def counted_ask(self: Changes) -> None:
        asked["for all"] += 1
        ask(self)

    def counted_take(self: ClaimTable, *arguments: object) -> object:
        asked["for itself"] += 1
        return take(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Changes, "_ask", counted_ask)
    monkeypatch.setattr(ClaimTable, "take", counted_take)
    with slothstate.open(url) as state:
        # Of somebody who lives, and one who waits.
        state.list_push("others", "claimed", "delayed")
        assert state.list_claim("others") is not None
        delayed = state.list_claim("others")
        assert delayed is not None
        assert delayed.release(delay=60)
        asked.clear()
        found = in_threads(partial(state.list_claim, f"jobs:{number}", SECONDS) for number in range(THREADS))
        assert found == [None] * THREADS
    # The first ones, those that another's beginning woke, one in half a second, and the last ones.
    assert asked["for itself"] < 12 * THREADS
    assert asked["for all"] < SECONDS / 0.005 + THREADS


def test_what_nobody_commits_is_noticed(url: str) -> None:
    """The end of a delay, and of a claim's time, ends a wait at once, though no transaction does."""
    with slothstate.open(url) as state, slothstate.open(url) as other:
        state.list_push("jobs", "delayed")
        job = state.list_claim("jobs")
        assert job is not None
        began = time.monotonic()
        assert job.release(delay=0.7)
        again = other.list_claim("jobs", timeout=10, ttl=0.7)
        assert again is not None
        assert 0.6 < time.monotonic() - began < 3
        began = time.monotonic()
        assert state.list_shift("jobs", timeout=10) == "delayed"
        assert 0.6 < time.monotonic() - began < 3
