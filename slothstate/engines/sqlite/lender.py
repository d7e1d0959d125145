"""How an operation gets a connection of its own: `Lender`, the base of `Pool`.

It is implemented in csrc/engine/lender.c, because around one statement its steps cost a quarter of the statement.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager

from slothstate import native
from slothstate.engines.sqlite.read_cache import ReadCache
from slothstate.errors import SlothStateError
from slothstate.hints import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from slothstate.engines.sqlite.connection import Connection

__all__ = ["Lender", "Run", "RunOnKey", "Runner"]

A = TypeVarTuple("A")
R = TypeVar("R")


class Run(Protocol):
    """Runs an operation on a connection that is lent to it, inside this thread's transaction if it has one."""

    def __call__(self, operation: Callable[[Connection, int, *A], R], /, *args: *A) -> R:
        """Return `operation(connection, now, *args)`."""


class RunOnKey(Protocol):
    """The same for an operation on one key."""

    def __call__(self, operation: Callable[[Connection, int, str, *A], R], key: str, /, *args: *A) -> R:
        """Return `operation(connection, now, key, *args)`."""


class Runner(Protocol):
    """What the families of operations need of a store."""

    @property
    def path(self) -> str: ...

    @property
    def read(self) -> Run: ...

    @property
    def write(self) -> Run: ...

    @property
    def write_key(self) -> RunOnKey: ...

    cache: ReadCache
    operations: defaultdict[Callable[..., object], int]

    def ensure_identity(self) -> None:
        """Look, at most every 50 ms, whether files and layout are still what was opened. Raises: `UnsafeState`."""

    def snapshot(self) -> AbstractContextManager[tuple[Connection, int]]:
        """Lend a connection whose reads all see the store as it was at one moment, and the clock's reading then."""


if TYPE_CHECKING:

    class Lender:
        """What the three ways to run an operation need, and call back where something rare is to be done.

        They count the call; borrow a connection (`_borrow` where none is idle) and note the thread in it; read the
        clock once; and give the connection back (`_trim` where there are too many). If the operation fails, `_recover`
        takes the connection back and raises what the error stands for.
        """

        operations: defaultdict[Callable[..., object], int]
        _transactions: dict[int, Connection]
        _idle: list[Connection]
        _refusal: SlothStateError | None
        cache: ReadCache
        now: Callable[[], int]

        _lend: Callable[[], Connection]
        read: Run
        write: Run
        """For an operation that is one statement or wraps itself in `Atomic`.

        Raises: `StateBusy` when another writer kept the store for `busy_timeout`; `UnsafeState` when the file was moved
        or replaced.
        """
        write_key: RunOnKey
        """Like `write`, for an operation that changes this key alone: what is cached of others stays valid."""

else:
    Lender: Any = native.Lender
