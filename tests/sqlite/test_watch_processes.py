"""Watches between processes: what dies leaves nothing behind, a name goes on, and the log is bounded."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slothstate.aio
from helpers import postgres_server
from helpers.faulty_disk import FailingDisk
from helpers.processes import Channel, processes
from helpers.sqlite import raw
from helpers.support import Clock
from slothstate import Change, SlothStateError, State, StateFull, WatchLost
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.engines.sqlite.triggers import KEPT_CHANGES, NAMES_AND_TEXTS

PATIENCE = 30.0

TRIGGERS = "select count(*) from sqlite_schema where type = 'trigger'"


@pytest.fixture
def state(path: str) -> Iterator[State]:
    with slothstate.open(path) as opened:
        yield opened
        assert opened.check() == []


def follow(channel: Channel, path: str, name: str | None) -> None:
    """Watch, and tell each change."""
    with slothstate.open(path) as state, state.watch(name=name) as watch:
        channel.send("begun")
        for change in watch:
            channel.send((change.op, change.key))


def begin_to_handle(channel: Channel, path: str, name: str) -> None:
    """Take a change, and handle it until killed."""
    with slothstate.open(path) as state:
        watch = state.watch(name=name)
        channel.send("begun")
        channel.send(watch.next())
        channel.receive()


async def next_change(path: str, name: str) -> Change | None:
    async with await slothstate.aio.open(path) as state, state.watch(name=name) as watch:
        return await watch.next(timeout=PATIENCE)


def write(channel: Channel, path: str, seed: int) -> None:
    """Write at random, until killed."""
    chance = random.Random(seed)
    with slothstate.open(path) as state:
        channel.send("begun")
        while True:
            key = f"k{chance.randrange(20)}"
            with state.transaction():
                state.set(key, seed)
                state.list_push(f"l:{key}", seed)
                if chance.random() < 0.4:
                    state.delete(key)
                    state.list_shift(f"l:{key}")


def test_nothing_is_left_of_the_last_one(path: str, state: State) -> None:
    """Triggers are there as long as anybody watches; a process that was killed is none, from the next sweep on."""
    assert raw(path, TRIGGERS) == [(0,)]
    with state.watch():
        assert raw(path, TRIGGERS) == [(len(NAMES_AND_TEXTS),)]
        state.set("k", 1)
    assert (raw(path, TRIGGERS), raw(path, "select count(*) from watches")) == ([(0,)], [(0,)])
    with processes() as start:
        watcher = start(follow, path, None)
        assert watcher.receive() == "begun"
        assert [watch["owner"]["pid"] for watch in state.watches() if watch["owner"]] == [watcher.pid]
        watcher.kill()
    assert [watch["alive"] for watch in state.watches()] == [False]
    state.sweep()
    assert (raw(path, TRIGGERS), state.watches()) == ([(0,)], [])


def test_a_name_is_taken_over(path: str, state: State) -> None:
    """When its process is killed, with what that one had not handled."""
    with processes() as start:
        first = start(follow, path, "w")
        assert first.receive() == "begun"
        state.set("a", 1)
        assert first.receive() == ("set", "a")
        second = start(follow, path, "w")
        assert second.receive() == "begun"
        state.set("b", 1)
        assert first.receive() == ("set", "b")
        time.sleep(0.1)
        assert second.acknowledged() == []
        first.kill()
        # It was waiting for the next: b is handled, unless it was killed before it asked.
        state.set("c", 1)
        told = [second.receive()]
        while told[-1] != ("set", "c"):
            told.append(second.receive())
        assert told in ([("set", "c")], [("set", "b"), ("set", "c")])
        second.kill()
    assert state.unwatch("w")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_name_is_taken_over_though_nobody_writes(path: str, engine: str, is_async: bool) -> None:
    """What the one that was killed had not handled comes at once, in an event loop as well."""
    if engine == "postgresql":
        path = postgres_server.take_url()
    with slothstate.open(path) as state, processes() as start:
        first = start(begin_to_handle, path, "w")
        assert first.receive() == "begun"
        state.set("a", 1)
        assert first.receive().key == "a"
        killed = threading.Timer(0.3, first.kill)
        killed.start()
        began = time.monotonic()
        if is_async:
            change = asyncio.run(next_change(path, "w"))
        else:
            with state.watch(name="w") as watch:
                change = watch.next(PATIENCE)
        assert change is not None
        assert change.key == "a"
        assert 0.29 < time.monotonic() - began < 3
        killed.join()
        assert state.unwatch("w")
    if engine == "postgresql":
        postgres_server.give_back(path)


def test_replayed_under_kills(path: str, state: State) -> None:
    """Writers that are killed at random: the changes, one by one, lead to the keys that there are."""
    keys: set[str] = set()
    with state.watch() as watch, processes() as start:
        for seed in range(6):
            writers = [start(write, path, 2 * seed + number) for number in range(2)]
            for writer in writers:
                assert writer.receive() == "begun"
            until = time.monotonic() + random.Random(seed).uniform(0.02, 0.15)
            while time.monotonic() < until:
                replay(watch, keys)
            for writer in writers:
                writer.kill()
        replay(watch, keys)
        assert keys == set(state.keys())


def replay(watch: Any, keys: set[str]) -> None:
    while (change := watch.next(0)) is not None:
        (keys.add if change.op == "set" else keys.discard)(change.key)


def test_who_never_reads_is_bounded(path: str, state: State) -> None:
    """It loses the oldest, is told once from where it goes on, and keeps nobody's disk full."""
    watch, reader = state.watch(), state.watch("none")
    for number in range(KEPT_CHANGES // 1000 + 3):
        state.set_many({f"k{key}": number for key in range(1000)})
        if number % 20 == 0:
            assert reader.next(0) is None
    [(kept,)] = raw(path, "select count(*) from changes")
    assert kept <= KEPT_CHANGES + 1000
    assert reader.next(0) is None
    with pytest.raises(WatchLost) as lost:
        watch.next(0)
    change = watch.next(0)
    assert change is not None
    assert change.revision == lost.value.revision + 1
    watch.close()
    reader.close()
    assert raw(path, "select count(*) from changes")[0][0] <= 1


def test_revisions_rise_for_ever(path: str, state: State) -> None:
    """Also over times when nobody watched, and the log was emptied."""
    last = 0
    for _ in range(3):
        with state.watch() as watch:
            state.set("k", 1)
            change = watch.next(0)
            assert change is not None
            assert change.revision > last
            last = change.revision


@pytest.mark.parametrize("watched", [True, False])
def test_revisions_rise_over_a_restore(path: str, tmp_path: Path, watched: bool) -> None:
    """What a name is yet to be told of comes, with numbers that the replaced store has not given."""
    state = slothstate.open(path)
    if watched:
        with state.watch(name="w"):
            state.set_many({f"handled{number}": 1 for number in range(5)})
        with state.watch(name="w") as watch:
            assert [watch.next(0) is not None for _ in range(6)] == [True] * 5 + [False]
        state.set("pending", 1)
        state.set("pending", 2)
    state.backup(tmp_path / "copy")
    with state.watch("last") as watch:
        state.set("last", 1)
        last = watch.next(0)
        assert last is not None
    state.close()
    slothstate.restore(tmp_path / "copy", path)
    state = slothstate.open(path)
    with state.watch(name="w") as watch:
        state.set("new", 1)
        found = list(iter(lambda: watch.next(0), None))
    assert [change.key for change in found] == [*(["pending"] * 2 if watched else []), "new"]
    revisions = [last.revision, *(change.revision for change in found)]
    assert revisions == sorted(set(revisions))
    assert state.check() == []
    state.close()


def test_a_day_is_kept(path: str, clock: Clock) -> None:
    """Then a name that nobody ran has lost what is older."""
    state = State(SqliteEngine(path, clock=clock))
    state.watch(name="w").close()
    state.set("old", 1)
    clock.advance(25 * 3600)
    state.set("new", 1)
    state.sweep()
    with state.watch(name="w") as watch:
        with pytest.raises(WatchLost):
            watch.next(0)
        change = watch.next(0)
        assert change is not None
        assert change.key == "new"
    state.close()


def test_a_loss_that_could_not_be_noted_is_told_later(path: str, clock: Clock) -> None:
    """In a snapshot, and while another writes, `next` fails; then it says that changes are missing."""
    state = State(SqliteEngine(path, clock=clock, busy_timeout=0.05))
    other = State(SqliteEngine(path, clock=clock))
    for kept_from_it in (state.snapshot, other.transaction):
        with state.watch(name="w") as watch:
            state.set("old", 1)
            clock.advance(25 * 3600)
            state.set("new", 1)
            state.sweep()
            with kept_from_it(), pytest.raises(SlothStateError) as error:
                watch.next(0)
            assert not isinstance(error.value, WatchLost)
            with pytest.raises(WatchLost):
                watch.next(0)
            change = watch.next(0)
            assert change is not None
            assert change.key == "new"
            assert watch.next(0) is None
    state.close()
    other.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_none(path: str, state: State) -> None:
    """The watch is its parent's, in which it goes on."""
    with state.watch() as watch:
        child = os.fork()
        if child == 0:
            try:
                watch.next(0)
            except SlothStateError as error:
                os._exit(7 if "another process" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        state.set("k", 1)
        assert watch.next(0) is not None
    assert state.watches() == []


def test_full_disk(tmp_path: Path) -> None:
    """A change that cannot be noted is not made; both are, or neither."""
    disk = FailingDisk()
    state = State(SqliteEngine(str(tmp_path / "s.db"), vfs=disk.name))
    with state.watch() as watch:
        state.set("k", 1)
        for at in range(1, 4):
            with disk.fail(at, __import__("apsw").FullError, sticky=True):
                try:
                    state.set("k", "x" * 5000)
                    continue
                except StateFull:
                    pass
            assert state.get("k") == 1
        state.set("k", 2)
        noted = []
        while (change := watch.next(0)) is not None:
            noted.append((change.op, change.key))
        assert noted[0] == noted[-1] == ("set", "k")
    state.close()
