"""Who calls: threads, and tasks and greenlets in them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from slothstate.caller import Caller, current, thread_ident

T = TypeVar("T")


def in_a_thread(action: Callable[[], T], name: str = "other") -> T:
    """Return what `action` returns in a thread of its own."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(action()), name=name)
    thread.start()
    thread.join()
    return results[0]


def test_a_thread_is_equal_to_itself_and_to_no_other() -> None:
    """The same thread compares and hashes equal; another one, and one that got its ident later, do not."""
    assert current() == current()
    assert len({current(), current()}) == 1
    assert current().thread == thread_ident() == threading.get_ident()
    # Threads one after another mostly get the same ident.
    assert len({in_a_thread(current) for _ in range(20)}) == 20
    assert current() != "thread"


def test_a_thread_is_described_by_its_name() -> None:
    """A thread that lives by its name, any other by its ident."""
    assert current().describe() == "thread 'MainThread'"
    assert in_a_thread(lambda: current().describe(), "worker") == "thread 'worker'"
    gone = in_a_thread(current)
    assert gone.describe() == f"thread {gone.thread}"


def test_tasks_callbacks_and_threads_are_apart() -> None:
    """Two tasks, a callback of the loop and the thread outside are four; a task stays itself over its awaits."""
    found: dict[str, Caller] = {}

    async def note(name: str) -> None:
        found[name] = current()
        await asyncio.sleep(0)
        assert found[name] == current()
        assert current().describe() == f"task {name!r}"

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: found.update(callback=current()))
        async with asyncio.TaskGroup() as group:
            for name in ("a", "b"):
                group.create_task(note(name), name=name)
        await asyncio.to_thread(lambda: found.update(thread=current()))
        assert found["callback"].describe() == "a callback of the event loop"

    asyncio.run(main())
    assert len({current(), *found.values()}) == 5


def test_a_task_is_never_taken_for_a_later_one() -> None:
    """Tasks one after another, which the allocator puts at one address, are different; none is kept alive."""

    async def note() -> Caller:
        return current()

    async def main() -> None:
        found = [await asyncio.create_task(note()) for _ in range(50)]
        gc.collect()
        assert len(set(found)) == 50
        assert found[0].describe() == "a task that has ended"

    asyncio.run(main())


def test_greenlets_are_apart_and_the_root_is_its_thread() -> None:
    """A greenlet is itself over its switches; the one that a thread begins with is the thread."""
    greenlet = pytest.importorskip("greenlet")
    thread = current()

    def note() -> None:
        mine = current()
        assert mine.describe().startswith("greenlet 0x")
        assert greenlet.getcurrent().parent.switch(mine) == "again"
        assert current() == mine

    one, two = greenlet.greenlet(note), greenlet.greenlet(note)
    assert len({one.switch(), two.switch(), thread}) == 3
    assert current() == thread
    one.switch("again")
    two.switch("again")


def test_a_greenlet_of_a_task_is_the_task() -> None:
    """What SQLAlchemy does: the code of one task runs in a greenlet that nobody else switches to."""
    greenlet = pytest.importorskip("greenlet")

    async def main() -> None:
        assert greenlet.greenlet(current).switch() == current()

    asyncio.run(main())


def test_trio_tasks_are_apart() -> None:
    """trio's tasks are tasks, with their names."""
    trio = pytest.importorskip("trio")
    found: list[Caller] = []

    async def note() -> None:
        found.append(current())
        await trio.lowlevel.checkpoint()
        assert current() in found

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note, name="a")
            nursery.start_soon(note, name="b")
        assert current().describe().startswith("task ")

    trio.run(main)
    assert len({*found, current()}) == 3
