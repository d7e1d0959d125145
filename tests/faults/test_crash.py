"""kill -9 at any moment: what was acknowledged is there, what was not is whole or absent, and the next one goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import slothstate
from helpers.processes import AckLog, Channel, Worker, processes, sit_in_transaction
from helpers.sqlite import raw
from helpers.support import quick_and_long
from slothstate.state import State

WRITERS = 4
ROUNDS = 25
ROUNDS_LONG = 500
LONGEST_LIFE = 0.04
"""Seconds; a writer is killed at a random moment up to this age."""

TRANSACTION_KEYS = 50
LONGEST_START = 0.005
COMPACTORS = 10
"""Processes that compact, one after the other, beside the same writers."""

LONGEST_COMPACTION = 0.05
SWEEP_KILLS = 15
EXPIRED_KEYS = 3000
WAITERS = 4
HAND_OVER = 0.15
"""Seconds, three times what is promised: the machine may be busy."""


def write_until_killed(channel: Channel, path: str, log: str, number: int, reopen: bool) -> None:
    acks = AckLog(log)
    channel.send("started")
    step = 0
    state = slothstate.open(path)
    while True:
        state.increment(f"increments:{number}")
        acks.acknowledge(b"i")
        state.list_push(f"items:{number}", step, step)
        acks.acknowledge(b"p")
        with state.transaction():
            mine = state.increment(f"transactions:{number}")
            state.set(f"copy:{number}", [mine])
            state.increment("total")
        acks.acknowledge(b"t")
        state.list_shift(f"items:{number}")
        acks.acknowledge(b"s")
        step += 1
        if reopen and step % 5 == 0:
            # The last one to close folds the log into the database: the moment to be killed at.
            state.close()
            state = slothstate.open(path)


def transact_until_killed(channel: Channel, path: str, log: str) -> None:
    acks = AckLog(log)
    state = slothstate.open(path)
    channel.send("started")
    number = state.get("key:0", 0)
    while True:
        number += 1
        with state.transaction():
            for key in range(TRANSACTION_KEYS):
                state.set(f"key:{key}", number)
            state.list_push("list", *range(10))
        acks.acknowledge(b"t")


def compact_until_killed(channel: Channel, path: str) -> None:
    state = slothstate.open(path)
    channel.send("started")
    while True:
        raw(path, "pragma wal_checkpoint(truncate)")
        state.compact()


def create(channel: Channel, path: str) -> None:
    channel.send("started")
    slothstate.open(path)
    channel.receive()


def sweep_until_killed(channel: Channel, path: str) -> None:
    state = slothstate.open(path)
    channel.send("started")
    state.sweep()
    channel.receive()


def increment_when_told(channel: Channel, path: str) -> float:
    with slothstate.open(path) as state:
        channel.ready()
        state.increment("waiters")
        return time.monotonic()


def verify_writers(state: State, logs: list[str]) -> tuple[int, int]:
    """Compare what the writers were acknowledged with what is there; return operations acknowledged, and extra."""
    assert state.check() == []
    acknowledged = extra = total = 0
    for number, log in enumerate(logs):
        acks = Path(log).read_bytes()
        pushed, shifted = acks.count(b"p"), acks.count(b"s")
        increments, transactions = state.get(f"increments:{number}", 0), state.get(f"transactions:{number}", 0)
        length = state.list_length(f"items:{number}")
        # Each is as often as acknowledged, but for one operation in all that was done and not yet acknowledged.
        unheard = [increments - acks.count(b"i"), transactions - acks.count(b"t")]
        assert all(count >= 0 for count in unheard), f"writer {number}: {unheard}, an acknowledged write is lost"
        difference = length - (2 * pushed - shifted)
        assert difference in (0, 2, -1), f"writer {number}: a list of {length} items after {pushed} and {shifted}"
        unheard.append(int(difference != 0))
        assert state.get(f"copy:{number}", [0]) == [transactions], f"writer {number}: a torn transaction"
        acknowledged += len(acks)
        extra += sum(unheard)
        total += transactions
    assert state.get("total", 0) == total, "a torn transaction"
    return acknowledged, extra


def start_writers(start: Callable[..., Worker], path: str, logs: list[str], *, reopen: bool) -> list[Worker]:
    """Start a writer for each log, which begins empty, and wait until all of them write."""
    for log in logs:
        Path(log).unlink(missing_ok=True)
    writers = [start(write_until_killed, path, log, number, reopen) for number, log in enumerate(logs)]
    for writer in writers:
        writer.receive()
    return writers


def kill_writers(path: str, rounds: int, reopen: bool, seed: int) -> str:
    """Kill `WRITERS` writers in each round at random moments; nothing acknowledged may be lost."""
    random = Random(seed)
    kills = acknowledged = extra = 0
    logs = [f"{path}.acks{number}" for number in range(WRITERS)]
    with processes() as start:
        for _ in range(rounds):
            workers = start_writers(start, path, logs, reopen=reopen)
            for worker in sorted(workers, key=lambda _: random.random()):
                time.sleep(random.uniform(0.001, LONGEST_LIFE / WRITERS))
                worker.kill()
                worker.end()
                kills += 1
            with slothstate.open(path) as state:
                heard, unheard = verify_writers(state, logs)
                assert unheard <= WRITERS
                state.clear()
            acknowledged += heard
            extra += unheard
    return f"{kills} kills, {acknowledged} acknowledged, 0 lost, {extra} done and not acknowledged (seed {seed})"


@pytest.mark.parametrize("reopen", [False, True], ids=["stay open", "close and reopen"])
def test_nothing_acknowledged_is_lost_by_kill(path: str, reopen: bool, figure: Callable[[str], None]) -> None:
    """Writers killed at random moments lose no acknowledged write and tear no transaction."""
    figure(kill_writers(path, ROUNDS // 2 + 1 if reopen else ROUNDS, reopen, seed=1))


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("reopen", [False, True], ids=["stay open", "close and reopen"])
def test_nothing_acknowledged_is_lost_by_kill_at_length(path: str, reopen: bool, figure: Callable[[str], None]) -> None:
    """The same for 2,000 kills, at moments that differ from run to run."""
    figure(kill_writers(path, ROUNDS_LONG, reopen, seed=int(time.time())))


def kill_compactors(path: str, rounds: int, seed: int) -> str:
    """Kill who empties the log and rewrites the database, again and again, while writers go on."""
    random = Random(seed)
    acknowledged = 0
    logs = [f"{path}.acks{number}" for number in range(WRITERS - 1)]
    with processes() as start:
        for _ in range(rounds):
            writers = start_writers(start, path, logs, reopen=False)
            for _ in range(COMPACTORS):
                compactor = start(compact_until_killed, path)
                compactor.receive()
                time.sleep(random.uniform(0.001, LONGEST_COMPACTION))
                compactor.kill()
                compactor.end()
                with slothstate.open(path) as state:
                    assert state.check() == []
            for writer in writers:
                writer.kill()
                writer.end()
            with slothstate.open(path) as state:
                acknowledged += verify_writers(state, logs)[0]
                state.clear()
    kills = rounds * COMPACTORS
    return f"{kills} kills while compacting, {acknowledged} acknowledged meanwhile, 0 lost (seed {seed})"


@quick_and_long("rounds, seed", (2, 5), (20, int(time.time())), timeout=1800)
def test_kill_while_compacting(path: str, rounds: int, seed: int, figure: Callable[[str], None]) -> None:
    """Whoever is killed while it empties the log or rewrites the database takes nothing from those who write."""
    figure(kill_compactors(path, rounds, seed))


def kill_transactions(path: str, kills: int, seed: int) -> str:
    random = Random(seed)
    log = f"{path}.acks"
    acknowledged = 0
    with processes() as start:
        for _ in range(kills):
            worker = start(transact_until_killed, path, log)
            worker.receive()
            time.sleep(random.uniform(0, LONGEST_LIFE))
            worker.kill()
            worker.end()
            with slothstate.open(path) as state:
                numbers = {state.get(f"key:{key}", 0) for key in range(TRANSACTION_KEYS)}
                assert len(numbers) == 1, f"a torn transaction: {numbers}"
                (number,) = numbers
                assert state.list_length("list") == 10 * number
                heard = os.path.getsize(log) if os.path.exists(log) else 0
                assert acknowledged + heard <= number <= acknowledged + heard + 1
                # The next process goes on from here; its log begins anew.
                acknowledged = number
                Path(log).unlink(missing_ok=True)
                assert state.check() == []
    return f"{kills} kills in transactions, 0 torn (seed {seed})"


@quick_and_long("kills, seed", (30, 2), (300, int(time.time())), timeout=1800)
def test_transactions_are_never_torn_by_kill(path: str, kills: int, seed: int, figure: Callable[[str], None]) -> None:
    """A transaction of 50 keys and a list is there as a whole or not at all when its process is killed in it."""
    figure(kill_transactions(path, kills, seed))


def kill_creators(directory: Path, starts: int, seed: int) -> str:
    random = Random(seed)
    complete = 0
    with processes() as start:
        for number in range(starts):
            path = str(directory / f"{number}" / "state.db")
            creators: list[Worker] = [start(create, path) for _ in range(1 + number % 2)]
            for creator in creators:
                creator.receive()
            time.sleep(random.uniform(0, LONGEST_START))
            for creator in creators:
                creator.kill()
                creator.end()
            complete += os.path.exists(path)
            with slothstate.open(path) as state:
                assert state.set("key", number)
                assert state.get("key") == number
                assert state.check() == []
            left = set(os.listdir(os.path.dirname(path))) - {"state.db", "state.db-locks"}
            assert left == set(), "a half-made store stays"
    assert 0 < complete < starts, "the kills came too early or too late to test anything"
    return f"{starts} starts killed, {complete} of them after the file was complete (seed {seed})"


@quick_and_long("starts, seed", (200, 3), (2000, int(time.time())), timeout=1800)
def test_kill_during_creation(tmp_path: Path, starts: int, seed: int, figure: Callable[[str], None]) -> None:
    """However far a first open came when it was killed, the next open finds or makes a whole store."""
    figure(kill_creators(tmp_path, starts, seed))


def test_kill_of_the_writer_lets_the_waiters_go_on(path: str, figure: Callable[[str], None]) -> None:
    """When a process is killed inside a transaction, others that wait to write go on within 50 ms."""
    with processes() as start, slothstate.open(path) as state:
        waited = []
        for _ in range(5):
            sitter = start(sit_in_transaction, path)
            sitter.receive()
            waiters = [start(increment_when_told, path) for _ in range(WAITERS)]
            for waiter in waiters:
                waiter.receive()
                waiter.send("go")
            time.sleep(0.05)
            killed = time.monotonic()
            sitter.kill()
            waited += [waiter.result() - killed for waiter in waiters]
        figure(f"after the kill of the writer: first {min(waited) * 1000:.1f} ms, last {max(waited) * 1000:.1f} ms")
        assert sorted(waited)[len(waited) // 2] <= HAND_OVER
        assert state.get("waiters") == 5 * WAITERS
        assert state.get("sitter") is None


def test_kill_during_a_sweep(path: str) -> None:
    """Sweeps killed at any moment remove nothing that lives, leave no half list, and a last one finishes the work."""
    random = Random(4)
    with processes() as start, slothstate.open(path) as state:
        state.set_many({f"live:{number}": number for number in range(100)})
        state.list_push("live list", *range(1000))
        state.set_many({f"dead:{number}": number for number in range(EXPIRED_KEYS)}, ttl=0.001)
        for number in range(20):
            with state.transaction():
                state.list_push(f"dead list:{number}", *range(500))
                state.set_ttl(f"dead list:{number}", 0.001)
        while state.exists("dead list:19"):
            time.sleep(0.001)
        for _ in range(SWEEP_KILLS):
            sweeper = start(sweep_until_killed, path)
            sweeper.receive()
            time.sleep(random.uniform(0, 0.01))
            sweeper.kill()
            assert state.check() == []
            assert len(state.keys("dead*")) == 0
        state.sweep()
        assert state.stats()["expired_pending"] == 0
        assert len(state.keys("live:*")) == 100
        assert state.list_range("live list") == list(range(1000))
