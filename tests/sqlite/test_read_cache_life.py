"""The read cache beside everything that can happen to a store: forks, closing, recovery, replaced files, threads."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import slothstate
from helpers.processes import Channel, Child, processes
from helpers.sqlite import current_token, store_of
from helpers.support import SANITIZED, Clock, run_python
from slothstate import State
from slothstate.engines.sqlite.engine import SqliteEngine

KEYS = tuple(f"k{number}" for number in range(8))


def serving(channel: Channel, path: str) -> None:
    """Run verbs of a State, SQL or damage to the wal-index for the test until told to stop."""
    state = slothstate.open(path)
    while (message := channel.receive()) is not None:
        what, *arguments = message
        if what == "checkpoint":
            db = apsw.Connection(path)
            channel.send(db.wal_checkpoint(mode=getattr(apsw, f"SQLITE_CHECKPOINT_{arguments[0]}")))
            db.close()
        elif what == "vacuum":
            db = apsw.Connection(path)
            channel.send(db.execute("vacuum").fetchall())
            db.close()
        else:
            channel.send(getattr(state, what)(*arguments))
    state.close()


def damaging(channel: Channel, path: str, offset: int) -> None:
    """Change one byte of the wal-index, as a writer that is killed between its two copies leaves it."""
    file = os.open(path + "-shm", os.O_RDWR)
    byte = os.pread(file, 1, offset)[0]
    os.pwrite(file, bytes([byte ^ 0xFF]), offset)
    os.close(file)


def reads(state: State) -> dict[str, Any]:
    return {key: (state.get(key), state.exists(key), state.get_ttl(key)) for key in KEYS}


def test_checkpoints_restarts_and_recoveries_by_others(path: str) -> None:
    """After each thing that rewrites the wal-index, cached reads are what a connection made for them reads."""
    with processes() as start, slothstate.open(path) as state:
        other = start(serving, path)

        def ask(*message: Any) -> Any:
            other.send(message)
            return other.receive()

        def compare() -> None:
            for _ in range(2):
                found = reads(state)
                with slothstate.open(path, read_cache=False) as cold:
                    assert found == reads(cold)

        def damage() -> None:
            # The second copy: the first, which hits look at, stays as it is, and so does what they answer.
            start(damaging, path, 48 + 20).result()

        for number, key in enumerate(KEYS):
            ask("set", key, number)
        steps: list[Callable[[], Any]] = [
            lambda: ask("checkpoint", "PASSIVE"),
            lambda: ask("checkpoint", "FULL"),
            lambda: ask("checkpoint", "RESTART"),
            lambda: ask("set", "k1", "after restart"),
            lambda: ask("checkpoint", "TRUNCATE"),
            lambda: ask("set", "k2", "after truncate"),
            damage,
            lambda: ask("get", "k3"),
            lambda: ask("set", "k3", "after recovery"),
            damage,
            lambda: state.set("k4", "our own write recovers"),
            lambda: [ask("set", "k5", number) for number in range(20)],
            lambda: ask("checkpoint", "TRUNCATE"),
            damage,
            lambda: ask("set", "k6", "recovery of an empty log"),
            lambda: ask("vacuum"),
            lambda: ask("delete", "k7"),
            lambda: state.set("k7", "own"),
            lambda: ask("set", "k7", "foreign"),
        ]
        compare()
        for step in steps:
            step()
            compare()
        assert state.stats()["cache_hits"] > 100
        other.send(None)
        other.result()


def test_a_recovered_index_counts_from_the_start_and_hides_nothing(path: str) -> None:
    """Own writes around a recovery keep nothing warm that another process has changed."""
    with processes() as start, slothstate.open(path) as state:
        other = start(serving, path)
        for _ in range(5):
            for number in range(6):
                state.set("own", number)
                state.get("k0")
                start(damaging, path, 48 + 8).result()
                for commit in range(number):
                    other.send(("set", "k0", (number, commit)))
                    assert other.receive() is True
                state.set("own", -number)
                with slothstate.open(path, read_cache=False) as cold:
                    assert state.get("k0") == cold.get("k0")
        other.send(None)
        other.result()


def test_closing_one_of_two_handles_leaves_the_other_right(path: str) -> None:
    """Two States of a process share SQLite's mapping: whichever is closed, the other goes on hitting, and rightly."""
    with processes() as start:
        other = start(serving, path)
        for first_closes in (True, False):
            first, second = slothstate.open(path), slothstate.open(path)
            first.set("k", 0)
            assert first.get("k") == second.get("k") == 0
            closing, staying = (first, second) if first_closes else (second, first)
            closing.close()
            for number in range(1, 50):
                hits = staying.stats()["cache_hits"]
                assert [staying.get("k") for _ in range(3)] == [number - 1] * 3
                assert staying.stats()["cache_hits"] >= hits + 2
                other.send(("set", "k", number))
                assert other.receive() is True
            staying.close()
        other.send(None)
        other.result()


def test_a_random_history_reads_the_same_without_the_cache(
    open_state: Callable[[], State], path: str, clock: Clock
) -> None:
    """Two handles with a cache and one without agree on every key after every step of a random history."""
    choice = random.Random(7)
    warm, other = open_state(), open_state()
    cold = State(SqliteEngine(path, clock=clock, cache_size=0))

    def rolled_back(state: State, key: str) -> None:
        with pytest.raises(LookupError), state.transaction():
            state.set(key, "never")
            assert state.get(key) == "never"
            assert state.exists(key)
            assert state.get_ttl(key) == -1
            raise LookupError

    steps: list[Callable[[State, str], Any]] = [
        lambda state, key: state.set(key, choice.randrange(3)),
        lambda state, key: state.set(key, {"a": choice.randrange(9)}, choice.choice([None, 0.5, 2])),
        lambda state, key: state.delete(key),
        lambda state, key: state.set(key, 1) and state.increment(key),
        lambda state, key: state.compare_swap(key, 1, "swapped"),
        lambda state, key: state.set_ttl(key, 1),
        lambda state, key: state.persist(key),
        lambda state, key: state.set_many({key: 1, "k0": 2}),
        lambda state, key: state.clear("k[0-2]"),
        lambda state, key: state.sweep(),
        lambda state, key: clock.advance(choice.choice([0.1, 0.5, 1])),
        lambda state, key: state.delete(key) and state.list_push(key, 1, 2),
        rolled_back,
    ]
    for step in range(1500):
        choice.choice(steps)(choice.choice([warm, warm, other, cold]), choice.choice(KEYS))
        expected = reads(cold)
        assert reads(warm) == expected, step
        assert reads(other) == expected, step
    assert warm.stats()["cache_hits"] > 1500


def counting(channel: Channel, path: str) -> int:
    """Count `foreign` up until told to stop; return how often."""
    count = 0
    with slothstate.open(path) as state:
        while not channel.waiting():
            state.increment("foreign")
            count += 1
            time.sleep(0.0005)
    return count


def test_threads_beside_own_and_foreign_commits_never_see_a_number_fall(path: str) -> None:
    """Readers of one State, its own writers, transactions that roll back and another process, all at once."""
    failures: list[BaseException] = []
    done = threading.Event()

    def guarded(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                while not done.is_set():
                    work()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with processes() as start, slothstate.open(path, cache_size=20_000) as state:
        state.set_many({"own": 0, "foreign": 0, "table": {"a": 0, "b": 0}})
        other = start(counting, path)

        def reader() -> Callable[[], None]:
            last = {"own": 0, "foreign": 0}

            def read() -> None:
                for key in last:
                    for _ in range(50):
                        number = state.get(key)
                        assert number >= last[key]
                        last[key] = number
                table = state.get("table")
                assert table["a"] == table["b"]
                state.get(f"absent {last['own'] % 500}")

            return read

        def write() -> None:
            number = state.increment("own")
            assert state.get("own") >= number
            state.set("table", {"a": number, "b": number})

        def roll_back() -> None:
            with pytest.raises(LookupError), state.transaction():
                state.set("own", -1)
                assert state.get("own") == -1
                raise LookupError
            assert state.get("own") >= 0

        def reopen() -> None:
            with slothstate.open(path) as another:
                assert another.get("own") >= 0

        threads = [guarded(work) for work in (reader(), reader(), reader(), write, write, roll_back, reopen)]
        time.sleep(2)
        done.set()
        for thread in threads:
            thread.join(30)
        other.send(None)
        count = other.result()
        assert failures == []
        assert state.get("foreign") == count
        assert state.stats()["cache_hits"] > 100


def test_reading_while_another_thread_closes(path: str) -> None:
    """A read ends with a value or with StateClosed; once `close` has returned, no read is answered any more."""
    for _ in range(30):
        state = slothstate.open(path)
        state.set("k", 1)
        get, closed = state.get, threading.Event()
        wrong: list[Any] = []

        def read(get: Callable[[str], Any] = get, closed: threading.Event = closed, wrong: list[Any] = wrong) -> None:
            while True:
                was_closed = closed.is_set()
                try:
                    found = get("k")
                except slothstate.StateClosed:
                    return
                if found != 1 or was_closed:
                    wrong.append((found, was_closed))
                    return

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        state.close()
        closed.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert wrong == []


@pytest.mark.damaged
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_no_hit_once_the_files_are_found_replaced(tmp_path: Path, suffix: str) -> None:
    """From the look that finds a file gone, at most 50 ms later, cached keys are refused like all others."""
    path = str(tmp_path / "state.db")
    state = slothstate.open(path)
    state.set("k", 1)
    assert state.get("k") == 1
    os.rename(path + suffix, path + ".moved")
    with pytest.raises(slothstate.UnsafeState):
        state.set("other", 1)
        time.sleep(0.1)
        state.set("other", 2)
    for call in (state.get, state.exists, state.get_ttl):
        with pytest.raises(slothstate.UnsafeState):
            call("k")
    os.rename(path + ".moved", path + suffix)
    state.close()


def forking(channel: Channel, path: str) -> list[Any]:
    """Fork a State with a warm cache; both sides write in turn, and each reads what the other wrote."""
    state = slothstate.open(path)
    state.set("k", 0)
    cache = store_of(state).cache
    waiter = threading.Thread(target=cache.wait, args=(current_token(cache), 30))
    waiter.start()
    seen = [state.get("k"), state.get("k")]

    def child(channel: Channel) -> list[Any]:
        seen = []
        while (number := channel.receive()) is not None:
            seen.append([state.get("k"), state.get("k")] == [number, number])
            state.set("k", number + 1)
            seen.append(state.get("k") == number + 1)
            channel.send(number + 1)
        state.close()
        return seen

    forked = Child(child)
    waiter.join(60)
    seen.append(waiter.is_alive())
    for number in range(1, 100, 2):
        state.set("k", number)
        seen.append(state.get("k") == number)
        forked.send(number)
        assert forked.receive() == number + 1
        seen.append([state.get("k"), state.get("k")] == [number + 1, number + 1])
    forked.send(None)
    assert all(forked.receive())
    forked.join()
    hits = state.stats()["cache_hits"]
    state.close()
    return [seen[:3], all(seen[3:]), hits > 45]


@pytest.mark.skipif(SANITIZED, reason="forks beside threads")
def test_both_sides_of_a_fork_see_each_others_writes(path: str) -> None:
    """Neither side answers from before the fork, hits go on, and threads of the parent that wait do not hang either."""
    with processes() as start:
        assert start(forking, path).result() == [[0, 0, False], True, True]


def forking_in_transaction(channel: Channel, path: str) -> list[str]:
    """Fork inside a transaction with a warm cache; return what the child got from inside and outside the block."""
    state = slothstate.open(path)
    state.set("k", 0)
    state.get("k")

    def child(channel: Channel) -> None:
        for call in (lambda: state.get("k"), lambda: state.exists("k"), lambda: get("k"), lambda: state.get_ttl("k")):
            try:
                channel.send(repr(call()))
            except slothstate.SlothStateError as error:
                channel.send(type(error).__name__)

    get = state.get
    with state.transaction():
        store_of(state).cache.verified(60)
        forked = Child(child)
        answers = [forked.receive() for _ in range(4)]
        forked.join()
    answers.append(state.get("k"))
    state.close()
    return answers


@pytest.mark.skipif(SANITIZED, reason="forks beside threads")
def test_a_child_that_is_refused_gets_nothing_from_the_cache(path: str) -> None:
    """A child forked inside a transaction has the mapping and the entries in its memory, and is refused anyway."""
    with processes() as start:
        assert start(forking_in_transaction, path).result() == ["StateClosed"] * 4 + [0]


LEAK = """
import resource, sys
import slothstate

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

state = slothstate.open(sys.argv[1], cache_size=200_000)
state.set_many({f"k{number}": [number] * 10 for number in range(1000)})
sizes = []
for lap in range(6):
    for number in range(20_000):
        state.get(f"k{number % 1500}")
        state.exists("k1")
        if number % 20 == 0:
            state.set("written", str(number))
        try:
            state.get(number)
        except slothstate.InvalidKey:
            pass
    sizes.append(resident())
state.close()
print(sizes[-1] - sizes[1])
"""


@pytest.mark.skipif(SANITIZED or not sys.platform.startswith("linux"), reason="measures memory through /proc")
def test_memory_does_not_grow(path: str) -> None:
    """Hits, misses, evictions, errors and own writes leave nothing behind."""
    assert int(run_python(LEAK, path)) < 500_000
