"""Claims among all that changes lists, on SQLite and on the model at once: any series has the same outcome on both.

`test_stateful` has a model of values alone; here the places of items count, and attempts, which that one would have to
keep for every verb.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from helpers.places import PLACES
from helpers.support import Clock, exactly
from slothstate import Claim, SlothStateError, State

KEYS = st.sampled_from(["a", "b"])
ITEMS = st.integers(0, 3)
LISTS = st.lists(ITEMS, max_size=4)
CLAIMED_KEYS = st.sampled_from(["a", "b", ("a", "b")])
BOUNDS = st.integers(-4, 4)
TTLS = st.sampled_from([None, None, 1, 2])


def call(verb: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, list[Any]]]:
    return st.tuples(st.just(verb), st.tuples(*arguments).map(list))


def with_items(verb: str) -> st.SearchStrategy[tuple[str, list[Any]]]:
    return st.tuples(st.just(verb), st.tuples(KEYS, LISTS).map(lambda drawn: [drawn[0], *drawn[1]]))


CHANGES = st.one_of(
    with_items("list_push"),
    with_items("list_push"),
    with_items("list_unshift"),
    call("list_pop", KEYS),
    call("list_shift", KEYS),
    call("list_pop_many", KEYS, st.integers(0, 3)),
    call("list_shift_many", KEYS, st.integers(0, 3)),
    call("list_set", KEYS, BOUNDS, ITEMS),
    call("list_insert", KEYS, BOUNDS, ITEMS),
    call("list_insert", KEYS, BOUNDS, ITEMS),
    call("list_remove", KEYS, ITEMS, st.integers(-1, 1)),
    call("list_trim", KEYS, BOUNDS, BOUNDS),
    call("list_length", KEYS),
    call("list_range", KEYS, BOUNDS, BOUNDS),
    call("delete_field", KEYS, BOUNDS.map(lambda index: (index,))),
    call("set_field", KEYS, BOUNDS.map(lambda index: (index,)), ITEMS),
)
RARER = st.one_of(
    call("set", KEYS, LISTS, TTLS),
    call("set_ttl", KEYS, st.sampled_from([1, 2])),
    call("persist", KEYS),
    call("delete", KEYS),
    call("take", KEYS),
    call("rename", KEYS, KEYS),
    call("copy", KEYS, KEYS),
    call("increment", KEYS),
    call("compare_swap", KEYS, st.none(), LISTS),
    call("clear", st.sampled_from(["a", "?", "c*"])),
)


ENDS: dict[str, Callable[[Claim], bool]] = {
    "done": lambda claim: claim.done(),
    "release": lambda claim: claim.release(),
    "delay": lambda claim: claim.release(delay=1),
    "extend": lambda claim: claim.extend(60),
    "lost": lambda claim: claim.lost,
}


def attempt(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or the class of the error it raises."""
    try:
        return call()
    except SlothStateError as error:
        return type(error)


class Machine(RuleBasedStateMachine):
    """Two handles on a store of each engine, and what both have claimed."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.places = [PLACES[engine](Path(self.directory.name)) for engine in ("sqlite", "model")]
        self.clock = Clock()
        self.handles = [self.open(), self.open()]
        self.watches = [state.watch() for state in self.open()]
        self.told: list[set[str]] = [set(), set()]
        self.claims: list[list[Claim]] = []
        self.transactions: list[list[AbstractContextManager[None]]] = []

    def open(self) -> list[State]:
        return [place.open(self.clock) for place in self.places]

    def same(self, number: int, verb: str, arguments: list[Any]) -> None:
        states = self.handles[0 if self.transactions else number]
        outcomes = [attempt(lambda: exactly(getattr(state, verb)(*arguments))) for state in states]  # noqa: B023
        assert outcomes[0] == outcomes[1]

    @rule(handle=st.integers(0, 1), verbs=st.lists(st.one_of(CHANGES, CHANGES, CHANGES, RARER), min_size=1, max_size=3))
    def do(self, handle: int, verbs: list[tuple[str, list[Any]]]) -> None:
        for verb, arguments in verbs:
            self.same(handle, verb, arguments)

    @rule(
        handle=st.integers(0, 1), keys=st.sampled_from(["a", "b", ("a", "b")]), attempts=st.sampled_from([None, 1, 2])
    )
    def claim(self, handle: int, keys: Any, attempts: int | None) -> None:
        states = self.handles[0 if self.transactions else handle]
        got = [attempt(lambda: state.list_claim(keys, max_attempts=attempts)) for state in states]  # noqa: B023
        said = [(each.key, each.item, each.attempt) if isinstance(each, Claim) else each for each in got]
        assert said[0] == said[1]
        if isinstance(got[0], Claim):
            self.claims.append(got)

    @precondition(lambda self: self.claims and not self.transactions)
    @rule(data=st.data(), how=st.sampled_from(list(ENDS)))
    def end(self, data: st.DataObject, how: str) -> None:
        claims = self.claims[data.draw(st.integers(0, len(self.claims) - 1))]
        outcomes = [attempt(lambda: ENDS[how](claim)) for claim in claims]  # noqa: B023
        assert outcomes[0] == outcomes[1]

    @rule(ms=st.sampled_from([500, 999, 1000]))
    def tick(self, ms: int) -> None:
        self.clock.ms += ms

    @precondition(lambda self: not self.transactions)
    @rule(handle=st.integers(0, 1))
    def sweep(self, handle: int) -> None:
        # How many expired keys were still there differs.
        for state in self.handles[handle]:
            state.sweep()

    @precondition(lambda self: not self.transactions)
    @rule(handle=st.integers(0, 1))
    def reopen(self, handle: int) -> None:
        for state in self.handles[handle]:
            state.close()
        self.handles[handle] = self.open()
        # Only SQLite gives back at once what a closing State has.
        for key in ("a", "b", "a:dead", "b:dead"):
            for other in (0, 1):
                self.same(other, "list_length", [key])

    @precondition(lambda self: not self.transactions)
    @rule(handle=st.integers(0, 1))
    def look_at_one_moment(self, handle: int) -> None:
        """Nothing comes back while it lasts, and nothing can be claimed."""
        seen = []
        for state in self.handles[handle]:
            with state.snapshot():
                lengths = [attempt(lambda: state.list_length(key)) for key in ("a", "b")]  # noqa: B023
                seen.append((exactly(dict(state.items())), lengths, attempt(lambda: state.list_claim("a"))))  # noqa: B023
        assert seen[0] == seen[1]

    @precondition(lambda self: len(self.transactions) < 2)
    @rule()
    def begin(self) -> None:
        self.transactions.append([state.transaction() for state in self.handles[0]])
        for transaction in self.transactions[-1]:
            transaction.__enter__()

    @precondition(lambda self: self.transactions)
    @rule(keep=st.booleans())
    def end_transaction(self, keep: bool) -> None:
        for transaction in self.transactions.pop():
            transaction.__exit__(*((None, None, None) if keep else (LookupError, LookupError(), None)))

    @precondition(lambda self: not self.transactions)
    @invariant()
    def watches_lead_to_the_keys(self) -> None:
        for watch, keys, state in zip(self.watches, self.told, self.handles[0], strict=True):
            while (change := watch.next(0)) is not None:
                (keys.add if change.op == "set" else keys.discard)(change.key)
            assert keys == set(state)

    @invariant()
    def both_are_the_same(self) -> None:
        seen = []
        for state in self.handles[0]:
            said = [
                (each["key"], each["attempt"], each["alive"], each["due"] and round(each["due"] * 1000))
                for each in state.claims()
            ]
            dump = [tuple(record) for record in state.dump()]
            entries = [(entry.key, entry.kind, entry.length, entry.size, entry.claimed) for entry in state.entries()]
            seen.append((exactly(dict(state.items())), exactly(dump), said, entries, state.usage()))
        assert seen[0] == seen[1]
        assert self.handles[0][0].check() == []

    def teardown(self) -> None:
        while self.transactions:
            self.end_transaction(keep=False)
        for place in self.places:
            place.close()
        self.directory.cleanup()


def test_whatever_is_claimed_in_whatever_order() -> None:
    """SQLite with its positions answers as the model does with its fractions, and the store is sound."""
    run_state_machine_as_test(Machine, settings=settings(max_examples=150, stateful_step_count=40))
