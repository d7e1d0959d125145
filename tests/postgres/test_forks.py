"""Forks: child and parent both go on, and neither ends or keeps anything of the other's."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, Child, processes, run_function
from helpers.support import run_script
from slothstate import SlothStateError
from slothstate.engines.postgres import pool
from slothstate.engines.postgres.connection import Connection


def refused(verb: Callable[[], object]) -> str:
    """Return the name of the error that a verb raises, "accepted" if none."""
    try:
        verb()
    except SlothStateError as error:
        return type(error).__name__
    return "accepted"


def fork_holding_all(channel: Channel, url: str, child_first: bool) -> dict[str, Any]:
    """Fork with a lock, a claim and a watch; the child uses the State and ends before or after its parent's close."""
    state = slothstate.open(url)
    state.list_push("q", "item")
    claim = state.list_claim("q")
    assert claim is not None
    assert state.lock("job")

    def in_child(channel: Channel) -> dict[str, Any]:
        found = {
            "get": state.get("k"),
            "increment": state.increment("n"),
            "takes the lock": state.try_lock("job"),
            "frees the lock": state.unlock("job"),
            "takes another": state.try_lock("of the child"),
            "claims": state.list_claim("q") is not None,
        }
        channel.send(found)
        channel.receive()
        state.close()
        return found

    state.set("k", 1)
    child = Child(in_child)
    seen: dict[str, Any] = child.receive()
    seen["parent increments"] = state.increment("n")
    if child_first:
        child.send()
        child.receive()
        seen["status"] = child.join()
        gc.collect()
    with slothstate.open(url) as other:
        seen["lock of the parent is free"] = other.try_lock("job")
        seen["lock of the child is free"] = other.try_lock("of the child")
    seen["claim is done"] = claim.done()
    seen["unlocked"] = state.unlock("job")
    state.close()
    if not child_first:
        child.send()
        child.receive()
        seen["status"] = child.join()
    return seen


@pytest.mark.parametrize("child_first", [True, False])
def test_a_fork_with_a_lock_and_a_claim(url: str, child_first: bool) -> None:
    """The child owns nothing of its parent's, and its end ends nothing of it; both write on."""
    with processes() as start:
        assert start(fork_holding_all, url, child_first).result() == {
            "get": 1,
            "increment": 1,
            "takes the lock": False,
            "frees the lock": False,
            "takes another": True,
            "claims": False,
            "parent increments": 2,
            "lock of the parent is free": False,
            "lock of the child is free": child_first,
            "claim is done": True,
            "unlocked": True,
            "status": 0,
        }


def hold_and_fork(channel: Channel, url: str) -> None:
    """Hold a lock, a claim and the gate, and fork a child that outlives this process."""
    state = slothstate.open(url)
    state.lock("job")
    assert state.list_claim("q") is not None
    with state.transaction():
        state.set("half", 1)
        child = Child(lambda _: signal.pause())
        channel.send(child.pid)
        channel.receive()


def test_a_child_that_outlives_its_parent(url: str) -> None:
    """What the parent held ends with the parent, whoever inherited its sockets: lock, claim and transaction."""
    with slothstate.open(url) as state, processes() as start:
        state.list_push("q", "item")
        parent = start(hold_and_fork, url)
        child = parent.receive()
        try:
            parent.kill()
            began = time.monotonic()
            assert state.lock("job", timeout=10)
            assert state.list_claim("q", timeout=10) is not None
            assert state.set("half", 2)
            assert time.monotonic() - began < 2
        finally:
            os.kill(child, signal.SIGKILL)


def fork_inside(channel: Channel, url: str, leave: str, block: str) -> dict[str, Any]:
    """Fork inside a transaction or snapshot; the child tries everything and then leaves the way it is told."""
    state, other = slothstate.open(url), slothstate.open(url, busy_timeout=0.1)
    state.set("k", "before")
    seen: dict[str, Any] = {}
    parent = os.getpid()
    reader, writer = os.pipe()
    try:
        with state.transaction() if block == "transaction" else state.snapshot():
            if block == "transaction":
                state.set("k", "inside")
            if os.fork() == 0:
                tried = (
                    refused(lambda: state.get("k")),
                    refused(lambda: state.set("k", "child")),
                    refused(lambda: state.transaction().__enter__()),
                    refused(lambda: state.lock("job", timeout=0)),
                    # Nothing of the parent's keeps them from another State; the parent's transaction keeps writers out.
                    refused(lambda: other.get("k")),
                    refused(lambda: other.set("k", "child")) if block == "transaction" else "StateBusy",
                    refused(lambda: slothstate.open(url).close()),
                )
                os.write(writer, " ".join(tried).encode())
                if leave == "close":
                    state.close()
                    other.close()
                    del state, other
                    gc.collect()
                    os._exit(0)
                if leave == "exit":
                    sys.exit(0)
                # Else it comes to the end of its parent's block.
            else:
                seen["status"] = os.waitstatus_to_exitcode(os.wait()[1])
                seen["tried"] = os.read(reader, 1000).decode().split()
                if block == "transaction":
                    state.set("after", "inside")
    except slothstate.StateClosed:
        os._exit(0)
    if os.getpid() != parent:
        os._exit(8)
    seen["kept"] = state.get_many(["k", "after"])
    seen["goes on"] = state.set("later", 1)
    state.close()
    return seen


@pytest.mark.parametrize("block", ["transaction", "snapshot"])
@pytest.mark.parametrize("leave", ["close", "exit", "at the end"])
def test_a_fork_inside_a_block(url: str, leave: str, block: str) -> None:
    """The child is refused, whatever it does with its parent's block; the parent's is whole."""
    kept = {"k": "inside", "after": "inside"} if block == "transaction" else {"k": "before"}
    assert run_function(fork_inside, url, leave, block) == {
        "status": 0,
        "tried": ["StateClosed"] * 4 + ["accepted", "StateBusy", "accepted"],
        "kept": kept,
        "goes on": True,
    }


def fork_while_threads_work(channel: Channel, url: str, forks: int) -> tuple[int, int]:
    """Fork again and again while threads write and connect; return the writes acknowledged, and the counter."""
    state = slothstate.open(url)
    ended = threading.Event()
    counts = [0, 0, 0]

    def write() -> None:
        while not ended.is_set():
            state.increment("n")
            counts[0] += 1

    def connect() -> None:
        while not ended.is_set():
            with slothstate.open(url) as own, own.locked(f"of {threading.get_ident()}"):
                own.increment("n")
            counts[1] += 1

    threads = [threading.Thread(target=work) for work in (write, connect)]
    for thread in threads:
        thread.start()
    for _ in range(forks):
        child = Child(lambda _: state.increment("n"))
        child.receive()
        counts[2] += 1
        assert child.join() == 0
    ended.set()
    for thread in threads:
        thread.join()
    total = state.get("n")
    state.close()
    return sum(counts), total


def test_forks_while_threads_write_and_connect(url: str) -> None:
    """No write of a thread or a child is lost or refused, and none hangs."""
    with processes() as start:
        acknowledged, total = start(fork_while_threads_work, url, 20).result()
    assert acknowledged == total


def connect_and_fork(channel: Channel, url: str) -> None:
    """Fork a child that stays, while a thread makes the connection that is to prove that this process lives."""
    made = threading.Event()

    class Slow(Connection):
        def __init__(self, *arguments: Any, role: str, **named: Any) -> None:
            super().__init__(*arguments, role=role, **named)
            if role == "owner":
                made.set()
                time.sleep(0.2)

    pool.Connection = Slow  # type: ignore[attr-defined]
    state = slothstate.open(url)
    thread = threading.Thread(target=state.lock, args=("job",))
    thread.start()
    made.wait(30)
    child = Child(lambda _: signal.pause())
    thread.join()
    channel.send(child.pid)
    channel.receive()


def test_a_fork_while_another_thread_connects(url: str) -> None:
    """The child keeps no socket of a connection that was being made: all ends with the parent."""
    with slothstate.open(url) as state, processes() as start:
        parent = start(connect_and_fork, url)
        child = parent.receive()
        try:
            assert not state.try_lock("job")
            parent.kill()
            assert state.lock("job", timeout=5), "the lock is kept"
        finally:
            os.kill(child, signal.SIGKILL)


FORK_IN_C = """
import ctypes, gc, os, sys
import slothstate
url, inside = sys.argv[1], sys.argv[2] == "True"
state = slothstate.open(url)
state.set("key", 1)
state.lock("job")
if inside:
    block = state.transaction()
    block.__enter__()
    state.set("inside", 1)
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    uses = [lambda: state.get("key"), lambda: state.set("key", 2), lambda: state.transaction().__enter__(),
            lambda: list(state.dump()), lambda: state.lock("other", 0), lambda: state.check()]
    if inside:
        uses.insert(0, lambda: block.__exit__(None, None, None))
    for use in uses:
        try:
            use()
        except slothstate.SlothStateError as error:
            assert "forked by C code" in str(error) or "belongs to the process that began it" in str(error), error
        else:
            os._exit(1)
    state.close()
    del state, uses
    gc.collect()
    with slothstate.open(url) as own:
        assert own.get("key") == 1
        assert not own.try_lock("job")
        assert inside or own.try_lock("another")
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
if inside:
    block.__exit__(None, None, None)
state.set("after", 1)
print(dict(state), state.check(), state.unlock("job"))
"""


@pytest.mark.parametrize("inside", [False, True])
def test_a_fork_in_c(url: str, inside: bool) -> None:
    """A child that C code forked is refused and told why, can open the store anew, and ends nothing of its parent's."""
    kept = {"after": 1} | ({"inside": 1} if inside else {}) | {"key": 1}
    done = run_script(FORK_IN_C, url, str(inside))
    assert (done.stdout, done.stderr) == (f"{kept} [] True\n", "")
