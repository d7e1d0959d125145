"""Servers and clients that stand still, and Ctrl-C in a wait for them: everybody is told in time, and goes on later."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import slothstate
from helpers.postgres_server import Server
from helpers.processes import Channel, processes
from slothstate import OutcomeUnknown, State, StateBusy, StateIOError
from slothstate.engines.postgres.bounded import Bounded

BUSY = 0.2

ANSWER = BUSY + 1.3
"""Seconds until an answer: `busy_timeout`, a second, and what a busy machine takes."""

CONNECTED = 2.0 + 0.5
"""Seconds until a connection is given up: psycopg takes two at least."""


@contextmanager
def answered_in(seconds: float) -> Iterator[None]:
    """Fail unless the block has ended by then."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def test_a_server_that_stands_still(server: Server) -> None:
    """A write that was sent is of unknown outcome; what writes nothing gives up; all goes on afterwards."""
    with slothstate.open(server.url(), busy_timeout=BUSY) as state:
        state.set("k", 1)
        state.set("n", 1)
        uses: list[tuple[type[Exception], float, Callable[[], object]]] = [
            (OutcomeUnknown, ANSWER, lambda: state.set("k", 2)),
            (StateIOError, ANSWER, lambda: state.get("k")),
            (StateIOError, ANSWER, lambda: state.transaction().__enter__()),
            (StateIOError, ANSWER, lambda: state.snapshot().__enter__()),
            # It asks once more, for what it may have been granted.
            (StateIOError, CONNECTED + ANSWER, lambda: state.lock("job")),
            (StateIOError, CONNECTED, lambda: slothstate.open(server.url(), busy_timeout=BUSY)),
        ]
        for error, seconds, use in uses:
            # On a connection that was idle, not on a new one.
            assert state.get("n") == 1
            with server.stopped(), answered_in(seconds), pytest.raises(error):
                use()
        assert state.get("k") in (1, 2)
        assert state.increment("n") == 2


def test_a_server_that_stands_still_inside_a_transaction(server: Server) -> None:
    """A verb ends it, undone; at its COMMIT the outcome is not known."""
    with slothstate.open(server.url(), busy_timeout=BUSY) as state:
        with pytest.raises(StateIOError, match="nothing of the transaction"), state.transaction():
            state.set("k", 1)
            with server.stopped(), answered_in(ANSWER):
                state.set("k", 2)
        assert state.get("k") is None
        with pytest.raises(OutcomeUnknown):
            stopped = server.stopped()
            with answered_in(ANSWER):
                try:
                    with state.transaction():
                        state.set("k", 1)
                        stopped.__enter__()
                finally:
                    stopped.__exit__(None, None, None)
        with state.transaction():
            assert state.get("k") in (1, None)


def stand_in_a_transaction(channel: Channel, url: str) -> None:
    """Write in a transaction, and leave it when told."""
    with slothstate.open(url) as state, state.transaction():
        state.set("k", 2)
        channel.send()
        channel.receive()


def test_a_client_that_stands_still_in_a_transaction(url: str) -> None:
    """Others read; writers are told that it is busy, and nobody's close waits long for it."""
    with processes() as start:
        state = slothstate.open(url, busy_timeout=BUSY)
        assert state.lock("job")
        state.set("k", 1)
        writer = start(stand_in_a_transaction, url)
        writer.receive()
        writer.signal(signal.SIGSTOP)
        assert (state.get("k"), state.exists("another"), state.keys()) == (1, False, ["k"])
        uses: list[Callable[[], object]] = [
            lambda: state.set("another", 3),
            lambda: state.transaction().__enter__(),
            lambda: state.increment("n"),
            lambda: state.list_push("q", 1),
            lambda: state.clear(),
            lambda: state.unlock("job"),
        ]
        for use in uses:
            with answered_in(ANSWER), pytest.raises(StateBusy):
                use()
        patient = slothstate.open(url)
        with answered_in(1.0):
            assert not state.try_lock("another job")
            assert not patient.try_lock("job")
        with answered_in(3):
            patient.close()
            state.close()
        with slothstate.open(url) as state:
            assert "job" not in [lock["name"] for lock in state.locks() if lock["alive"]]
            writer.signal(signal.SIGCONT)
            writer.send()
            writer.result()
            assert (state.get("k"), state.exists("another")) == (2, False)


@contextmanager
def interrupted() -> Iterator[None]:
    """Strike the block by Ctrl-C, which is to end it within 0.3 s."""
    struck: list[float] = []

    def strike() -> None:
        struck.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.3, strike)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    took = time.monotonic() - struck[0]
    timer.join()
    assert took < 0.3, f"Ctrl-C was answered after {took:.2f} s"


@contextmanager
def busy(url: str) -> Iterator[None]:
    """Let another hold the gate, a lock and all that is waited for."""
    entered, done = threading.Event(), threading.Event()

    def keep() -> None:
        with slothstate.open(url) as other, other.locked("job"), other.transaction():
            entered.set()
            done.wait(60)

    thread = threading.Thread(target=keep)
    thread.start()
    entered.wait(30)
    try:
        yield
    finally:
        done.set()
        thread.join()


WAITS: dict[str, Callable[[State], object]] = {
    "gate of a write": lambda state: state.set("k", 1),
    "gate of a transaction": lambda state: state.transaction().__enter__(),
    "gate of a step": lambda state: state.clear("k*"),
    "lock": lambda state: state.lock("job"),
    "key": lambda state: state.wait("k", timeout=30),
    "item": lambda state: state.list_claim("q", timeout=30),
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_in_a_wait(url: str, wait: str) -> None:
    """It ends at once, nothing of it is left, and State and store go on."""
    with slothstate.open(url) as state:
        for _ in range(2):
            with busy(url):
                with interrupted():
                    WAITS[wait](state)
                assert state.get("k") is None
        assert state.get("k") is None
        assert state.locks() == []
        assert state.increment("k") == 1
        with state.transaction():
            state.delete("k")
        with state.locked("job", timeout=5):
            pass


def test_ctrl_c_inside_a_transaction(url: str) -> None:
    """A transaction that is struck in a verb is undone, and the next one begins."""
    with slothstate.open(url) as state, slothstate.open(url) as other:
        other.set("k", 0)
        with interrupted(), state.transaction():
            state.set("k", 1)
            state._engine.pool.read("select pg_sleep(30)", bulk=True)  # type: ignore[attr-defined]
        assert other.get("k") == 0
        with state.transaction():
            assert state.increment("k") == 1


def test_ctrl_c_of_a_server_that_stands_still(server: Server) -> None:
    """It does not wait for the server's answer for long."""
    with slothstate.open(server.url()) as state:
        state.set("k", 1)
        with server.stopped():
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            with answered_in(2), pytest.raises(KeyboardInterrupt):
                state.set("k", 2)
        assert state.get("k") in (1, 2)


def test_an_alarm_in_a_wait(url: str) -> None:
    """What a program's own signal handler raises ends a wait as Ctrl-C does."""

    def ring(*_: object) -> None:
        raise ZeroDivisionError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with slothstate.open(url) as state:
            with busy(url):
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                with answered_in(1), pytest.raises(ZeroDivisionError):
                    state.set("k", 1)
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                with answered_in(1), pytest.raises(ZeroDivisionError):
                    state.transaction().__enter__()
            assert state.increment("k") == 1
    finally:
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_while_a_statement_is_prepared(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has it, and nobody here knows: the next one has another name."""
    with slothstate.open(url) as state:
        state.set("k", 1)
        wait = Bounded.wait

        def strike(self: Bounded, generator: Any, *arguments: Any, **named: Any) -> Any:
            wait(self, generator, *arguments, **named)
            monkeypatch.setattr(Bounded, "wait", wait)
            raise KeyboardInterrupt

        with state.transaction():
            monkeypatch.setattr(Bounded, "wait", strike)
            with pytest.raises(KeyboardInterrupt):
                state.increment("n")
            assert state.increment("n") == 1
            assert state.append("text", "a") == 1
        assert state.get("n") == 1
