"""Locks as rows and files: tokens, TTLs on the clock of the boot, what owners leave behind."""

from __future__ import annotations

import os
import threading
import time

import pytest

import slothstate
from helpers.sqlite import store_of
from slothstate.engines.sqlite.locks import lock_table as lock_module
from slothstate.engines.sqlite.locks import table
from slothstate.engines.sqlite.pool import IDENTITY_CHECK_INTERVAL
from slothstate.state import State


class BootClock:
    """A boot clock that a test moves by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 1_000_000
        monkeypatch.setattr(lock_module, "boot_ms", lambda: self.now_ms)


@pytest.fixture
def boot_clock(monkeypatch: pytest.MonkeyPatch) -> BootClock:
    return BootClock(monkeypatch)


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
            while not store_of(state).busy.count and time.monotonic() < deadline:
                time.sleep(0.001)
            boot_clock.now_ms += 5_000
        thread.join()
    assert began == ["refused"]


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
    """sweep removes the rows of expired locks, which are no keys, and the files of owners that are gone."""
    dead = os.path.join(path + "-locks", "owner-0123456789abcdef.lock")
    os.close(os.open(dead, os.O_CREAT, 0o600))
    state.try_lock("short", ttl=1)
    state.lock("kept")
    boot_clock.now_ms += 1_000
    assert state.sweep() == 0
    assert not os.path.exists(dead)
    assert [row.name for row in store_of(state).read(table.rows)] == ["kept"]
    assert state.unlock("kept")
