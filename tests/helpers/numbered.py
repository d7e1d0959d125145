"""Writes that are told apart by their number, and what a store holds after each: to see which of them survived."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from slothstate.state import State


def write_number(state: State, number: int) -> None:
    """One acknowledged write, of a kind that depends on its number."""
    if number % 3 == 0:
        with state.transaction():
            state.set("a", number)
            state.list_push("log", {"number": number, "padding": "x" * (number % 7) * 300})
            state.set("b", number)
            state.set("last", number)
    elif number % 3 == 1:
        state.set_many({"a": number, "b": number, "last": number})
    else:
        with state.transaction():
            state.delete("a")
            state.delete("b")
            state.list_shift("log")
            state.set("last", number)
            state.set("big", "y" * 5000)


def state_after(numbers: int) -> dict[str, Any]:
    """Return what a store holds after that many writes."""
    expected: dict[str, Any] = {}
    log: list[int] = []
    for number in range(1, numbers + 1):
        if number % 3 == 2:
            expected.pop("a", None)
            expected.pop("b", None)
            del log[:1]
            expected["big"] = "y" * 5000
        else:
            expected["a"] = expected["b"] = number
            if number % 3 == 0:
                log.append(number)
        expected["last"] = number
    return {**expected, "log": log} if log else expected


def contents(state: State) -> dict[str, Any]:
    found = {key: state.get(key) for key in state}
    if "log" in found:
        found["log"] = [item["number"] for item in found["log"]]
    return found


def kept_all(found: int, acknowledged: int) -> bool:
    return acknowledged <= found <= acknowledged + 1


def kept_a_prefix(found: int, acknowledged: int) -> bool:
    return found <= acknowledged + 1


PROMISES: Final[dict[str, Callable[[int, int], bool]]] = {"full": kept_all, "process": kept_a_prefix}
"""By durability: whether a power cut may leave so many writes of so many acknowledged ones."""
