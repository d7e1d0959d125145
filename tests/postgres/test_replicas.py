"""Replicas: one is not opened, one that is promoted is gone on with, and one that is silent is told of."""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import slothstate
from helpers.postgres_server import Server, started
from slothstate import OutcomeUnknown, StateReadOnly
from slothstate.engines.postgres.connection import Connection, ConnectionLost


@contextmanager
def replica_of(primary: Server) -> Iterator[Server]:
    """Run a replica, which is behind by nothing but time."""
    with tempfile.TemporaryDirectory(prefix="slothpg") as directory:
        replica = Server(Path(directory))
        replica.copy_from(primary)
        replica.start()
        try:
            yield replica
        finally:
            replica.stop(signal.SIGQUIT)


def administer(server: Server, *statements: str) -> list[tuple[object, ...]]:
    """Run statements as the administrator, and return the rows of the last."""
    with psycopg.connect(f"host={server.directory} user=postgres dbname=postgres", autocommit=True) as admin:
        for statement in statements:
            cursor = admin.execute(statement)
        return cursor.fetchall() if cursor.description else []


def wait_for_the_replica(primary: Server) -> None:
    """Return once it has all that was written until now."""
    deadline = time.monotonic() + 30
    (position,) = administer(primary, "select pg_current_wal_lsn()::text")[0]
    statement = f"select 1 from pg_stat_replication where replay_lsn >= '{position}'"
    while not administer(primary, statement):
        assert time.monotonic() < deadline, "the replica does not follow"
        time.sleep(0.01)


def promote(replica: Server) -> None:
    administer(replica, "select pg_promote()")


def test_a_replica_and_a_failover() -> None:
    """A replica is refused. Once it is promoted the State goes on there: nothing is torn, tokens rise, locks are known.

    Also where the last moments are lost: the token of a lock that the replica has not heard of rises.
    """
    with started() as primary:
        with slothstate.open(primary.url()) as first:
            first.set("k", 1)
        with replica_of(primary) as replica:
            with pytest.raises(StateReadOnly, match="replica"):
                slothstate.open(replica.url(), busy_timeout=0.5)
            both = primary.url().replace(
                f"host={primary.directory}",
                f"host={primary.directory},{replica.directory}&target_session_attrs=read-write",
            )
            state = slothstate.open(both, busy_timeout=10)
            state.increment("k")
            state.list_push("q", "done", "claimed")
            assert state.lock("kept")
            with state.locked("token") as lock:
                older = lock.token
            state.lock("released")
            done, claimed = state.list_claim("q"), state.list_claim("q")
            assert done is not None
            assert claimed is not None
            wait_for_the_replica(primary)
            replica.stop(signal.SIGINT)
            state.set("lost", True)
            state.unlock("released")
            assert done.done()
            assert state.lock("lost")
            with state.locked("token") as lock:
                old = lock.token
            assert old > older
            primary.stop(signal.SIGKILL)
            replica.start()
            promoter = threading.Timer(0.3, promote, (replica,))
            promoter.start()
            # A read waits for the promotion; so does a write that was not sent.
            assert state.get("k") == 2
            promoter.join()
            assert state.increment("k") == 3
            assert state.get("lost") is None
            with state.locked("token") as lock:
                assert lock.token > old
            with slothstate.open(replica.url()) as other:
                assert not other.try_lock("kept")
                # What was given up, and is not by the replica, is nobody's: not of a State that knows of nothing.
                assert other.lock("released", timeout=5)
                again = other.list_claim("q", timeout=5)
                assert again is not None
                assert (again.item, again.attempt) == ("done", 2)
                assert other.list_claim("q") is None
                assert other.try_lock("lost")
                assert state.unlock("lost") is False
            assert state.unlock("kept")
            assert claimed.done()
            assert state.check() == []
            state.close()


def test_a_replica_that_is_silent() -> None:
    """With durability "full" no write is acknowledged that it has not confirmed, though the primary keeps it."""
    with (
        started(fsync="on") as server,
        slothstate.open(server.url(), durability="full", busy_timeout=0.3) as state,
        slothstate.open(server.url(), busy_timeout=0.3) as hasty,
    ):
        state.set("k", 0)
        administer(server, "alter system set synchronous_standby_names = 'silent'", "select pg_reload_conf()")
        time.sleep(0.3)
        uses: list[Callable[[], object]] = [
            lambda: state.set("k", 1),
            lambda: state.increment("n"),
            lambda: state.set_many({"a": 1}),
        ]
        for use in uses:
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown):
                use()
            assert 0.3 < time.monotonic() - began < 1.8
        with pytest.raises(OutcomeUnknown), state.transaction():
            state.set("k", 2)
        assert hasty.set("process", 1)
        with hasty.transaction():
            hasty.increment("process")
        administer(server, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
        time.sleep(0.3)
        assert state.get_many(["k", "n", "a", "process"]) == {"k": 2, "n": 1, "a": 1, "process": 2}
        with state.transaction():
            assert state.increment("n") == 2


def test_a_lost_answer_beside_a_silent_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """A COMMIT that the primary has kept, and nobody confirmed, is not taken for one that is confirmed."""
    command = Connection.command

    def lose(self: Connection, text: str, *, seconds: float | None = None) -> str:
        if text != "commit":
            return command(self, text, seconds=seconds)
        monkeypatch.setattr(Connection, "command", command)
        # The session ends while it waits for the replica: the primary keeps what it has.
        threading.Timer(0.2, administer, (server, f"select pg_terminate_backend({self.db.info.backend_pid})")).start()
        with pytest.raises(ConnectionLost):
            command(self, text, seconds=seconds)
        raise ConnectionLost(OSError("gone"))

    with started(fsync="on") as server:
        state = slothstate.open(server.url(), durability="full", busy_timeout=1)
        state.set("k", 0)
        administer(server, "alter system set synchronous_standby_names = 'silent'", "select pg_reload_conf()")
        time.sleep(0.3)
        monkeypatch.setattr(Connection, "command", lose)
        with pytest.raises(OutcomeUnknown), state.transaction():
            state.set("k", 1)
        administer(server, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
        assert state.get("k") == 1
        state.close()
