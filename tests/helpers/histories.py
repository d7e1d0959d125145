"""Recording what several processes did to one store: who called which verb when, and in which order it committed."""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from slothstate import State, WrongType
from slothstate.engines.sqlite.connection import Connection

UNKNOWN: Final = object()
"""The result of an operation whose process died before it returned: it happened, or it did not."""

REFUSED: Final = "(wrong type)"


@dataclass(frozen=True)
class Operation:
    """One call of a verb; times are `time.monotonic_ns`, the same clock in all processes. A list is a tuple here."""

    worker: int
    number: int
    verb: str
    arguments: tuple[Any, ...]
    called: int
    returned: float = math.inf
    result: Any = UNKNOWN

    def __str__(self) -> str:
        result = "?" if self.result is UNKNOWN else repr(self.result)
        return f"{self.worker}/{self.number} {self.verb}{self.arguments!r} -> {result}"


class Abandoned(Exception):
    """Thrown out of a transaction to undo it."""


def perform(state: State, verb: str, arguments: tuple[Any, ...]) -> Any:
    """Do to a real store what `apply` does to a model."""
    if verb == "get_many":
        found = state.get_many(arguments)
        return tuple(frozen(found.get(key)) for key in arguments)
    if verb == "set_many":
        return state.set_many(dict.fromkeys(arguments[:-1], arguments[-1]))
    if verb in ("transfer", "abandon"):
        source, target, amount = arguments
        sums: tuple[float, float] = (0, 0)
        try:
            with state.transaction():
                left = state.get(source, 0) - amount
                state.set(source, left)
                sums = (left, state.increment(target, amount))
                if verb == "abandon":
                    raise Abandoned
        except Abandoned:
            pass
        return sums
    try:
        return frozen(getattr(state, verb)(*arguments))
    except WrongType:
        return REFUSED


def frozen(value: Any) -> Any:
    """Return a value with its lists as tuples."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value


class Recorder:
    """A process's own log: a line when an operation is called and one when it returned, each one write.

    What the kernel has taken outlives kill -9, so nothing that happened is missing.
    """

    def __init__(self, path: str, worker: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.worker = worker
        self.number = 0

    def run(self, state: State, verb: str, *arguments: Any) -> Any:
        """Perform a verb and record it."""
        return self.record(verb, arguments, lambda: perform(state, verb, arguments))

    def record(self, verb: str, arguments: tuple[Any, ...], action: Callable[[], Any]) -> Any:
        """Perform an action and record it as a verb."""
        self.number += 1
        self._write("call", time.monotonic_ns(), verb, arguments)
        result = action()
        self._write("return", time.monotonic_ns(), result)
        return result

    def _write(self, event: str, now: int, *more: Any) -> None:
        os.write(self._file, json.dumps((event, self.worker, self.number, now, *more)).encode() + b"\n")


def read_logs(paths: Iterable[str | os.PathLike[str]]) -> list[Operation]:
    """Return the operations that several processes recorded."""
    calls: dict[tuple[int, int], Operation] = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line in file:
                if not line.endswith("\n"):
                    continue
                event, worker, number, now, *more = json.loads(line)
                if event == "call":
                    verb, arguments = more
                    calls[worker, number] = Operation(worker, number, verb, frozen(arguments), now)
                else:
                    call = calls[worker, number]
                    calls[worker, number] = Operation(
                        worker, number, call.verb, call.arguments, call.called, now, frozen(more[0])
                    )
    return list(calls.values())


class Witness:
    """The order of all commits, told by the store itself and shared by all processes.

    SQLite calls the commit hook while it holds the write lock, so a counter in shared memory that is only touched
    there needs no lock of its own. The code under test and its transactions stay as they are.
    """

    ROOM = 2**20
    NOBODY = 0

    def __init__(self, path: str) -> None:
        size = 8 * (self.ROOM + 1)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(file, size)
            self._memory = mmap.mmap(file, size)
        finally:
            os.close(file)
        self.recorder: Recorder | None = None

    def watch(self, recorder: Recorder) -> None:
        """Note the commits of this process from now on, in States that are opened from now on."""
        self.recorder = recorder
        make = Connection.__init__

        def watched(connection: Connection, *arguments: Any, **names: Any) -> None:
            make(connection, *arguments, **names)
            # The package has one of its own (csrc/engine/log.c), which apsw takes out and says so.
            with suppress(Exception):
                connection.db.set_commit_hook(self._commit)
            connection.db.set_commit_hook(self._commit)

        Connection.__init__ = watched  # type: ignore[method-assign, assignment]

    def _commit(self) -> bool:
        recorder = self.recorder
        (count,) = struct.unpack_from("Q", self._memory, 0)
        who = self.NOBODY if recorder is None else recorder.worker << 32 | recorder.number
        struct.pack_into("Q", self._memory, 8 * (count + 1), who)
        # Last: a process killed before this line did not commit, and its entry is overwritten.
        struct.pack_into("Q", self._memory, 0, count + 1)
        return False

    def order(self) -> list[tuple[int, int]]:
        """Return worker and number of each operation that committed, in the order of their last commits.

        A statement whose guard lets nothing through commits, too, before the operation takes its longer way. Had it
        changed anything after all, the operations in between would tell.
        """
        (count,) = struct.unpack_from("Q", self._memory, 0)
        entries = struct.unpack_from(f"{count}Q", self._memory, 8)
        last = {who: place for place, who in enumerate(entries) if who != self.NOBODY}
        return [(who >> 32, who & 0xFFFFFFFF) for who in sorted(last, key=last.__getitem__)]


class Board:
    """Two numbers in shared memory: the version that a writer is about to set, and the last that was acknowledged."""

    def __init__(self, path: str) -> None:
        with open(path, "a+b") as file:
            file.truncate(16)
            # Aligned words: a load or a store of one is never torn.
            self.words = memoryview(mmap.mmap(file.fileno(), 16)).cast("Q")

    @property
    def begun(self) -> int:
        return self.words[0]

    @property
    def acknowledged(self) -> int:
        return self.words[1]


class SharedClock:
    """A wall clock that somebody else can move, by what stands in a file that all processes share."""

    def __init__(self, path: str) -> None:
        with open(path, "a+b") as file:
            file.truncate(8)
            self._ahead = memoryview(mmap.mmap(file.fileno(), 8)).cast("d")

    def __call__(self) -> float:
        return time.time() + self._ahead[0]

    def jump(self, seconds: float) -> None:
        """Be so many seconds ahead of the real clock."""
        self._ahead[0] = seconds
