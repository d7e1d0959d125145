"""A deterministic simulation: clients in one process take turns that a seeded generator deals out.

Each client is a thread with a State of its own on one store, and only one of them runs at a time. It may have to pass
the turn on wherever others can come between in real life: before a statement and every few steps of SQLite's machine in
it, at each call of the disk, around each use of the read cache, when it looks at the clock, and when it sleeps. The
clock moves only by sleeping and by an operation of its own. So a seed decides everything: run again, it takes the same
steps, and what they did to the store is a history for the checkers.

Nothing in the package knows of it: the clock and the disk are arguments, the rest is replaced while a simulation runs.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import time
from _thread import allocate_lock
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Final

from helpers.faulty_disk import RecordingDisk
from helpers.stand_in import StandIn, through
from slothstate import identity
from slothstate.engines.sqlite import connection, pool, read_cache
from slothstate.engines.sqlite.connection import Connection
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.engines.sqlite.sweeper import Sweeper

EAGERNESS: Final = (0.02, 0.1, 0.3)
"""How likely a turn is passed on at a step; a seed has one of them. Some races need few switches, others many."""

MACHINE_STEPS: Final = 12
"""Instructions of SQLite's machine between two steps of the simulation."""

CHECKPOINT_PAGES: Final = 20
"""Small, so that the log is emptied and begun anew while others read."""

STEPS: Final = 100_000
"""What no simulation takes, a hundred times over."""

EPOCH_NS: Final = 1_700_000_000 * 10**9


class Deadlock(AssertionError):
    """Nobody came to an end within the steps that a simulation may take."""


class Turns:
    """Who runs: the turn, its passing, and what was done with it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.eagerness = self.chance.choice(EAGERNESS)
        self.trace: list[tuple[int, str]] = []
        self.now_ns = EPOCH_NS
        self.readings: dict[int, int] = {}
        """What each client last saw on the clock of its engine, in milliseconds."""
        self._gates: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._done = allocate_lock()
        self.errors: list[BaseException] = []

    def run(self, clients: dict[int, Callable[[], None]]) -> None:
        """Run the clients to their ends; raise what one of them raised."""
        self._done.acquire()
        for number in clients:
            self._gates[number] = allocate_lock()
            self._gates[number].acquire()
        threads = [threading.Thread(target=self._live, args=item, daemon=True) for item in clients.items()]
        for thread in threads:
            thread.start()
        self._pass_to(self.chance.choice(list(self._gates)))
        self._done.acquire()
        for thread in threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _live(self, number: int, client: Callable[[], None]) -> None:
        self._gates[number].acquire()
        self._numbers[get_ident()] = number
        try:
            client()
        except BaseException as error:
            self.errors.append(error)
        del self._gates[number], self._numbers[get_ident()]
        if self._gates:
            self._pass_to(self.chance.choice(list(self._gates)))
        else:
            self._done.release()

    def _pass_to(self, number: int) -> None:
        self._gates[number].release()

    def step(self, what: str, *, waits: bool = False) -> None:
        """Let another client go first, perhaps; surely one that `waits` for another."""
        own = self._numbers.get(get_ident())
        if own is None:
            return
        self.trace.append((own, what))
        if len(self.trace) > STEPS:
            raise Deadlock(f"no end within {STEPS} steps")
        if waits or self.chance.random() < self.eagerness:
            others = [number for number in self._gates if number != own]
            if others:
                gate = self._gates[own]
                self._pass_to(self.chance.choice(others))
                gate.acquire()

    # The clock, in place of the module `time`.

    CLOCK_BOOTTIME: Final = 0

    def clock_gettime_ns(self, _: int) -> int:
        return self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def monotonic(self) -> float:
        return self.now_ns / 10**9

    def time(self) -> float:
        return self.monotonic()

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 10**9)
        self.step("sleep", waits=True)

    @property
    def now_ms(self) -> int:
        return self.now_ns // 10**6

    def read_clock(self) -> float:
        """The clock of an engine: half a millisecond more, so that no rounding changes the reading."""
        self.step("clock")
        self.readings[self._numbers.get(get_ident(), 0)] = self.now_ms
        return (self.now_ms + 0.5) / 1000


class Disk(RecordingDisk):
    """A recording disk whose every call is a step."""

    def __init__(self, turns: Turns) -> None:
        super().__init__("simulated")
        self._turns = turns

    def before(self, call: str, file: str, place: int, data: bytes) -> int:
        self._turns.step(f"{call} {file} {place} {len(data)}")
        return super().before(call, file, place, data)

    def xSleep(self, microseconds: int) -> int:  # noqa: N802
        self._turns.sleep(microseconds / 10**6)
        return microseconds


class Cache(StandIn):
    """A read cache each use of which is a step; a hit of `get` is not, it takes no other way than the C layer's."""

    def __init__(self, cache: read_cache.ReadCache, turns: Turns) -> None:
        super().__init__(cache)
        self._turns = turns

    def wait(self, token: int, seconds: float) -> bool:
        """Wait in simulated time, and not for long: who waits looks again."""
        self._turns.sleep(min(seconds, 0.002))
        return self._cache.sync() != token

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cache, name)
        if name not in ("sync", "store", "mark", "settle"):
            return found

        def stepping(*arguments: Any) -> Any:
            self._turns.step(f"cache {name}")
            result = found(*arguments)
            self._turns.step(f"cache {name} done")
            return result

        return stepping


@contextmanager
def simulated(turns: Turns) -> Iterator[None]:
    """Put the turns in the place of time and chance, and between the steps of every connection made in the block."""
    make, initialize = read_cache.make, Connection.__init__

    def step_and_go_on() -> bool:
        turns.step("machine")
        return False

    def stepping(made: Connection, *arguments: Any, **names: Any) -> None:
        initialize(made, *arguments, **names)
        execute = made.execute

        def step_and_execute(statement: str, *more: Any) -> Any:
            turns.step(statement)
            return execute(statement, *more)

        made.execute = step_and_execute
        made.db.set_progress_handler(step_and_go_on, MACHINE_STEPS)

    replaced: list[tuple[Any, str, Any]] = [
        (os, "urandom", turns.chance.randbytes),
        (identity, "_ahead", []),
        (read_cache, "make", lambda *arguments: Cache(make(*arguments), turns)),
        (SqliteEngine, "fast", through),
        (Connection, "__init__", stepping),
        (Sweeper, "ensure_running", lambda _: None),
        # Real time must not decide whether the cache may still answer.
        (pool, "IDENTITY_CHECK_INTERVAL", 10.0**6),
        (connection, "WAL_CHECKPOINT_PAGES", CHECKPOINT_PAGES),
        *(
            (module, "time", turns)
            for name, module in sys.modules.items()
            if name.startswith("slothstate.") and getattr(module, "time", None) is time
        ),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        if collecting:
            gc.enable()
