"""A transaction belongs to a task or greenlet as well as to a thread: whoever else runs there meanwhile is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import pytest

from helpers.places import Place
from slothstate import State, StateBusy

USES: dict[str, Callable[[State], object]] = {
    "get": lambda state: state.get("missing"),
    "get cached": lambda state: state.get("key"),
    "get_many": lambda state: state.get_many(["key"]),
    "in": lambda state: "key" in state,
    "len": lambda state: len(state),
    "iteration": lambda state: list(state),
    "item": lambda state: state["key"],
    "set": lambda state: state.set("theirs", 1),
    "set with a ttl": lambda state: state.set("theirs", 1, ttl=5),
    "set_many": lambda state: state.set_many({"theirs": 1}),
    "delete": lambda state: state.delete("key"),
    "increment": lambda state: state.increment("theirs"),
    "list_push": lambda state: state.list_push("theirs", 1),
    "clear": lambda state: state.clear(),
    "keys": lambda state: state.keys(),
    "scan": lambda state: next(iter(state.scan())),
    "dump": lambda state: next(iter(state.dump())),
    "load": lambda state: state.load([]),
    "transaction": lambda state: state.transaction().__enter__(),
    "snapshot": lambda state: state.snapshot().__enter__(),
    "get_field": lambda state: state.get_field("key", "a"),
    "take": lambda state: state.take("key"),
    "try_lock": lambda state: state.try_lock("job"),
    "lock": lambda state: state.lock("job", timeout=0),
    "unlock": lambda state: state.unlock("job"),
    "locked": lambda state: state.locked("job").__enter__(),
    "locks": lambda state: state.locks(),
    "wait": lambda state: state.wait("missing", timeout=1),
    "wait at once": lambda state: state.wait("missing", timeout=0),
    "list_pop": lambda state: state.list_pop("missing", timeout=1),
    "list_shift": lambda state: state.list_shift(["missing"], timeout=None),
    "list_length": lambda state: state.list_length("missing"),
    "list_claim": lambda state: state.list_claim("missing", timeout=1),
    "list_claim at once": lambda state: state.list_claim("missing"),
    "claims": lambda state: state.claims(),
    "lock with a timeout": lambda state: state.lock("job", timeout=1),
    "watch": lambda state: state.watch(),
    "watches": lambda state: state.watches(),
    "unwatch": lambda state: state.unwatch("missing"),
    "sweep": lambda state: state.sweep(),
    "compact": lambda state: state.compact(),
    "stats": lambda state: state.stats(),
    "check": lambda state: state.check(),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("block", ["transaction", "snapshot"])
def test_another_task_is_refused(state: State, use: str, block: str) -> None:
    """While a task awaits inside its block, every verb of another one is refused, and says who holds which."""

    async def holder(begun: asyncio.Event, done: asyncio.Event) -> None:
        with getattr(state, block)():
            begun.set()
            await done.wait()
            assert state.get("key") == 1
            if block == "transaction":
                state.set("mine", 2)

    async def main() -> None:
        begun, done = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(holder(begun, done), name="holder")
        await begun.wait()
        try:
            with pytest.raises(StateBusy, match=rf"task 'user' .* while task 'holder' holds a {block}"):
                await asyncio.create_task(called(lambda: USES[use](state)), name="user")
        finally:
            done.set()
            await task

    state.set("key", 1)
    assert state.get("key") == 1
    asyncio.run(main())
    assert dict(state) == ({"key": 1, "mine": 2} if block == "transaction" else {"key": 1})


async def called(action: Callable[[], object]) -> object:
    """Return what `action` returns, in whichever task runs this."""
    return action()


def test_a_rollback_takes_nobody_elses_write(state: State) -> None:
    """What another task wrote is kept though the transaction is undone; what was refused was not written."""

    async def holder() -> None:
        with state.transaction():
            state.set("mine", 1)
            await asyncio.sleep(0.01)
            raise ZeroDivisionError

    async def other() -> None:
        await asyncio.sleep(0)
        with pytest.raises(StateBusy):
            state.set("theirs", 1)
        await asyncio.sleep(0.05)
        state.set("theirs", 2)

    async def main() -> None:
        results = await asyncio.gather(holder(), other(), return_exceptions=True)
        assert [type(result) for result in results] == [ZeroDivisionError, type(None)]

    asyncio.run(main())
    assert dict(state) == {"theirs": 2}


def test_a_callback_of_the_loop_is_somebody_else(state: State) -> None:
    """So is a plain callback during a task's transaction, and a task during one that was begun before the loop."""

    async def main() -> None:
        refused: list[str] = []

        def callback() -> None:
            with pytest.raises(StateBusy, match="a callback of the event loop") as caught:
                state.get("key")
            refused.append(str(caught.value))

        with state.transaction():
            asyncio.get_running_loop().call_soon(callback)
            await asyncio.sleep(0)
        assert refused
        callback_after = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: callback_after.set_result(state.set("key", 1)))
        assert await callback_after

    asyncio.run(main())
    with state.transaction(), pytest.raises(StateBusy, match="while thread 'MainThread' holds"):
        asyncio.run(called_once(state))


async def called_once(state: State) -> object:
    return state.get("key")


def test_own_threads_and_awaits_go_on(state: State, place: Place) -> None:
    """The task itself goes on after an await, also in a nested transaction; a thread has its own connection."""

    async def main() -> None:
        with state.transaction():
            await asyncio.sleep(0)
            with state.transaction():
                await asyncio.sleep(0)
                state.set("key", 1)
            assert await asyncio.to_thread(state.get, "key") is None
            assert state.get("key") == 1

    asyncio.run(main())
    assert state.get("key") == 1


def test_ending_in_another_task(state: State) -> None:
    """A generator that another task closes ends its transaction there, undone."""

    async def writes() -> None:
        async def generate() -> AsyncGenerator[None]:
            with state.transaction():
                state.set("key", 1)
                yield

        generator = generate()
        await asyncio.create_task(called_next(generator))
        with pytest.raises(StateBusy, match=r"while task .* holds"):
            state.get("key")
        await generator.aclose()
        assert state.get("key") is None

    asyncio.run(writes())


async def called_next(generator: AsyncIterator[None]) -> None:
    await anext(generator)


def test_another_state_of_the_same_thread_is_refused_at_once(state: State, place: Place) -> None:
    """A write that would wait for its own thread says so and names the holder, as does a lock; reads go on."""
    with place.open() as other, state.transaction():
        with pytest.raises(StateBusy, match=r"this thread itself holds the write transaction .*thread 'MainThread'"):
            other.set("key", 1)
        with pytest.raises(StateBusy, match="this thread itself"), other.transaction():
            pass
        for timeout in (None, 60):
            with pytest.raises(StateBusy, match="this thread itself"):
                other.lock("name", timeout)
        assert not other.lock("name", 0)
        assert not other.try_lock("name")
        assert other.get("key") is None
        state.set("key", 2)
    assert state.get("key") == 2


def test_greenlets_that_nobody_can_wait_for_are_refused(state: State, place: Place) -> None:
    """Plain greenlets: another one in the thread is refused by the same State, and by another State at once."""
    greenlet = pytest.importorskip("greenlet")
    other = place.open()

    def holder() -> None:
        with state.transaction():
            state.set("key", 1)
            greenlet.getcurrent().parent.switch()

    one = greenlet.greenlet(holder)
    one.switch()
    with pytest.raises(StateBusy, match=r"thread 'MainThread' .* while greenlet 0x"):
        state.get("key")
    with pytest.raises(StateBusy, match=r"this thread itself .*greenlet 0x"):
        other.set("key", 2)
    one.switch()
    assert state.get("key") == 1
    other.close()


def test_trio_tasks_are_refused(state: State) -> None:
    """The same with trio's tasks."""
    trio = pytest.importorskip("trio")

    async def holder() -> None:
        with state.transaction():
            state.set("key", 1)
            await trio.sleep(0.05)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(holder, name="holder")
            await trio.sleep(0.01)
            with pytest.raises(StateBusy, match="while task 'holder' holds"):
                state.get("key")

    trio.run(main)
    assert state.get("key") == 1
