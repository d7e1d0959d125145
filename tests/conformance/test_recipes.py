"""The recipes: memoize, once, rate_limit; on each engine, as they use public verbs alone."""

from __future__ import annotations

import ast
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import slothstate.recipes
from helpers.places import Place
from helpers.support import Clock, in_threads
from slothstate import InvalidKey, InvalidValue, SlothStateError, State, WrongType
from slothstate.aio import AsyncState
from slothstate.recipes import memoize, once, rate_limit


def together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What a call returns in several threads at once."""
    return in_threads(partial(call, index) for index in range(count))


def test_memoize(place: Place) -> None:
    """One computes, the others wait for it; keyword and positional forms of one call are one, None is a result."""
    states = [place.open() for _ in range(4)]
    calls: list[tuple[Any, ...]] = []

    def slow(a: int, b: str = "b", *more: Any, flag: bool = False) -> Any:
        calls.append((a, b, more, flag))
        time.sleep(0.05)
        return None if a == 0 else [a, (b, more), flag]

    functions = [memoize(state, name="slow")(slow) for state in states]
    assert together(4, lambda index: functions[index](1)) == [[1, ["b", []], False]] * 4
    assert len(calls) == 1
    assert functions[0](b="b", a=1) == functions[1](1, "b", flag=False) == [1, ["b", []], False]
    assert len(calls) == 1
    assert [functions[0](0), functions[1](0)] == [None, None]
    assert len(calls) == 2
    assert functions[0](1, flag=True) != functions[0](1)
    assert (functions[0].__name__, len(calls)) == ("slow", 3)
    assert all(key.startswith("memoize:slow:") for key in states[0])


def double(number: Any) -> Any:
    return [number, number]


def test_the_key_of_memoize(state: State) -> None:
    """MODULE.QUALNAME and the arguments; a second one that has the same has to be given a name."""

    def local(number: int) -> int:
        return number + 1

    def adder(by: int) -> Callable[[int], int]:
        def add(number: int) -> int:
            return number + by

        return add

    class Scale:
        factor = 2

        def times(self, number: int) -> int:
            return number * self.factor

        def __call__(self, number: int) -> int:
            return number

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(function)(lambda *arguments: function(*arguments))

    assert memoize(state)(double)(2) == [2, 2]
    assert memoize(state)(decorated(double))(2) == [2, 2]
    assert state.keys() == [f'memoize:{__name__}.double:{{"number":2}}']
    assert (memoize(state)(local)(1), memoize(state)(len)("four")) == (2, 4)
    scale, other = Scale(), Scale()
    half: Callable[[], Any] = functools.partial(double, 1)
    first: list[Callable[..., Any]] = [lambda number: number, adder(1), scale.times, scale, decorated(adder(1))]
    assert [memoize(state)(function)(3) for function in first] == [3, 4, 6, 3, 4]
    # The same once more, as another process would have it.
    assert [memoize(state)(function)(3) for function in [*first, adder(1), scale.times]] == [3, 4, 6, 3, 4, 4, 6]
    second: list[Callable[..., Any]] = [lambda number: -number, adder(2), other.times]
    for function in second:
        with pytest.raises(InvalidValue, match="name="):
            memoize(state)(function)
    named = [memoize(state, name=f"named-{number}")(function) for number, function in enumerate(second)]
    assert [function(3) for function in named] == [-3, 5, 6]
    assert memoize(state, name="half")(half)() == [1, 1]

    count = 0

    def counted() -> int:
        return count

    # The very same function, whatever it finds around it by now.
    assert memoize(state)(counted)() == 0
    count = 1
    assert memoize(state)(counted)() == 0
    for name in ("", 5, "nul\0", "x" * 501, "\ud800"):
        with pytest.raises(InvalidValue):
            memoize(state, name=name)  # type: ignore[arg-type]


def test_arguments_that_are_no_plain_values(state: State) -> None:
    """Are refused, whatever JSON would make of them; what the store tells apart is told apart."""

    @memoize(state, name="shown")
    def shown(argument: Any) -> str:
        return repr(argument)

    deep: Any = 1
    for _ in range(2000):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    no_values = (
        {1: 2},
        {True: 1},
        {None: 1},
        {1.5: 1},
        {(1,): 2},
        "\ud800",
        deep,
        cycle,
        2**100,
        b"",
        {1},
        float("inf"),
    )
    for argument in no_values:
        with pytest.raises(InvalidValue, match="arguments must be plain values"):
            shown(argument)
    assert state.keys() == []
    plain: tuple[Any, ...] = (
        {"1": 2},
        {"true": 1},
        {"null": 1},
        {},
        True,
        "true",
        None,
        "null",
        1,
        1.0,
        "1",
        [1],
        ["1"],
        [[1]],
        "\0",
        "é",
    )
    assert [shown(argument) for argument in plain] == [repr(argument) for argument in plain]
    assert len(state) == len(plain)
    assert shown({"a": 1, "b": 2}) == shown({"b": 2, "a": 1})
    # A tuple comes back as a list, and counts as one.
    assert (shown([1, 2]), shown((1, 2))) == ("[1, 2]", "[1, 2]")


def test_foreign_values(state: State) -> None:
    """What another program keeps under the key is an error, not a result."""
    for value in ("hello", 5, [], [7, 8], {"a": 1}, {}, b"bytes", True):
        for key in ("mine", f'memoize:{__name__}.double:{{"number":3}}'):
            state.set(key, value)
        with pytest.raises(WrongType, match="'mine' holds something that once has not kept"):
            once(state, "mine", list)
        with pytest.raises(WrongType, match="memoize has not kept"):
            memoize(state)(double)(3)
        assert state.get("mine") == value
    state.set("rate_limit:mine", "text")
    with pytest.raises(WrongType):
        rate_limit(state, "mine", 1, 60)


def test_inside_a_transaction(state: State) -> None:
    """A result that is there is returned; one that is to be computed is an error that says why."""
    call = memoize(state)(double)
    assert (call(1), once(state, "known", lambda: 1)) == ([1, 1], 1)
    for block in (state.transaction, state.snapshot):
        with block():
            assert (call(1), once(state, "known", lambda: 2)) == ([1, 1], 1)
            computing: list[Callable[[], Any]] = [lambda: call(2), lambda: once(state, "new", lambda: 2)]
            for compute in computing:
                with pytest.raises(SlothStateError, match="under a lock, so call it before"):
                    compute()
    assert (call(2), once(state, "new", lambda: 2)) == ([2, 2], 2)


def test_memoize_for_a_time(place: Place, clock: Clock) -> None:
    """Then it is computed anew."""
    state = place.open(clock)
    calls: list[int] = []

    @memoize(state, ttl=60, name="double")
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert (double(2), double(2), calls) == (4, 4, [2])
    clock.advance(61)
    assert (double(2), calls) == (4, [2, 2])
    assert memoize(state, timedelta(minutes=1))(slow_name)() == "slow"
    wrong: tuple[Any, ...] = (
        0,
        -1,
        "x",
        True,
        float("nan"),
        float("inf"),
        1e11,
        10**400,
        timedelta.max,
        timedelta(0),
        [],
    )
    for ttl in wrong:
        with pytest.raises(InvalidValue, match="ttl must be"):
            memoize(state, ttl)
    assert calls == [2, 2]


def test_what_they_take(state: State) -> None:
    """A plain State, a name that a key can have, and functions whose call gives the result: else an error at once."""

    async def coroutine_function() -> None: ...

    def generator_function() -> Iterator[None]:
        yield

    async def asynchronous_generator() -> AsyncIterator[None]:
        yield

    not_functions: list[Any] = [5, None, coroutine_function, generator_function, asynchronous_generator]
    for function in not_functions:
        with pytest.raises(InvalidValue, match="must be a plain function"):
            memoize(state)(function)
        with pytest.raises(InvalidValue, match="must be a plain function"):
            once(state, "key", function)
    not_states: list[Any] = [None, {}, slow_name, AsyncState(state)]
    for other in not_states:
        with pytest.raises(InvalidValue, match=r"state must be a slothstate\.State, got"):
            memoize(other)
        with pytest.raises(InvalidValue, match="state must be"):
            once(other, "key", slow_name)
        with pytest.raises(InvalidValue, match="state must be"):
            rate_limit(other, "name", 1, per=1)
    for name in ("", "x" * 501, "\0", "\ud800", 5):
        with pytest.raises(InvalidValue, match="name must be"):
            memoize(state, name=name)  # type: ignore[arg-type]
    assert memoize(state, name="\u20ac" * 500)(slow_name)() == "slow"


def slow_name() -> str:
    return "slow"


def test_memoize_refuses(state: State) -> None:
    """Exceptions are kept for nobody; arguments and results that are no plain values are errors that keep nothing."""
    outcomes: list[Any] = [ZeroDivisionError(), object(), "fine"]

    @memoize(state, name="unsteady")
    def unsteady(argument: Any = 0) -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with pytest.raises(ZeroDivisionError):
        unsteady()
    with pytest.raises(InvalidValue):
        unsteady()
    assert (unsteady(), unsteady()) == ("fine", "fine")
    for argument in (object(), {1, 2}, float("nan"), b"bytes"):
        with pytest.raises(InvalidValue, match="arguments must be plain values"):
            unsteady(argument)
    with pytest.raises(TypeError):
        unsteady(1, 2)  # type: ignore[call-arg]
    assert state.locks() == []


def test_memoize_of_long_arguments(state: State) -> None:
    """Past what a key can hold their SHA-256 stands for them."""
    calls: list[int] = []

    @memoize(state, name="size")
    def size(text: str) -> int:
        calls.append(len(text))
        return len(text)

    assert (size("x" * 10_000), size("x" * 10_000), size("y" * 10_000)) == (10_000, 10_000, 10_000)
    assert calls == [10_000, 10_000]
    assert all(len(key.encode()) <= 4096 for key in state)


def test_once(place: Place) -> None:
    """Its result, now and ever after, whoever asks; an exception lets the next one try."""
    states = [place.open() for _ in range(4)]
    calls: list[int] = []

    def begin() -> None:
        calls.append(1)
        time.sleep(0.05)

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        once(states[0], "setup", fail)
    assert together(4, lambda index: once(states[index], "setup", begin)) == [None] * 4
    assert (calls, once(states[0], "other", lambda: {"a": 1})) == ([1], {"a": 1})
    states[0].delete("setup")
    once(states[1], "setup", begin)
    assert calls == [1, 1]
    for key in ("", 5, "\0", "k" * 4097):
        with pytest.raises(InvalidKey, match=r"^key "):
            once(states[0], key, begin)  # type: ignore[arg-type]
    # Any key will do, whatever its lock is called.
    for key in ("k" * 4091, "k" * 4092, "é" * 2048):
        assert (once(states[0], key, lambda: 1), once(states[1], key, lambda: 2)) == (1, 1)
    assert once(states[0], "gone", lambda: states[1].delete("gone")) is False


def test_rate_limit(place: Place, clock: Clock) -> None:
    """So many of a period, over all States; past it none until it ends, and uses past the limit count."""
    states = [place.open(clock) for _ in range(2)]
    assert [rate_limit(states[index % 2], "ip", 3, per=60) for index in range(5)] == [True, True, True, False, False]
    assert rate_limit(states[0], "another", 3, per=60)
    clock.advance(61)
    assert rate_limit(states[0], "ip", 3, per=60)
    assert rate_limit(states[0], "none", 0, per=60) is False
    for limit in (-1, 1.5, True, None):
        with pytest.raises(InvalidValue, match="limit must be an int"):
            rate_limit(states[0], "ip", limit, per=60)  # type: ignore[arg-type]
    for per in (0, -1, "x", None, float("nan")):
        with pytest.raises(InvalidValue, match=r"^per"):
            rate_limit(states[0], "new", 3, per)  # type: ignore[arg-type]
    for name in (None, 5, b"ip", "", "x" * 4090, "\ud800", "\0"):
        with pytest.raises(InvalidKey, match=r"^name must"):
            rate_limit(states[0], name, 3, per=60)  # type: ignore[arg-type]
    assert not states[0].exists("rate_limit:new")
    assert rate_limit(states[0], "delta", 1, timedelta(seconds=1))


def test_they_are_short_and_use_what_is_public() -> None:
    """Each under a hundred lines, importing nothing of ours but `slothstate` and what is beside them."""
    for path in Path(slothstate.recipes.__file__).parent.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert len(source.splitlines()) < 100
        imported = {
            node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module
        }
        ours = {name for name in imported if name.startswith("slothstate")}
        assert {name for name in ours if not name.startswith("slothstate.recipes.")} <= {"slothstate"}
