"""Size and endurance: space that is given back, memory that does not grow, work that stays cheap when there is much."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import raw, store_of
from helpers.support import quick_and_long
from helpers.verbs import KINDS, VERBS, put
from slothstate import SlothStateError, State, StateBusy
from slothstate.engines.sqlite.connection import WAL_SIZE_LIMIT

resource = pytest.importorskip("resource")

MIB = 2**20
BEHIND_A_READER = 20_000
RECOVERY = 1000
"""Writes after which the log must be small again once nobody reads an old state any more."""

ROUNDS = 150
ROUNDS_LONG = 2000
SOAK_MINUTES = float(os.environ.get("SLOTHSTATE_SOAK_MINUTES", "0"))
"""How long the soak lasts at least; by default as long as `ROUNDS_LONG` rounds take, two minutes or so."""

PUTS = 100_000
PUTS_LONG = 1_000_000
ROLLBACK = 2.0
KEYS_LONG = 1_000_000
EXPIRING = 10_000
EXPIRING_LONG = 300_000
LONGEST_WRITE = 0.1
"""Seconds that a write may take beside a sweep: 50 ms is promised, and the machine may be busy."""


def log_size(path: str) -> int:
    return os.stat(path + "-wal").st_size


def hold_a_snapshot(channel: Channel, path: str) -> None:
    with slothstate.open(path) as state:
        with store_of(state).snapshot() as (connection, _):
            connection.execute("select count(*) from entries").fetchall()
            channel.send("reading")
            channel.receive()
        channel.send("done")


def test_log_shrinks_once_a_stuck_reader_is_gone(path: str) -> None:
    """The log grows while somebody reads an old state, and is bounded again soon after, without anybody's help."""
    with processes() as start, slothstate.open(path) as state:
        state.set("k", 0)
        reader = start(hold_a_snapshot, path)
        reader.receive()
        for number in range(BEHIND_A_READER):
            state.set(f"k:{number % 100}", f"{number}" * 50)
        assert log_size(path) > 1.2 * WAL_SIZE_LIMIT
        reader.send("end")
        reader.receive()
        for number in range(RECOVERY):
            state.set("k", number)
        assert log_size(path) <= WAL_SIZE_LIMIT
        state.compact()
        assert log_size(path) == 0
        assert state.check() == []


def test_log_of_a_large_value_is_given_back(path: str) -> None:
    """One value of 48 MiB makes the log as large; some writes later it is within its bound."""
    with slothstate.open(path) as state:
        state.set("large", b"x" * (48 * MIB))
        assert log_size(path) > 2 * WAL_SIZE_LIMIT
        for number in range(RECOVERY):
            state.set("small", number)
        assert log_size(path) <= WAL_SIZE_LIMIT
        assert len(state.get("large")) == 48 * MIB


@pytest.mark.parametrize(
    "iterate",
    [State.scan, iter, lambda state: iter(state.items()), lambda state: iter(state.values()), State.entries],
    ids=["scan", "iter", "items", "values", "entries"],
)
def test_slow_iteration_holds_no_snapshot(path: str, iterate: Callable[[State], Iterator[object]]) -> None:
    """Whoever takes his time between two keys keeps nobody from emptying the log, and misses no key that stays."""
    with slothstate.open(path) as state:
        state.set_many({f"k:{number:05}": number for number in range(3000)})
        iteration = iterate(state)
        seen = 0
        while taken := sum(1 for _ in islice(iteration, 700)):
            seen += taken
            state.set("other", seen)
            ((busy, _, _),) = raw(path, "pragma wal_checkpoint(truncate)")
            assert busy == 0
        assert seen in (3000, 3001)


def test_deleted_space_is_given_back(path: str, tmp_path: Path) -> None:
    """After most keys are deleted, `compact` leaves a file not much larger than one that never had them."""
    values = {f"k:{number}": f"value {number}" * 10 for number in range(20_000)}
    kept = {key: values[key] for key in list(values)[::20]}
    with slothstate.open(path) as state, slothstate.open(tmp_path / "small.db") as small:
        state.set_many(values)
        small.set_many(kept)
        for each in (state, small):
            each.compact()
        full = os.stat(path).st_size
        state.clear("k:*[1-9]")
        state.clear("k:*[13579]0")
        assert len(state) == len(kept)
        state.set_many({f"again:{number}": "x" * 100 for number in range(15_000)})
        assert os.stat(path).st_size <= full, "deleted space is used again before the file grows"
        state.clear("again:*")
        state.compact()
        assert dict(state) == kept
        assert os.stat(path).st_size <= 1.2 * os.stat(tmp_path / "small.db").st_size


def resident() -> int:
    """Return the bytes of memory that this process has in use now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * int(resource.getpagesize())


def use_every_verb(channel: Channel, path: str, rounds: int, minutes: float) -> tuple[int, int, int]:
    """Call every verb on every kind; return the rounds, and by how much memory and descriptors grew."""
    with slothstate.open(path, cache_size=MIB) as state:

        def use(number: int) -> None:
            for verb in VERBS:
                for kind in KINDS:
                    key = f"{os.getpid()}:{kind}"
                    state.delete(key)
                    put(state, key, kind, ttl=0.001 if number % 3 == 0 else None)
                    with suppress(SlothStateError):
                        verb.call(state, key)
            with suppress(KeyError), state.transaction():
                state.set("k", [1, {"a": 2}])
                raise KeyError
            with state.locked("l", timeout=10, ttl=10) as lock, lock.transaction():
                state.keys("*[a-m]")
            state.get_many(["k", "x", "y"])
            state.sweep()

        for number in range(rounds // 5):
            use(number)
        memory, descriptors = resident(), len(os.listdir("/proc/self/fd"))
        ends = time.monotonic() + 60 * minutes
        done = 0
        while done < rounds or time.monotonic() < ends:
            use(done)
            done += 1
        return done, resident() - memory, len(os.listdir("/proc/self/fd")) - descriptors


def endurance(path: str, rounds: int, workers: int, deadline: float, minutes: float = 0) -> str:
    with processes() as start:
        running = [start(use_every_verb, path, rounds, minutes) for _ in range(workers)]
        growth = [worker.result(deadline) for worker in running]
    with slothstate.open(path) as state:
        assert state.check() == []
        assert log_size(path) <= 2 * WAL_SIZE_LIMIT
    memory = max(memory for _, memory, _ in growth)
    assert memory < 2 * MIB
    assert {descriptors for _, _, descriptors in growth} <= {0, 1, -1}, "one connection more or less at a time"
    calls = sum(done for done, _, _ in growth) * len(VERBS) * len(KINDS) * 3
    return f"endurance: {calls} calls in {workers} processes, memory grew {memory / 1024:.0f} KiB, descriptors 0"


@quick_and_long(
    "rounds, workers, seconds, minutes",
    (ROUNDS, 1, 60, 0),
    (ROUNDS_LONG, 2, 1400 + 60 * SOAK_MINUTES, SOAK_MINUTES),
    timeout=1500 + 60 * SOAK_MINUTES,
)
def test_nothing_grows(
    path: str, rounds: int, workers: int, seconds: float, minutes: int, figure: Callable[[str], None]
) -> None:
    """Every verb on every kind over and over, with errors and rollbacks, leaves memory and descriptors as they were."""
    figure(endurance(path, rounds, workers, seconds, minutes))


def put_and_roll_back(channel: Channel, path: str, count: int) -> tuple[int, float]:
    """Set many keys in one transaction and undo it; return how memory grew at most, and how long undoing took."""
    with slothstate.open(path) as state:
        state.set("k", 1)
        before = resident()
        most = 0
        with suppress(KeyError), state.transaction():
            for number in range(count):
                state.set(f"k:{number}", f"value {number}" * 5)
                if number % 10_000 == 0:
                    most = max(most, resident() - before)
            began = time.monotonic()
            raise KeyError
        took = time.monotonic() - began
        assert state.keys() == ["k"]
        assert state.check() == []
        return most, took


def huge_transaction(path: str, count: int) -> str:
    with processes() as start:
        memory, took = start(put_and_roll_back, path, count).result(100)
    assert memory < 64 * MIB
    assert took < ROLLBACK
    return f"transaction of {count} writes: memory grew {memory / MIB:.0f} MiB, rolled back in {took * 1000:.0f} ms"


@quick_and_long("count", (PUTS,), (PUTS_LONG,))
def test_huge_transaction(path: str, count: int, figure: Callable[[str], None]) -> None:
    """A transaction larger than any cache needs bounded memory, and is undone within two seconds."""
    figure(huge_transaction(path, count))


def sweep_when_told(channel: Channel, path: str) -> int:
    with slothstate.open(path) as state:
        channel.ready()
        return state.sweep()


def flood(path: str, count: int) -> str:
    """Let many keys expire at once and sweep them while this process writes; return the longest write."""
    with processes() as start, slothstate.open(path) as state:
        sweeper = start(sweep_when_told, path)
        sweeper.receive()
        for first in range(0, count, 10_000):
            state.set_many({f"expiring:{number}": number for number in range(first, first + 10_000)}, ttl=0.001)
        state.set("writes", 0)
        time.sleep(0.002)
        sweeper.send("go")
        longest = 0.0
        while sweeper.process.is_alive():
            began = time.monotonic()
            state.increment("writes")
            longest = max(longest, time.monotonic() - began)
        assert sweeper.result() == count
        assert state.keys() == ["writes"]
        assert state.check() == []
    assert longest <= LONGEST_WRITE
    return f"sweep of {count} keys: longest write of another process meanwhile {longest * 1000:.1f} ms"


@quick_and_long("count", (EXPIRING,), (EXPIRING_LONG,), timeout=600)
def test_writes_beside_a_flood_of_expired_keys(path: str, count: int, figure: Callable[[str], None]) -> None:
    """While all that has expired is swept, a writer in another process never waits for long."""
    figure(flood(path, count))


def percentile(times: list[float]) -> float:
    return sorted(times)[len(times) * 99 // 100]


def read_many(channel: Channel, path: str, count: int) -> tuple[float, int, int]:
    """Fill a store; return the 99th percentile of a get past the cache, keys scanned, and memory that took."""
    with slothstate.open(path, read_cache=False) as state:
        for first in range(0, count, 10_000):
            state.set_many({f"k:{number}": number for number in range(first, min(first + 10_000, count))})
        times = []
        for number in range(20_000):
            key = f"k:{number * 7919 % count}"
            began = time.perf_counter()
            state.get(key)
            times.append(time.perf_counter() - began)
        before = resident()
        most = scanned = 0
        for scanned, _ in enumerate(state.scan("k:*"), 1):
            if scanned % 10_000 == 0:
                most = max(most, resident() - before)
        return percentile(times), scanned, most


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_million_keys(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Reading one of a million keys takes at most thrice what one of a thousand takes; a scan of all streams."""
    with processes() as start:
        few, _, _ = start(read_many, str(tmp_path / "few.db"), 1000).result(100)
        many, scanned, memory = start(read_many, str(tmp_path / "many.db"), KEYS_LONG).result(200)
    assert scanned == KEYS_LONG
    assert memory < 64 * MIB
    assert many <= 3 * few
    figure(
        f"a million keys: get p99 {many * 1e6:.1f} us, {few * 1e6:.1f} us of a thousand;"
        f" a scan took {memory / MIB:.0f} MiB"
    )


def test_writers_that_wait_in_vain_leave_nothing(path: str) -> None:
    """A thousand writes that end with StateBusy leave no descriptor, no transaction and no snapshot behind."""
    with slothstate.open(path, busy_timeout=0) as state, slothstate.open(path) as other:
        state.set("k", 0)
        with other.transaction():
            descriptors = len(os.listdir("/proc/self/fd"))
            for _ in range(1000):
                with pytest.raises(StateBusy):
                    state.set("k", 1)
        assert abs(len(os.listdir("/proc/self/fd")) - descriptors) <= 1
        ((busy, _, _),) = raw(path, "pragma wal_checkpoint(truncate)")
        assert busy == 0
        assert state.set("k", 2)
