"""Locks with several holders: shared ones, and those with slots; the same on each engine."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from helpers.places import Place
from helpers.support import in_time, wanted
from slothstate import AlreadyHeld, InvalidValue, LockLost, LockTimeout, State

PATIENCE = 30.0
"""Seconds after which what does not come will never come."""


class Holder:
    """A thread that holds a lock through a State of its own until it is told to let go."""

    def __init__(self, state: State, name: str = "job", timeout: float | None = 0, **options: Any) -> None:
        self._go = threading.Event()
        self._settled = threading.Event()
        self.token = 0
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._hold, args=(state, name, timeout, options))
        self._thread.start()

    def _hold(self, state: State, name: str, timeout: float | None, options: dict[str, Any]) -> None:
        try:
            with state.locked(name, timeout, **options) as lock:
                self.token = lock.token
                self._settled.set()
                self._go.wait(PATIENCE)
        except BaseException as error:
            self.error = error
        finally:
            self._settled.set()

    @property
    def holds(self) -> bool:
        assert self._settled.wait(PATIENCE)
        return self.error is None

    @property
    def waits(self) -> bool:
        return not self._settled.is_set()

    def let_go(self) -> None:
        self._go.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def test_shared_by_any_number(place: Place) -> None:
    """Each holder has its own token; nobody has it alone meanwhile, and nobody shares what one has alone."""
    states = [place.open() for _ in range(4)]
    holders = [Holder(state, shared=True) for state in states[:3]]
    assert [holder.holds for holder in holders] == [True] * 3
    assert len({holder.token for holder in holders}) == 3
    described = states[3].locks()
    assert [(lock["name"], lock["shared"], lock["slots"]) for lock in described] == [("job", True, None)] * 3
    assert [lock["token"] for lock in described] == sorted(holder.token for holder in holders)
    assert states[3].try_lock("job") is False
    with pytest.raises(LockTimeout), states[3].locked("job", 0.02):
        pass
    for holder in holders:
        holder.let_go()
    with states[3].locked("job", 0) as lock:
        assert lock.token > max(holder.token for holder in holders)
        refused = Holder(states[0], shared=True)
        assert isinstance(refused.error, LockTimeout) or not refused.holds
        refused.let_go()
    assert states[0].locks() == []


def test_slots(place: Place) -> None:
    """Up to as many hold it as there are; the next one waits for whoever ends first."""
    states = [place.open() for _ in range(4)]
    holders = [Holder(state, slots=2) for state in states[:2]]
    assert [holder.holds for holder in holders] == [True, True]
    third = Holder(states[2], slots=2)
    assert not third.holds
    third.let_go()
    waiting = Holder(states[3], timeout=PATIENCE, slots=2)
    time.sleep(0.05)
    assert waiting.waits
    holders[0].let_go()
    assert waiting.holds
    assert waiting.token > max(holder.token for holder in holders)
    assert [lock["slots"] for lock in states[0].locks()] == [2, 2]
    holders[1].let_go()
    waiting.let_go()


def test_who_waits_alone_keeps_new_ones_out(place: Place) -> None:
    """Shared holders that come all the time do not starve it."""
    states = [place.open() for _ in range(3)]
    first = Holder(states[0], shared=True)
    assert first.holds
    alone = Holder(states[1], timeout=PATIENCE)

    def is_kept_out() -> float:
        late = Holder(states[2], shared=True)
        kept_out = not late.holds
        late.let_go()
        return 0.0 if kept_out else 1.0

    time.sleep(0.05)
    assert in_time(is_kept_out, 0.5)
    assert alone.waits
    later = Holder(states[2], timeout=PATIENCE, shared=True)
    first.let_go()
    assert alone.holds
    assert later.waits
    alone.let_go()
    assert later.holds
    later.let_go()


def test_who_gives_up_waiting_alone_keeps_nobody_out(place: Place) -> None:
    """Its wait has ended."""
    states = [place.open() for _ in range(3)]
    first = Holder(states[0], shared=True)
    assert first.holds
    with pytest.raises(LockTimeout), states[1].locked("job", 0.1):
        pass
    second = Holder(states[2], timeout=1, shared=True)
    assert second.holds
    first.let_go()
    second.let_go()


STREAMS: list[tuple[dict[str, Any], dict[str, Any]]] = [({}, {"shared": True}), ({"shared": True}, {})]


@pytest.mark.parametrize(("stream", "one"), STREAMS)
def test_nobody_starves(place: Place, stream: Any, one: Any) -> None:
    """Neither who shares it beside a stream of those who do not, nor who has it alone beside a stream of sharers."""
    over = threading.Event()

    def work(state: State) -> None:
        while not over.is_set():
            with state.locked("job", PATIENCE, **stream):
                # Longer than it takes for a wait to be told to others.
                time.sleep(0.05)
            time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(place.open(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    state = place.open()
    try:
        time.sleep(0.2)
        for _ in range(3):
            with state.locked("job", PATIENCE, **one):
                pass
    finally:
        over.set()
        for thread in threads:
            thread.join(PATIENCE)


def test_who_comes_later_to_have_it_alone_keeps_nobody_out_who_waits(place: Place) -> None:
    """Only those who come after it: as the engine decides, look by look."""
    holder, sharer, alone = (place.open() for _ in range(3))

    def attempt(state: State, nonce: int, shared: bool) -> bool:
        return state._engine.locks.attempt(wanted("job", nonce, shared), None, lambda _: None) is not None

    holder.lock("job")
    assert not attempt(sharer, 1, True)
    assert not attempt(alone, 2, False)
    # Until it has told others that it waits.
    time.sleep(0.15)
    assert not attempt(alone, 2, False)
    holder.unlock("job")
    assert not attempt(sharer, 3, True), "it comes after the one that waits alone"
    assert attempt(sharer, 1, True), "it came before that one"
    assert not attempt(alone, 2, False)
    sharer._engine.locks.release("job", 1)
    assert attempt(alone, 2, False)
    alone._engine.locks.release("job", 2)
    assert attempt(sharer, 3, True)
    sharer._engine.locks.release("job", 3)


@pytest.mark.parametrize("timeout", [0, 1, None])
@pytest.mark.parametrize("same", [True, False])
def test_tasks_of_one_thread_share_it(place: Place, same: bool, timeout: float | None) -> None:
    """Each task is a caller of its own, also through one State: there is room, so nobody waits for itself."""
    state = place.open()
    other = state if same else place.open()

    async def hold(state: State) -> int:
        with state.locked("job", timeout, shared=True):
            await asyncio.sleep(0.05)
            return len(state.locks())

    async def both() -> list[int]:
        return [*await asyncio.gather(hold(state), hold(other))]

    assert asyncio.run(both()) == [2, 1]


def test_unlock_ends_one_that_is_not_lost(place: Place) -> None:
    """Of several acquisitions of a State, a caller without one of its own ends one that still holds the lock."""
    state = place.open()
    blocks = []

    def take(ttl: float | None) -> None:
        block = state.locked("job", 0, ttl, slots=2)
        block.__enter__()
        blocks.append(block)

    for ttl in (0.05, None):
        thread = threading.Thread(target=take, args=(ttl,))
        thread.start()
        thread.join(PATIENCE)
    time.sleep(0.06)
    assert state.unlock("job") is True
    assert state.locks() == []
    assert state.unlock("job") is False


MISMATCHES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"slots": 2}, {"slots": 3}),
    ({"slots": 2}, {}),
    ({}, {"slots": 2}),
    ({"shared": True}, {"slots": 2}),
    ({"slots": 2}, {"shared": True}),
]


@pytest.mark.parametrize("timeout", [0, None, 1])
@pytest.mark.parametrize(("held", "asked"), MISMATCHES)
def test_all_state_the_same(place: Place, held: Any, asked: Any, timeout: float | None) -> None:
    """Other slots than the holders state are `InvalidValue` at once, whatever the timeout; both are named."""
    state, other = place.open(), place.open()
    holder = Holder(state, **held)
    assert holder.holds
    with pytest.raises(InvalidValue, match="slots="), other.locked("job", timeout, **asked):
        pass
    if asked == {}:
        for verb in (other.lock, other.try_lock):
            with pytest.raises(InvalidValue, match="slots=2"):
                verb("job")
    holder.let_go()


@pytest.mark.parametrize("options", [{"shared": True}, {"slots": 2}])
def test_twice_in_one_thread(place: Place, options: Any) -> None:
    """Is `AlreadyHeld`, also through another State, and where there is room for it."""
    state, other = place.open(), place.open()
    with state.locked("job", 0, **options):
        for again in (state, other):
            for timeout in (0, 1, None):
                with pytest.raises(AlreadyHeld), again.locked("job", timeout, **options):
                    pass
        if "shared" in options:
            with pytest.raises(AlreadyHeld), state.locked("job", None):
                pass
    assert state.locks() == []


def test_wrong_arguments(state: State) -> None:
    """Checked at the call."""
    for slots in (0, -1, 1.0, True, "2", None, 2**63):
        with pytest.raises(InvalidValue, match="slots must be an int >= 1"):
            state.locked("job", slots=slots)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="shared=True and slots=2"):
        state.locked("job", shared=True, slots=2)
    with pytest.raises(InvalidValue, match="shared must be"):
        state.locked("job", shared=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"shared": True}, {"slots": 2}])
def test_extend(place: Place, options: Any) -> None:
    """A new TTL from now, also where there was none; False once it is lost."""
    state, other = place.open(), place.open()
    with state.locked("job", 0, ttl=0.3, **options) as lock:
        assert lock.extend(30) is True
        time.sleep(0.35)
        assert lock.lost is False
        [described] = other.locks()
        assert described["expires"] is not None
        assert described["expires"] - time.time() == pytest.approx(29.6, abs=1)
        for seconds in (0, -1, "1", None):
            with pytest.raises(InvalidValue, match="seconds"):
                lock.extend(seconds)  # type: ignore[arg-type]
        lock.extend(30)
    assert lock.extend(30) is False
    with pytest.raises(LockLost), state.locked("job", 0, **options) as lock:
        assert lock.extend(0.02) is True
        time.sleep(0.05)
        assert (lock.lost, lock.extend(1)) == (True, False)
    assert other.locks() == []


def test_one_that_is_lost_leaves_the_others(place: Place) -> None:
    """A TTL ends one holder; what the other writes is fenced by its own."""
    states = [place.open() for _ in range(3)]
    kept = Holder(states[0], slots=2)
    assert kept.holds
    with pytest.raises(LockLost), states[1].locked("job", 0, ttl=0.05, slots=2) as lock:
        time.sleep(0.06)
        third = Holder(states[2], slots=2)
        assert third.holds
        with pytest.raises(LockLost), lock.transaction():
            states[1].set("k", 1)
        third.let_go()
    assert states[0].get("k") is None
    kept.let_go()


def test_breaking_takes_all(place: Place) -> None:
    """`break_lock(alive=True)` ends every holder; without it none that lives."""
    state, other = place.open(), place.open()
    holders = [Holder(place.open(), shared=True) for _ in range(2)]
    assert all(holder.holds for holder in holders)
    assert other.break_lock("job") is False
    assert other.break_lock("job", alive=True) is True
    assert state.locks() == []
    for holder in holders:
        holder.let_go()
        assert isinstance(holder.error, LockLost)


def test_never_more_than_there_are_slots(place: Place) -> None:
    """Many threads, each with a State of its own: at no time more than three inside, and all come in."""
    inside, most, done = 0, 0, 0
    mutex = threading.Lock()

    def work(state: State) -> None:
        nonlocal inside, most, done
        for _ in range(10):
            with state.locked("job", PATIENCE, slots=3):
                with mutex:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with mutex:
                    inside -= 1
                    done += 1

    threads = [threading.Thread(target=work, args=(place.open(),)) for _ in range(8)]
    run: list[Callable[[], None]] = [thread.start for thread in threads] + [thread.join for thread in threads]
    for step in run:
        step()
    assert (most <= 3, done) == (True, 80)
