"""A short answer is looked for again and again; for a long one the thread sleeps."""

from __future__ import annotations

import time

from slothstate.engines.postgres.address import parse
from slothstate.engines.postgres.connection import Connection
from slothstate.engines.postgres.prepared import RAREST_SPIN, SPIN


def test_answers_that_take_long_are_slept_for(url: str) -> None:
    """Each try that is in vain doubles the executions until the next one; one that is not ends that."""
    session = Connection(parse(url), durability="process", lock_timeout=1, role="test")
    try:
        statement = "select pg_sleep(%s)"
        session.execute(statement, (100 * SPIN,))
        pace = session._statements._prepared[statement, 0].pace
        executions, tries = 1, 1
        while tries < 5:
            before = pace.pause
            session.execute(statement, (100 * SPIN,))
            executions += 1
            tries += pace.pause != before
        assert pace.pause == pace.sleeps == 31
        assert executions == 1 + 2 + 4 + 8 + 16
        used = time.process_time()
        for _ in range(31):
            session.execute(statement, (100 * SPIN,))
        assert time.process_time() - used < 31 * 10 * SPIN
        assert pace.sleeps == 0
        deadline = time.monotonic() + 10
        while pace.pause:
            # A busy machine answers late at times.
            assert time.monotonic() < deadline
            session.execute(statement, (0,))
            assert pace.sleeps <= RAREST_SPIN
    finally:
        session.close()
