"""What simulated clients do to a store, and whether there is an order for what they saw.

- `python -m helpers.simulated_store 17` runs seed 17 and prints its trace, its history and the verdict;
- `python -m helpers.simulated_store 1 201` runs seeds 1 to 200 and prints which of them found something;
- `python -m helpers.simulated_store 1 201 1` does so up to the first.

With SLOTHSTATE_PLANTED set to the name of a bug (planted.py) they run with that bug.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from random import Random
from typing import Any, Final

import slothstate
from helpers import planted
from helpers.checkers import linearizable
from helpers.faulty_disk import Event
from helpers.histories import REFUSED, UNKNOWN, Abandoned, perform
from helpers.simulated_model import LOCK_VERBS, Timed, store_model
from helpers.simulation import Disk, Turns, simulated
from slothstate import Lock, LockLost, LockTimeout, State, WrongType
from slothstate.engines.sqlite.engine import SqliteEngine

CLIENTS: Final = 3
OPERATIONS: Final = 8
"""Of each client: as many as a search for an order can look through, and a person when it finds none."""

KEYS: Final = ("n", "t", "l", "x", "y")

CRASHES: Final = 4
"""Of so many seeds one also loses power."""

FOR_EVER: Final = 2**62

READS: Final = ("get", "get_many", "exists", "undone", "abandon")
"""What commits nothing."""

CHOICES: Final = {
    ("get", "n"): 6,
    ("exists", "n"): 1,
    ("set", "n"): 2,
    ("set with ttl", "n"): 3,
    ("set_ttl", "n"): 1,
    ("persist", "n"): 1,
    ("increment", "n"): 5,
    ("compare_swap", "n"): 3,
    ("delete", "n"): 1,
    ("undone", "x"): 1,
    ("append", "t"): 2,
    ("get", "t"): 1,
    ("list_push", "l"): 3,
    ("list_pop", "l"): 1,
    ("list_shift", "l"): 2,
    ("get", "l"): 2,
    ("set_ttl", "l"): 2,
    ("delete", "l"): 0.5,
    ("set", "l"): 0.5,
    ("get", "x"): 2,
    ("transfer", ""): 2,
    ("abandon", ""): 1,
    ("set_many", ""): 0.5,
    ("get_many", ""): 3,
    ("lock", ""): 9,
    ("sweep", ""): 3,
    ("tick", ""): 3,
    ("compact", ""): 0.2,
    ("reopen", ""): 0.2,
}
"""What a client does to which key, and how often. A tick lets time pass; "undone" reads within what it then undoes."""

PART: Final = 0.4
"""Of the choices one half of the seeds has this part only, so that they meet more often ("swarm testing")."""

MEETINGS: Final = (
    (("lock", ""), ("get", "n"), ("tick", "")),
    (("set with ttl", "n"), ("get", "n"), ("increment", "n"), ("sweep", ""), ("tick", "")),
    (("get", "n"), ("set", "n"), ("increment", "n"), ("get_many", "")),
)
"""What the other half of the seeds does: a few things that meet all the time."""


class Client:
    """One thread's State, and the operations it chooses."""

    def __init__(self, number: int, run: Run) -> None:
        self.number = number
        self._run = run
        self._turns = run.turns
        self._chance = run.turns.chance
        self._state = run.open()
        self._seen: Any = None
        self._count = 0
        self._hold: ExitStack | None = None
        self._lock: Lock | None = None

    def live(self) -> None:
        for _ in range(OPERATIONS):
            (verb, key), *_ = self._chance.choices(list(self._run.choices), list(self._run.choices.values()))
            self._do(verb, key)
        if self._hold is not None:
            self._unlock()

    def observe(self) -> None:
        """Read everything, as the last operation of a run."""
        self._perform("get_many", *KEYS)

    def close(self) -> None:
        self._state.close()

    def _do(self, verb: str, key: str) -> None:
        chance, ttl = self._chance, self._chance.choice((0.002, 0.01, 0.03))
        if verb == "lock":
            self._use_lock(ttl)
        elif verb == "tick":
            self._turns.sleep(chance.choice((0.001, 0.005, 0.02)))
        elif verb == "reopen":
            if self._hold is None:
                self._state.close()
                self._state = self._run.open()
        elif verb in ("sweep", "compact"):
            getattr(self._state, verb)()
        elif verb == "undone":
            self._record(verb, (key, self._unique()), self._undone)
        elif verb == "append":
            self._perform(verb, key, chance.choice("abc"))
        elif verb == "set with ttl":
            self._perform("set", key, self._unique(), ttl)
        elif verb == "set_ttl":
            self._perform(verb, key, ttl)
        elif verb == "increment":
            self._seen = self._perform(verb, key, chance.randrange(1, 5))
        elif verb == "compare_swap":
            self._perform(verb, key, self._seen if isinstance(self._seen, int) else None, self._unique())
        elif verb in ("set", "list_push"):
            self._perform(verb, key, self._unique())
        elif verb == "set_many":
            self._perform(verb, "x", "y", self._unique())
        elif verb == "get_many":
            self._perform(verb, *KEYS)
        elif verb in ("transfer", "abandon"):
            self._perform(verb, *chance.sample(("x", "y"), 2), self._unique())
        else:
            self._seen = self._perform(verb, key)

    def _unique(self) -> int:
        self._count += 1
        return self.number * 1000 + self._count

    def _perform(self, verb: str, *arguments: Any) -> Any:
        return self._record(verb, arguments, lambda *_: perform(self._state, verb, arguments))

    def _record(self, verb: str, arguments: tuple[Any, ...], action: Callable[..., Any]) -> Any:
        turns, run = self._turns, self._run
        turns.step(f"call {verb}{arguments!r}")
        began_ms, called = turns.now_ms, run.event("call")
        turns.readings[self.number] = began_ms
        place = len(run.history)
        run.history.append(Timed(self.number, place, verb, arguments, called, began_ms=began_ms, ended_ms=FOR_EVER))
        result = action(*arguments)
        run.history[place] = replace(
            run.history[place],
            result=result,
            returned=run.event("return"),
            ended_ms=turns.now_ms,
            reading_ms=turns.readings[self.number],
        )
        turns.step(f"return {result!r}")
        return result

    def _undone(self, key: str, amount: int) -> Any:
        found = REFUSED
        with suppress(Abandoned, WrongType), self._state.transaction():
            self._state.increment(key, amount)
            found = self._state.get(key)
            raise Abandoned
        return found

    def _use_lock(self, ttl: float) -> None:
        if self._hold is None:
            self._hold = ExitStack()
            verb = self._chance.choice(("try_lock", "acquire", "acquire"))
            if not self._record(verb, (ttl,), self._try_lock if verb == "try_lock" else self._acquire):
                self._hold = None
        elif self._lock is not None and self._chance.random() < 0.7:
            self._record("fenced", ("n", self._unique()), self._fenced)
        else:
            self._unlock()

    def _try_lock(self, ttl: float) -> bool:
        return self._state.try_lock("lock", ttl)

    def _acquire(self, ttl: float) -> int:
        assert self._hold is not None
        with suppress(LockTimeout):
            self._lock = self._hold.enter_context(
                self._state.locked("lock", timeout=self._chance.choice((0, 0.02)), ttl=ttl)
            )
            return self._lock.token
        return 0

    def _fenced(self, key: str, value: int) -> bool:
        assert self._lock is not None
        with suppress(LockLost), self._lock.transaction():
            return self._state.set(key, value)
        return False

    def _unlock(self) -> None:
        hold, lock, self._hold, self._lock = self._hold, self._lock, None, None
        assert hold is not None

        def release() -> bool:
            if lock is None:
                return self._state.unlock("lock")
            with suppress(LockLost):
                hold.close()
                return True
            return False

        self._record("unlock", (), release)


class Run:
    """One simulation of a seed in a directory that holds `empty.db`: its steps and its history."""

    def __init__(self, seed: int, directory: str) -> None:
        self.seed = seed
        self.turns = Turns(seed)
        self.history: list[Timed] = []
        self._events = itertools.count(1)
        self._directory = directory
        self.path = os.path.join(directory, "state.db")
        self.durability = self.turns.chance.choice(("full", "process"))
        self.choices = self._choose()
        remove(self.path)
        shutil.copyfile(os.path.join(directory, "empty.db"), self.path)
        self.disk = Disk(self.turns)
        self._error = ""
        with simulated(self.turns):
            clients = [Client(number, self) for number in range(1, CLIENTS + 1)]
            try:
                self.turns.run({client.number: client.live for client in clients})
                clients[0].observe()
            except Exception:
                self._error = traceback.format_exc()
            for client in clients:
                client.close()
        self.disk.unregister()
        self.violation = self._examine()
        """What is wrong with this run; None if all is well."""

    def _choose(self) -> dict[tuple[str, str], float]:
        chance = self.turns.chance
        if chance.random() < 0.5:
            return {one: CHOICES[one] for one in chance.choice(MEETINGS)}
        part = {one: often for one, often in CHOICES.items() if chance.random() < PART}
        return part or CHOICES

    def open(self) -> State:
        return State(
            SqliteEngine(self.path, durability=self.durability, clock=self.turns.read_clock, vfs=self.disk.name)
        )

    def event(self, kind: str) -> int:
        """Note a call or a return among the events of the disk; return its number."""
        number = next(self._events)
        self.disk.events.append(Event(kind, "", number))
        return number

    def _examine(self) -> str | None:
        if self._error:
            return self._error
        if not linearizable(self.history, store_model, ()):
            return "no order explains the results"
        return self._after_power_loss() if self.seed % CRASHES == 0 else None

    def _after_power_loss(self) -> str | None:
        """Lay out what the disk may hold when power fails at a random event, and look for the history it ends."""
        chance = Random(self.seed)
        cut = chance.randrange(1, len(self.disk.events) + 1)
        with open(os.path.join(self._directory, "empty.db"), "rb") as file:
            start = {"state.db": file.read()}
        remove(self.path)
        for name, content in self.disk.image(start, cut, chance).items():
            with open(os.path.join(self._directory, name), "wb") as file:
                file.write(content)
        last = max((event.place for event in self.disk.events[:cut] if event.kind in ("call", "return")), default=0)
        now_ms = self.turns.now_ms
        with State(SqliteEngine(self.path, clock=lambda: (now_ms + 0.5) / 1000)) as state:
            found = perform(state, "get_many", KEYS)
            faults = state.check()
        if faults:
            return f"damaged by a power cut before event {cut}: {faults}"
        seen = Timed(0, 0, "get_many", KEYS, FOR_EVER, FOR_EVER, found, now_ms, now_ms, now_ms)
        # With "process" the last moments may be lost: then it is as if the power had failed sooner.
        sooner = range(last, -1, -1) if self.durability == "process" else (last,)
        if any(linearizable([*self._until(moment), seen], store_model, ()) for moment in sooner):
            return None
        return (
            f"{found!r} after a power cut before event {cut} (durability {self.durability}) is no state of the history"
        )

    def _may_be_undone(self, operation: Timed) -> bool:
        """Whether a power cut may take back what an operation saw: with "full" too, if it committed nothing itself."""
        is_read = operation.verb in READS or operation.result == REFUSED
        return self.durability == "full" and is_read

    def _until(self, last: int) -> Iterator[Timed]:
        """The history up to an event: what had not returned by then has no known result. Locks are left out."""
        for one in self.history:
            if one.verb == "fenced" and one.result:
                one = replace(one, verb="set", result=True)
            if one.called <= last and one.verb not in (*LOCK_VERBS, "fenced") and not self._may_be_undone(one):
                yield one if one.returned <= last else replace(one, result=UNKNOWN, returned=math.inf)

    def __str__(self) -> str:
        """The whole history, for a person: call and return among all events, the clock at each, and what was done."""
        lines = [f"seed {self.seed}, durability {self.durability}, {len(self.turns.trace)} steps"]
        return "\n".join((*lines, *map(str, sorted(self.history, key=lambda one: one.called))))


def remove(path: str) -> None:
    """Remove a store that nobody has open."""
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.unlink(path + suffix)
    shutil.rmtree(path + "-locks", ignore_errors=True)


def runs(first: int, end: int, directory: str) -> Iterator[Run]:
    """Run the seeds from `first` to before `end` in a directory, which they share."""
    slothstate.open(os.path.join(directory, "empty.db")).close()
    return (Run(seed, directory) for seed in range(first, end))


def main(first: int, end: int | None = None, most: int | None = None) -> None:
    began = time.monotonic()
    count, found = 0, []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as directory:
        for run in runs(first, first + 1 if end is None else end, directory):
            count += 1
            if end is None:
                print(*(f"{client} {what}" for client, what in run.turns.trace), sep="\n")
                print(run)
            elif run.violation:
                found.append(run.seed)
                print(f"seed {run.seed}: {run.violation}")
                if len(found) == most:
                    break
    each_ms = (time.monotonic() - began) * 1000 / count
    verdict = f"{len(found)} of {count} seeds found something, {each_ms:.1f} ms each"
    print(verdict if end else run.violation or "all is well")


if __name__ == "__main__":
    planted.plant()
    main(*map(int, sys.argv[1:]))
