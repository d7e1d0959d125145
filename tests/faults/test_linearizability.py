"""Strict serializability of everything that processes do to one store at once, while some are killed and stopped."""

from __future__ import annotations

import os
import random
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import slothstate
from helpers import postgres_server
from helpers.checkers import UNLOCKED, linearizable, lock_model, replay
from helpers.histories import Board, Operation, Recorder, SharedClock, Witness, read_logs
from helpers.nemesis import Nemesis
from helpers.processes import Channel, processes
from helpers.sqlite import state_at
from helpers.support import quick_and_long
from slothstate import Lock, LockLost, LockTimeout, State

WORKERS = 4
BULK_SECONDS = 6.0
BULK_SECONDS_LONG = 120.0
HISTORIES = 20
HISTORIES_LONG = 200
HISTORIES_ON_A_SERVER = 6
HISTORY_OPERATIONS = 500
READERS = 3
STALE_SECONDS = 3.0
STALE_SECONDS_LONG = 60.0
KEYS = ("a", "b", "c")
LOCKS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("lock", 1, {}),
    ("shared", 0, {"shared": True}),
    ("shared", 1, {}),
    ("slots", 2, {"slots": 2}),
)
"""Names, the slots that the history states, and what they are asked for with."""

LOCK_NAMES = ("lock", "shared", "slots")


def open_at(path: str, directory: str, worker: int) -> State:
    """Open a store; every other worker has a clock that the nemesis moves, the others read the real one in C."""
    if "://" in path:
        return slothstate.open(path)
    return state_at(path, SharedClock(f"{directory}/clock")) if worker % 2 else slothstate.open(path)


class Choices:
    """Random operations on few keys; what was seen of a key makes a compare_swap succeed now and then."""

    def __init__(self, worker: int) -> None:
        self.chance = random.Random(worker)
        self._unique = worker * 10**6
        self._seen: dict[str, object] = {}

    def single(self, recorder: Recorder, state: State, key: str) -> None:
        chance = self.chance
        if key == "list":
            verb = chance.choices(("list_push", "list_pop", "list_shift", "list_range", "delete"), (9, 4, 5, 4, 0.2))[0]
            recorder.run(state, verb, key, *((self.unique(),) if verb == "list_push" else ()))
            return
        verb = chance.choices(("get", "set", "increment", "compare_swap", "delete", "list_push"), (8, 2, 4, 3, 1, 1))[0]
        if verb == "compare_swap":
            seen = self._seen.get(key)
            recorder.run(state, verb, key, None if isinstance(seen, tuple) else seen, self.unique())
        elif verb in ("set", "list_push"):
            recorder.run(state, verb, key, self.unique())
        elif verb == "increment":
            self._seen[key] = recorder.run(state, verb, key, chance.randrange(1, 5))
        else:
            self._seen[key] = recorder.run(state, verb, key)

    def several(self, recorder: Recorder, state: State) -> None:
        verb = self.chance.choices(("transfer", "abandon", "set_many", "get_many"), (4, 2, 1, 4))[0]
        source, target = self.chance.sample(("x", "y", "z"), 2)
        if verb == "get_many":
            recorder.run(state, verb, "x", "y", "z")
        else:
            recorder.run(state, verb, source, target, self.unique())

    def unique(self) -> int:
        self._unique += 1
        return self._unique


def work_in_bulk(channel: Channel, path: str, directory: str, worker: int) -> None:
    """Do anything at all until told to stop, at times reopening the store or forking a child that uses it too."""
    recorder = Recorder(f"{directory}/{worker}.log", worker)
    witness = Witness(f"{directory}/witness")
    witness.watch(recorder)
    choices = Choices(worker)
    state = open_at(path, directory, worker)
    channel.send("ready")
    while not channel.waiting():
        for _ in range(20):
            if choices.chance.random() < 0.3:
                choices.several(recorder, state)
            else:
                choices.single(recorder, state, choices.chance.choice((*KEYS, "list")))
        what = choices.chance.random()
        if what < 0.02:
            state.close()
            state = open_at(path, directory, worker)
        elif what < 0.04:
            child = os.fork()
            if child == 0:
                witness.recorder = None
                state.get("a")
                state.increment("children")
                os._exit(0)
            os.waitpid(child, 0)
    state.close()


def work_hot(channel: Channel, path: str, directory: str, worker: int) -> None:
    """Do some hundred operations on a key, a list and a few locks, all of them hot."""
    recorder = Recorder(f"{directory}/{worker}.log", worker)
    choices = Choices(worker)
    with open_at(path, directory, worker) as state:
        channel.ready()
        for _ in range(HISTORY_OPERATIONS):
            if choices.chance.random() < 0.1:
                hold_lock(recorder, choices, state)
            else:
                choices.single(recorder, state, choices.chance.choice(("a", "list")))


def hold_lock(recorder: Recorder, choices: Choices, state: State) -> None:
    """Acquire and release a lock, recording both; inside, do something that others must not get in between."""
    name, slots, options = choices.chance.choice(LOCKS)
    with ExitStack() as stack:
        held: list[Lock] = []

        def acquire() -> int | None:
            with suppress(LockTimeout):
                # Every other time with a TTL, which no jump of the clock may end.
                ttl = choices.chance.choice((None, 60))
                held.append(stack.enter_context(state.locked(name, timeout=0.5, ttl=ttl, **options)))
                return held[0].token
            return None

        def release() -> bool:
            with suppress(LockLost):
                stack.close()
                return True
            return False

        if recorder.record("acquire", (name, slots), acquire) is not None:
            choices.single(recorder, state, "a")
            recorder.record("release", (name,), release)


def write_versions(channel: Channel, path: str, board: str) -> int:
    """Set a key to rising versions, in bursts, until told to stop; return the last."""
    words = Board(board).words
    chance = random.Random(1)
    version = 0
    with slothstate.open(path) as state:
        channel.send("ready")
        while not channel.waiting():
            for _ in range(chance.randrange(1, 10)):
                version += 1
                words[0] = version
                state.set("version", version)
                words[1] = version
            time.sleep(chance.random() / 500)
    return version


def read_versions(channel: Channel, path: str, name: str) -> tuple[int, int, list[str]]:
    """Read that key until told to stop; return how often, how many of the reads were hits, and what was wrong."""
    board = Board(name)
    wrong = []
    reads = last = 0
    with slothstate.open(path) as state:
        channel.send("ready")
        while not channel.waiting():
            for _ in range(2000):
                least = board.acknowledged
                version = state.get("version", 0)
                if not (least <= version <= board.begun and version >= last):
                    wrong.append(f"{version} read after {last}, between {least} and {board.begun}")
                last = version
            reads += 2000
        return reads, state.stats()["cache_hits"], wrong


def bulk(path: str, directory: Path, seconds: float) -> str:
    """Let a nemesis loose on workers for a while, then replay what they did; return what was seen."""
    witness = Witness(f"{directory}/witness")
    with processes() as start:
        nemesis = Nemesis(1, path, lambda: start(work_in_bulk, path, str(directory), nemesis.started))
        for _ in range(WORKERS):
            nemesis.recruit()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            nemesis.strike()
            time.sleep(nemesis.chance.uniform(0, 0.1))
        for worker in nemesis.workers.values():
            worker.send("stop")
        for worker in nemesis.workers.values():
            worker.result()
        nemesis.close()
    last = Recorder(f"{directory}/last.log", 0)
    with slothstate.open(path) as state:
        for key in (*KEYS, "list", "x", "y", "z"):
            last.run(state, "get", key)
        assert state.check() == []
    verdict = replay(read_logs(directory.glob("*.log")), witness.order())
    assert verdict.violation is None, verdict.violation
    assert verdict.writes > 10 * seconds
    return f"bulk: {verdict}; {dict(nemesis.done)}"


def hot(path: str, directory: Path, seed: int) -> tuple[int, int]:
    """Record one short history under a nemesis and check it key by key; return operations and kills."""
    with processes() as start:
        nemesis = Nemesis(seed, path, lambda: start(work_hot, path, str(directory), seed * 1000 + nemesis.started))
        for _ in range(WORKERS):
            nemesis.recruit()
        for worker in nemesis.workers.values():
            worker.receive()
        for worker in nemesis.workers.values():
            worker.send("go")
        for _ in range(4):
            time.sleep(nemesis.chance.uniform(0, 0.03))
            before = set(nemesis.workers)
            nemesis.strike()
            for number in set(nemesis.workers) - before:
                nemesis.workers[number].send("go")
        for worker in nemesis.workers.values():
            worker.result()
        nemesis.close()
    crashes = [
        Operation(seed * 1000 + number, 2**31, "crash", (name,), called)
        for number, called in nemesis.crashes
        for name in LOCK_NAMES
    ]
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in [*read_logs(directory.glob("*.log")), *crashes]:
        if operation.result is not None or operation.verb != "acquire":
            by_key[operation.arguments[0]].append(operation)
    count = sum(map(len, by_key.values()))
    for name in LOCK_NAMES:
        locks = by_key.pop(name)
        assert linearizable(locks, lock_model, UNLOCKED), f"seed {seed}, {name}: {sorted(map(str, locks))}"
    for key, operations in by_key.items():
        assert linearizable(operations), f"seed {seed}, key {key}"
    with slothstate.open(path) as state:
        assert state.check() == []
        for name in LOCK_NAMES:
            assert state.try_lock(name), "nobody holds it: the workers have released it or are dead"
    return count, nemesis.done["kill"]


def hot_histories(tmp_path: Path, count: int) -> str:
    operations = kills = 0
    for seed in range(1, count + 1):
        directory = tmp_path / str(seed)
        directory.mkdir()
        done, killed = hot(str(directory / "state.db"), directory, seed)
        operations, kills = operations + done, kills + killed
    return f"hot: {count} histories, {operations} operations, {kills} kills, violations 0"


@quick_and_long("seconds", (BULK_SECONDS,), (BULK_SECONDS_LONG,), timeout=600)
def test_bulk_history_is_strictly_serializable(
    path: str, tmp_path: Path, seconds: float, figure: Callable[[str], None]
) -> None:
    """Reads, writes and transactions of 4 processes under a nemesis fit the order in which the store committed them."""
    figure(bulk(path, tmp_path, seconds))


@quick_and_long("count", (HISTORIES,), (HISTORIES_LONG,), timeout=900)
def test_hot_histories_are_linearizable(tmp_path: Path, count: int, figure: Callable[[str], None]) -> None:
    """For every key, list and lock, shared ones too, of many short histories an order explains all results."""
    figure(hot_histories(tmp_path, count))


def stale_reads(path: str, board: str, seconds: float) -> str:
    with processes() as start:
        workers = [start(write_versions, path, board), *(start(read_versions, path, board) for _ in range(READERS))]
        for worker in workers:
            worker.receive()
        time.sleep(seconds)
        for worker in workers:
            worker.send("stop")
        versions, *readers = [worker.result() for worker in workers]
    assert [wrong for _, _, wrong in readers] == [[]] * READERS
    reads, hits = (sum(reader[index] for reader in readers) for index in (0, 1))
    assert hits > reads / 2
    return f"cached reads: {reads} reads, {hits} of them hits, beside {versions} writes, stale 0"


@quick_and_long("seconds", (STALE_SECONDS,), (STALE_SECONDS_LONG,))
def test_no_read_is_older_than_the_last_acknowledged_write(
    path: str, tmp_path: Path, seconds: float, figure: Callable[[str], None]
) -> None:
    """A read never gives less than what was acknowledged before it, nor more than was begun after it, nor goes back."""
    figure(stale_reads(path, str(tmp_path / "board"), seconds))


def test_hot_histories_on_postgresql_are_linearizable(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """The same on the other engine, whose workers wait for each other's transactions on a server."""
    operations = kills = 0
    for seed in range(1, HISTORIES_ON_A_SERVER + 1):
        directory = tmp_path / str(seed)
        directory.mkdir()
        url = postgres_server.take_url()
        done, killed = hot(url, directory, seed)
        postgres_server.give_back(url)
        operations, kills = operations + done, kills + killed
    figure(f"postgresql: {HISTORIES_ON_A_SERVER} histories, {operations} operations, {kills} kills, violations 0")
