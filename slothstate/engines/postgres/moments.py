"""Reading the store as it was at one moment, on a connection that is nobody's thread's: what a dump comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psycopg

from slothstate.engines.postgres.blocks import FREEZE, begin_moment
from slothstate.engines.postgres.bounded import Parameters, Row
from slothstate.engines.postgres.connection import Connection, ConnectionLost, translate
from slothstate.errors import StateClosed, StateIOError
from slothstate.hints import TYPE_CHECKING
from slothstate.identity import process_id

if TYPE_CHECKING:
    from slothstate.engines.postgres.store import Store

__all__ = ["moment_apart"]


@contextmanager
def moment_apart(pool: Store) -> Iterator[Callable[[str, Parameters], list[Row]]]:
    """Give a function that reads the store as it was at one moment, beside whatever the caller does meanwhile.

    It reads what the caller's own transaction or snapshot reads, as long as that lasts.
    """
    own = pool.own()
    if own is not None:
        serial = own.serial

        def read_own(statement: str, parameters: Parameters) -> list[Row]:
            if pool.own() is not own or own.serial != serial:
                raise StateIOError("what this reads in has ended: not all that it read is of one moment")
            return pool.read(statement, parameters, bulk=True)

        yield read_own
        return

    def begin() -> Connection:
        connection = pool.borrow()
        try:
            begin_moment(pool, connection)
            connection.execute(FREEZE, seconds=pool.seconds())
        except BaseException:
            connection.close()
            raise
        return connection

    def read(statement: str, parameters: Parameters) -> list[Row]:
        pool.require_open()
        if connection.process != process_id():
            raise StateClosed("what this reads in belongs to the process that began it")
        try:
            return connection.execute(statement, parameters)
        except (psycopg.Error, ConnectionLost) as error:
            raise translate(error, pool.shown, is_write=False) from error

    connection = pool.retried(begin)
    try:
        yield read
        with suppress(psycopg.Error, ConnectionLost):
            connection.command("rollback", seconds=pool.seconds())
    except BaseException:
        if connection.process == process_id():
            connection.close()
        raise
    pool.give_back(connection)
