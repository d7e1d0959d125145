"""Verbs that wait: `wait`, and `list_pop` and `list_shift` with a timeout and with several keys; on each engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from helpers.places import Place
from helpers.support import in_time, until
from slothstate import InvalidKey, InvalidValue, SlothStateError, State, StateClosed, WrongType
from slothstate.verbs.waiting import wait_until

LATE = 0.1
"""Seconds that a wait may end after its timeout."""

PATIENCE = 30.0
"""Seconds after which what does not come will never come."""


class Waiter:
    """A thread that waits on a State of its own: what it got, or the error."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error

    def get(self) -> Any:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.result

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()


def test_at_once_if_it_differs(state: State) -> None:
    """What differs already, deeply, is returned without a wait; None stands for a missing key."""
    state.set_many({"n": 1, "t": {"a": [1, True]}, "none": [None]})
    assert state.wait("n") == 1
    assert state.wait("n", 2) == 1
    assert state.wait("n", True) == 1
    assert state.wait("t", {"a": [1, 1]}) == {"a": [1, True]}
    assert state.wait("t", {"a": (1, True), "b": 1}) == {"a": [1, True]}
    assert state.wait("missing", 1) is None


@pytest.mark.parametrize("seen", [1, 1.0, {"a": (1, [2.0])}, "text", b"\xff", [], None])
def test_what_equals_is_waited_for(state: State, seen: Any) -> None:
    """Equal as `compare_swap` compares: then it waits, for the timeout and not much longer, and returns the value."""
    if seen is not None:
        state.set("k", seen)
    for timeout in (0, 0.05, timedelta(seconds=0.05)):
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        value = state.get("k")

        def late() -> float:
            before = time.monotonic()
            assert state.wait("k", seen, timeout) == value  # noqa: B023
            lasted = time.monotonic() - before
            assert lasted >= seconds  # noqa: B023
            return lasted - seconds  # noqa: B023

        assert in_time(late, LATE)


@pytest.mark.parametrize("change", ["set", "delete", "other key first", "expiry", "in a transaction", "list"])
def test_a_change_ends_the_wait(place: Place, change: str) -> None:
    """By whatever verb of whichever State, and by time alone."""
    writer, reader = place.open(), place.open()
    writer.set("k", [1])
    if change == "expiry":
        writer.set_ttl("k", 0.2)
    waiter = Waiter(lambda: reader.wait("k", [1], PATIENCE))
    time.sleep(0.02)
    assert waiter.waits
    if change == "set":
        writer.set("k", 2)
    elif change == "delete":
        writer.delete("k")
    elif change == "other key first":
        writer.set("other", 1)
        time.sleep(0.02)
        assert waiter.waits
        writer.set("k", 3)
    elif change == "in a transaction":
        with writer.transaction():
            writer.set("k", 5)
            writer.set("k", 4)
    elif change == "list":
        writer.list_push("k", 2)
    expected = {"set": 2, "delete": None, "other key first": 3, "expiry": None, "in a transaction": 4, "list": [1, 2]}
    assert waiter.get() == expected[change]


def test_what_was_undone_is_no_change(place: Place) -> None:
    """A transaction that is undone ends no wait."""
    writer, reader = place.open(), place.open()
    waiter = Waiter(lambda: reader.wait("k", None, 0.3))
    with pytest.raises(ZeroDivisionError), writer.transaction():
        writer.set("k", 5)
        raise ZeroDivisionError
    assert waiter.get() is None


@pytest.mark.parametrize("verb", ["list_pop", "list_shift"])
def test_take_waits_for_an_item(place: Place, verb: str) -> None:
    """An item that is pushed by another State ends the wait; nobody gets it twice."""
    writer, reader = place.open(), place.open()
    waiters = [Waiter(lambda: getattr(reader, verb)("q", "none", 0.6)) for _ in range(3)]
    time.sleep(0.02)
    assert all(waiter.waits for waiter in waiters)
    writer.list_push("q", {"a": 1}, [2])
    got = [waiter.get() for waiter in waiters]
    assert sorted(map(str, got)) == sorted(map(str, [{"a": 1}, [2], "none"]))
    assert not writer.exists("q")


@pytest.mark.parametrize("verb", ["list_pop", "list_shift"])
def test_several_keys(place: Place, verb: str) -> None:
    """The first that has an item, in their order; the result names the key, and is the default alone without one."""
    state = place.open()
    take = getattr(state, verb)
    state.list_push("low", "l1", "l2")
    state.list_push("high", "h1")
    assert take(["high", "low"]) == ("high", "h1")
    assert take(("high", "low"))[0] == "low"
    assert take(["low"])[0] == "low"
    assert take(["high", "low"]) is None
    assert take(["high", "low"], default="d", timeout=0.01) == "d"
    waiter = Waiter(lambda: getattr(place.open(), verb)(["high", "low"], timeout=PATIENCE))
    time.sleep(0.02)
    state.list_push("low", "later")
    assert waiter.get() == ("low", "later")


def test_wrong_arguments(state: State) -> None:
    """Keys, timeouts and kinds are checked before anything is taken."""
    state.set("text", "t")
    state.list_push("q", 1)
    for keys, error in (([], InvalidValue), ([1], InvalidKey), (["q", ""], InvalidKey), (7, InvalidKey)):
        with pytest.raises(error):
            state.list_pop(keys)  # type: ignore[arg-type]
    for timeout in (-1, "1", True, float("nan"), float("inf")):
        with pytest.raises(InvalidValue, match="timeout"):
            state.list_shift("q", timeout=timeout)  # type: ignore[arg-type]
        with pytest.raises(InvalidValue, match="timeout"):
            state.wait("q", timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(WrongType):
        state.list_pop("text", timeout=1)
    with pytest.raises(WrongType):
        state.list_pop(["missing", "text", "q"])
    with pytest.raises(InvalidValue):
        state.wait("q", {1})
    assert state.get("q") == [1]


@pytest.mark.parametrize("block", ["transaction", "snapshot"])
def test_no_wait_inside(state: State, block: str) -> None:
    """Nobody could end it: an error at once, item or not; with a timeout of 0 they work as any verb."""
    state.list_push("q", 1)
    with getattr(state, block)():
        for call in (
            lambda: state.wait("q", None, None),
            lambda: state.wait("q", 7, 1),
            lambda: state.list_pop("q", timeout=1),
            lambda: state.list_shift(["q"], timeout=None),
        ):
            with pytest.raises(SlothStateError, match="inside transaction\\(\\) or snapshot\\(\\)"):
                call()
        assert state.wait("q", [1], 0) == [1]
        if block == "transaction":
            assert state.list_pop(["q"]) == ("q", 1)
    assert state.get("q") == (None if block == "transaction" else [1])


def test_close_ends_a_wait(place: Place) -> None:
    """`close()` in another thread: `StateClosed`, soon."""
    calls: list[Callable[[State], object]] = [
        lambda s: s.wait("k", None, None),
        lambda s: s.list_shift("k", timeout=None),
    ]
    for call in calls:
        state = place.open()
        waiter = Waiter(lambda: call(state))  # noqa: B023
        time.sleep(0.05)
        before = time.monotonic()
        state.close()
        with pytest.raises(StateClosed):
            waiter.get()
        assert time.monotonic() - before < 2


def test_closing_gives_nothing_to_itself(place: Place) -> None:
    """What a State gives back when it is closed is for others, and not for its own threads that wait for it."""
    calls: list[Callable[[State], object]] = [
        lambda s: s.list_claim("q", None),
        lambda s: s.lock("held", 60),
        lambda s: s.watch().next(),
    ]
    other = place.open()
    other.list_push("q", "item")
    for attempt in range(1, 6):
        state = place.open()
        claim = state.list_claim("q")
        assert claim is not None
        assert claim.attempt == attempt
        assert state.try_lock("held")
        waiters = [Waiter(lambda call=call: call(state)) for call in calls]  # type: ignore[misc]  # noqa: B023
        until(other.watches)
        time.sleep(0.03)
        state.close()
        for waiter in waiters[:2]:
            with pytest.raises(StateClosed):
                waiter.get()
        # That the item is back may be the change.
        with suppress(StateClosed):
            assert waiters[2].get().key == "q"
        assert other.list_length("q") == 1
        assert [*other.claims(), *other.locks(), *other.watches()] == []


def test_expired_list_has_no_item(place: Place) -> None:
    """What has expired and was not swept is not there to take."""
    state = place.open()
    state.set("q", [1], ttl=0.05)
    time.sleep(0.06)
    assert state.list_shift("q", "none", 0.02) == "none"
    assert state.list_pop(["q"], "none") == "none"


def test_busy_store_ends_a_wait_in_time(place: Place) -> None:
    """Who holds a transaction keeps nobody waiting past the timeout."""
    holder, reader = place.open(), place.open()
    holder.list_push("q", 1)

    def late() -> float:
        before = time.monotonic()
        assert Waiter(lambda: reader.list_pop("q", "none", 0.2)).get() == "none"
        return time.monotonic() - before - 0.2

    with holder.transaction():
        holder.set("k", 1)
        assert in_time(late, LATE)
    assert reader.list_pop("q") == 1


def test_nothing_is_missed_between_a_look_and_the_wait(place: Place) -> None:
    """What is committed after a look has read, and before it waits, ends the wait at once: levels, not edges."""
    reader, writer = place.open(), place.open()

    def late() -> float:
        writer.delete("k")
        looks = 0

        def look() -> Any:
            nonlocal looks
            found = reader.get("k")
            looks += 1
            if looks == 1:
                writer.set("k", 1)
            return found

        before = time.monotonic()
        assert wait_until(reader._engine, look, PATIENCE) == 1
        return time.monotonic() - before

    assert in_time(late, 0.2)


def test_many_waiters_of_one_state(place: Place) -> None:
    """Each item goes to one of them, whichever thread looks for the others."""
    state, writer = place.open(), place.open()
    waiters = [Waiter(lambda: state.list_shift("q", timeout=PATIENCE)) for _ in range(40)]
    for number in range(40):
        writer.list_push("q", number)
        if number % 7 == 0:
            time.sleep(0.005)
    assert sorted(waiter.get() for waiter in waiters) == list(range(40))
