"""Locks with several holders, between processes: each is free at once when its own process dies."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import raw
from helpers.support import in_time
from slothstate import State

PATIENCE = 30.0


def hold(channel: Channel, path: str, options: dict[str, Any]) -> None:
    """Hold the lock `job` until told to let go."""
    with slothstate.open(path) as state, state.locked("job", PATIENCE, **options) as lock:
        channel.send(lock.token)
        channel.receive()


@pytest.mark.parametrize("options", [{"slots": 2}, {"shared": True}])
def test_killed_holder(path: str, state: State, options: dict[str, Any]) -> None:
    """Of one that was killed the place is free at once, the others keep theirs, and tokens rise."""

    def takeover() -> float:
        with processes() as start:
            first, second = (start(hold, path, options) for _ in range(2))
            tokens = [worker.receive() for worker in (first, second)]
            first.kill()
            began = time.monotonic()
            if "slots" in options:
                with state.locked("job", PATIENCE, **options) as lock:
                    lasted = time.monotonic() - began
                    assert lock.token > max(tokens)
                    assert {held["token"] for held in state.locks()} == {tokens[1], lock.token}
                second.send("go")
            else:
                second.kill()
                with state.locked("job", PATIENCE) as lock:
                    lasted = time.monotonic() - began
                    assert lock.token > max(tokens)
            return lasted

    assert in_time(takeover, 0.1)


def fork_with_a_place(channel: Channel, path: str, options: dict[str, Any]) -> list[object]:
    """Fork while holding a lock beside others; return what the child saw, and then the parent."""
    with slothstate.open(path) as state, state.locked("job", 0, **options) as lock:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            seen: list[object] = [lock.lost, lock.extend(1), state.unlock("job")]
            with state.locked("job", 0, **options) as own:
                seen += [own.token > lock.token, len(state.locks())]
                os.write(writing, json.dumps(seen).encode())
                # Without releasing it.
                os._exit(0)
        os.waitpid(child, 0)
        found = [held["token"] for held in state.locks() if held["alive"]]
        result = [*json.loads(os.read(reading, 1000)), found == [lock.token], lock.lost]
        os.close(reading)
        os.close(writing)
        return result


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("options", [{"slots": 2}, {"shared": True}])
def test_forked_holder(path: str, options: dict[str, Any]) -> None:
    """The child does not hold what the parent does, may hold it beside the parent, and dies without touching it."""
    with processes() as start:
        seen = start(fork_with_a_place, path, options).result()
    assert seen == [True, False, False, True, 2, True, False]
    with slothstate.open(path) as state:
        assert state.try_lock("job")


def test_killed_while_it_waited_alone(path: str, state: State) -> None:
    """It keeps nobody out any more."""
    with processes() as start:
        with state.locked("job", 0, shared=True):
            waiter = start(hold, path, {})
            deadline = time.monotonic() + PATIENCE
            while not raw(path, "select 1 from lock_waiters") and time.monotonic() < deadline:
                time.sleep(0.005)
            worker = start(hold, path, {"shared": True})
            time.sleep(0.1)
            assert worker.acknowledged() == []
            waiter.kill()
            assert worker.receive() > 0
        worker.send("go")
        worker.result()
