"""Clients that are killed: what they held is free at once, and what they wrote is whole or not there."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.support import until
from slothstate import State

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
