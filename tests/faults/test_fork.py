"""Forks in every state of a store: what the parent keeps, what the child may do, and that nobody loses a write."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import multiprocessing
import os
import sys
import threading
import time
from typing import Any

import pytest

import slothstate
import slothstate.aio
from helpers.processes import Channel, Child, processes, run_function
from helpers.sqlite import locks_of
from helpers.support import run_script
from slothstate.engines.sqlite import forking
from slothstate.identity import new_nonce, process_id

ROUNDS = 20
FORKING_THREADS = 3


# Each of these runs in a worker, a process with nothing but the store, and returns what it saw.


def fork_idle(channel: Channel, path: str, child_first: bool) -> list[Any]:
    """Fork with an idle State; both sides write in turn, then close in the given order."""
    state = slothstate.open(path)
    state.set("before", 1)
    shown = locks_of(path)

    def child(channel: Channel) -> str:
        assert state.get("before") == 1
        for number in range(ROUNDS):
            state.increment("child")
            channel.send(number)
            assert channel.receive() == number
            assert state.get("parent") == number + 1
        if not child_first:
            channel.send("written")
            channel.receive()
            state.increment("child")
        state.close()
        return "closed"

    forked = Child(child)
    for number in range(ROUNDS):
        assert forked.receive() == number
        assert state.get("child") == number + 1
        state.increment("parent")
        forked.send(number)
    if child_first:
        assert forked.receive() == "closed"
        state.increment("parent")
        assert locks_of(path) == shown
        state.close()
    else:
        assert forked.receive() == "written"
        state.increment("parent")
        state.close()
        forked.send("go on")
        assert forked.receive() == "closed"
    return [forked.join(), shown]


def fork_in_own_transaction(channel: Channel, path: str, leave: str) -> dict[str, Any]:
    """Fork inside a transaction; the child tries everything and then leaves the way it is told."""
    seen: dict[str, Any] = {}
    state = slothstate.open(path)
    other = slothstate.open(path)
    state.set("cached", "value")
    state.get("cached")

    def refused(verb: Any) -> str:
        try:
            verb()
        except slothstate.SlothStateError as error:
            return type(error).__name__
        return "accepted"

    with state.transaction():
        state.set("inside", "parent")
        before = locks_of(path)
        pipe, theirs = multiprocessing.Pipe()
        pid = os.fork()
        if pid == 0:
            theirs.send(
                {
                    "get": refused(lambda: state.get("cached")),
                    "set": refused(lambda: state.set("inside", "child")),
                    "transaction": refused(lambda: state.transaction().__enter__()),
                    "lock": refused(lambda: state.lock("job", timeout=0)),
                    "other handle": refused(lambda: other.set("inside", "child")),
                    "new open": refused(lambda: slothstate.open(path)),
                }
            )
            if leave == "exit":
                sys.exit(0)
            if leave == "close":
                state.close()
                other.close()
                gc.collect()
                os._exit(0)
            if leave == "_exit":
                os._exit(0)
            # Else the child comes to the end of the parent's block, whose commit is not its to make.
        else:
            seen.update(pipe.recv())
            seen["status"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            seen["same locks"] = locks_of(path) == before
            state.set("after", "parent")
    seen["after"] = state.get_many(["inside", "after"])
    state.set("later", 1)
    state.close()
    return seen


def end_of_block_in_child(channel: Channel, path: str) -> dict[str, Any]:
    """Let the child reach the end of the parent's transaction block, which must not commit there."""
    state = slothstate.open(path)
    pid = -1
    try:
        with state.transaction():
            state.set("inside", "parent")
            pid = os.fork()
            if pid:
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                visible = run_script("import slothstate, sys; print(slothstate.open(sys.argv[1]).get('inside'))", path)
    except slothstate.StateClosed:
        os._exit(7 if pid == 0 else 1)
    if pid == 0:
        os._exit(8)
    result = {"status": status, "seen by others meanwhile": visible.stdout.strip(), "inside": state.get("inside")}
    state.close()
    return result


def fork_in_anothers_transaction(channel: Channel, path: str, longer: bool) -> dict[str, Any]:
    """Fork while another thread is in a transaction: a short one is waited for, a long one bounds the wait."""
    if longer:
        forking.FORK_WAIT = 0.3  # type: ignore[misc]
    state = slothstate.open(path)
    state.set("before", 1)
    inside, leave = threading.Event(), threading.Event()

    def transact() -> None:
        with state.transaction():
            state.set("thread", 1)
            inside.set()
            leave.wait(20)
            state.set("thread", 2)

    thread = threading.Thread(target=transact)
    thread.start()
    inside.wait(20)
    if not longer:
        threading.Timer(0.1, leave.set).start()

    def child(channel: Channel) -> Any:
        try:
            state.increment("child")
            return state.get("thread")
        except slothstate.SlothStateError as error:
            try:
                slothstate.open(path)
            except slothstate.SlothStateError as again:
                return [type(error).__name__, type(again).__name__]
            return "the child opened a store of which it inherited a connection in use"

    began = time.monotonic()
    forked = Child(child)
    took = time.monotonic() - began
    seen = forked.receive()
    status = forked.join()
    leave.set()
    thread.join(20)
    result = {"child": seen, "status": status, "took": took, "thread": state.get("thread")}
    state.set("later", 1)
    state.close()
    return result


def fork_under_write_load(channel: Channel, path: str) -> dict[str, int]:
    """Fork again and again while threads write without pause; count what every side was acknowledged."""
    state = slothstate.open(path)
    stop = threading.Event()
    written = [0, 0]

    def write(index: int) -> None:
        while not stop.is_set():
            state.increment("threads")
            written[index] += 1

    threads = [threading.Thread(target=write, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    children = 0
    for _ in range(ROUNDS):
        forked = Child(lambda channel: state.increment("children"))
        forked.receive()
        assert forked.join() == 0
        children += 1
    stop.set()
    for thread in threads:
        thread.join(20)
    result = {
        "written": sum(written),
        "forked": children,
        "threads": state.get("threads"),
        "children": state.get("children"),
    }
    state.close()
    return result


def fork_from_several_threads(channel: Channel, path: str) -> Any:
    """Let several threads fork at once; all children and the parent go on using the State."""
    state = slothstate.open(path)
    failures = []

    def fork() -> None:
        for _ in range(ROUNDS // 4):
            forked = Child(lambda channel: state.increment("children"))
            try:
                forked.receive()
            except AssertionError as error:
                failures.append(str(error))
            forked.join()
            state.increment("parent")

    threads = [threading.Thread(target=fork) for _ in range(FORKING_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    result = [failures, any(thread.is_alive() for thread in threads), state.get("children"), state.get("parent")]
    state.close()
    return result


def fork_after_a_kept_error(channel: Channel, path: str) -> float:
    """Fork while the traceback of an earlier error is kept; return how long that took."""
    state = slothstate.open(path)
    state.set("text", "abc")
    kept = []
    for _ in range(3):
        try:
            with state.transaction():
                state.increment("text")
        except slothstate.WrongType as error:
            kept.append(error)
    began = time.monotonic()
    forked = Child(lambda channel: state.get("text"))
    took = time.monotonic() - began
    assert forked.receive() == "abc"
    forked.join()
    state.close()
    return took


def grandchildren(channel: Channel, path: str, depth: int) -> int:
    """Fork children of children, each of which writes; return the sum the first parent sees."""
    state = slothstate.open(path)

    def generation(level: int) -> None:
        state.increment("generations")
        if level:
            forked = Child(lambda channel: generation(level - 1))
            forked.receive()
            assert forked.join() == 0
            state.increment("generations")

    generation(depth)
    total: int = state.get("generations")
    state.close()
    return total


def child_collects_and_exits(channel: Channel, path: str) -> list[Any]:
    """Let a child drop its copy of the State, collect garbage and end by sys.exit; the parent must not notice."""
    state = slothstate.open(path)
    state.set("key", 1)
    before = locks_of(path)
    pid = os.fork()
    if pid == 0:
        del state
        gc.collect()
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    state.get("key")
    state.set("key", 2)
    seen: list[object] = [status, locks_of(path) == before, os.path.exists(path + "-wal")]
    reader = run_script("import slothstate, sys; print(slothstate.open(sys.argv[1]).get('key'))", path)
    seen.append(reader.stdout.strip())
    state.close()
    return seen


def fork_with_an_async_state(channel: Channel, path: str) -> list[Any]:
    """Fork while a task waits; return what verbs and a wait of child and parent give."""

    async def use(state: slothstate.aio.AsyncState, number: int) -> list[Any]:
        async with asyncio.timeout(5):
            await state.set(f"key:{number}", number)
            return [await state.get(f"key:{number}"), await state.wait("missing", timeout=0.1)]

    async def use_and_close(state: slothstate.aio.AsyncState) -> list[Any]:
        async with state:
            return await use(state, 1)

    with asyncio.Runner() as runner:
        state = runner.run(slothstate.aio.open(path)._open())
        runner.run(use(state, 0))
        waiting = runner.get_loop().create_task(state.wait("missing"))
        runner.run(asyncio.sleep(0.1))
        forked = Child(lambda channel: asyncio.run(use_and_close(state)))
        seen: list[Any] = [forked.receive(), forked.join(), runner.run(use(state, 2)), waiting.done()]
        runner.run(state.set("missing", 1))
        runner.run(asyncio.wait([waiting], timeout=5))
        seen.append(waiting.result())
        runner.run(state.close())
    return seen


@pytest.mark.parametrize("child_first", [True, False], ids=["child closes first", "parent closes first"])
def test_fork_of_an_idle_state(path: str, child_first: bool) -> None:
    """Both sides of a fork go on with the State and see each other's writes, whoever closes first."""
    with processes() as start:
        status, shown = start(fork_idle, path, child_first).result()
    assert status == 0
    assert shown, "the parent's locks are visible in /proc/locks"
    with slothstate.open(path) as state:
        assert state.get("parent") == ROUNDS + 1
        assert state.get("child") == ROUNDS + (0 if child_first else 1)


@pytest.mark.parametrize("leave", ["_exit", "exit", "close"])
def test_fork_inside_an_own_transaction(path: str, leave: str) -> None:
    """A child forked inside a transaction is refused everything; the parent commits and keeps its kernel locks."""
    seen = run_function(fork_in_own_transaction, path, leave)
    refusals = {key: seen.pop(key) for key in ("get", "set", "transaction", "lock", "other handle", "new open")}
    assert set(refusals.values()) <= {"StateClosed", "UnsafeState"}, refusals
    assert seen == {"status": 0, "same locks": True, "after": {"inside": "parent", "after": "parent"}}
    with slothstate.open(path) as state:
        assert state.get_many(["inside", "after", "later"]) == {"inside": "parent", "after": "parent", "later": 1}


def test_child_at_the_end_of_its_parents_transaction(path: str) -> None:
    """A child that reaches the end of the parent's transaction gets StateClosed and commits nothing."""
    with processes() as start:
        seen = start(end_of_block_in_child, path).result()
    assert seen == {"status": 7, "seen by others meanwhile": "None", "inside": "parent"}


def test_fork_in_a_short_transaction_of_another_thread(path: str) -> None:
    """A fork waits for another thread's short transaction, and then both sides have its outcome."""
    with processes() as start:
        seen = start(fork_in_anothers_transaction, path, False).result()
    assert seen["child"] == 2
    assert seen["status"] == 0
    assert seen["thread"] == 2
    with slothstate.open(path) as state:
        assert state.get("child") == 1


def test_fork_in_a_long_transaction_of_another_thread(path: str) -> None:
    """A fork does not wait for ever: the child of a long transaction is refused, the transaction commits."""
    with processes() as start:
        seen = start(fork_in_anothers_transaction, path, True).result()
    assert seen["child"] == ["StateClosed", "UnsafeState"]
    assert seen["took"] < 5
    assert seen["thread"] == 2
    with slothstate.open(path) as state:
        assert state.get_many(["thread", "later", "child"]) == {"thread": 2, "later": 1}


def test_fork_while_threads_write(path: str) -> None:
    """Forks under load: no write of a thread or a child is lost or refused."""
    with processes() as start:
        seen = start(fork_under_write_load, path).result()
    assert seen["threads"] == seen["written"]
    assert seen["children"] == seen["forked"] == ROUNDS


def test_forks_from_several_threads_at_once(path: str) -> None:
    """Threads that fork at the same moment neither hang nor make the State unusable on any side."""
    with processes() as start:
        failures, hung, children, parent = start(fork_from_several_threads, path).result()
    assert failures == []
    assert hung is False
    assert children == parent == FORKING_THREADS * (ROUNDS // 4)


def test_fork_is_not_slowed_by_a_kept_error(path: str) -> None:
    """An error whose traceback is kept does not make later forks wait for its connection."""
    with processes() as start:
        assert start(fork_after_a_kept_error, path).result() < 1


def test_children_of_children(path: str) -> None:
    """Every generation of a chain of forks uses the State."""
    with processes() as start:
        assert start(grandchildren, path, 4).result() == 2 * 4 + 1


def test_child_that_drops_the_state_does_not_harm_the_parent(path: str) -> None:
    """Garbage collection and the end of a child touch neither the parent's locks nor its files nor its writes."""
    assert run_function(child_collects_and_exits, path) == [0, True, True, "2"]


@pytest.mark.parametrize("of_python", [True, False])
def test_a_child_is_another_and_names_nothing_as_its_parent_does(
    of_python: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that C code has forked, of which Python does not learn."""
    first = new_nonce()
    if not of_python:
        monkeypatch.setattr(os, "fork", ctypes.PyDLL(None).fork)

    def child(channel: Channel) -> tuple[int, int, list[int]]:
        return process_id(), os.getpid(), [new_nonce() for _ in range(200)]

    forked = Child(child)
    said, pid, theirs = forked.receive()
    forked.join()
    ours = [first, *(new_nonce() for _ in range(200))]
    assert said == pid != process_id() == os.getpid()
    assert len({*ours, *theirs}) == 401
    assert all(0 <= each < 2**63 for each in (*ours, *theirs))


def test_fork_with_an_async_state(path: str) -> None:
    """The child has threads of its own, and the parent's waits go on."""
    with processes() as start:
        assert start(fork_with_an_async_state, path).result() == [[1, None], 0, [2, None], False, 1]
