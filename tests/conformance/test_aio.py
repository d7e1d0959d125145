"""The store for asyncio: verbs as coroutines, waits that can be cancelled, transactions of one task; on each engine."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.places import Place
from slothstate import (
    AlreadyHeld,
    InvalidKey,
    InvalidValue,
    LockLost,
    LockTimeout,
    SlothStateError,
    State,
    StateBusy,
    StateClosed,
    StateIOError,
    WatchLost,
    aio,
)
from slothstate.aio import AsyncClaim, AsyncState
from slothstate.aio.runner import THREADS

PATIENCE = 30.0


def run(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own; it gets an `AsyncState`."""

    @functools.wraps(test)
    def wrapped(place: Place, **more: Any) -> None:
        async def main() -> None:
            async with asyncio.timeout(PATIENCE) as patience, AsyncState(place.open()) as state:
                await test(state, place, **more)
            # A test that expects a cancellation may have taken this one for it.
            assert not patience.expired()

        asyncio.run(main())

    # For pytest: the fixtures and the parameters.
    wrapped.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        list(inspect.signature(test).parameters.values())[1:]
    )
    return wrapped


@asynccontextmanager
async def waiting(awaitable: Awaitable[Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """A task that has begun to wait."""
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(0.05)
    assert not task.done()
    yield task


def test_opens_both_ways(tmp_path: Path) -> None:
    """`await open()` and `async with open()`; it takes what `slothstate.open` does, and raises what it does."""

    async def main() -> None:
        state = await aio.open(tmp_path / "s.db", durability="full")
        assert await state.set("k", 1)
        await state.close()
        await state.close()
        async with aio.open(tmp_path / "s.db") as state:
            assert await state.get("k") == 1
        with pytest.raises(StateClosed):
            await state.get("k")
        with pytest.raises(InvalidValue):
            await aio.open(tmp_path / "s.db", durability="none")

    asyncio.run(main())


@run
async def test_verbs(state: AsyncState, place: Place) -> None:
    """What the plain ones do, with their errors."""
    assert await state.set("k", {"a": [1]}, ttl=60, when="absent") is True
    assert (await state.get("k"), await state.get("none", "d"), await state.get("k")) == ({"a": [1]}, "d", {"a": [1]})
    assert (await state.increment("n", 2), await state.get_ttl("k"), await state.exists("n")) == (2, 60, True)
    assert await state.get_many(["k", "n", "x"]) == {"k": {"a": [1]}, "n": 2}
    assert await state.list_push("l", 1, 2, 3) == 3
    assert (await state.list_pop("l"), await state.list_shift("l"), await state.list_range("l")) == (3, 1, [2])
    assert await state.list_pop(["none", "l"]) == ("l", 2)
    assert await state.set_field("k", ("a", 0), 5)
    assert await state.take("k") == {"a": [5]}
    assert [key async for key in state.scan(reverse=True)] == ["n"]
    assert [finding.severity async for finding in state.examine()]
    assert await state.activity(0) == []
    with pytest.raises(InvalidKey):
        await state.get("")
    with pytest.raises(InvalidKey):
        await state.get(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        await state.set("k", object())
    with pytest.raises(TypeError):
        await state.increment()  # type: ignore[call-arg]


def test_every_verb_is_there() -> None:
    """But for what belongs to one thread, which says why it is not, and what iterates in a transaction."""
    plain = {name for name, value in vars_of(State).items() if not name.startswith("_") and callable(value)}
    without = {"transaction", "snapshot", "with_lock", "dump", "load", "entries"}
    mapping = {"items", "values", "pop", "popitem", "setdefault", "update"}
    missing = {name for name in plain - without - mapping if not hasattr(AsyncState, name)}
    assert missing == set()


def vars_of(kind: type) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind)}


@run
async def test_waits_end_with_a_change(state: AsyncState, place: Place) -> None:
    """Of anybody, or by time alone."""
    other = place.open()
    async with waiting(state.list_shift("q", timeout=PATIENCE)) as task:
        other.list_push("q", "item")
        assert await task == "item"
    async with waiting(state.wait("k", None, PATIENCE)) as task:
        other.set("k", [1], ttl=0.2)
        assert await task == [1]
    assert await state.wait("k", [1], PATIENCE) is None
    before = time.monotonic()
    assert await state.list_pop(["a", "b"], "none", timeout=0.1) == "none"
    assert 0.1 <= time.monotonic() - before < 1
    assert await state.wait("k", None, timeout=0.05) is None


@run
async def test_a_cancelled_wait_takes_nothing(state: AsyncState, place: Place) -> None:
    """Whenever it is cancelled: what it took meanwhile is back."""
    other = place.open()
    for number in range(30):
        task = asyncio.ensure_future(state.list_shift("q", timeout=None))
        await asyncio.sleep(0.002 * (number % 5))
        other.list_push("q", number)
        await asyncio.sleep(0.0005 * (number % 7))
        task.cancel()
        try:
            taken = [await task]
        except asyncio.CancelledError:
            taken = []
        assert taken + other.list_range("q") == [number]
        other.delete("q")


TAKING: dict[str, Callable[[AsyncState], Awaitable[Any]]] = {
    "take": lambda state: state.take("q"),
    "list_pop": lambda state: state.list_pop("q"),
    "list_shift": lambda state: state.list_shift("q", timeout=None),
    "of several": lambda state: state.list_shift(["none", "q"]),
    "list_pop_many": lambda state: state.list_pop_many("q", 3),
    "list_shift_many": lambda state: state.list_shift_many("q", 2),
    "list_claim": lambda state: state.list_claim("q", None),
}
"""Verbs that take something of the list "q"."""

LEFT: dict[str, tuple[Any, list[int]]] = {
    "take": ([1, 2, 3], []),
    "list_pop": (3, [1, 2]),
    "list_shift": (1, [2, 3]),
    "of several": (("q", 1), [2, 3]),
    "list_pop_many": ([3, 2, 1], []),
    "list_shift_many": ([1, 2], [3]),
    "list_claim": (1, [2, 3]),
}
"""What they take of [1, 2, 3], and what they leave."""


async def outcome(task: asyncio.Task[Any]) -> Any:
    """What a task has taken, None if it was cancelled."""
    try:
        found = await task
    except asyncio.CancelledError:
        return None
    return found.item if isinstance(found, AsyncClaim) else found


@pytest.mark.parametrize("verb", TAKING)
@run
async def test_what_is_cancelled_takes_nothing(state: AsyncState, place: Place, verb: str) -> None:
    """Either it has what it took, or nothing was touched: neither order nor TTL."""
    other = place.open()
    for number in range(24):
        other.clear()
        other.list_push("q", 1, 2, 3)
        other.set_ttl("q", 100)
        task = asyncio.ensure_future(TAKING[verb](state))
        await asyncio.sleep(0.0001 * number if number % 4 else 0)
        task.cancel()
        expected, left = LEFT[verb]
        found = await outcome(task)
        if found is None:
            expected, left = None, [1, 2, 3]
        assert (found, other.list_range("q")) == (expected, left)
        assert other.get_ttl("q") == (100 if left else -2)


@pytest.mark.parametrize("verb", TAKING)
@run
async def test_cancelled_when_it_has_begun(state: AsyncState, place: Place, verb: str) -> None:
    """It returns what it took, and the cancellation comes at the next `await`."""
    other = place.open()
    other.list_push("q", 1, 2, 3)
    found: list[Any] = []

    async def take() -> None:
        found.append(await TAKING[verb](state))
        await state.set("after", 1)
        found.append("went on")

    with other.transaction():
        async with waiting(take()) as task:
            task.cancel()
            await asyncio.sleep(0.02)
            task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [each.item if isinstance(each, AsyncClaim) else each for each in found] == [LEFT[verb][0]]


@run
async def test_cancelled_waits_keep_the_order(state: AsyncState, place: Place) -> None:
    """However many are cancelled together: what they leave is as it was."""
    other = place.open()
    for number in range(20):
        other.clear()
        other.list_push("q", *range(6))
        tasks = [asyncio.ensure_future(state.list_shift("q", timeout=5)) for _ in range(4)]
        await asyncio.sleep(0.0003 * (number % 6))
        for task in tasks:
            task.cancel()
        taken = [item for item in [await outcome(task) for task in tasks] if item is not None]
        assert sorted(taken) + other.list_range("q") == list(range(6))


@run
async def test_a_cancelled_claim_is_no_attempt(state: AsyncState, place: Place) -> None:
    """An item that nobody had does not become one that many have failed on."""
    other = place.open()
    other.list_push("q", "job")
    other.set_ttl("q", 100)
    with other.transaction():
        # They fill the threads: those behind them never begin.
        first = [asyncio.ensure_future(state.set(f"k{number}", 1)) for number in range(THREADS)]
        tasks = [asyncio.ensure_future(state.list_claim("q", 5, max_attempts=1)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
            assert await outcome(task) is None
    await asyncio.gather(*first)
    claim = await state.list_claim("q", max_attempts=1)
    assert claim is not None
    assert (claim.item, claim.attempt, await state.keys("*dead")) == ("job", 1, [])


@run
async def test_a_timeout_of_asyncio(state: AsyncState, place: Place) -> None:
    """What comes too late for it and is there all the same is no timeout, unless the block goes on."""
    other = place.open()
    other.list_push("q", 1, 2)

    async def unlock(block: Any) -> None:
        await asyncio.sleep(0.2)
        block.__exit__(None, None, None)

    for goes_on in (False, True):
        with pytest.raises(TimeoutError) if goes_on else nullcontext():
            block = other.transaction()
            block.__enter__()
            ending = asyncio.get_running_loop().create_task(unlock(block))
            async with asyncio.timeout(0.05):
                item = await state.list_shift("q")
                if goes_on:
                    await asyncio.sleep(5)
        assert item == (2 if goes_on else 1)
        # Nothing is left of the cancellation.
        await asyncio.sleep(0.01)
        await ending
    assert await state.list_shift("q") is None


@run
async def test_what_ends_something_ends_it(state: AsyncState, place: Place) -> None:
    """Also if it is cancelled before its turn has come."""
    other = place.open()
    other.list_push("q", 1, 2)
    done, released = await state.list_claim("q"), await state.list_claim("q")
    watch = state.watch("w*")
    assert await watch.next(0) is None
    assert done is not None
    assert released is not None

    async def hold() -> None:
        await state.lock("job")
        try:
            await is_free.wait()
        finally:
            await state.unlock("job")

    is_free = asyncio.Event()
    holding = asyncio.ensure_future(hold())
    await asyncio.sleep(0.05)
    with other.transaction():
        busy = [asyncio.ensure_future(state.set(f"k{number}", 1)) for number in range(THREADS)]
        await asyncio.sleep(0.02)
        is_free.set()
        ends = [holding, *map(asyncio.ensure_future, (done.done(), released.release(), watch.close()))]
        await asyncio.sleep(0.02)
        for task in ends:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    await asyncio.gather(*busy)
    while other.claims() or other.locks() or other.watches():
        await asyncio.sleep(0.01)
    assert other.list_range("q") == [2]


@run
async def test_a_cancelled_lock_holds_nothing(state: AsyncState, place: Place) -> None:
    """Nor does one whose block is cancelled."""
    other = place.open()

    async def hold() -> None:
        async with state.locked("job"):
            await asyncio.sleep(PATIENCE)

    for pause in (0, 0.001, 0.005, 0.05):
        task = asyncio.ensure_future(hold())
        await asyncio.sleep(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert other.locks() == []
    with other.locked("job"):
        async with waiting(state.lock("job")) as task:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert other.locks() == []


@run
async def test_a_cancellation_that_comes_with_a_commit(state: AsyncState, place: Place) -> None:
    """It is not taken for the commit, in whatever turn of the loop it comes."""
    for turns in range(8):
        task = asyncio.ensure_future(state.wait("k", timeout=PATIENCE))
        await asyncio.sleep(0.02)
        state._commits.tell()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)


@run
async def test_an_error_as_commits_are_waited_for(state: AsyncState, place: Place) -> None:
    """It does not end the thread that all waits share: the next commit is seen."""
    changes = state._commits._changes

    class Failing:
        def __init__(self) -> None:
            self.failed = threading.Event()

        def token(self) -> int | None:
            return changes.token()

        def wait(self, token: int | None, seconds: float) -> bool:
            if not self.failed.is_set():
                self.failed.set()
                raise StateIOError("for a moment")
            return changes.wait(token, seconds)

    failing = Failing()
    state._commits._changes = failing  # type: ignore[assignment]
    async with waiting(state.wait("k")) as task:
        assert await asyncio.to_thread(failing.failed.wait, 10)
        place.open().set("k", 1)
        assert await task == 1


@run
async def test_locks_belong_to_tasks(state: AsyncState, place: Place) -> None:
    """A second task waits while others run; a task that would wait for itself is told."""
    order: list[str] = []

    async def use(name: str) -> None:
        async with state.locked("job", PATIENCE) as lock:
            order.append(name)
            assert lock.token > 0
            assert (lock.name, await lock.lost()) == ("job", False)
            await asyncio.sleep(0.02)
            order.append(name)

    await asyncio.gather(*(use(name) for name in "abc"))
    assert [order[0::2], order[1::2]] == [order[0::2]] * 2
    with pytest.raises(LockLost):
        async with state.locked("job", ttl=60) as lock:
            assert await lock.extend(5)
            with pytest.raises(AlreadyHeld):
                await state.lock("job", timeout=1)
            assert await state.try_lock("job") is False
            with pytest.raises(LockTimeout):
                await asyncio.ensure_future(enter(state.locked("job", 0.05)))
            assert await lock.atomically(lambda plain: plain.set("fenced", 1))
            place.open().break_lock("job", alive=True)
            assert await lock.lost()
            with pytest.raises(LockLost):
                await lock.ensure_held()
            with pytest.raises(LockLost):
                await lock.atomically(lambda plain: plain.set("fenced", 2))
    assert await state.lock("job", timeout=1)
    assert await state.unlock("job")
    assert await state.get("fenced") == 1


@run
async def test_who_waits_alone_keeps_new_ones_out(state: AsyncState, place: Place) -> None:
    """Also a task; and when it gives up, or is cancelled, it does so no longer."""
    other = AsyncState(place.open())
    async with state.locked("job", shared=True):
        for end in ("timeout", "cancel"):
            timeout = 0.3 if end == "timeout" else None
            task = asyncio.ensure_future(other.lock("job", timeout))
            await asyncio.sleep(0.1)
            with pytest.raises(LockTimeout):
                await asyncio.ensure_future(enter(state.locked("job", 0, shared=True)))
            if end == "timeout":
                assert await task is False
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await asyncio.ensure_future(enter(state.locked("job", 0, shared=True)))
    await other.close()


@run
async def test_twice_in_one_task(state: AsyncState, place: Place) -> None:
    """Is `AlreadyHeld`, also through another State; another task has it beside."""
    other = AsyncState(place.open())
    for options in ({"shared": True}, {"slots": 2}):
        async with state.locked("job", **options):
            for timeout in (0, 1, None):
                with pytest.raises(AlreadyHeld):
                    await enter(other.locked("job", timeout, **options))
                await asyncio.ensure_future(enter(other.locked("job", timeout, **options)))
    async with state.locked("job"):
        with pytest.raises(AlreadyHeld):
            await other.lock("job")
    await other.close()


async def enter(block: Any) -> None:
    async with block:
        pass


@run
async def test_shared_locks(state: AsyncState, place: Place) -> None:
    """Several tasks hold it at a time."""
    inside = 0

    async def use() -> None:
        nonlocal inside
        async with state.locked("job", PATIENCE, slots=2):
            inside += 1
            assert inside <= 2
            await asyncio.sleep(0.01)
            inside -= 1

    await asyncio.gather(*(use() for _ in range(6)))
    with pytest.raises(InvalidValue):
        state.locked("job", shared=True, slots=2)


@run
async def test_transactions(state: AsyncState, place: Place) -> None:
    """`atomically` runs a plain function with the plain State; the block does not exist, and says why."""

    def move(plain: State) -> str:
        plain.set("a", 1)
        plain.set("b", 2)
        return "done"

    def fail(plain: State) -> None:
        plain.set("a", 3)
        raise ZeroDivisionError

    async def coroutine(plain: State) -> None:
        plain.set("a", 4)

    assert await state.atomically(move) == "done"
    with pytest.raises(ZeroDivisionError):
        await state.atomically(fail)

    def generator(plain: State) -> Iterator[int]:
        yield plain.set("a", 5)

    async def both(plain: State) -> AsyncIterator[int]:
        yield plain.set("a", 6)

    wrong: list[Callable[[State], Any]] = [coroutine, generator, both, functools.partial(generator)]
    for function in wrong:
        for call in (function, lambda plain, function=function: function(plain)):
            with pytest.raises(InvalidValue, match="plain function"):
                await state.atomically(call)
    for nothing in (5, None, "fn"):
        with pytest.raises(InvalidValue, match="fn must be callable"):
            await state.atomically(nothing)  # type: ignore[arg-type]
        async with state.locked("job") as lock:
            with pytest.raises(InvalidValue, match="fn must be callable"):
                await lock.atomically(nothing)  # type: ignore[arg-type]
    assert await state.get("a") == 1
    with pytest.raises(SlothStateError, match=r"await state\.atomically"):
        state.transaction()
    with pytest.raises(SlothStateError, match="snapshot"):
        state.snapshot()


@run
async def test_watching(state: AsyncState, place: Place) -> None:
    """`async for`, `next` with a timeout; what a cancelled one has read comes next."""
    other = place.open()
    async with state.watch("w*") as changes:
        other.set("w1", 1)
        other.set("v", 1)
        other.delete("w1")
        found = []
        async for change in changes:
            found.append((change.op, change.key))
            if change.op == "delete":
                break
        assert found == [("set", "w1"), ("delete", "w1")]
        assert await changes.next(0.02) is None
        for number in range(10):
            task = asyncio.ensure_future(changes.next())
            await asyncio.sleep(0.001 * (number % 4))
            other.set(f"w{number}", 1)
            await asyncio.sleep(0.0005 * (number % 5))
            task.cancel()
            try:
                told = await task
            except asyncio.CancelledError:
                told = await changes.next(PATIENCE)
            assert told is not None
            assert told.key == f"w{number}"
    assert await state.watches() == []


@run
async def test_a_watch_that_is_left_early(state: AsyncState, place: Place) -> None:
    """Ends soon, as nobody refers to it."""
    other = place.open()

    async def first() -> Any:
        async for change in state.watch("w*"):
            return change.key
        return None

    async with waiting(first()) as task:
        while not other.watches():
            await asyncio.sleep(0.01)
        other.set("w1", 1)
        assert await task == "w1"
    while other.watches():
        await asyncio.sleep(0.01)


@run
async def test_a_cancelled_next_hides_no_loss(state: AsyncState, place: Place) -> None:
    """`WatchLost` that nobody was told comes next."""
    other = place.open()
    async with state.watch("w*", name="mine") as changes:
        assert await changes.next(0) is None
        other.unwatch("mine")
        with other.transaction():
            async with waiting(changes.next()) as task:
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(WatchLost):
            await changes.next(5)
        other.set("w1", 1)
        change = await changes.next(5)
        assert change is not None
        assert change.key == "w1"


@run
async def test_claims(state: AsyncState, place: Place) -> None:
    """Done when the block ends, back when it raises or is cancelled; exactly once with `atomically`."""
    other = place.open()
    other.list_push("jobs", 1, 2)
    claim = await state.list_claim("jobs")
    assert claim is not None
    async with claim as item:
        assert (item, claim.key, claim.attempt, await claim.lost()) == (1, "jobs", 1, False)
    assert await claim.lost()
    claim = await state.list_claim(["none", "jobs"], timeout=1)
    assert claim is not None
    with pytest.raises(ZeroDivisionError):
        async with claim:
            raise ZeroDivisionError
    claim = await state.list_claim("jobs", ttl=60)
    assert claim is not None
    assert (claim.item, claim.attempt, await claim.extend(5)) == (2, 2, True)
    plain = claim.claim
    await claim.atomically(lambda store: (store.set("effect", 1), plain.done()))
    assert (await state.get("effect"), await state.list_length("jobs"), await state.claims()) == (1, 0, [])
    assert await state.list_claim("jobs", timeout=0.05) is None
    for pause in (0, 0.001, 0.004, 0.05):
        task = asyncio.ensure_future(state.list_claim("jobs", timeout=None))
        await asyncio.sleep(pause)
        other.list_push("jobs", "x")
        await asyncio.sleep(0.001)
        task.cancel()
        try:
            taken = await task
        except asyncio.CancelledError:
            taken = None
        if taken is not None:
            assert await taken.release()
        assert other.list_shift("jobs", timeout=5) == "x"
        assert other.claims() == []


@run
async def test_close_ends_waits(state: AsyncState, place: Place) -> None:
    """With `StateClosed`."""
    second = AsyncState(place.open())
    async with waiting(second.wait("k")) as task:
        await second.close()
        with pytest.raises(StateClosed):
            await task


@run
@pytest.mark.parametrize("what", ["lock", "claim", "watch"])
async def test_a_state_that_is_closed_inside_a_block(state: AsyncState, place: Place, what: str) -> None:
    """The error of the block comes, not that of ending it; a watch has ended with its State."""
    await state.list_push("q", 1, 2)
    for error in (ValueError("mine"), None):
        other = AsyncState(place.open())
        blocks: dict[str, Callable[[], Any]] = {
            "lock": lambda: other.locked("L"),  # noqa: B023
            "watch": lambda: other.watch(),  # noqa: B023
        }
        block: Any = blocks[what]() if what in blocks else await other.list_claim("q")
        expected = (
            nullcontext() if what == "watch" and error is None else pytest.raises(type(error) if error else StateClosed)
        )
        with expected:
            async with block:
                await other.close()
                if error is not None:
                    raise error


@run
async def test_a_busy_store_ends_waits_in_time(state: AsyncState, place: Place) -> None:
    """Who holds a transaction keeps none of them waiting past its timeout, however many there are; items stay."""
    holder = place.open()
    holder.list_push("q", 1)
    begun, over = threading.Event(), threading.Event()

    def hold() -> None:
        with holder.transaction():
            begun.set()
            over.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    before = time.monotonic()
    calls: list[Awaitable[Any]] = [
        state.list_shift("q", timeout=0.1),
        state.list_pop(["q"], timeout=0.1),
        state.list_claim("q", 0.1),
    ]
    calls += [state.list_claim("q", 0.1) for _ in range(3 * THREADS)]
    calls += [state.lock(f"L{number}", 0.1) for number in range(2)]
    # Its first one begins it.
    watch = state.watch()
    calls += [watch.next(0.1)]
    found = await asyncio.gather(*calls)
    # Far from the many seconds that each of them, or all one after the other, would take.
    assert time.monotonic() - before < 2
    assert not any(found)
    # One that does not wait is refused as any verb.
    hasty = AsyncState(place.open(busy_timeout=0.05))
    for call in (hasty.list_shift("q"), hasty.list_claim("q"), hasty.list_pop("q", timeout=None)):
        with pytest.raises(StateBusy):
            await call
    await hasty.close()
    over.set()
    thread.join()
    holder.set("k", 1)
    assert await watch.next(0.1) is None
    holder.set("k", 2)
    assert await watch.next(PATIENCE) is not None
    await watch.close()
    assert holder.list_range("q") == [1]
    assert [*holder.claims(), *holder.locks()] == []


@run
async def test_cancelled_after_its_timeout(state: AsyncState, place: Place) -> None:
    """What has taken an item late returns it, and the task is cancelled at its next `await`."""
    await state.list_push("q", 1)
    shift = state.state.list_shift
    state.state.list_shift = lambda keys: time.sleep(0.3) or shift(keys)  # type: ignore[method-assign, assignment]
    found = []

    async def take() -> None:
        found.append(await state.list_shift("q", timeout=0.01))
        found.append("handled")
        await asyncio.sleep(PATIENCE)

    task = asyncio.create_task(take())
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert found == [1, "handled"]


@run
async def test_a_watch_of_several_tasks(state: AsyncState, place: Place) -> None:
    """Each change goes to one of them; closed by one, even while it begins, it is closed for all."""
    watch = state.watch("k*")
    tasks = [asyncio.create_task(watch.next()) for _ in range(3)]
    await asyncio.sleep(0.05)
    for key in ("k1", "k2", "k3"):
        await state.set(key, 1)
    found = await asyncio.gather(*tasks)
    assert sorted(change.key for change in found if change is not None) == ["k1", "k2", "k3"]
    async with waiting(watch.next()) as last:
        await watch.close()
        with pytest.raises(SlothStateError, match="this watch is closed"):
            await last
    beginning, never = state.watch(), state.watch()
    task = asyncio.create_task(beginning.next())
    await asyncio.sleep(0)
    await beginning.close()
    await never.close()
    for closed in (task, never.next()):
        with pytest.raises(SlothStateError, match="this watch is closed"):
            await closed
    assert await state.watches() == []


def test_cancelled_while_it_opens_or_closes(tmp_path: Path) -> None:
    """What was opened for nobody is closed; what is being closed is closed all the same."""
    closed: list[int] = []

    class Counted(State):
        def close(self) -> None:
            closed.append(1)
            super().close()

    def slowly_open(path: Path) -> State:
        time.sleep(0.05)
        state = Counted(slothstate.open(path)._engine)
        opened.append(state)
        return state

    opened: list[State] = []

    async def main() -> None:
        opening = asyncio.create_task(aio.open(tmp_path / "s.db")._open())
        await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        while not closed:
            await asyncio.sleep(0.01)
        state = await aio.open(tmp_path / "s.db")
        task = asyncio.create_task(state.close())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while len(closed) < 2:
            await asyncio.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slothstate.aio.plain.open", slowly_open)
        asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert len(opened) == 2


@run
async def test_waits_share_one_thread(state: AsyncState, place: Place) -> None:
    """A hundred of them need no more threads than one; the loop goes on."""
    before = threading.active_count()
    tasks = [asyncio.ensure_future(state.list_shift("q", timeout=None)) for _ in range(100)]
    await asyncio.sleep(0.1)
    assert threading.active_count() - before <= THREADS + 1
    other = place.open()
    other.list_push("q", *range(100))
    assert sorted(await asyncio.gather(*tasks)) == list(range(100))


@run
async def test_a_hit_runs_in_the_loop(state: AsyncState, place: Place) -> None:
    """It takes no thread, and little time; a write of anybody is seen at once."""
    if "read cache" not in place.features:
        pytest.skip("this engine has no read cache")
    other = place.open()
    await state.set("k", 1)
    await state.get("k")
    count = 2000

    async def each() -> float:
        began = time.perf_counter()
        for _ in range(count):
            await state.get("k")
        return (time.perf_counter() - began) / count

    times = [await each() for _ in range(5)]
    assert min(times) < 20e-6
    for number in range(50):
        other.set("k", number)
        assert await state.get("k") == number
