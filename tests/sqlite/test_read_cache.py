"""The read cache: never stale, whoever commits and whenever; bounded; dead when the store is."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import store_of
from helpers.support import Clock
from slothstate import State
from slothstate.engines.sqlite import read_cache

READS = int(os.environ.get("SLOTHSTATE_READS", 10_000_000))
"""Reads beside a writer; an instrumented build takes several times as long for each."""


def committing(channel: Channel, path: str) -> None:
    """Run `set(key, value)` or any other verb for the test, and acknowledge it when it has returned."""
    with slothstate.open(path) as state:
        while (message := channel.receive()) is not None:
            verb, *arguments = message
            channel.send(getattr(state, verb)(*arguments))


class Gap:
    """A read cache whose steps can be interrupted: `between[step]` runs before the step of that name."""

    def __init__(self, cache: read_cache.ReadCache) -> None:
        self._cache = cache
        self.between: dict[str, Callable[[], None]] = {}

    def __getattr__(self, name: str) -> Any:
        step = getattr(self._cache, name)

        def interrupted(*arguments: Any) -> Any:
            action = self.between.pop(name, None)
            if action is not None:
                action()
            return step(*arguments)

        return interrupted


@pytest.mark.parametrize("gap", ["sync", "read", "store", "after"])
def test_a_commit_in_any_gap_of_a_read_is_seen_by_the_next_one(path: str, long_trust: None, gap: str) -> None:
    """Another process commits between any two steps of a miss: the value read may be old, the next one never is."""
    with processes() as start, slothstate.open(path) as state:
        state.set("k", "old")
        other = start(committing, path)

        def commit() -> None:
            other.send(("set", "k", "new"))
            assert other.receive() is True

        engine: Any = store_of(state)
        engine.cache = Gap(engine.cache)
        if gap == "read":
            read = engine.read

            def interrupted(*arguments: Any) -> Any:
                engine.read = read
                commit()
                return read(*arguments)

            engine.read = interrupted
        elif gap != "after":
            engine.cache.between[gap] = commit
        first = state.get("k")
        if gap == "after":
            commit()
        assert first == ("old" if gap in ("store", "after") else "new")
        assert state.get("k") == "new"
        assert state.get("k") == "new"
        other.send(None)
        other.result()


@pytest.mark.parametrize(
    "write",
    [
        lambda state: state.set("k", 2),
        lambda state: state.delete("k"),
        lambda state: state.increment("k"),
        lambda state: state.compare_swap("k", 1, 2),
        lambda state: state.set_ttl("k", 0.001) and time.sleep(0.005),
        lambda state: state.clear(),
        lambda state: state.clear("k*"),
        lambda state: state.set_many({"k": 3, "l": 4}),
    ],
)
def test_every_kind_of_write_is_seen_at_once_by_every_handle(path: str, write: Callable[[State], Any]) -> None:
    """After a write has returned, this State and another one of the process both read what a cold one reads."""
    with slothstate.open(path) as state, slothstate.open(path) as other:
        state.set("k", 1)
        assert state.get("k") == other.get("k") == 1
        write(state)
        with slothstate.open(path, read_cache=False) as cold:
            assert state.get("k", "absent") == other.get("k", "absent") == cold.get("k", "absent") != 1


def test_own_commits_keep_the_other_keys_warm(path: str) -> None:
    """A write of one key costs the cached values of others nothing."""
    with slothstate.open(path) as state:
        for number in range(10):
            state.set(f"k{number}", number)
            state.get(f"k{number}")
        misses = state.stats()["cache_misses"]
        for number in range(100):
            state.set("other", number)
            assert state.get("k3") == 3
        # The stats of the first reading come from a read of their own, which is none of `get`.
        assert state.stats()["cache_misses"] - misses <= 2


def test_a_write_that_changes_nothing_does_not_adopt_a_foreign_commit(path: str) -> None:
    """Setting the same value again writes no page: a commit of another process in that moment is not ours."""
    with slothstate.open(path) as state, slothstate.open(path) as other:
        state.set("same", "value")
        state.set("k", "old")
        assert state.get("k") == "old"
        engine: Any = store_of(state)
        engine.cache = Gap(engine.cache)
        engine.cache.between["settle"] = lambda: other.set("k", "new")
        state.set("same", "value")
        assert state.get("k") == "new"


def test_absent_keys_are_cached_and_appear_when_they_are_set(path: str) -> None:
    """A missing key is known to be missing without a look at the file, until somebody sets it."""
    with slothstate.open(path) as state, slothstate.open(path) as other:
        assert state.get("k") is None
        misses = state.stats()["cache_misses"]
        assert state.get("k", 5) == 5
        assert state.stats()["cache_misses"] == misses
        other.set("k", 1)
        assert state.get("k") == 1


def test_a_caller_cannot_change_what_is_cached(path: str) -> None:
    """Tables and lists come as fresh copies."""
    with slothstate.open(path) as state:
        state.set("table", {"a": [1]})
        state.set("list", [1, {"b": 2}])
        for _ in range(2):
            state.get("table")["a"].append(2)
            state.get("list")[1]["b"] = 3
        assert state.get("table") == {"a": [1]}
        assert state.get("list") == [1, {"b": 2}]


def test_a_transaction_reads_its_own_writes_and_leaves_nothing_cached(path: str, long_trust: None) -> None:
    """Inside a transaction the cache is bypassed; after a rollback the old value is there, also to other threads."""
    seen = []
    with slothstate.open(path) as state:
        state.set("k", "old")
        assert state.get("k") == "old"
        with pytest.raises(KeyError), state.transaction():
            state.set("k", "new")
            assert state.get("k") == "new"
            thread = threading.Thread(target=lambda: seen.append(state.get("k")))
            thread.start()
            thread.join()
            raise KeyError
        assert seen == ["old"]
        assert state.get("k") == "old"


def test_the_cache_stays_within_its_bytes(path: str) -> None:
    """`cache_size` bounds the cache whatever is read."""
    with slothstate.open(path, cache_size=100_000) as state:
        with state.transaction():
            for number in range(2000):
                state.set(f"k{number}", "x" * 500)
        for number in range(2000):
            assert state.get(f"k{number}") == "x" * 500
            assert store_of(state).cache.figures()["bytes"] <= 100_000
        state.set("large", "x" * 200_000)
        assert state.get("large") == "x" * 200_000
        assert state.stats()["cache_used"] <= 100_000


def test_many_keys_are_all_cached(path: str) -> None:
    """The table grows: ten thousand keys read once are hits, but for the few whose windows were full."""
    keys = [f"key:{number}" for number in range(10_000)]
    with slothstate.open(path) as state:
        state.set_many({key: key for key in keys})
        for key in keys:
            state.get(key)
        hits = state.stats()["cache_hits"]
        assert all(state.get(key) == key for key in keys)
        assert state.stats()["cache_hits"] - hits > 9_900


def test_dropping_a_state_closes_it_at_once(path: str) -> None:
    """Nothing of the cache keeps a State alive: without `close` it ends with its last reference."""
    state = slothstate.open(path)
    state.set("k", 1)
    assert state.get("k") == 1
    del state
    assert not os.path.exists(path + "-wal")


def writing(channel: Channel, path: str) -> None:
    """Write rising numbers to `a`, then to `b`, in bursts, until told to stop.

    Without the pauses every read of the other process would find a new commit: it would test the engine, not the cache.
    """
    numbers = itertools.count(1)
    with slothstate.open(path) as state:
        while not channel.waiting(timeout=0.01):
            for number in itertools.islice(numbers, 100):
                state.set("a", number)
                state.set("b", number)


def test_exists_and_get_ttl_are_answered_from_what_get_read(open_state: Callable[[], State], clock: Clock) -> None:
    """They cost no look at the file when the key is known, and see every write and the end of a TTL at once."""
    state, other = open_state(), open_state()
    state.set("k", 1)
    state.set("short", 1, ttl=10)
    for key in ("k", "short", "absent"):
        state.get(key)
    engine = store_of(state)
    engine.read = None  # type: ignore[assignment]
    assert [state.exists(key) for key in ("k", "short", "absent")] == [True, True, False]
    assert [state.get_ttl(key) for key in ("k", "short", "absent")] == [-1, 10, -2]
    clock.advance(0.001)
    assert state.get_ttl("short") == 10
    clock.advance(9.999)
    assert [state.exists("short"), state.get_ttl("short")] == [False, -2]
    del engine.read
    assert state.stats()["operations"] == {"set": 2, "get": 3, "exists": 4, "get_ttl": 5}
    other.delete("k")
    other.set("absent", 1, ttl=5)
    assert [state.exists("k"), state.get_ttl("k")] == [False, -2]
    assert [state.exists("absent"), state.get_ttl("absent")] == [True, 5]


def test_a_key_of_a_str_subclass_is_the_same_key(path: str) -> None:
    """Whatever is written under an instance of a subclass is what the plain str reads, and the other way round."""

    class Name(str):
        pass

    with slothstate.open(path) as state:
        for number in range(10):
            state.set("k", number)
            assert state.get("k") == state.get(Name("k")) == number
            state.set(Name("k"), -number)
            assert state.get("k") == state.get(Name("k")) == -number
            assert state.exists(Name("k"))
            assert state.get_ttl(Name("k")) == -1


def test_without_the_read_cache_nothing_is_kept(path: str) -> None:
    """`read_cache=False` reads the store each time and keeps no copy of what it read."""
    with slothstate.open(path, read_cache=False) as state:
        state.set("k", "x" * 1000)
        assert state.get("k") == "x" * 1000
        assert state.stats()["cache_used"] < 5_000
        assert state.stats()["cache_hits"] == 0


def test_ten_million_reads_beside_a_writer_never_go_back(path: str) -> None:
    """A writer sets `a`, then `b`, to rising numbers; whoever reads `b`, then `a`, never finds `a` the older."""
    with processes() as start, slothstate.open(path) as state:
        state.set_many({"a": 0, "b": 0})
        writer = start(writing, path)
        last_a = last_b = 0
        while state.get("b") == 0:
            pass
        for _ in range(READS):
            b = state.get("b")
            a = state.get("a")
            assert b <= a
            assert last_a <= a
            assert last_b <= b
            last_a, last_b = a, b
        writer.send(None)
        writer.result()
        assert last_b > 0
        assert state.stats()["cache_hits"] > 0
