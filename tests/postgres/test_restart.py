"""Servers that crash and restart: what was acknowledged is there; who was in the middle of something is told."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import psycopg
import pytest

import slothstate
from helpers.postgres_server import Server, started
from helpers.processes import Channel, processes
from slothstate import LockLost, OutcomeUnknown, SlothStateError, State, StateBusy, StateIOError
from slothstate.engines.postgres.connection import Connection, ConnectionLost

DOWN = 0.5

ROUNDS = 12


def crash(server: Server) -> None:
    """Kill all of the server, and start it."""
    server.stop(signal.SIGKILL)
    server.start()


@contextmanager
def away(server: Server) -> Iterator[None]:
    """Kill the server; it is back a while after the block has begun."""
    server.stop(signal.SIGKILL)
    timer = threading.Timer(DOWN, server.start)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def administer(url: str, function: str, name: str) -> None:
    """End (`pg_terminate_backend`, which a restart does) or cancel what the sessions of this name do."""
    with psycopg.connect(url.partition("&schema")[0], autocommit=True) as admin:
        admin.execute(f"select {function}(pid) from pg_stat_activity where application_name = '{name}'")
        while (
            function == "pg_terminate_backend"
            and admin.execute(f"select 1 from pg_stat_activity where application_name = '{name}'").fetchall()
        ):
            time.sleep(0.001)


def as_admin(url: str, statements: str) -> None:
    """Run statements as the administrator."""
    with psycopg.connect(url.partition("&schema")[0], autocommit=True) as admin:
        admin.execute(statements)


def named(url: str, name: str) -> str:
    """Return the URL of a store whose sessions have a name."""
    return f"{url}&application_name={name}"


def test_an_idle_state_goes_on(server: Server) -> None:
    """Its reads and writes wait for a server that is away; nothing acknowledged is lost, and the block is undone."""
    with slothstate.open(server.url(), busy_timeout=10) as state:
        state.set("kept", 1)
        for use in (
            lambda: state.get("kept") == 1,
            lambda: state.increment("n") > 0,
            lambda: state.list_push("q", 1) > 0,
            lambda: state.try_lock("job") and state.unlock("job"),
            lambda: state.list_claim("q") is not None,
            lambda: state.check() == [],
        ):
            with away(server):
                assert use()
        with away(server), state.transaction():
            state.set("kept", 2)
        assert state.get_many(["kept", "n"]) == {"kept": 2, "n": 1}


def test_a_server_that_stays_away(server: Server) -> None:
    """It is given up after `busy_timeout`; nothing was sent, so nothing is unknown."""
    with slothstate.open(server.url(), busy_timeout=0.3) as state:
        state.set("k", 1)
        server.stop(signal.SIGKILL)
        uses: list[Callable[[], object]] = [
            lambda: state.get("k"),
            lambda: state.set("k", 2),
            lambda: state.transaction().__enter__(),
            lambda: state.snapshot().__enter__(),
            lambda: state.lock("job"),
            lambda: list(state.keys()),
            lambda: slothstate.open(server.url(), busy_timeout=0.3),
        ]
        for use in uses:
            began = time.monotonic()
            with pytest.raises(StateIOError):
                use()
            assert time.monotonic() - began < 1.3
        server.start()
        assert state.get("k") == 1


def test_a_transaction_is_undone(server: Server) -> None:
    """It ends with StateIOError, whatever it does next; a snapshot too, and both can begin anew."""
    with slothstate.open(server.url(), busy_timeout=10) as state:
        state.set("k", 1)
        with pytest.raises(StateIOError, match="nothing of the transaction is kept"), state.transaction():
            state.set("k", 2)
            crash(server)
            state.set("k", 3)
        with pytest.raises(StateIOError), state.transaction():
            state.set("k", 2)
            crash(server)
        with pytest.raises(StateIOError), state.transaction():
            state.set("k", 2)
            with state.transaction():
                crash(server)
        with pytest.raises(StateIOError), state.snapshot():
            crash(server)
            state.get("k")
        with state.transaction():
            assert state.get("k") == 1
            state.set("k", 2)
        assert (state.get("k"), state.check()) == (2, [])


def count(channel: Channel, url: str) -> tuple[int, int]:
    """Increment until told to end; return how many were acknowledged, and of how many it is not known."""
    acknowledged = unknown = 0
    with slothstate.open(url, busy_timeout=10) as state:
        channel.send()
        while not channel.waiting():
            try:
                state.increment("n")
                acknowledged += 1
            except OutcomeUnknown:
                unknown += 1
    return acknowledged, unknown


def test_writes_under_way(server: Server) -> None:
    """Each is acknowledged and there, or of unknown outcome; none is done twice."""
    url = server.url()
    with slothstate.open(url, busy_timeout=10) as state, processes() as start:
        workers = [start(count, url) for _ in range(3)]
        for worker in workers:
            worker.receive()
        for _ in range(3):
            time.sleep(0.1)
            crash(server)
        for worker in workers:
            worker.send()
        outcomes = [worker.result() for worker in workers]
        acknowledged, unknown = (sum(column) for column in zip(*outcomes, strict=True))
        assert acknowledged <= state.get("n") <= acknowledged + unknown
        assert acknowledged > 0
        assert state.check() == []


def test_a_write_that_waits(server: Server) -> None:
    """One that waits for another's transaction when the server crashes was sent: its outcome is not known."""
    url = server.url()
    with slothstate.open(url, busy_timeout=10) as state, slothstate.open(url, busy_timeout=10) as other:
        found: list[BaseException] = []
        # Prepared: to do that waits as well, and is no write.
        other.set("k", 0)

        def write() -> None:
            try:
                other.set("k", 1)
            except OutcomeUnknown as error:
                found.append(error)

        thread = threading.Thread(target=write)
        with pytest.raises(StateIOError), state.transaction():
            thread.start()
            time.sleep(0.2)
            crash(server)
        thread.join()
        assert len(found) == 1
        assert state.get("k") == 0


# A write, and how often it has been done.
WRITES: dict[str, tuple[Callable[[State], object], Callable[[State], object]]] = {
    "set": (lambda state: state.set("k", 1), lambda state: state.get("k")),
    "increment": (lambda state: state.increment("n"), lambda state: state.get("n")),
    "push": (lambda state: state.list_push("q", 1), lambda state: state.list_length("q")),
    "shift": (lambda state: state.list_shift("two"), lambda state: 2 - state.list_length("two")),
    "claim": (lambda state: state.list_claim("two"), lambda state: len(state.claims())),
    "set_many": (lambda state: state.set_many({"k": 1}), lambda state: state.get("k")),
}


# Once, for the next session waits as well.
END_WHO_WAITS = """
do $$ begin
  loop
    exit when exists (
      select pg_terminate_backend(pid, 10000) from pg_stat_activity
      where application_name = 'ended' and wait_event_type = 'Lock'
    );
    perform pg_stat_clear_snapshot();
  end loop;
end $$
"""


@pytest.mark.parametrize("is_prepared", [True, False])
@pytest.mark.parametrize("verb", WRITES)
def test_a_session_that_is_ended_in_a_write(url: str, verb: str, is_prepared: bool) -> None:
    """As a server does that is stopped: it says that nothing was done, and it is done once, on a new one."""
    write, count = WRITES[verb]
    with (
        slothstate.open(url) as state,
        slothstate.open(named(url, "ended")) as other,
        ThreadPoolExecutor() as pool,
    ):
        if is_prepared:
            write(other)
        state.clear()
        state.list_push("two", 1, 2)
        with state.transaction():
            writing = pool.submit(write, other)
            as_admin(url, END_WHO_WAITS)
        writing.result()
        assert count(state) == 1


@pytest.mark.parametrize("answered", [True, False])
def test_a_crash_at_commit(server: Server, answered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found out what has become of it: kept where the server had committed, else an error."""
    command = Connection.command

    def lose(self: Connection, text: str, *, seconds: float | None = None) -> str:
        if text != "commit":
            return command(self, text, seconds=seconds)
        monkeypatch.setattr(Connection, "command", command)
        if answered:
            command(self, text, seconds=seconds)
        crash(server)
        self.close()
        raise ConnectionLost(OSError("gone"))

    with slothstate.open(server.url(), busy_timeout=10) as state:
        monkeypatch.setattr(Connection, "command", lose)
        is_kept = True
        try:
            with state.transaction():
                state.set("k", 1)
        except StateIOError:
            is_kept = False
        assert is_kept == answered
        assert state.get("k") == (1 if answered else None)


def test_a_lost_answer_of_a_server_that_stays_away(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be found out it is of unknown outcome."""
    command = Connection.command

    def lose(self: Connection, text: str, *, seconds: float | None = None) -> str:
        if text != "commit":
            return command(self, text, seconds=seconds)
        server.stop(signal.SIGKILL)
        return command(self, text, seconds=seconds)

    with slothstate.open(server.url(), busy_timeout=0.3) as state:
        monkeypatch.setattr(Connection, "command", lose)
        with pytest.raises(OutcomeUnknown), state.transaction():
            state.set("k", 1)
        monkeypatch.setattr(Connection, "command", command)
        server.start()
        assert state.get("k") is None


def test_an_owner_that_is_idle_is_alive_again(url: str) -> None:
    """Its session has ended, and it does nothing with locks: soon nobody takes them for free, or its watch for dead."""
    with slothstate.open(named(url, "idle")) as state, slothstate.open(url) as other, state.watch(name="w") as changes:
        state.lock("job")
        state.list_push("q", "item")
        claim = state.list_claim("q")
        administer(url, "pg_terminate_backend", "idle")
        deadline = time.monotonic() + 10
        while not all(each["alive"] for each in (*other.locks(), *other.watches(), *other.claims())):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not other.try_lock("job")
        assert other.list_claim("q") is None
        other.sweep()
        other.set("k", 1)
        assert [next(changes).key for _ in range(3)] == ["q", "q", "k"]
        assert claim is not None
        assert claim.done()


@pytest.mark.parametrize("block", ["transaction", "inner", "snapshot"])
@pytest.mark.parametrize("end", ["done", "release"])
def test_a_claim_whose_end_was_undone(url: str, block: str, end: str) -> None:
    """It is held as before, also when the session of its owner ends."""
    with slothstate.open(named(url, "undone")) as state, slothstate.open(url) as other:
        state.list_push("q", "item")
        claim = state.list_claim("q")
        assert claim is not None
        with ExitStack() as outer:
            if block == "inner":
                outer.enter_context(state.transaction())
            with suppress(ZeroDivisionError), state.snapshot() if block == "snapshot" else state.transaction():
                with suppress(SlothStateError):
                    getattr(claim, end)()
                raise ZeroDivisionError
        administer(url, "pg_terminate_backend", "undone")
        assert not claim.lost
        state._engine.locks._owner._keep()  # type: ignore[attr-defined]
        assert other.list_claim("q") is None
        with claim.transaction():
            assert getattr(claim, end)()
        assert bool(other.list_claim("q")) is (end == "release")
        assert not state._engine.locks._owner.kept  # type: ignore[attr-defined]


def test_a_server_that_ends_idle_sessions(url: str) -> None:
    """Not those of slothstate, whatever the role's settings are."""
    role = "impatient"
    as_admin(url, f"create role {role} superuser login; alter role {role} set idle_session_timeout = '100ms'")
    try:
        with slothstate.open(url.replace("//postgres@", f"//{role}@")) as state, state.locked("job") as lock:
            time.sleep(0.4)
            with slothstate.open(url) as other:
                assert other.locks()[0]["alive"]
                assert not other.try_lock("job")
            assert not lock.lost
    finally:
        as_admin(url, f"drop role {role}")


def test_the_end_of_an_owner_whose_server_is_gone(server: Server) -> None:
    """Closing waits for nobody: what it held is free with its session."""
    state = slothstate.open(server.url())
    state.list_push("q", "item")
    claim, watch = state.list_claim("q"), state.watch()
    state.lock("job")
    server.stop(signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(StateIOError):
        state.lock("other", timeout=0.2)
    assert time.monotonic() - began < 1.5
    state.close()
    assert time.monotonic() - began < 3
    assert claim is not None
    assert watch is not None


def test_a_lock_is_kept(server: Server) -> None:
    """Where nobody was quicker the owner still has it, and others do not get it."""
    with slothstate.open(server.url(), busy_timeout=10) as state, state.locked("job") as lock:
        crash(server)
        assert not lock.lost
        lock.ensure_held()
        with slothstate.open(server.url()) as other:
            assert not other.try_lock("job")


def test_a_lock_that_another_was_quicker_to_take(server: Server) -> None:
    """The row decides: the old owner finds its lock lost, and its fenced transaction refuses."""
    url = server.url()
    state = slothstate.open(url, busy_timeout=10)
    with pytest.raises(LockLost), state.locked("job") as lock:
        crash(server)
        with slothstate.open(url) as other, other.locked("job", timeout=10) as second:
            assert second.token > lock.token
            assert lock.lost
            with pytest.raises(LockLost), lock.transaction():
                pass
        lock.ensure_held()
    state.close()


def test_owner_and_rival_at_once(url: str, figure: Callable[[str], None]) -> None:
    """Whoever is quicker after the session has ended has it: one of them, never both, never neither."""
    kept = 0
    for round_ in range(ROUNDS):
        with slothstate.open(named(url, "owner")) as state, slothstate.open(url) as other:
            other.lock("another")
            taken: list[bool] = []

            def take(delay: float = round_ * 0.0005, other: State = other, taken: list[bool] = taken) -> None:
                time.sleep(delay)
                taken.append(other.try_lock("job"))

            with suppress(LockLost), state.locked("job") as lock:
                administer(url, "pg_terminate_backend", "owner")
                rival = threading.Thread(target=take)
                rival.start()
                is_kept = not lock.lost
                rival.join()
                assert is_kept != taken[0]
                assert lock.lost != is_kept
                assert len([held for held in other.locks() if held["name"] == "job"]) == 1
                kept += is_kept
    figure(f"postgresql: locks kept by their owners after the session ended: {kept} of {ROUNDS}, beside a rival")


def test_an_ended_session_is_not_noticed(url: str) -> None:
    """An administrator ends the sessions: reads, writes, locks, claims and watches go on."""

    def end_all() -> None:
        administer(url, "pg_terminate_backend", "mine")

    with slothstate.open(named(url, "mine")) as state, state.watch() as changes:
        state.list_push("q", "item")
        claim = state.list_claim("q")
        assert claim is not None
        with state.locked("job") as lock:
            for number in range(3):
                end_all()
                assert state.set("k", number)
                end_all()
                assert state.get("k") == number
                assert not lock.lost
        end_all()
        assert claim.done()
        assert [next(changes).key for _ in range(5)] == ["q", "q", "k", "k", "k"]


def test_a_statement_that_an_administrator_cancels(url: str) -> None:
    """It is undone, and busy."""
    with slothstate.open(url) as state, slothstate.open(named(url, "other")) as other:
        with state.transaction():
            timer = threading.Timer(0.3, administer, (url, "pg_cancel_backend", "other"))
            timer.start()
            with pytest.raises(StateBusy):
                other.set("k", 1)
            timer.join()
        assert other.get("k") is None


def open_many(url: str, count: int) -> list[State]:
    return [slothstate.open(url, busy_timeout=0.5) for _ in range(count)]


def test_too_many_connections() -> None:
    """It is busy for `busy_timeout`, and goes on once there is room."""
    with started(max_connections="8", superuser_reserved_connections="0", max_wal_senders="0") as server:
        states = open_many(server.url(), 8)
        began = time.monotonic()
        with pytest.raises(StateBusy, match="too many connections"):
            open_many(server.url(), 1)
        assert 0.4 < time.monotonic() - began < 2
        assert states[0].set("k", 1)
        with pytest.raises(StateBusy, match="too many connections"):
            states[0].lock("job")
        states.pop().close()
        assert states[0].lock("job")
        for state in states:
            state.close()
