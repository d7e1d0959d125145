"""The wall clock of the machine jumps while locks and items are held and waited for, and keys are about to expire.

A small library, compiled here and loaded into every process, moves the wall clock for all of them at once, SQLite's and
the C layer's readings included.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, Worker, processes
from helpers.sqlite import raw
from helpers.support import run_program
from slothstate import Claim

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="moves the clock through LD_PRELOAD")

HOUR = 3600
DAY = 24 * HOUR
AT_2100 = 4_102_444_800
TTL = 600
LEASE = 1.0
LATE = 5.0
"""Seconds that the end of a lock or claim may be noticed late on a busy machine; the jumps are far larger."""

STORM = 1.0
"""Seconds of jumps."""

JOBS = 300

JUMPS: dict[str, Callable[[], float]] = {
    "an hour ahead": lambda: HOUR,
    "two hours back": lambda: -2 * HOUR,
    "to 1970": lambda: DAY - time.time(),
    "to 2100": lambda: AT_2100 - time.time(),
}
"""By how many seconds each moves the clock."""


class Wall:
    """The wall clock of all processes that were started in `moved`."""

    def __init__(self, library: Path, offset: Path) -> None:
        offset.write_bytes(bytes(8))
        self._library = library
        self._offset = offset
        with open(offset, "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    def jump(self, seconds: float) -> None:
        """Let the clock be so many seconds ahead of the real one; 0 sets it right."""
        struct.pack_into("q", self._shared, 0, round(seconds * 1e9))

    def variables(self) -> dict[str, str]:
        """The environment that a process needs to see the jumps."""
        preloaded = f"{os.environ.get('LD_PRELOAD', '')} {self._library}".strip()
        return {"LD_PRELOAD": preloaded, "WALL_CLOCK_OFFSET": str(self._offset)}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("library") / "wall_clock.so"
    compiler = os.environ.get("CC", "cc")
    options = ["-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    try:
        subprocess.run([compiler, *options, "-o", target, Path(__file__).with_name("wall_clock.c")], check=True)
    except FileNotFoundError:
        pytest.skip(f"moving the clock needs a C compiler: {compiler} is not there")
    return target


@pytest.fixture
def wall(library: Path, tmp_path: Path) -> Wall:
    return Wall(library, tmp_path / "offset")


@contextmanager
def moved(wall: Wall, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    """Give a function that starts workers which see the jumps."""
    for name, value in wall.variables().items():
        monkeypatch.setenv(name, value)
    with processes(get_context("spawn")) as start:
        yield start
    monkeypatch.undo()


def serve(channel: Channel, path: str) -> None:
    """Do what the test asks, with one State."""
    with slothstate.open(path) as state:
        channel.send(time.time())
        while (message := channel.receive()) is not None:
            verb, *arguments = message
            channel.send(time.time() if verb == "time" else getattr(state, verb)(*arguments))


def call(worker: Worker, verb: str, *arguments: Any) -> Any:
    worker.send((verb, *arguments))
    return worker.receive()


@pytest.mark.parametrize("jump", JUMPS)
def test_jump_moves_no_lock(path: str, wall: Wall, monkeypatch: pytest.MonkeyPatch, jump: str) -> None:
    """A jump neither frees a lock nor keeps it: one without a TTL stays, one with a TTL goes when its time is up."""
    seconds = JUMPS[jump]()
    with moved(wall, monkeypatch) as start:
        holder, other, waiter = (start(serve, path) for _ in range(3))
        for worker in (holder, other, waiter):
            worker.receive()
        assert call(holder, "lock", "kept", 0) is True
        before = time.monotonic()
        assert call(holder, "try_lock", "leased", LEASE) is True
        granted = time.monotonic()
        waiter.send(("lock", "leased", 60))
        wall.jump(seconds)
        assert call(holder, "time") == pytest.approx(time.time() + seconds, abs=60), "the jump is seen"
        assert call(other, "try_lock", "kept") is False
        began = time.monotonic()
        assert call(other, "lock", "kept", 0.2) is False
        assert 0.2 <= time.monotonic() - began < 0.2 + LATE
        assert waiter.receive() is True
        assert before + LEASE <= time.monotonic() <= granted + LEASE + LATE
        tokens = {lock["name"]: lock["token"] for lock in call(other, "locks")}
        assert tokens.keys() == {"kept", "leased"}
        assert call(holder, "unlock", "leased") is False
        wall.jump(0)
        assert call(other, "sweep") == 0
        assert call(other, "lock", "kept", 0) is False
        assert call(holder, "unlock", "kept") is True
        assert call(other, "lock", "kept", 0) is True
        assert next(lock["token"] for lock in call(other, "locks") if lock["name"] == "kept") > max(tokens.values())
        assert call(other, "check") == []


def serve_claims(channel: Channel, path: str) -> None:
    """Claim what the test asks, and do to the last claim on a list what it asks."""
    claims: dict[str, Claim] = {}
    with slothstate.open(path) as state:
        channel.send(time.time())
        while (message := channel.receive()) is not None:
            verb, key, *arguments = message
            if verb == "claim":
                timeout, ttl = arguments
                claim = state.list_claim(key, timeout, ttl=ttl)
                if claim is not None:
                    claims[key] = claim
                channel.send(claim and (claim.item, claim.attempt))
            else:
                channel.send(getattr(claims[key], verb)(*arguments))


@pytest.mark.parametrize("jump", JUMPS)
def test_jump_moves_no_claim(path: str, wall: Wall, monkeypatch: pytest.MonkeyPatch, jump: str) -> None:
    """It gives nobody an item that another has, and one that is lent or delayed is back when its time is up."""
    seconds = JUMPS[jump]()
    with slothstate.open(path) as state:
        for key in ("kept", "leased", "delayed"):
            state.list_push(key, key)
    with moved(wall, monkeypatch) as start:
        holder, other, *waiters = (start(serve_claims, path) for _ in range(4))
        looker = start(serve, path)
        for worker in (holder, other, *waiters, looker):
            worker.receive()
        assert call(holder, "claim", "kept", 0, None) == ("kept", 1)
        assert call(holder, "claim", "delayed", 0, None) == ("delayed", 1)
        before = time.monotonic()
        assert call(holder, "claim", "leased", 0, LEASE) == ("leased", 1)
        assert call(holder, "release", "delayed", LEASE) is True
        granted = time.monotonic()
        for waiter, key in zip(waiters, ("leased", "delayed"), strict=True):
            waiter.send(("claim", key, 60, None))
        wall.jump(seconds)
        assert call(looker, "time") == pytest.approx(time.time() + seconds, abs=60), "the jump is seen"
        for due in [claim["due"] for claim in call(looker, "claims", "delayed") if claim["due"]]:
            assert due == pytest.approx(time.time() + seconds, abs=LATE)
        assert call(looker, "sweep") == 0
        assert call(other, "claim", "kept", 0, None) is None
        for waiter, key in zip(waiters, ("leased", "delayed"), strict=True):
            assert waiter.receive() == (key, 2)
            assert before + LEASE <= time.monotonic() <= granted + LEASE + LATE
            assert call(waiter, "done", key) is True
        for key in ("leased", "delayed"):
            assert call(holder, "done", key) is False
        wall.jump(0)
        assert call(looker, "sweep") == 0
        assert call(other, "claim", "kept", 0.2, None) is None
        assert call(holder, "done", "kept") is True
        assert (call(looker, "claims"), call(looker, "keys"), call(looker, "check")) == ([], [], [])


@pytest.mark.parametrize("jump", JUMPS)
def test_keys_with_a_ttl_follow_the_wall_clock(
    path: str, wall: Wall, monkeypatch: pytest.MonkeyPatch, jump: str
) -> None:
    """Set forward, keys expire sooner; set back, later; all processes agree, cached reads too, and nothing fails."""
    seconds = JUMPS[jump]()
    with moved(wall, monkeypatch) as start:
        writer, reader = both = [start(serve, path) for _ in range(2)]
        for worker in both:
            worker.receive()
        call(writer, "set", "text", "v", TTL)
        call(writer, "list_push", "list", 1, 2)
        call(writer, "set_ttl", "list", TTL)
        call(writer, "set", "stays", 1)
        for _ in range(2):
            assert call(reader, "get", "text") == "v"
        wall.jump(seconds)
        for worker in both:
            assert_ttl(worker, "text", "v", TTL - seconds)
            assert_ttl(worker, "list", [1, 2], TTL - seconds)
            assert call(worker, "get", "stays") == 1
        for verb in (("set", "new", "n", TTL), ("set_ttl", "stays", TTL), ("increment", "count")):
            assert call(writer, *verb) in (True, 1)
        assert_ttl(reader, "new", "n", TTL)
        assert_ttl(reader, "stays", 1, TTL)
        assert call(writer, "sweep") == (2 if seconds > TTL else 0)
        assert call(reader, "locks") == call(reader, "check") == []
        assert call(reader, "stats")["expired_pending"] == 0
        wall.jump(0)
        for worker in both:
            assert_ttl(worker, "new", "n", TTL + seconds)
            assert_ttl(worker, "stays", 1, TTL + seconds)
            assert_ttl(worker, "text", "v", 0 if seconds > TTL else TTL)
            assert call(worker, "get", "count") == 1
        assert call(writer, "check") == []


def assert_ttl(worker: Worker, key: str, value: Any, left: float) -> None:
    """Assert that a key has so many seconds left, and its value; or is gone, if that is nothing."""
    found = call(worker, "get", key)
    ttl = call(worker, "get_ttl", key)
    if left <= 0:
        assert (found, ttl) == (None, -2)
    else:
        if isinstance(value, list):
            assert call(worker, "list_length", key) == len(value)
        assert found == value
        assert left - 60 < ttl <= left + 60


def work_through_jumps(channel: Channel, path: str, counter: str, worker: int) -> int:
    """Count in a file under a lock with a TTL and use keys with a TTL, until told to stop; return how often."""
    turns = 0
    with slothstate.open(path, sweep_interval=0.05) as state:
        channel.send("ready")
        while not channel.waiting():
            with state.locked("job", timeout=60, ttl=60):
                number = int(Path(counter).read_text())
                key = f"worker:{worker}"
                state.set(key, number, ttl=TTL)
                state.get(key)
                assert state.get_ttl(key) >= -2
                state.set_ttl(key, 0.5)
                state.increment("turns")
                state.persist(key)
                Path(counter).write_text(str(number + 1))
            turns += 1
    return turns


def test_storm_of_jumps(path: str, tmp_path: Path, wall: Wall, monkeypatch: pytest.MonkeyPatch, figure: Any) -> None:
    """However often the clock jumps, the lock excludes, no update is lost and no operation fails."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    chance = random.Random(1)
    jumps = 0
    with moved(wall, monkeypatch) as start:
        workers = [start(work_through_jumps, path, str(counter), number) for number in range(3)]
        for worker in workers:
            worker.receive()
        ends = time.monotonic() + STORM
        while time.monotonic() < ends:
            wall.jump(chance.choice((0, chance.uniform(-DAY, DAY), chance.choice([*JUMPS.values()])())))
            jumps += 1
            time.sleep(chance.uniform(0, 0.02))
        wall.jump(0)
        for worker in workers:
            worker.send("stop")
        turns = sum(worker.result() for worker in workers)
    assert int(counter.read_text()) == turns
    assert raw(path, "select value from entries where key = 'turns'") == [(turns,)]
    figure(f"{jumps} jumps of the wall clock during {turns} turns with a lock: overlaps 0")


def do_jobs(channel: Channel, path: str, worker: int) -> None:
    """Do jobs, and put some off for a moment, until told to stop."""
    chance = random.Random(worker)
    with slothstate.open(path, sweep_interval=0.05) as state:
        channel.send("ready")
        while not channel.waiting():
            claim = state.list_claim("jobs", timeout=0.05, ttl=60)
            if claim is None:
                continue
            if chance.random() < 0.4:
                assert claim.release(delay=chance.uniform(0.001, 0.2))
            else:
                with claim.transaction():
                    state.increment(f"effect:{claim.item}")
                    assert claim.done()


def test_storm_of_jumps_over_a_queue(path: str, wall: Wall, monkeypatch: pytest.MonkeyPatch, figure: Any) -> None:
    """However often the clock jumps, each job is done once, none is claimed by two, and none is put off for long."""
    chance = random.Random(2)
    jumps = 0
    with slothstate.open(path) as state, moved(wall, monkeypatch) as start:
        state.list_push("jobs", *range(JOBS))
        workers = [start(do_jobs, path, number) for number in range(3)]
        for worker in workers:
            worker.receive()
        ends = time.monotonic() + 12 * LATE
        while len(state.keys("effect:*")) < JOBS:
            assert time.monotonic() < ends, state.claims()
            wall.jump(chance.choice((0, chance.uniform(-DAY, DAY), chance.choice([*JUMPS.values()])())))
            jumps += 1
            time.sleep(chance.uniform(0, 0.02))
        for worker in workers:
            worker.send("stop")
            worker.result()
        assert {key: state.get(key) for key in state} == {f"effect:{job}": 1 for job in range(JOBS)}
        assert (state.claims(), state.check()) == ([], [])
    figure(f"{jumps} jumps of the wall clock during {JOBS} jobs, 40 % of them put off: lost 0, twice 0")


@pytest.mark.parametrize("jump", ["to 1970", "to 2100"])
def test_command_line_after_a_jump(path: str, wall: Wall, jump: str) -> None:
    """What the command line shows of times is never an error, whatever the clock says."""
    with slothstate.open(path) as state:
        state.set("stays", 1)
        state.set("ttl", 2, ttl=100 * 365 * DAY)
        state.lock("job")
        state.try_lock("leased", ttl=60)
        state.list_push("jobs", 1, 2)
        kept, delayed = state.list_claim("jobs"), state.list_claim("jobs")
        assert kept is not None
        assert delayed is not None
        delayed.release(delay=60)
        with state.watch():
            wall.jump(JUMPS[jump]())
            for command in (
                ["locks"],
                ["locks", "--json"],
                ["claims"],
                ["claims", "--json"],
                ["watches", "--json"],
                ["inspect", "ttl"],
                ["ttl", "ttl"],
                ["stats"],
                ["doctor"],
                ["dump"],
            ):
                done = run_program(
                    [sys.executable, "-m", "slothstate", "--db", path, *command], env={**os.environ, **wall.variables()}
                )
                assert (done.returncode, done.stderr) == (0, ""), (command, done)
                assert done.stdout
