"""Clients that are killed: what they held is free at once, and what they wrote is whole or not there."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.support import until
from slothstate import State, Watch
from slothstate.engines.postgres.connection import Connection

KILLS = 5

WRITERS = 12


def hold(channel: Channel, url: str, what: str) -> None:
    """Hold a lock, an item, or the gate until killed."""
    state = slothstate.open(url)
    with state.transaction() if what == "transaction" else nullcontext():
        if what == "transaction":
            state.set("half", 1)
        elif what == "lock":
            state.lock("job")
        else:
            assert state.list_claim("q") is not None
        channel.send()
        channel.receive()


def take(state: State, what: str) -> object:
    """Wait for what another holds, and give it back."""
    if what == "lock":
        return state.lock("job", timeout=10) and state.unlock("job")
    if what == "claim":
        claim = state.list_claim("q", timeout=10)
        return claim is not None and claim.attempt > 1 and claim.release()
    return state.set("k", "whole")


@pytest.mark.parametrize("what", ["lock", "claim", "transaction"])
def test_what_a_killed_client_held_is_free(url: str, what: str, figure: Callable[[str], None]) -> None:
    """At once, whoever waits; the transaction is undone whole."""
    took = []
    with slothstate.open(url) as state, processes() as start:
        state.list_push("q", "item")
        for _ in range(KILLS):
            owner = start(hold, url, what)
            owner.receive()
            began = time.monotonic()
            owner.process.kill()
            assert take(state, what)
            took.append(time.monotonic() - began)
        assert state.get("half") is None
        assert state.list_length("q") == 1
        assert state.locks() == []
    figure(f"postgresql: {what} of a client free after kill -9: median {statistics.median(took) * 1000:.0f} ms")
    assert min(took) < 0.05
    assert max(took) < 2


def write_pairs(channel: Channel, url: str, number: int) -> None:
    """Write two keys and two items as one, again and again, and tell of each time."""
    with slothstate.open(url) as state:
        while True:
            number += 1
            if number % 2:
                state.set_many({"a": number, "b": number})
            else:
                with state.transaction():
                    state.set("a", number)
                    state.set("b", number)
            channel.send(number)


def test_killed_writers_lose_nothing(url: str) -> None:
    """Whenever a writer is killed, both keys are of one write, and of none before the last that it told of."""
    last: Any = 0
    with slothstate.open(url) as state, processes() as start:
        for round_ in range(WRITERS):
            writer = start(write_pairs, url, last)
            for _ in range(3 * (round_ % 4) + 1):
                told = writer.receive()
            writer.kill()
            told = max([told, *writer.acknowledged()])
            pair = state.get_many(["a", "b"])
            assert pair["a"] == pair["b"] >= told
            last = pair["a"]
        assert state.check() == []


def test_a_state_that_nobody_closes(url: str) -> None:
    """Once nobody refers to it, it has no thread, and what it held is free."""
    before = threading.active_count()
    with slothstate.open(url) as other:
        for number in range(5):
            state = slothstate.open(url)
            assert state.lock(f"job{number}")
            del state
        gc.collect()
        # The sweep of the other one.
        until(lambda: threading.active_count() <= before + 1)
        until(lambda: not any(lock["alive"] for lock in other.locks()))


# The statement before which the session ends, and the call, which returns 1.
BEGINNINGS: dict[str, tuple[str, Callable[[State, Watch], object]]] = {
    "get": ("select", lambda state, _: state.get("k")),
    "snapshot": ("begin", lambda state, _: _in_a_snapshot(state)),
    "transaction": ("begin", lambda state, _: _in_a_transaction(state)),
    "dump": ("begin", lambda state, _: next(state.dump()).value),
    "watch": ("number_changes", lambda _, watch: getattr(watch.next(0), "key", None) and 1),
    "watch-page": ("left join lateral", lambda _, watch: getattr(watch.next(0), "key", None) and 1),
}


def _in_a_snapshot(state: State) -> object:
    with state.snapshot():
        return state.get("k")


def _in_a_transaction(state: State) -> object:
    with state.transaction():
        return state.increment("k") - 1


@pytest.mark.parametrize("what", BEGINNINGS)
def test_a_session_that_ends_as_something_begins(url: str, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Nothing has been read or written: it is begun again."""
    run = Connection._run
    ended = 0

    def run_once_more(self: Connection, *arguments: Any) -> Any:
        nonlocal ended
        if not ended and BEGINNINGS[what][0] in str(arguments):
            ended = self.db.info.backend_pid
            with psycopg.connect(url.partition("&schema")[0], autocommit=True) as admin:
                admin.execute("select pg_terminate_backend(%s, 5000)", (ended,))
        return run(self, *arguments)

    with slothstate.open(url) as state, state.watch("k") as watch:
        state.set("k", 1)
        with monkeypatch.context() as patched:
            patched.setattr(Connection, "_run", run_once_more)
            assert BEGINNINGS[what][1](state, watch) == 1
        assert ended
        assert state.set("k", 2)
