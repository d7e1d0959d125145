"""Somebody removes the lock files of a living owner: nobody else gets its locks, and its death is known at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

import slothstate
from helpers.processes import Channel, hold, processes
from helpers.sqlite import store_of
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.engines.sqlite.locks import owner as owner_module
from slothstate.engines.sqlite.locks import table
from slothstate.engines.sqlite.locks.byte_locks import ByteLocks
from slothstate.engines.sqlite.locks.owner import Ownership
from slothstate.engines.sqlite.pool import IDENTITY_CHECK_INTERVAL
from slothstate.state import State


def ownership_of(state: State) -> Ownership:
    assert isinstance(state._engine, SqliteEngine)
    return state._engine.locks._ownership


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="byte locks on directories are Linux's")

TAKEOVER = 0.15
"""Seconds, three times what is promised: the machine may be busy."""


def remove_owner_files(path: str) -> None:
    for name in os.listdir(path + "-locks"):
        if name.startswith("owner-"):
            os.unlink(os.path.join(path + "-locks", name))


def remove_directory(path: str) -> None:
    shutil.rmtree(path + "-locks")


def replace_by_empty_files(path: str) -> None:
    names = [name for name in os.listdir(path + "-locks") if name.startswith("owner-")]
    remove_owner_files(path)
    for name in names:
        open(os.path.join(path + "-locks", name), "w").close()


CLEANERS: dict[str, Callable[[str], None]] = {
    "owner files": remove_owner_files,
    "directory": remove_directory,
    "replaced": replace_by_empty_files,
}

TAKING: dict[str, Callable[[State], object]] = {
    "try_lock": lambda state: state.try_lock("job"),
    "lock": lambda state: state.lock("job", timeout=0.2),
    "lock at once": lambda state: state.lock("job", timeout=0),
    "locked": lambda state: refused(lambda: state.locked("job", timeout=0.2).__enter__()),
    "with_lock": lambda state: refused(lambda: state.with_lock("job", lambda: True, timeout=0.2)),
    "break_lock": lambda state: state.break_lock("job"),
    "sweep, try_lock": lambda state: state._engine.locks.sweep() or state.try_lock("job"),
    "locks": lambda state: not state.locks()[0]["alive"],
}


def refused(take: Callable[[], object]) -> object:
    try:
        return take() or True
    except slothstate.LockTimeout:
        return False


@pytest.fixture
def state(path: str) -> Iterator[State]:
    with slothstate.open(path) as opened:
        yield opened


@pytest.mark.parametrize("take", TAKING)
@pytest.mark.parametrize("clean", CLEANERS)
def test_lock_of_a_living_owner_stays_its_own(path: str, state: State, clean: str, take: str) -> None:
    """Whatever is removed, no verb gives a lock without a TTL to anybody else while its owner lives, stopped or not."""
    with processes() as start:
        owner = start(hold, path)
        owner.receive()
        owner.signal(signal.SIGSTOP)
        CLEANERS[clean](path)
        for _ in range(2):
            assert not TAKING[take](state)
        owner.signal(signal.SIGCONT)
        assert not TAKING[take](state)
        owner.send("let go")
        owner.result()
        assert state.lock("job", timeout=1) is True


@pytest.mark.parametrize("clean", CLEANERS)
def test_dead_owner_is_known_at_once_without_its_files(path: str, state: State, clean: str) -> None:
    """An owner killed after its files were removed leaves its lock to whoever waits, as soon as any other."""
    with processes() as start:
        owner = start(hold, path)
        owner.receive()
        CLEANERS[clean](path)
        owner.kill()
        began = time.monotonic()
        assert state.lock("job", timeout=10) is True
        assert time.monotonic() - began < TAKEOVER


def test_waiter_gets_the_lock_of_a_cleaned_owner_only_when_it_dies(path: str, state: State) -> None:
    """Files removed under somebody who waits change nothing for it."""
    with processes() as start:
        owner = start(hold, path)
        owner.receive()
        assert state.lock("job", timeout=0.1) is False
        remove_directory(path)
        assert state.lock("job", timeout=0.3) is False
        owner.kill()
        assert state.lock("job", timeout=1) is True


def test_owner_makes_its_file_again(path: str, state: State) -> None:
    """An owner notices within 50 ms of use, or in a sweep, that its file is gone, and stays the owner it is."""
    state.lock("first")
    (file,) = [name for name in os.listdir(path + "-locks") if name.startswith("owner-")]
    remove_directory(path)
    time.sleep(IDENTITY_CHECK_INTERVAL)
    state.lock("second")
    assert file in os.listdir(path + "-locks")
    assert state.unlock("first") is True
    remove_owner_files(path)
    state.sweep()
    assert file in os.listdir(path + "-locks")
    assert state.unlock("second") is True


def test_sweep_makes_files_of_living_owners_look_new(path: str, state: State) -> None:
    """A cleaner that goes by age passes over the files of whoever lives."""
    with slothstate.open(path) as other:
        other.lock("job")
        (file,) = [name for name in os.listdir(path + "-locks") if name.startswith("owner-")]
        file = os.path.join(path + "-locks", file)
        os.utime(file, (1, 1))
        state.sweep()
        assert time.time() - os.stat(file).st_mtime < 60


def test_copy_of_a_store_has_no_living_owners(path: str, state: State) -> None:
    """Who holds a lock in a store holds nothing in its backup, though that lies in the same directory."""
    state.lock("job")
    state.backup(path + ".copy.db")
    with slothstate.open(path + ".copy.db") as copy:
        (left,) = copy.locks()
        assert left["alive"] is False
        assert copy.try_lock("job") is True
        assert state.locks()[0]["alive"] is True


def test_with_lock_command_keeps_its_lock(path: str, state: State) -> None:
    """with-lock, too, keeps its lock when its files are removed while the command runs."""
    command = [
        sys.executable,
        "-m",
        "slothstate",
        "--db",
        path,
        "with-lock",
        "job",
        "--",
        "sh",
        "-c",
        "echo on; read x",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stdout.readline() == b"on\n"
        remove_directory(path)
        assert state.try_lock("job") is False
        running.stdin.close()
        assert running.wait(30) in (0, 1)
    assert state.try_lock("job") is True


def fork_and_sleep(channel: Channel, path: str) -> None:
    with slothstate.open(path) as state:
        state.lock("job")
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        channel.send(child)
        channel.receive()


def test_forked_child_does_not_keep_the_byte(path: str, state: State) -> None:
    """A child that outlives its parent does not keep the parent's lock alive, with or without its file."""
    with processes() as start:
        owner = start(fork_and_sleep, path)
        child = owner.receive()
        try:
            remove_owner_files(path)
            assert state.try_lock("job") is False
            owner.kill()
            assert state.lock("job", timeout=1) is True
        finally:
            os.kill(child, signal.SIGKILL)


def test_lock_on_all_bytes_hides_no_death(path: str, state: State) -> None:
    """Somebody who locks the whole directory keeps nobody's dead owner alive: then the file decides."""
    import fcntl
    import struct

    descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        with processes() as start:
            owner = start(hold, path)
            owner.receive()
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi0q", fcntl.F_RDLCK, 0, 0, 0, 0))
            assert state.try_lock("job") is False
            owner.kill()
            assert state.try_lock("job") is True
    finally:
        os.close(descriptor)


def test_where_there_are_no_byte_locks(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without byte locks the file decides, as ever."""
    monkeypatch.setattr(ByteLocks, "_ask", lambda *_: None)
    with slothstate.open(path) as state, slothstate.open(path) as other:
        assert other.lock("job")
        assert "-" not in str(ownership_of(other).name)
        assert state.try_lock("job") is False
        other.close()
        assert state.try_lock("job") is True


def test_owner_of_which_nothing_can_be_told(path: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner with a byte that cannot be asked for, and whose file is gone, is neither alive nor dead: an error."""
    with processes() as start:
        owner = start(hold, path)
        owner.receive()
        remove_owner_files(path)
        with monkeypatch.context() as patched:
            patched.setattr(ByteLocks, "is_taken", lambda *_: None)
            for take in ("try_lock", "lock", "locked", "with_lock", "break_lock"):
                with pytest.raises(slothstate.StateIOError, match=r"owner-.*\.lock.*slothstate unlock --force"):
                    TAKING[take](state)
            assert state.locks()[0]["alive"] is None
            assert state.stats()["locks_held"] == 1
            state.sweep()
            assert len(store_of(state).read(table.rows)) == 1
        assert state.try_lock("job") is False
        owner.send("let go")
        owner.result()


def test_names_of_owners_that_are_damaged(state: State) -> None:
    """An owner's name that none of ours has is of somebody dead."""
    kernel = ownership_of(state)._kernel
    for number, name in enumerate((f"{kernel}-", f"{kernel}-no number", "-", "a-b-c", "é")):
        claim = table.Claim(f"job {number}", number, name, "host", 1, "", None)
        store_of(state).write(table.acquire, claim, lambda row: False, lambda _: True)
        assert state.try_lock(f"job {number}") is True
    assert owner_module.host() == os.uname().nodename
