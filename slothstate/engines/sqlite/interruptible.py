"""Statements that take long and that Ctrl-C ends: else it is answered when SQLite is done, which may take minutes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from slothstate import calling_off
from slothstate.engines.sqlite.connection import Connection
from slothstate.hints import Final

__all__ = ["interruptible"]

STEPS: Final = 20_000
"""Instructions of SQLite's between two moments at which Python runs the handlers of signals: some milliseconds."""


@contextmanager
def interruptible(connection: Connection) -> Iterator[None]:
    """Let what a handler of a signal raises end the statement of the block, but for the writing of what it has made."""
    connection.db.set_progress_handler(_is_to_end, STEPS)
    try:
        yield
    finally:
        connection.db.set_progress_handler(None)


def _is_to_end() -> bool:
    calling_off.look()
    return False
