"""A short answer is looked for again and again; for a long one the thread sleeps."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from slothstate.engines.postgres.address import parse
from slothstate.engines.postgres.connection import Connection
from slothstate.engines.postgres.prepared import BRIEF, RAREST_SPIN, SPIN

STATEMENT = "select pg_sleep(%s)"
LONG = 100 * SPIN


@pytest.fixture
def session(url: str) -> Iterator[Connection]:
    connection = Connection(parse(url), durability="process", lock_timeout=1, role="test")
    yield connection
    connection.close()


def test_answers_that_take_long_are_slept_for(session: Connection) -> None:
    """Each try that is in vain doubles the executions until the next one; one that is not ends that."""
    session.execute(STATEMENT, (LONG,))
    pace = session._statements._prepared[STATEMENT, 0].pace
    executions, tries = 1, 1
    while tries < 5:
        before = pace.pause
        session.execute(STATEMENT, (LONG,))
        executions += 1
        tries += pace.pause != before
    assert pace.pause == pace.sleeps == 31
    assert executions == 1 + 2 + 4 + 8 + 16
    used = time.process_time()
    for _ in range(31):
        session.execute(STATEMENT, (LONG,))
    assert time.process_time() - used < 31 * 10 * SPIN
    assert pace.sleeps == 0
    deadline = time.monotonic() + 10
    while pace.pause:
        # A busy machine answers late at times.
        assert time.monotonic() < deadline
        session.execute(STATEMENT, (0,))
        assert pace.sleeps <= RAREST_SPIN


def test_half_of_a_wait_is_slept(session: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a while, as a commit that is synced does, is looked for when it is about to come."""
    session.execute(STATEMENT, (0,))
    pace = session._statements._prepared[STATEMENT, 0].pace
    sleeps: list[float] = []
    monkeypatch.setattr(time, "sleep", sleeps.append)
    pace.sleeps, pace.fastest = 0, 0.9 * BRIEF
    session.execute(STATEMENT, (0,))
    assert sleeps == []
    pace.sleeps, pace.fastest = 0, 2 * BRIEF
    session.execute(STATEMENT, (0,))
    assert len(sleeps) == 1
    assert 0 < sleeps[0] < BRIEF
