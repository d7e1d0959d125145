"""The checkers of histories themselves: they accept what is possible and nothing else."""

from __future__ import annotations

import itertools
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.checkers import UNLOCKED, apply, key_model, linearizable, lock_model, replay
from helpers.histories import UNKNOWN, Operation, Recorder, perform, read_logs
from slothstate import State

VERBS = ("get", "set", "delete", "increment", "compare_swap")


def operation(verb: str, *arguments: Any, at: tuple[float, float], gives: Any = UNKNOWN, by: int = 1) -> Operation:
    called, returned = at
    return Operation(by, int(called * 1000), verb, ("k", *arguments), int(called * 1000), returned * 1000, gives)


def simulate(seed: int, count: int, workers: int = 4, key: str = "k") -> tuple[list[Operation], list[tuple[int, int]]]:
    """Return a history as a correct store makes it, and the order of its writes."""
    chance = random.Random(seed)
    clocks = dict.fromkeys(range(1, workers + 1), 0)
    plans = []
    for number in range(count):
        worker = chance.choice(list(clocks))
        called = clocks[worker] + chance.randrange(1, 50)
        effect = called + chance.randrange(1, 100)
        clocks[worker] = effect + chance.randrange(1, 100)
        verb = chance.choice(VERBS)
        if verb == "set":
            arguments: tuple[Any, ...] = (key, number)
        elif verb == "increment":
            arguments = (key, 1)
        elif verb == "compare_swap":
            arguments = (key, chance.randrange(5), number)
        else:
            arguments = (key,)
        plans.append((effect, number, Operation(worker, number, verb, arguments, called, clocks[worker])))
    store: dict[str, Any] = {}
    history, order = [], []
    for _, number, plan in sorted(plans, key=lambda each: each[:2]):
        after, result = apply(store, plan.verb, plan.arguments)
        history.append(Operation(plan.worker, number, plan.verb, plan.arguments, plan.called, plan.returned, result))
        if after is not store or plan.verb == "set":
            order.append((plan.worker, number))
        store = after
    return history, order


def possible(history: list[Operation]) -> bool:
    """Whether some order explains a history: all of them are tried."""
    known = [one for one in history if one.result is not UNKNOWN]
    unknown = [one for one in history if one.result is UNKNOWN]
    for size in range(len(unknown) + 1):
        for kept in itertools.combinations(unknown, size):
            for order in itertools.permutations([*known, *kept]):
                value = None
                for index, one in enumerate(order):
                    if any(later.returned < one.called for later in order[index + 1 :]):
                        break
                    value, result = key_model(value, one)
                    if one.result is not UNKNOWN and (type(result), result) != (type(one.result), one.result):
                        break
                else:
                    return True
    return False


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    """Up to five operations on one key with any overlap and any results, most of them impossible."""
    history = []
    for number in range(draw(st.integers(0, 5))):
        verb = draw(st.sampled_from(VERBS))
        small = st.integers(0, 2)
        arguments = {"set": (draw(small),), "increment": (1,), "compare_swap": (draw(small), draw(small))}.get(verb, ())
        called = draw(st.integers(0, 9))
        returned = called + draw(st.integers(1, 5))
        results = {"get": st.none() | small, "increment": small, "set": st.just(True)}.get(verb, st.booleans())
        result = draw(results | st.just(UNKNOWN))
        history.append(
            Operation(number, 0, verb, ("k", *arguments), called, math.inf if result is UNKNOWN else returned, result)
        )
    return history


@given(small_histories())
def test_search_agrees_with_trying_all_orders(history: list[Operation]) -> None:
    """On every small history the search gives the verdict that trying all orders gives."""
    assert linearizable(history) == possible(history)


GOOD = {
    "nothing": [],
    "overlapping reads differ": [
        operation("set", 1, at=(0, 9), gives=True, by=2),
        operation("get", at=(1, 2), gives=None),
        operation("get", at=(3, 4), gives=1),
    ],
    "a write that nobody knows of is seen late": [
        operation("set", 1, at=(0, math.inf)),
        operation("get", at=(5, 6), gives=None, by=2),
        operation("get", at=(7, 8), gives=1, by=2),
    ],
    "a write that nobody knows of is lost": [
        operation("increment", 1, at=(0, math.inf)),
        operation("increment", 1, at=(5, 6), gives=1, by=2),
    ],
}

BAD = {
    "stale read": [
        operation("set", 1, at=(0, 1), gives=True),
        operation("set", 2, at=(2, 3), gives=True),
        operation("get", at=(4, 5), gives=1, by=2),
    ],
    "lost update": [operation("increment", 1, at=(0, 5), gives=1), operation("increment", 1, at=(1, 6), gives=1, by=2)],
    "going back": [
        operation("set", 1, at=(0, 9), gives=True),
        operation("get", at=(1, 2), gives=1, by=2),
        operation("get", at=(3, 4), gives=None, by=2),
    ],
    "seen before it was called": [
        operation("get", at=(0, 1), gives=1, by=2),
        operation("set", 1, at=(2, 3), gives=True),
    ],
    "an item taken twice": [
        operation("list_push", 7, at=(0, 1), gives=1),
        operation("list_pop", at=(2, 5), gives=7, by=2),
        operation("list_shift", at=(2, 5), gives=7, by=3),
    ],
    "two swaps of one value": [
        operation("set", 1, at=(0, 1), gives=True),
        operation("compare_swap", 1, 2, at=(2, 5), gives=True, by=2),
        operation("compare_swap", 1, 3, at=(2, 5), gives=True, by=3),
    ],
    "a type that changed": [operation("set", 1, at=(0, 1), gives=True), operation("get", at=(2, 3), gives=True, by=2)],
}

LOCKS_GOOD = {
    "hand-over": [
        operation("acquire", 1, at=(0, 1), gives=1),
        operation("release", at=(2, 5), gives=True),
        operation("acquire", 1, at=(1, 6), gives=2, by=2),
    ],
    "owner died": [
        operation("acquire", 1, at=(0, 1), gives=1),
        operation("crash", at=(3, math.inf)),
        operation("acquire", 1, at=(2, 6), gives=2, by=2),
    ],
    "owner died while acquiring": [
        operation("acquire", 1, at=(0, math.inf)),
        operation("crash", at=(3, math.inf)),
        operation("acquire", 1, at=(4, 6), gives=9, by=2),
    ],
    "shared, then alone": [
        operation("acquire", 0, at=(0, 1), gives=1),
        operation("acquire", 0, at=(2, 3), gives=2, by=2),
        operation("release", at=(4, 5), gives=True),
        operation("crash", at=(6, math.inf), by=2),
        operation("acquire", 1, at=(4, 9), gives=3, by=3),
    ],
    "two slots": [
        operation("acquire", 2, at=(0, 1), gives=1),
        operation("acquire", 2, at=(2, 3), gives=2, by=2),
        operation("acquire", 2, at=(2, 9), gives=3, by=3),
        operation("release", at=(6, 7), gives=True, by=2),
    ],
}

LOCKS_BAD = {
    "two holders": [operation("acquire", 1, at=(0, 1), gives=1), operation("acquire", 1, at=(2, 3), gives=2, by=2)],
    "taken before the owner died": [
        operation("acquire", 1, at=(0, 1), gives=1),
        operation("acquire", 1, at=(2, 3), gives=2, by=2),
        operation("crash", at=(4, math.inf)),
    ],
    "token went back": [
        operation("acquire", 1, at=(0, 1), gives=5),
        operation("release", at=(2, 3), gives=True),
        operation("acquire", 1, at=(4, 5), gives=4, by=2),
    ],
    "released what another holds": [
        operation("acquire", 1, at=(0, 1), gives=1),
        operation("release", at=(2, 3), gives=True, by=2),
    ],
    "alone beside one that shares it": [
        operation("acquire", 0, at=(0, 1), gives=1),
        operation("acquire", 1, at=(2, 3), gives=2, by=2),
    ],
    "shared beside one that has it alone": [
        operation("acquire", 1, at=(0, 1), gives=1),
        operation("acquire", 0, at=(2, 3), gives=2, by=2),
    ],
    "three in two slots": [
        operation("acquire", 2, at=(0, 1), gives=1),
        operation("acquire", 2, at=(2, 3), gives=2, by=2),
        operation("acquire", 2, at=(4, 5), gives=3, by=3),
    ],
    "two shared ones with one token": [
        operation("acquire", 0, at=(0, 1), gives=1),
        operation("acquire", 0, at=(2, 3), gives=1, by=2),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_possible_histories_are_accepted(name: str) -> None:
    """What a correct store can show is linearizable."""
    assert linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_impossible_histories_are_rejected(name: str) -> None:
    """What no correct store can show is not linearizable."""
    assert not linearizable(BAD[name])


@pytest.mark.parametrize("name", LOCKS_GOOD)
def test_possible_lock_histories_are_accepted(name: str) -> None:
    """Locks may pass on by release and by death."""
    assert linearizable(LOCKS_GOOD[name], lock_model, UNLOCKED)


@pytest.mark.parametrize("name", LOCKS_BAD)
def test_impossible_lock_histories_are_rejected(name: str) -> None:
    """Two holders, a token that goes back or another's release are found."""
    assert not linearizable(LOCKS_BAD[name], lock_model, UNLOCKED)


@pytest.mark.parametrize("seed", range(5))
def test_long_histories(seed: int) -> None:
    """A history of a correct store passes both checkers; one wrong result anywhere in it passes neither."""
    history, order = simulate(seed, 1500)
    assert linearizable(history)
    assert replay(history, order).violation is None
    chance = random.Random(seed)
    wrong = chance.choice([one for one in history if one.verb == "increment"])
    changed = [
        one
        if one is not wrong
        else Operation(one.worker, one.number, one.verb, one.arguments, one.called, one.returned, one.result + 10**6)
        for one in history
    ]
    assert not linearizable(changed)
    assert replay(changed, order).violation is not None


def test_replay_finds_a_stale_read_among_many() -> None:
    """A read of a value that was overwritten before it was called is found; one that overlaps the write is not."""
    writes = [operation("set", number, at=(2 * number, 2 * number + 1), gives=True) for number in range(1, 100)]
    order = [(one.worker, one.number) for one in writes]
    fresh = operation("get", at=(101.2, 101.4), gives=50, by=2)
    during = operation("get", at=(100.1, 100.2), gives=49, by=2)
    stale = operation("get", at=(101.5, 101.6), gives=49, by=2)
    assert replay([*writes, fresh, during], order).violation is None
    assert "get" in (replay([*writes, stale], order).violation or "")


def test_replay_finds_reads_that_go_back() -> None:
    """Two reads one after the other during one write must not see the new value first and the old one then."""
    write = operation("set", 1, at=(0, 9), gives=True)
    order = [(write.worker, write.number)]
    reads = [operation("get", at=(1, 2), gives=1, by=2), operation("get", at=(3, 4), gives=None, by=3)]
    assert replay([write, *reads], order).violation is not None
    assert replay([write, reads[0]], order).violation is None
    assert replay([write, reads[1]], order).violation is None


def test_replay_finds_an_order_against_real_time() -> None:
    """Writes that were committed in another order than they returned and were called in are found."""
    first = operation("set", 1, at=(0, 1), gives=True)
    second = operation("set", 2, at=(2, 3), gives=True, by=2)
    names = [(one.worker, one.number) for one in (first, second)]
    assert replay([first, second], names).violation is None
    assert "committed after" in (replay([first, second], names[::-1]).violation or "")


def test_replay_decides_what_became_of_unknown_writes() -> None:
    """Writes of dead processes are kept or lost as the rest of the history says, each for itself; never both."""
    unknown = [operation("increment", 10**n, at=(n, math.inf), by=10 + n) for n in range(4)]
    for total in range(16):
        value = int(f"{total:04b}")
        last = operation("increment", 5, at=(20, 21), gives=value + 5)
        verdict = replay([*unknown, last], [(one.worker, one.number) for one in [*unknown, last]])
        assert (verdict.violation, verdict.kept) == (None, total.bit_count()), value
    order = [(one.worker, one.number) for one in unknown]
    late = [operation("get", at=(20, 21), gives=1), operation("get", at=(22, 23), gives=10)]
    assert replay([*unknown, late[0]], order).violation is None
    assert replay([*unknown, *late], order).violation is not None


def test_model_does_what_the_store_does(state: State) -> None:
    """The model that histories are checked against agrees with a real store, verb by verb."""
    chance = random.Random(1)
    store: dict[str, Any] = {}
    for number in range(3000):
        key = chance.choice("abc")
        verb, arguments = chance.choice(
            [
                ("get", ()),
                ("set", (chance.choice([number, "text"]),)),
                ("delete", ()),
                ("increment", (chance.randrange(-3, 3),)),
                ("compare_swap", (chance.choice([None, store.get(key)]), number)),
                ("list_push", (number,)),
                ("list_push", (number, number)),
                ("list_pop", ()),
                ("list_shift", ()),
                ("list_range", ()),
            ]
        )
        if verb == "compare_swap" and isinstance(arguments[0], tuple):
            continue
        if verb in ("set", "delete") and chance.random() < 0.6:
            continue
        store, expected = apply(store, verb, (key, *arguments))
        assert perform(state, verb, (key, *arguments)) == expected, (verb, arguments)
    state.clear()
    store = {}
    for number in range(300):
        source, target = chance.sample("abc", 2)
        verb = chance.choice(["transfer", "abandon", "set_many", "get_many"])
        arguments = (source, target) if verb == "get_many" else (source, target, number)
        store, expected = apply(store, verb, arguments)
        assert perform(state, verb, arguments) == expected


def test_a_log_that_breaks_off_leaves_the_last_operation_unknown(state: State, tmp_path: Any) -> None:
    """What was written before a kill is read back; a call without its return has an unknown result."""
    path = tmp_path / "1.log"
    recorder = Recorder(str(path), 1)
    recorder.run(state, "list_push", "k", 1, 2)
    recorder.run(state, "list_range", "k")
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(("call", 1, 3, 99, "get", ["k"])) + "\n" + '["return", 1, 3, 100, "ha')
    pushed, ranged, broken = read_logs([path])
    assert (pushed.arguments, pushed.result, ranged.result) == (("k", 1, 2), 2, (1, 2))
    assert pushed.returned < ranged.called
    assert (broken.verb, broken.result, broken.returned) == ("get", UNKNOWN, math.inf)
