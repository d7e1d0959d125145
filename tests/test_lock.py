"""Locks within one process: what each verb answers, fencing tokens, TTLs, threads, refusals."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from support import in_time

import slothstate
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.engines.sqlite.locks import lock_table as lock_module
from slothstate.engines.sqlite.locks import table
from slothstate.engines.sqlite.pool import IDENTITY_CHECK_INTERVAL
from slothstate.state import State

LATE = 0.1
"""Seconds that a wait may end after its timeout."""

THREADS = 16
THREAD_ROUNDS = 20


@pytest.fixture
def state(path: str) -> Iterator[State]:
    with slothstate.open(path) as opened:
        yield opened
        assert opened.check() == []


@pytest.fixture
def other(path: str, state: State) -> Iterator[State]:
    """A second State on the same file: another owner."""
    with slothstate.open(path) as opened:
        yield opened


class BootClock:
    """A boot clock that a test moves by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 1_000_000
        monkeypatch.setattr(lock_module, "boot_ms", lambda: self.now_ms)


@pytest.fixture
def boot_clock(monkeypatch: pytest.MonkeyPatch) -> BootClock:
    return BootClock(monkeypatch)


def in_thread(fn):  # type: ignore[no-untyped-def]
    """Return what `fn` returns in a thread of its own."""
    results = []
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


def test_tokens_rise_for_ever(path: str) -> None:
    """Fencing tokens of a name rise strictly over release, another name, clear, sweep, expiry, reopen and backup."""
    tokens = []

    def take(state: State) -> None:
        with state.locked("job", timeout=5) as lock:
            tokens.append(lock.token)

    with slothstate.open(path) as state:
        take(state)
        take(state)
        with state.locked("another"):
            take(state)
        state.set("key", 1)
        state.clear()
        take(state)
        assert state.try_lock("job", ttl=0.001)
        state.unlock("job")
        state.sweep()
        take(state)
        state.backup(path + ".copy")
    with slothstate.open(path) as state:
        take(state)
    with slothstate.open(path + ".copy") as state:
        token = tokens.pop()
        take(state)
        assert tokens[-1] >= token
    assert tokens == sorted(set(tokens))


def test_clear_never_touches_locks(state: State, other: State) -> None:
    """clear removes keys, not locks."""
    state.lock("job")
    state.set("job", 1)
    assert state.clear() == 1
    assert other.try_lock("job") is False


def test_ttl_frees_a_lock_of_a_living_owner(state: State, other: State, boot_clock: BootClock) -> None:
    """A TTL ends exactly when it is up: before, the lock is held; from then on it is anybody's, and lost."""
    assert state.try_lock("job", ttl=10)
    boot_clock.now_ms += 9_999
    assert other.try_lock("job") is False
    assert len(state.locks()) == 1
    boot_clock.now_ms += 1
    assert state.locks() == []
    assert state.unlock("job") is False, "its time was up"
    assert other.try_lock("job") is True


def test_expired_lock_can_be_taken_again_by_its_own_state(state: State, boot_clock: BootClock) -> None:
    """A State takes its own expired lock again as a new acquisition, with a higher token."""
    assert state.try_lock("job", ttl=1)
    (first,) = state.locks()
    boot_clock.now_ms += 1_000
    assert state.lock("job", timeout=0) is True
    (second,) = state.locks()
    assert second["token"] > first["token"]
    assert second["expires"] is None


def test_unlock_after_expiry_never_frees_the_next_owner(state: State, other: State, boot_clock: BootClock) -> None:
    """Whoever lost a lock to another owner cannot free it any more, by unlock or by leaving `locked`."""
    assert state.try_lock("job", ttl=1)
    boot_clock.now_ms += 1_000
    assert other.lock("job", timeout=0)
    assert state.unlock("job") is False
    (held,) = state.locks()
    assert held["alive"] is True
    other.unlock("job")
    with pytest.raises(slothstate.LockLost), state.locked("job", ttl=1) as lock:
        boot_clock.now_ms += 1_000
        assert other.lock("job", timeout=0)
        assert lock.lost is True
    assert other.unlock("job") is True


def test_ttl_runs_from_the_grant_not_from_the_call(state: State, other: State) -> None:
    """A lock that was waited for has its whole TTL ahead of it."""
    state.lock("job")
    threading.Timer(0.3, state.unlock, ("job",)).start()
    with other.locked("job", timeout=60, ttl=2):
        (held,) = state.locks()
        assert held["expires"] is not None
        assert held["expires"] - held["since"] == pytest.approx(2, abs=0.1)


def test_transaction_of_a_lost_lock_raises_before_it_writes(state: State, other: State, boot_clock: BootClock) -> None:
    """Lock.transaction refuses with LockLost once the lock went to another owner; what it wrote before stays."""
    with pytest.raises(slothstate.LockLost, match="'job'"), state.locked("job", ttl=5) as lock:
        with lock.transaction():
            state.set("balance", 1)
        boot_clock.now_ms += 5_000
        with other.locked("job", timeout=0) as next_lock:
            assert next_lock.token > lock.token
            with lock.transaction():
                pytest.fail("the block of a lost lock ran")
    assert state.get("balance") == 1


def test_lock_that_expires_while_its_transaction_waits_to_begin(
    state: State, other: State, boot_clock: BootClock
) -> None:
    """Lock.transaction looks at the lock when nobody else can write any more, not before it waits for that."""
    began: list[str] = []

    def write() -> None:
        try:
            with lock.transaction():
                began.append("a lost lock's block")
        except slothstate.LockLost:
            began.append("refused")

    with pytest.raises(slothstate.LockLost), state.locked("job", ttl=5) as lock:
        thread = threading.Thread(target=write)
        with other.transaction():
            thread.start()
            deadline = time.monotonic() + 10
            while not state._engine.store.busy.count and time.monotonic() < deadline:
                time.sleep(0.001)
            boot_clock.now_ms += 5_000
        thread.join()
    assert began == ["refused"]


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


def test_wall_clock_jumps_move_no_lock(path: str) -> None:
    """A wall clock set forward, back, to 1970 or to 2100 neither frees a lock nor keeps it."""
    wall = [time.time()]
    state = State(SqliteEngine(path, clock=lambda: wall[0]))
    other = State(SqliteEngine(path, clock=lambda: wall[0]))
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
    assert second["token"] < first["token"]
    assert before <= first["since"] <= time.time()
    assert first["expires"] == pytest.approx(first["since"] + 60, abs=0.1)
    assert second["expires"] is None
    assert first["alive"] is second["alive"] is True
    assert state.stats()["locks_held"] == 2


def test_close_unlocks_what_the_state_holds(path: str, state: State) -> None:
    """close frees the State's locks and removes its owner's file."""
    other = slothstate.open(path)
    other.lock("job")
    other.close()
    assert state.locks() == []
    assert state.try_lock("job")
    assert len(os.listdir(path + "-locks")) <= 2, "the owner's file of the living State, and the one of creation"


def test_state_dropped_without_close_frees_its_locks(path: str, state: State) -> None:
    """A State that is garbage-collected owns nothing any more."""
    other = slothstate.open(path)
    other.lock("job")
    del other
    assert state.lock("job", timeout=60) is True


def test_removed_lock_files_are_made_again(path: str, state: State, other: State) -> None:
    """Locks taken 50 ms after somebody removed the directory of lock files, or later, still exclude each other."""
    state.lock("before")
    for file in os.listdir(path + "-locks"):
        os.unlink(os.path.join(path + "-locks", file))
    os.rmdir(path + "-locks")
    time.sleep(IDENTITY_CHECK_INTERVAL)
    assert state.try_lock("job")
    assert other.try_lock("job") is False


def test_sweep_removes_what_dead_owners_left(path: str, state: State, boot_clock: BootClock) -> None:
    """sweep removes the rows of expired locks and the files of owners that are gone."""
    dead = os.path.join(path + "-locks", "owner-0123456789abcdef.lock")
    os.close(os.open(dead, os.O_CREAT, 0o600))
    state.try_lock("short", ttl=1)
    state.lock("kept")
    boot_clock.now_ms += 1_000
    state.sweep()
    assert not os.path.exists(dead)
    assert [held["name"] for held in state.locks()] == ["kept"]
    assert state.unlock("kept")


def test_background_sweep_removes_expired_locks(path: str) -> None:
    """The background sweep clears the rows of expired locks, and leaves those that are held."""
    state = State(SqliteEngine(path, sweep_interval=0.02))
    state.lock("kept")
    state.try_lock("short", ttl=0.001)
    deadline = time.monotonic() + 20
    while len(rows := state._engine.store.read(table.rows)) > 1 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert [row.name for row in rows] == ["kept"]
    state.close()


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

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert overlaps == []
    assert state.locks() == []


def test_two_names_are_two_locks(state: State) -> None:
    """Locks of different names never exclude each other, and may be nested."""
    with state.locked("a", timeout=0), state.locked("b", timeout=0):
        assert [held["name"] for held in state.locks()] == ["a", "b"]
