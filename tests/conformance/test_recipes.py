"""The recipes: memoize, once, rate_limit; on each engine, as they use public verbs alone."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import slothstate.recipes
from helpers.places import Place
from helpers.support import Clock
from slothstate import InvalidKey, InvalidValue, State
from slothstate.recipes import memoize, once, rate_limit


def together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """What a call returns in several threads at once."""
    results: list[Any] = [None] * count

    def run(index: int) -> None:
        results[index] = call(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_memoize(place: Place) -> None:
    """One computes, the others wait for it; keyword and positional forms of one call are one, None is a result."""
    states = [place.open() for _ in range(4)]
    calls: list[tuple[Any, ...]] = []

    def slow(a: int, b: str = "b", *more: Any, flag: bool = False) -> Any:
        calls.append((a, b, more, flag))
        time.sleep(0.05)
        return None if a == 0 else [a, (b, more), flag]

    functions = [memoize(state)(slow) for state in states]
    assert together(4, lambda index: functions[index](1)) == [[1, ["b", []], False]] * 4
    assert len(calls) == 1
    assert functions[0](b="b", a=1) == functions[1](1, "b", flag=False) == [1, ["b", []], False]
    assert len(calls) == 1
    assert [functions[0](0), functions[1](0)] == [None, None]
    assert len(calls) == 2
    assert functions[0](1, flag=True) != functions[0](1)
    assert (functions[0].__name__, len(calls)) == ("slow", 3)
    assert all(key.startswith(f"memoize:{__name__}.test_memoize.<locals>.slow:") for key in states[0])


def test_memoize_for_a_time(place: Place, clock: Clock) -> None:
    """Then it is computed anew."""
    state = place.open(clock)
    calls: list[int] = []

    @memoize(state, ttl=60)
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert (double(2), double(2), calls) == (4, 4, [2])
    clock.advance(61)
    assert (double(2), calls) == (4, [2, 2])


def test_memoize_refuses(state: State) -> None:
    """Exceptions are kept for nobody; arguments and results that are no plain values are errors that keep nothing."""
    outcomes: list[Any] = [ZeroDivisionError(), object(), "fine"]

    @memoize(state)
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

    @memoize(state)
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
    with pytest.raises(InvalidKey):
        once(states[0], "", begin)


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
    with pytest.raises(InvalidValue):
        rate_limit(states[0], "ip", 3, per=0)


def test_they_are_short_and_use_what_is_public() -> None:
    """Each under a hundred lines, importing nothing of ours but `slothstate`."""
    for path in Path(slothstate.recipes.__file__).parent.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert len(source.splitlines()) < 100
        imported = {
            node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module
        }
        ours = {name for name in imported if name.startswith("slothstate")}
        assert ours <= {"slothstate"} | ({name for name in ours if path.name == "__init__.py"})
