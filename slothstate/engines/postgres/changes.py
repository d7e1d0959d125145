"""`protocol.Changes`: waiting for a commit of anybody, by asking again. A notification would cost every writer.

However many threads of this process wait, one of them asks the server whether any transaction has begun or ended since
(https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT), and the others sleep.
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager

import psycopg

from slothstate import calling_off
from slothstate.caller import is_cooperative
from slothstate.engines.lookout import Lookout
from slothstate.engines.postgres.connection import GRACE, ConnectionLost
from slothstate.errors import SlothStateError
from slothstate.hints import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Changes"]

FIRST: Final = 0.005
"""Seconds between two questions while anybody has waited for less than `PATIENCE` seconds."""

LATER: Final = 0.02

PATIENCE: Final = 1.0

APART: Final = 0.5
"""Seconds between two waits of a thread after which it has begun another one."""

MANY_CLAIMS: Final = 100
"""With more of them whoever waits looks by himself: to ask for all of them each time is too much."""

# Whoever has claimed an item may die, and its time and a delay end, without a transaction of anybody.
_STATE: Final = f"""
select pg_current_snapshot()::text, case
  when (select count(*) from (select from claims limit {MANY_CLAIMS + 1}) c) > {MANY_CLAIMS} then true
  else exists (select from claims where is_due(owner, expires_ms, due_ms))
end
"""


class Changes:
    """A token counts the states that this process has seen."""

    def __init__(self, pool: Store) -> None:
        self._pool = pool
        self._local = threading.local()
        self.forget()

    def forget(self) -> None:
        self._lookout = Lookout()
        self._seen: tuple[Any, ...] | None = None
        self._count = 0
        # When the last wait has begun.
        self._began = 0.0

    def token(self) -> int | None:
        if self._seen is None:
            self._ask()
        return None if self._seen is None else self._count

    def wait(self, token: int | None, seconds: float, /) -> bool:
        calling_off.look()
        seconds = calling_off.slice_of(seconds)
        now = time.monotonic()
        if now - getattr(self._local, "last", 0.0) > APART:
            self._began = now
        try:
            if token is None or is_cooperative():
                self._sleep(now + seconds)
                return True
            deadline = now + seconds
            return self._lookout.wait(deadline, lambda: self._count != token, lambda: self._watch(token, deadline))
        finally:
            self._local.last = time.monotonic()

    def _watch(self, token: int, deadline: float) -> bool:
        while self._count == token and time.monotonic() < deadline:
            self._sleep(deadline)
            self._ask()
        return self._count != token

    def pace(self) -> float:
        """Return the seconds between two looks of whoever looks by himself."""
        return FIRST if time.monotonic() - self._began < PATIENCE else LATER

    def _sleep(self, deadline: float) -> None:
        time.sleep(max(0.0, min(deadline - time.monotonic(), self.pace())))

    def _ask(self) -> None:
        """See in which state the store is; where that cannot be told, whoever waits is to look for himself."""
        seen: tuple[Any, ...] | None = None
        try:
            with self._pool.within(GRACE), self._pool.lent() as connection:
                seen = connection.execute(_STATE, seconds=GRACE)[0]
        except (psycopg.Error, ConnectionLost, SlothStateError):
            pass
        if seen is None or seen[1] or seen != self._seen:
            self._count += 1
        self._seen = seen

    def within(self, seconds: float, /) -> AbstractContextManager[None]:
        return self._pool.within(seconds)
