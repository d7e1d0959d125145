"""Giving space back to the file system: the database rewritten without gaps, its log folded in and cut off."""

from __future__ import annotations

from contextlib import suppress

import apsw

from slothstate.engines.sqlite.connection import Connection
from slothstate.engines.sqlite.interruptible import interruptible

__all__ = ["compact"]


def compact(connection: Connection, now: int) -> None:
    """Rewrite the database without free pages, then empty the log as far as other processes' readers allow."""
    # The copy that VACUUM builds is as large as the store: it must not be built in memory, as temp tables are.
    connection.execute("pragma temp_store = file").fetchall()
    try:
        with interruptible(connection):
            connection.execute("vacuum").fetchall()
        empty_log(connection)
    finally:
        connection.execute("pragma temp_store = memory").fetchall()


def empty_log(connection: Connection) -> None:
    """Copy the log into the database and cut it to nothing, unless somebody still needs it."""
    try:
        connection.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except apsw.BusyError:
        # Somebody reads an older state of the store: their log goes when they are done. Or somebody copies the log just
        # now: then this is busy, too, and a later commit goes on with it.
        with suppress(apsw.BusyError):
            connection.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
