"""What histories are made under: somebody who kills and stops those who work, and disturbs their store."""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

import slothstate
from helpers.histories import SharedClock
from helpers.processes import Worker
from helpers.sqlite import raw
from slothstate import StateBusy

__all__ = ["Nemesis"]


class Nemesis:
    """Kills and stops workers, moves their clock and disturbs their store, at random times."""

    def __init__(self, seed: int, path: str, start: Callable[[], Worker], *, jumps: bool = True) -> None:
        self.chance = random.Random(seed)
        # A store on a server has no clock of the test's.
        self._clock = None if "://" in path else SharedClock(os.path.join(os.path.dirname(path), "clock"))
        self.crashes: list[tuple[int, int]] = []
        """Numbers of workers that were killed, and when by `time.monotonic_ns`."""
        self._path = path
        self._start = start
        self._junk = 0
        self._state = slothstate.open(path)
        self.workers: dict[int, Worker] = {}
        self.started = 0
        self.done: defaultdict[str, int] = defaultdict(int)
        self._blows = [self.kill, self.stop, self.stop, self.sweep, self.reopen]
        if "://" not in path:
            self._blows += [self.checkpoint, self.compact, *([self.jump] if jumps else [])]

    def recruit(self) -> None:
        """Start one more worker."""
        self.started += 1
        self.workers[self.started] = self._start()

    def strike(self) -> None:
        """Do one thing to the workers or their store."""
        what = self.chance.choice(self._blows)
        what()
        self.done[what.__name__] += 1

    def _victim(self) -> int:
        alive = [number for number, worker in self.workers.items() if worker.process.is_alive()]
        return self.chance.choice(alive or list(self.workers))

    def kill(self) -> None:
        number = self._victim()
        called = time.monotonic_ns()
        self.workers.pop(number).kill()
        self.crashes.append((number, called))
        self.recruit()

    def stop(self) -> None:
        self.workers[self._victim()].stop_for(self.chance.choice((0.01, 0.05, 0.2)))

    def jump(self) -> None:
        """Set the clock an hour ahead, two hours back, to 1970, to 2100, or right."""
        assert self._clock is not None
        now = time.time()
        self._clock.jump(self.chance.choice((3600, -7200, 86_400 - now, 4_102_444_800 - now, 0)))

    def checkpoint(self) -> None:
        raw(self._path, "pragma wal_checkpoint(truncate)")

    def compact(self) -> None:
        with suppress(StateBusy):
            self._state.compact()

    def sweep(self) -> None:
        for _ in range(20):
            self._junk += 1
            self._state.set(f"junk:{self._junk}", self._junk, ttl=0.001)
        time.sleep(0.002)
        self._state.sweep()

    def reopen(self) -> None:
        self._state.close()
        self._state = slothstate.open(self._path)

    def close(self) -> None:
        self._state.close()
