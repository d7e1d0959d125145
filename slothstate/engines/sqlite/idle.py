"""Lists of idle connections that are not what they seem: each stays empty, so that `Pool._borrow` is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from slothstate.hints import TYPE_CHECKING

if TYPE_CHECKING:
    from slothstate.engines.sqlite.connection import Connection

__all__ = ["Departing", "Fresh", "close_last"]


class Fresh(list["Connection"]):
    """That of a store that was only just opened. `keep` gives what takes a connection, None once nobody has it."""

    def __init__(self, keep: Callable[[], Callable[[Connection], None] | None]) -> None:
        super().__init__()
        self._keep = keep

    def append(self, connection: Connection) -> None:
        keep = self._keep()
        if keep is not None:
            keep(connection)


class Departing(list["Connection"]):
    """That of a store while a fork is under way or the process ends."""

    def __init__(self, close: Callable[[Connection], None]) -> None:
        super().__init__()
        self._close = close

    def append(self, connection: Connection) -> None:
        self._close(connection)


def close_last(idle: list[Connection]) -> None:
    """Take a connection off a list and close it."""
    # In one expression, in which Ctrl-C can strike only while nobody else knows the connection, which closes it, too.
    with suppress(IndexError):
        idle.pop().db.close()
