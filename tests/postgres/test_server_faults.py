"""What becomes of clients, and of what they wrote, when a client, the server or the way between them fails."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable

import pytest

import slothstate
from helpers.postgres_server import Server
from helpers.processes import Channel, processes
from slothstate import LockLost, OutcomeUnknown, SlothStateError, StateBusy, StateIOError, StateReadOnly, UnsafeState

KILLS = 5


def hold(channel: Channel, url: str) -> None:
    """Hold a lock, an item and a transaction until killed."""
    state = slothstate.open(url)
    state.lock("job")
    claim = state.list_claim("q")
    assert claim is not None
    with state.transaction():
        state.set("half", 1)
        channel.send()
        channel.receive()


def test_a_killed_client_leaves_nothing_behind(url: str, figure: Callable[[str], None]) -> None:
    """Its lock, its item and the gate are free at once; its transaction is undone."""
    took = []
    with slothstate.open(url) as state, processes() as start:
        for _ in range(KILLS):
            state.delete("q")
            state.list_push("q", "item")
            owner = start(hold, url)
            owner.receive()
            began = time.monotonic()
            owner.kill()
            assert state.lock("job", timeout=10)
            took.append(time.monotonic() - began)
            claim = state.list_claim("q", timeout=10)
            assert claim is not None
            assert (claim.attempt, claim.done(), state.get("half")) == (2, True, None)
            state.unlock("job")
        assert state.check() == []
    assert min(took) < 0.05
    figure(f"postgresql: takeover after kill -9: median {statistics.median(took) * 1000:.0f} ms")


def write_pairs(channel: Channel, url: str) -> None:
    """Write two keys at once, again and again, and tell of each time."""
    with slothstate.open(url) as state:
        number = state.get("a", 0)
        while True:
            number += 1
            with state.transaction():
                state.set("a", number)
                state.set("b", number)
            channel.send(number)


def test_nothing_acknowledged_is_lost_and_nothing_is_torn(url: str) -> None:
    """Whenever a writer is killed, both keys are of one write, and not older than the last that it told of."""
    with slothstate.open(url) as state, processes() as start:
        told = 0
        for round_ in range(KILLS):
            writer = start(write_pairs, url)
            for _ in range(5 * round_ + 1):
                told = writer.receive()
            writer.kill()
            told = max([told, *writer.acknowledged()])
            with state.transaction():
                pair = state.get("a"), state.get("b")
            assert pair[0] == pair[1] >= told


def test_a_crash_of_the_server(server: Server) -> None:
    """What was acknowledged is there; a State goes on, its transaction is undone, its lock kept or lost, never both."""
    url = server.url()
    with slothstate.open(url, busy_timeout=10) as state:
        state.set("kept", 1)
        with state.locked("job") as lock:
            with pytest.raises(StateIOError), state.transaction():
                state.set("half", 1)
                server.stop(signal.SIGKILL)
                server.start()
                state.set("half", 2)
            assert (state.get("kept"), state.get("half")) == (1, None)
            assert not lock.lost
            with slothstate.open(url) as other:
                assert not other.try_lock("job")
        server.stop(signal.SIGINT)
        server.start()
        assert state.increment("kept") == 2
        assert state.check() == []


def test_a_lock_that_another_was_quicker_to_take(server: Server) -> None:
    """After a restart the row decides: the old owner finds its lock lost."""
    url = server.url()
    state = slothstate.open(url, busy_timeout=10)
    with pytest.raises(LockLost), state.locked("job") as lock:
        server.stop(signal.SIGINT)
        server.start()
        with slothstate.open(url) as other, other.locked("job", timeout=10) as second:
            assert second.token > lock.token
            assert lock.lost
        lock.ensure_held()
    state.close()


def test_a_commit_whose_answer_is_lost(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found out: kept where the server had committed, an error where it had not."""
    from slothstate.engines.postgres.connection import Connection, ConnectionLost

    command = Connection.command
    for answered in (True, False):

        def lose(self: Connection, text: str, *, seconds: float | None = None, answered: bool = answered) -> str:
            if text != "commit":
                return command(self, text, seconds=seconds)
            if answered:
                command(self, text, seconds=seconds)
            self.close()
            raise ConnectionLost(OSError("gone"), was_sent=True)

        with slothstate.open(url) as state:
            monkeypatch.setattr(Connection, "command", lose)
            is_kept = True
            try:
                with state.transaction():
                    state.set("k", 1 if answered else 2)
            except StateIOError:
                is_kept = False
            assert is_kept == answered
            monkeypatch.setattr(Connection, "command", command)
            assert state.get("k") == 1


def test_a_server_that_stands_still(server: Server) -> None:
    """A write that was sent is of unknown outcome, a read gives up; both in time, and all goes on afterwards."""
    with slothstate.open(server.url(), busy_timeout=0.3) as state:
        state.set("k", 1)
        children = subprocess.run(
            ["pgrep", "-P", str(server.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        pids = [server.pid, *map(int, children)]
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown):
                state.set("k", 2)
            with pytest.raises(SlothStateError):
                state.get("k")
            assert time.monotonic() - began < 20
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert state.get("k") in (1, 2)


def test_a_client_that_stands_still_in_a_transaction(url: str) -> None:
    """Others read; writers are told in time that it is busy."""
    with slothstate.open(url, busy_timeout=0.2) as state, processes() as start:
        state.set("k", 1)
        writer = start(stand_in_a_transaction, url)
        writer.receive()
        assert state.get("k") == 1
        began = time.monotonic()
        with pytest.raises(StateBusy):
            state.set("another", 3)
        with pytest.raises(StateBusy), state.transaction():
            pass
        assert time.monotonic() - began < 2
        writer.send()
        writer.result()
        assert state.get("k") == 2


def stand_in_a_transaction(channel: Channel, url: str) -> None:
    """Write in a transaction, and leave it when told."""
    with slothstate.open(url) as state, state.transaction():
        state.set("k", 2)
        channel.send()
        channel.receive()


def test_ctrl_c_in_a_wait(url: str) -> None:
    """A wait for another's transaction ends soon after; nothing is left behind, and the State goes on."""
    with slothstate.open(url) as state, slothstate.open(url) as other:
        entered, done = threading.Event(), threading.Event()

        def keep() -> None:
            with other.transaction():
                entered.set()
                done.wait(30)

        thread = threading.Thread(target=keep)
        thread.start()
        entered.wait(30)
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        began = time.monotonic()
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            state.set("k", 1)
        assert time.monotonic() - began < 5
        done.set()
        thread.join()
        assert state.get("k") is None
        assert state.increment("k") == 1


def test_schemas_that_are_not_ours(server: Server) -> None:
    """Another program's, one of a newer version, and one that this role may not make or write, are left alone."""
    import psycopg

    with psycopg.connect(f"host={server.directory} user=postgres dbname=postgres", autocommit=True) as admin:
        admin.execute("create schema theirs")
        admin.execute("create table theirs.meta (x int)")
        admin.execute("create role guest login")
        admin.execute("create database old encoding 'SQL_ASCII' template template0")
        with pytest.raises(UnsafeState):
            slothstate.open(server.url("theirs"))
        with pytest.raises(StateReadOnly, match="create schema"):
            slothstate.open(server.url("mine", user="guest"))
        with pytest.raises(UnsafeState, match="UTF8"):
            slothstate.open(server.url(database="old"))
        with pytest.raises(UnsafeState, match="fsync"):
            slothstate.open(server.url(), durability="full")
        with slothstate.open(server.url("ours")) as state:
            state.set("k", 1)
            admin.execute("grant usage on schema ours to guest")
            admin.execute("grant select on all tables in schema ours to guest")
            with slothstate.open(server.url("ours", user="guest")) as guest:
                assert guest.get("k") == 1
                with pytest.raises(StateReadOnly):
                    guest.set("k", 2)
            admin.execute("grant insert, update, delete on all tables in schema ours to guest")
            with slothstate.open(server.url("ours", user="guest")) as guest, guest.locked("job"):
                guest.list_push("l", 1)
                with guest.transaction():
                    assert guest.increment("k") == 2
        admin.execute("update ours.meta set value = '2' where name = 'version'")
        with pytest.raises(UnsafeState, match="version 2"):
            slothstate.open(server.url("ours"))
        admin.execute("create schema empty")
        with slothstate.open(server.url("empty")) as state:
            assert state.set("k", 1)
