"""Locks within one process: what each verb answers, fencing tokens, TTLs, threads, refusals."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import slothstate
from helpers.places import Place
from helpers.support import in_threads, in_time
from slothstate.state import State

LATE = 0.1
"""Seconds that a wait may end after its timeout."""

THREADS = 16
THREAD_ROUNDS = 20


@pytest.fixture
def state(place: Place) -> Iterator[State]:
    with place.open() as opened:
        yield opened
        assert opened.check() == []


@pytest.fixture
def other(place: Place, state: State) -> Iterator[State]:
    """A second State on the same file: another owner."""
    with place.open() as opened:
        yield opened


def in_thread(fn: Callable[[], bool]) -> bool:
    """Return what `fn` returns in a thread of its own."""
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(fn()))
    thread.start()
    thread.join(30)
    return results[0]


def test_try_lock_is_false_while_anybody_holds_it(state: State, other: State) -> None:
    """try_lock answers True once, then False to its own State and to others, until it is unlocked."""
    assert state.try_lock("deploy") is True
    assert state.try_lock("deploy") is False
    assert other.try_lock("deploy") is False
    assert other.try_lock("another") is True
    assert state.unlock("deploy") is True
    assert other.try_lock("deploy") is True


def test_lock_waits_or_not(state: State, other: State) -> None:
    """lock returns True when it acquired, and False at once with timeout 0 or after its timeout."""
    assert state.lock("job") is True
    for timeout in (0, 0.001, 0.2):

        def wait(timeout: float = timeout) -> float:
            began = time.monotonic()
            assert other.lock("job", timeout=timeout) is False
            assert time.monotonic() - began >= timeout
            return time.monotonic() - began

        assert in_time(wait, timeout + LATE)
    state.unlock("job")
    assert other.lock("job", timeout=0) is True


def test_already_held_at_once_in_the_same_thread(state: State) -> None:
    """Waiting for a lock that this State holds in this thread is an error at once, whoever acquired it."""
    state.lock("job")
    for acquire in (
        lambda: state.lock("job"),
        lambda: state.lock("job", timeout=0),
        lambda: state.with_lock("job", lambda: None),
        lambda: state.locked("job").__enter__(),
    ):
        with pytest.raises(slothstate.AlreadyHeld, match="'job'"):
            acquire()
    assert state.unlock("job") is True
    state.try_lock("job", ttl=60)
    with pytest.raises(slothstate.AlreadyHeld):
        state.lock("job")


def test_already_held_is_about_threads_not_their_reused_ids(state: State) -> None:
    """A new thread never counts as the ended thread that took the lock: it waits like any other."""
    assert in_thread(lambda: state.lock("job"))
    for _ in range(10):
        assert in_thread(lambda: state.lock("job", timeout=0)) is False
    assert state.unlock("job") is True, "any thread of the State may unlock"


def test_unlock_answers_whether_this_state_held_it(state: State, other: State) -> None:
    """unlock is False for a lock never held, held by another State, or already unlocked; it frees nobody else's."""
    assert state.unlock("never") is False
    other.lock("job")
    assert state.unlock("job") is False
    assert other.unlock("job") is True
    assert other.unlock("job") is False


def test_with_lock_returns_and_always_unlocks(state: State, other: State) -> None:
    """with_lock gives what fn returns, unlocks after an error too, and does not mind if fn unlocked it."""
    assert state.with_lock("job", lambda: other.try_lock("job")) is False
    assert other.try_lock("job")
    other.unlock("job")

    def fail() -> None:
        raise KeyError("from fn")

    with pytest.raises(KeyError, match="from fn"):
        state.with_lock("job", fail)
    assert state.with_lock("job", lambda: state.unlock("job")) is True
    assert state.locks() == []


def test_with_lock_times_out_by_name(state: State, other: State) -> None:
    """with_lock and locked raise LockTimeout within the timeout, and never run the body."""
    other.lock("job")

    def wait() -> float:
        began = time.monotonic()
        with pytest.raises(slothstate.LockTimeout, match="'job'"):
            state.with_lock("job", pytest.fail, timeout=0.1)
        with pytest.raises(slothstate.LockTimeout), state.locked("job", timeout=0.1):
            pytest.fail("the body ran")
        assert time.monotonic() - began >= 0.2
        return time.monotonic() - began

    assert in_time(wait, 0.2 + 2 * LATE)


def test_locked_gives_a_lock_that_is_held(state: State, other: State) -> None:
    """Inside `locked` the Lock is not lost, and afterwards it is lost and the name free."""
    with state.locked("job", timeout=1) as lock:
        assert lock.name == "job"
        assert lock.token > 0
        assert lock.lost is False
        lock.ensure_held()
        assert other.try_lock("job") is False
    assert lock.lost is True
    with pytest.raises(slothstate.LockLost, match="'job'"):
        lock.ensure_held()
    assert other.try_lock("job") is True


def test_locked_that_ends_after_a_loss_raises(state: State) -> None:
    """Leaving `locked` after the lock was unlocked under it raises LockLost, unless the body raised itself."""
    with pytest.raises(slothstate.LockLost), state.locked("job"):
        state.unlock("job")
    with pytest.raises(KeyError, match="body"), state.locked("job"):
        state.unlock("job")
        raise KeyError("body")


def test_ttl_runs_from_the_grant_not_from_the_call(state: State, other: State) -> None:
    """A lock that was waited for has its whole TTL ahead of it."""
    state.lock("job")
    threading.Timer(0.3, state.unlock, ("job",)).start()
    with other.locked("job", timeout=60, ttl=2):
        (held,) = state.locks()
        assert held["expires"] is not None
        assert held["expires"] - held["since"] == pytest.approx(2, abs=0.1)


def test_locks_are_refused_inside_transactions(state: State) -> None:
    """Each verb that takes or frees a lock says that it cannot inside a transaction; the transaction goes on."""
    with state.transaction():
        state.set("key", 1)
        for verb in (
            lambda: state.lock("job"),
            lambda: state.try_lock("job"),
            lambda: state.unlock("job"),
            lambda: state.with_lock("job", lambda: None),
            lambda: state.locked("job").__enter__(),
        ):
            with pytest.raises(slothstate.SlothStateError, match="inside a transaction"):
                verb()
        state.set("key", 2)
    assert state.get("key") == 2
    assert state.locks() == []


def test_wall_clock_jumps_move_no_lock(place: Place) -> None:
    """A wall clock set forward, back, to 1970 or to 2100 neither frees a lock nor keeps it."""
    wall = [time.time()]
    state = place.open(clock=lambda: wall[0])
    other = place.open(clock=lambda: wall[0])
    assert state.try_lock("short", ttl=0.2)
    assert state.try_lock("long", ttl=3600)
    for moment in (wall[0] + 3600, wall[0] - 7200, 0.0, 4_102_444_800.0):
        wall[0] = moment
        assert other.try_lock("long") is False
        assert len(other.locks()) >= 1
    assert other.lock("short", timeout=5) is True, "real time passed"
    assert state.unlock("long") is True
    assert state.check() == []
    other.close()
    state.close()


def test_descriptions_of_locks(state: State, other: State) -> None:
    """locks() names every lock in order, with its owner, token and times."""
    before = time.time() - 0.01
    other.lock("b")
    state.try_lock("a", ttl=60)
    first, second = state.locks()
    assert (first["name"], second["name"]) == ("a", "b")
    assert first["owner"]["pid"] == second["owner"]["pid"] == os.getpid()
    assert first["owner"]["host"]
    assert before <= first["since"] <= time.time()
    assert first["expires"] == pytest.approx(first["since"] + 60, abs=0.1)
    assert second["expires"] is None
    assert first["alive"] is second["alive"] is True
    assert state.stats()["locks_held"] == 2


def test_threads_of_one_state_exclude_each_other_and_none_starves(state: State) -> None:
    """16 threads that each want a lock again and again all get it, one at a time."""
    inside = []
    overlaps = []

    def work() -> None:
        for _ in range(THREAD_ROUNDS):
            with state.locked("job", timeout=60):
                inside.append(1)
                if len(inside) > 1:
                    overlaps.append(1)
                inside.pop()

    in_threads([work] * THREADS)
    assert overlaps == []
    assert state.locks() == []


def test_two_names_are_two_locks(state: State) -> None:
    """Locks of different names never exclude each other, and may be nested."""
    with state.locked("a", timeout=0), state.locked("b", timeout=0):
        assert [held["name"] for held in state.locks()] == ["a", "b"]
