"""One State shared by threads: exact, isolated, and closed in the middle without surprises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import pytest

from slothstate import State, StateClosed
from slothstate.engines.sqlite.engine import SqliteEngine

THREADS = 8


@contextmanager
def together(count: int = THREADS) -> Iterator[Callable[..., list[Any]]]:
    """Give a function that runs `work(number, *args)` in so many threads at once and returns what they returned."""
    with ThreadPoolExecutor(count) as pool:

        def run(work: Callable[..., Any], *args: object) -> list[Any]:
            start = threading.Barrier(count)

            def one(number: int) -> Any:
                start.wait(20)
                return work(number, *args)

            futures = [pool.submit(one, number) for number in range(count)]
            done, late = wait(futures, 60)
            assert not late
            assert len(done) == count
            return [future.result() for future in futures]

        yield run


@pytest.fixture
def threads() -> Iterator[Callable[..., list[Any]]]:
    with together() as run:
        yield run


def test_increments_are_exact(state: State, threads: Callable[..., list[Any]]) -> None:
    """Every increment counts once and returns a number of its own."""
    returned = threads(lambda _: [state.increment("n") for _ in range(200)])
    assert sorted(number for numbers in returned for number in numbers) == list(range(1, THREADS * 200 + 1))
    assert state.get("n") == THREADS * 200


def test_every_item_leaves_a_list_once(state: State, threads: Callable[..., list[Any]]) -> None:
    """Items pushed by several threads are each taken once, and those of one thread in their order."""

    def work(number: int) -> list[Any]:
        taken = []
        for step in range(100):
            state.list_push("q", [number, step])
            taken.append(state.list_shift("q"))
        return taken

    taken = [item for items in threads(work) for item in items if item is not None]
    taken += state.list_range("q")
    assert sorted(taken) == [[number, step] for number in range(THREADS) for step in range(100)]


def test_compare_swap_has_one_winner(state: State, threads: Callable[..., list[Any]]) -> None:
    """Of threads that swap the same value at once, exactly one succeeds, round after round."""
    for step in range(50):
        old = None if step == 0 else step - 1
        assert threads(lambda _, old=old, step=step: state.compare_swap("k", old, step)).count(True) == 1


def test_transactions_are_serial(state: State, threads: Callable[..., list[Any]]) -> None:
    """What a transaction reads nobody changes until it ends: transfers keep the sum."""
    state.set_many({"a": 500, "b": 500})

    def transfer(number: int) -> None:
        for _ in range(40):
            with state.transaction():
                left, right = state.get("a"), state.get("b")
                assert left + right == 1000
                state.set("a", left - number)
                state.set("b", right + number)
            seen = state.get_many(["a", "b"])
            assert seen["a"] + seen["b"] == 1000

    threads(transfer)
    assert state.get("a") == 500 - 40 * sum(range(THREADS))


def test_mixed_verbs(state: State, threads: Callable[..., list[Any]]) -> None:
    """Reading, writing, listing and scanning at once: every answer is one that some moment gives."""

    def work(number: int) -> None:
        own = f"own{number}"
        for step in range(30):
            state.set(own, step, ttl=60)
            assert state.get(own) == step
            assert own in state.keys("own*")
            assert own in list(state.scan("own?"))
            state.append("log", "x")
            state.set_many({f"{own}:a": step, f"{own}:b": step})
            assert state.get_many([f"{own}:a", f"{own}:b"]) == {f"{own}:a": step, f"{own}:b": step}
            assert state.clear(f"{own}:*") == 2
            state.stats()
            assert state.delete(own)

    threads(work)
    assert state.get("log") == "x" * THREADS * 30
    assert state.keys() == ["log"]


@pytest.mark.parametrize("undone", [True, False])
def test_a_rolled_back_transaction_takes_nobody_elses_write(path: str, undone: bool) -> None:
    """A write of another thread is not part of an open transaction: it waits, and stays when that one is undone."""
    with State(SqliteEngine(path)) as state, ThreadPoolExecutor(2) as pool:
        writing = threading.Event()

        def write() -> list[Any]:
            writing.set()
            return [state.set("b", 1), state.increment("n"), state.list_push("l", 1), state.append("t", "x")]

        def in_the_middle() -> None:
            with state.transaction():
                state.set("a", 1)
                state.increment("n", 100)
                other = pool.submit(write)
                assert writing.wait(20)
                # The transaction of this thread is not the other's: it can neither see it nor end before it.
                assert not other.done()
                outcome.append(other)
                if undone:
                    raise LookupError

        outcome: list[Any] = []
        try:
            in_the_middle()
        except LookupError:
            assert undone
        assert outcome[0].result(60)[0] is True
        expected = {"b": 1, "n": 1, "l": [1], "t": "x"} if undone else {"a": 1, "b": 1, "n": 101, "l": [1], "t": "x"}
        assert dict(state) == expected


def test_reads_do_not_wait_for_a_transaction(state: State) -> None:
    """While one thread holds a transaction, others read the state before it, at once."""
    state.set("k", 1)
    with ThreadPoolExecutor(1) as pool, state.transaction():
        state.set("k", 2)
        assert pool.submit(state.get, "k").result(20) == 1
        assert pool.submit(lambda: (state.keys(), len(state), list(state.scan()))).result(20) == (["k"], 1, ["k"])
    assert state.get("k") == 2


@pytest.mark.parametrize("round_", range(5))
def test_close_in_the_middle(path: str, round_: int) -> None:
    """Closing under busy threads lets each operation succeed or be `StateClosed`, and what was acknowledged stays."""
    state = State(SqliteEngine(path))
    started = threading.Barrier(THREADS + 1)

    def work(number: int) -> int:
        acknowledged = 0
        started.wait(20)
        try:
            while True:
                state.set(f"k{number}", acknowledged + 1)
                acknowledged += 1
                state.get(f"k{number}")
                state.list_push(f"l{number}", acknowledged)
                state.keys("k*")
                with state.transaction():
                    state.increment("n")
        except StateClosed:
            return acknowledged

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, number) for number in range(THREADS)]
        started.wait(20)
        threading.Event().wait(0.02 * round_)
        state.close()
        acknowledged = [future.result(60) for future in futures]
    with State(SqliteEngine(path)) as again:
        for number, count in enumerate(acknowledged):
            assert again.get(f"k{number}", 0) == count


def test_transaction_of_another_thread_outlives_close(path: str) -> None:
    """A transaction that is open when another thread closes the State is kept whole or undone whole."""
    state = State(SqliteEngine(path))
    inside, closed = threading.Event(), threading.Event()

    def work() -> bool:
        try:
            with state.transaction():
                state.set_many({"a": 1, "b": 2})
                inside.set()
                assert closed.wait(20)
        except StateClosed:
            return False
        return True

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        assert inside.wait(20)
        state.close()
        closed.set()
        kept = future.result(60)
    with State(SqliteEngine(path)) as again:
        assert again.keys() == (["a", "b"] if kept else [])
