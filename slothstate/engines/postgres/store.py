"""A store as its parts use it: statements, each on a connection of the `Pool`, and the blocks that hold on to one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import psycopg

from slothstate import native
from slothstate.caller import thread_ident
from slothstate.engines.postgres.blocks import SnapshotBlock, TransactionBlock
from slothstate.engines.postgres.bounded import Parameters, Row
from slothstate.engines.postgres.connection import GRACE, Connection, ConnectionLost, translate
from slothstate.engines.postgres.pool import LONGEST_RECONNECT, Pool

__all__ = ["Store"]


class Store(Pool):
    """The store of one engine."""

    def read(self, statement: str, parameters: Parameters = (), *, verb: str = "", bulk: bool = False) -> list[Row]:
        """Run a statement that writes nothing, in the caller's transaction if it has one.

        It is run again on a new connection where one was lost. `verb` is what it is counted as; `bulk`: it may take as
        long as it does.
        """
        self._begin(verb)
        own = self.own()
        seconds = None if bulk else self.seconds()
        if own is not None:
            return self._run_in(own, statement, parameters, seconds, is_write=False)
        patience = self.patience()
        deadline = time.monotonic() + min(patience, LONGEST_RECONNECT)
        while True:
            try:
                with self.lent() as connection:
                    connection.wait_for_locks(patience)
                    return connection.execute(statement, parameters, seconds=seconds)
            except ConnectionLost as error:
                if error.is_late or time.monotonic() >= deadline:
                    raise translate(error, self.shown, is_write=False) from error
            except psycopg.Error as error:
                raise translate(error, self.shown, is_write=False) from error

    def write(self, statement: str, parameters: Parameters = (), *, verb: str = "", bulk: bool = False) -> list[Row]:
        """Run a statement that writes, in the caller's transaction or as one of its own.

        Raises: `StateBusy` when other writers kept the store for too long; `OutcomeUnknown` for one that was sent.
        """
        self._begin(verb)
        own = self.own()
        patience = left = self.patience()
        if own is not None:
            self.require_writable()
            return self._run_in(own, statement, parameters, None if bulk else patience + GRACE, is_write=True)
        self.refuse_wait_for_itself()
        deadline = time.monotonic() + patience
        while True:
            try:
                with self.lent() as connection:
                    connection.wait_for_locks(left)
                    if bulk and self.durability == "full":
                        return self._run_apart_from_its_commit(connection, statement, parameters)
                    return connection.execute(statement, parameters, seconds=None if bulk else left + GRACE)
            except ConnectionLost as error:
                if error.was_sent or error.is_late or time.monotonic() >= deadline:
                    raise translate(error, self.shown, is_write=True) from error
            except psycopg.errors.DeadlockDetected as error:
                # Two verbs of several lists: the server has undone this one.
                if time.monotonic() >= deadline:
                    raise translate(error, self.shown, is_write=True) from error
            except psycopg.Error as error:
                self._count_wait(error, patience)
                raise translate(error, self.shown, is_write=True) from error
            # What is begun anew waits no longer in all.
            left = max(0.0, deadline - time.monotonic())

    def _run_apart_from_its_commit(self, connection: Connection, statement: str, parameters: Parameters) -> list[Row]:
        """Run a statement that takes as long as it does; a replica that does not confirm it has a deadline."""
        try:
            connection.command("begin")
            rows = connection.execute(statement, parameters)
        except ConnectionLost as error:
            # It did not come to COMMIT.
            error.was_sent = False
            raise
        connection.command("commit", seconds=self.seconds())
        return rows

    def apart(self, statement: str, parameters: Parameters = ()) -> list[Row]:
        """Run a statement that can be run again outside the caller's transaction, on a connection of its own."""

        def attempt() -> list[Row]:
            with self.lent() as connection:
                return connection.execute(statement, parameters, seconds=self.seconds())

        return self.retried(attempt)

    def _begin(self, verb: str) -> None:
        self.require_open()
        self.count(verb)

    def count(self, verb: str) -> None:
        """Count a verb of the caller's, not one that is a step of another."""
        own = self.held.get(thread_ident()) if self.held else None
        if verb and (own is None or not own.is_step):
            self.operations[verb] += 1

    def _run_in(
        self, own: Connection, statement: str, parameters: Parameters, seconds: float | None, *, is_write: bool
    ) -> list[Row]:
        if own.db.closed:
            raise self.lost(own)
        try:
            self.set_clock(own)
            return own.execute(statement, parameters, seconds=seconds)
        except ConnectionLost as error:
            # It did not come to COMMIT.
            raise self.lost(own) from error
        except psycopg.Error as error:
            raise translate(error, self.shown, is_write=is_write) from error

    def _count_wait(self, error: psycopg.Error, seconds: float) -> None:
        if error.sqlstate == "55P03":
            self.note_wait(seconds)

    def transaction(self, first: Callable[[], object] | None = None) -> AbstractContextManager[None]:
        block = TransactionBlock(self, first)
        return native.Scope(block.begin, block.end)

    def step(self, verb: str = "") -> AbstractContextManager[None]:
        """A transaction for one verb of several statements: to those who watch it is one change.

        `verb` is what it is counted as; what it uses of others is not counted.
        """
        self.count(verb)
        block = TransactionBlock(self, is_step=True)
        return native.Scope(block.begin, block.end)

    def snapshot(self) -> AbstractContextManager[None]:
        block = SnapshotBlock(self)
        return native.Scope(block.begin, block.end)
