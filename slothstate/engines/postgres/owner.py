"""Who owns locks, claims and watches: a State, as long as a session of its own holds an advisory lock on its number.

The server drops the lock when the session ends, however the process ends; so a dead owner is known at once. The session
is idle otherwise, and the server sees its end at once. Where it ends though the owner lives (the network, a restart of
the server), a thread takes the number again, and the owner keeps what nobody has taken meanwhile.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial

import psycopg

from slothstate.caller import thread_ident
from slothstate.engines.postgres.connection import Connection, ConnectionLost, translate
from slothstate.engines.postgres.lock_functions import FREED
from slothstate.engines.postgres.ticker import Ticker
from slothstate.errors import SlothStateError, StateBusy, StateClosed, StateIOError
from slothstate.hints import TYPE_CHECKING, Final
from slothstate.identity import new_nonce, process_id

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["Owner", "host"]

END_PATIENCE: Final = 1.0
"""Seconds that the end of an owner waits for other writers: its session's end frees what it has, a moment later."""

_TAKE: Final = "select pg_try_advisory_lock(%s)"

# A crash and a failover can bring back what was ended last. What is claimed goes back with the next look or sweep.
_FORGET_ENDED: Final = f"""
with ended as (
  update claims set nonce = null, owner = null, host = null, pid = null, expires_ms = null, due_ms = 0
  where owner = %(owner)s and nonce <> all(%(kept)s)
)
update locks set {FREED} where owner = %(owner)s and nonce <> all(%(kept)s)
"""

_IS_CLAIMED: Final = "select 1 from claims where nonce = %s"

PING: Final = 2.0
"""Seconds between two looks whether the session is still there."""

PING_PATIENCE: Final = 1.0
"""Seconds for taking the number again, while verbs that need it wait: then they try for themselves."""

host: Final = cache(socket.gethostname)


class Owner:
    """The one owner that an engine is once it needs to be one."""

    def __init__(self, pool: Store) -> None:
        self._pool = pool
        self._mutex = threading.Lock()
        self._session: Connection | None = None
        self._ticker = Ticker("slothstate-owner", PING, self._keep)
        self._has_doubts = False
        self.number: int | None = None
        # The nonces of all that it may hold: locks and claims, also those that are being taken.
        self.kept: set[int] = set()
        self._is_retired = False
        # Which threads are taking something just now, by its nonce.
        self._taking: dict[int, int] = {}

    def __del__(self) -> None:
        # Of a State that nobody closes.
        session = self._session
        if session is not None and session.process == process_id():
            session.close()

    def become(self) -> int:
        """Be the owner that this engine is, and return its number. Raises: `StateIOError`, `StateClosed`."""
        if self._is_retired:
            raise StateClosed(f"the state on {self._pool.shown} is closed")
        if self.number is None or not self.is_there:
            if not self._mutex.acquire(timeout=self._pool.patience()):
                raise StateIOError(f"no connection to the server within {self._pool.patience()} s ({self._pool.shown})")
            try:
                if self.number is None or not self.is_there:
                    if self._session is not None:
                        self._session.close()
                    number = new_nonce() if self.number is None else self.number
                    self._session = self._take(number, is_first=self.number is None)
                    self.number = number
            finally:
                self._mutex.release()
        self._ticker.ensure_running()
        return self.number

    @property
    def is_there(self) -> bool:
        """Whether others see that it lives: its session has not ended."""
        session = self._session
        return session is not None and session.is_alive()

    def _take(self, number: int, *, is_first: bool) -> Connection:
        session = self._pool.connect("owner")
        seconds = self._pool.seconds()
        deadline = time.monotonic() + seconds
        try:
            # Whoever asks whether it is dead holds the number for a moment, shared; the old session until it has ended.
            while not session.execute(_TAKE, (number,), seconds=seconds)[0][0]:
                if time.monotonic() >= deadline:
                    raise StateIOError(f"the server does not end the lost session of this process ({self._pool.shown})")
                time.sleep(0.005)
            if not is_first:
                session.execute(_FORGET_ENDED, {"owner": number, "kept": list(self.kept)}, seconds=seconds)
        except (psycopg.Error, ConnectionLost) as error:
            session.close()
            raise translate(error, self._pool.shown, is_write=False) from error
        except BaseException:
            session.close()
            raise
        return session

    @contextmanager
    def giving_up(self, nonce: int) -> Iterator[None]:
        """End a lock or a claim in the block; a server that was too busy for it has it still."""
        if self._pool.in_transaction:
            # Undone with that, it is had as before.
            self._pool.afterwards.add(partial(self._look_after, nonce))
            yield
            return
        try:
            yield
        except StateBusy:
            raise
        except BaseException:
            self.kept.discard(nonce)
            self._has_doubts = True
            raise
        self.kept.discard(nonce)

    def _look_after(self, nonce: int) -> None:
        """Find out whether a claim that a transaction has ended is there; where that cannot be told it may be."""
        with suppress(SlothStateError), self._pool.within(PING_PATIENCE):
            if not self._pool.read(_IS_CLAIMED, (nonce,)):
                self.kept.discard(nonce)

    def _keep(self) -> None:
        """Take the number again if the session was lost; end what could not be ended."""
        with self._pool.within(PING_PATIENCE):
            self.ensure()
            if self._has_doubts and self.number is not None:
                self._has_doubts = False
                self._pool.write(_FORGET_ENDED, {"owner": self.number, "kept": list(self.kept)})

    @contextmanager
    def taking(self, nonce: int) -> Iterator[int]:
        """Be the owner for a block that takes something. Raises: as `become`."""
        self._taking[nonce] = thread_ident()
        try:
            number = self.become()
            self.kept.add(nonce)
            yield number
        finally:
            self._taking.pop(nonce, None)

    def retire(self) -> None:
        """Take nothing more: what this gives back from now on is for others, not for threads of its own that wait."""
        self._is_retired = True
        deadline = time.monotonic() + END_PATIENCE
        while {*self._taking.values()} - {thread_ident()} and time.monotonic() < deadline:
            time.sleep(0.001)

    def ensure(self) -> None:
        """Be alive to others again if the session was lost."""
        if self.number is not None:
            self.become()

    def forget(self) -> None:
        """Be nobody: what a forked child does."""
        self._mutex = threading.Lock()
        session, self._session, self.number = self._session, None, None
        self.kept.clear()
        self._taking.clear()
        self._is_retired = False
        if session is not None:
            session.abandon()

    @contextmanager
    def ending(self) -> Iterator[int | None]:
        """Give the number to a block that ends what it has; None if that is over anyway.

        What cannot be written now is free, back or removed all the same, a moment after the session has ended.
        """
        try:
            with self._pool.within(END_PATIENCE):
                yield self.number if self.is_there else None
        except SlothStateError:
            self.end()

    def end(self) -> None:
        """Stop being an owner: whatever it still has is free."""
        self._ticker.stop()
        with self._mutex:
            session, self._session, self.number = self._session, None, None
        if session is not None:
            session.close()
