"""Two handles on one file against a model in plain Python: any series of verbs, transactions, ticks and reopenings."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from helpers.places import PLACES
from helpers.support import Clock, exactly
from helpers.verb_model import Model
from slothstate import AlreadyHeld, SlothStateError, State

Call: TypeAlias = tuple[str, list[Any], dict[str, Any]]

KEYS = st.sampled_from(["a", "ab", "é:1"])
PATTERNS = st.sampled_from([None, "*", "a*", "?", "é:[12]", "[!a]*", "ab", "", "\\a"])
TTLS = st.sampled_from([None, 0.001, 1, 60])
NUMBERS = st.sampled_from([1, -1, 0, 2.5, -0.0, 2**62, -(2**62), 2**63 - 1])
SCALARS = st.one_of(NUMBERS, st.sampled_from(["", "x", "7", "a\0b", "é", True, False]))
ITEMS = st.one_of(SCALARS, st.none(), st.sampled_from([{}, [], {"k": [1]}, [None, 1.0]]))
LISTS = st.lists(ITEMS, max_size=3)
VALUES = st.one_of(
    SCALARS, LISTS, st.dictionaries(st.sampled_from(["k", ""]), ITEMS, max_size=2), st.binary(max_size=2)
)
BOUNDS = st.integers(-4, 4)
SECONDS = st.sampled_from([0.001, 1, 60])


def call(
    verb: str, *arguments: st.SearchStrategy[Any], **options: st.SearchStrategy[Any]
) -> st.SearchStrategy[tuple[str, list[Any], dict[str, Any]]]:
    return st.tuples(st.just(verb), st.tuples(*arguments).map(list), st.fixed_dictionaries({}, optional=options))


NO_OPTIONS: st.SearchStrategy[dict[str, Any]] = st.just({})

LISTING: dict[str, st.SearchStrategy[Any]] = {
    "reverse": st.booleans(),
    "after": st.sampled_from([None, "a", "b", "é:1"]),
    "limit": st.sampled_from([None, 0, 1, 2]),
}

LAST_SEEN = "the value that the key last had, expired or not"

EXPECTED = st.one_of(st.none(), st.just(LAST_SEEN), st.just(LAST_SEEN), VALUES)

SETS = st.one_of(
    call("set", KEYS, VALUES, TTLS),
    call("set", KEYS, VALUES, when=st.sampled_from([None, "absent", "present"]), keep_ttl=st.booleans()),
    call("rename", KEYS, KEYS),
    call("copy", KEYS, KEYS),
    call("set_many", st.dictionaries(KEYS, VALUES, max_size=3), TTLS),
    call("compare_swap", KEYS, EXPECTED, VALUES, ttl=TTLS),
    call("compare_swap", KEYS, EXPECTED, st.none()),
)
CHANGES = st.one_of(
    call("increment", KEYS, NUMBERS, ttl=TTLS),
    call("decrement", KEYS, NUMBERS, ttl=TTLS),
    call("append", KEYS, st.sampled_from(["", "x", "\0é", b"", b"\xff"])),
    st.tuples(st.just("list_push"), st.tuples(KEYS, LISTS).map(lambda drawn: [drawn[0], *drawn[1]]), NO_OPTIONS),
    call("list_pop", KEYS),
    call("list_shift", KEYS),
)
EDITS = st.one_of(
    st.tuples(st.just("list_unshift"), st.tuples(KEYS, LISTS).map(lambda drawn: [drawn[0], *drawn[1]]), NO_OPTIONS),
    call("list_pop_many", KEYS, st.integers(0, 3)),
    call("list_shift_many", KEYS, st.integers(0, 3)),
    call("list_set", KEYS, BOUNDS, ITEMS),
    call("list_insert", KEYS, BOUNDS, ITEMS),
    call("list_remove", KEYS, ITEMS, st.integers(-2, 2)),
    call("list_trim", KEYS, BOUNDS, BOUNDS),
)
PATHS = st.sampled_from([("k",), ("",), ("k", "n"), ("k", 0), (0,), (-1,), (1, "k"), (-2, 0), (0, "k", -1)])
FIELDS = st.one_of(
    call("set_field", KEYS, PATHS, ITEMS),
    call("set_field", KEYS, PATHS, ITEMS),
    call("delete_field", KEYS, PATHS),
    call("increment_field", KEYS, PATHS, NUMBERS),
    call("get_field", KEYS, PATHS, st.sampled_from([None, "default"])),
)
TIMES = st.one_of(call("set_ttl", KEYS, SECONDS), call("get_ttl", KEYS), call("persist", KEYS))
LOOKS = st.one_of(
    call("get", KEYS, st.sampled_from([None, "default"])),
    call("get_many", st.lists(KEYS, max_size=4)),
    call("exists", KEYS),
    call("keys", PATTERNS, **LISTING),
    call("scan", PATTERNS, **LISTING),
    call("list_length", KEYS),
    call("list_range", KEYS, BOUNDS, BOUNDS),
)
REMOVALS = st.one_of(call("delete", KEYS), call("take", KEYS), call("clear", PATTERNS))
CALLS = st.lists(
    st.one_of(SETS, SETS, CHANGES, CHANGES, CHANGES, EDITS, EDITS, FIELDS, FIELDS, TIMES, TIMES, LOOKS, REMOVALS),
    min_size=1,
    max_size=5,
)

READS = ("get", "get_many", "get_field", "exists", "keys", "scan", "get_ttl", "list_length", "list_range")


def outcome(owner: Any, verb: str, arguments: list[Any], options: dict[str, Any] | None = None) -> Any:
    """Return what a verb returns, exactly, or the class of the error it raises."""
    try:
        result = getattr(owner, verb)(*arguments, **(options or {}))
    except SlothStateError as error:
        return type(error)
    return exactly(list(result) if verb == "scan" else result)


class Machine(RuleBasedStateMachine):
    """Handles 0 and 1; while one holds a transaction only it writes, and the other sees what was before.

    While one holds a snapshot it sees what was then, at the time that it was then, and writes nothing.
    """

    engine: str

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.place = PLACES[self.engine](Path(self.directory.name))
        self.clock = Clock()
        self.handles = [self.open(), self.open()]
        self.models = [Model(lambda: self.clock.ms)]
        self.owner = 0
        self.transactions: list[AbstractContextManager[None]] = []
        self.snapshots: dict[int, tuple[AbstractContextManager[None], Model]] = {}
        self.locks: dict[str, int] = {}
        self.last_seen: dict[str, Any] = {}

    def open(self) -> State:
        return self.place.open(self.clock)

    def model_of(self, handle: int) -> Model:
        if handle in self.snapshots:
            return self.snapshots[handle][1]
        return self.models[-1 if handle == self.owner else 0]

    @rule(handle=st.integers(0, 1), calls=CALLS)
    def do(self, handle: int, calls: list[Call]) -> None:
        for verb, arguments, options in calls:
            number = self.owner if self.transactions and verb not in READS else handle
            if LAST_SEEN in arguments:
                arguments[1] = self.last_seen.get(arguments[0])
            if number in self.snapshots and verb not in READS:
                expected: Any = SlothStateError
            else:
                expected = outcome(self.model_of(number), verb, arguments, options)
            assert outcome(self.handles[number], verb, arguments, options) == expected

    @rule(calls=CALLS)
    def do_after_the_next_expiry(self, calls: list[Call]) -> None:
        ends = [moment for _, moment in self.models[-1].rows.values() if moment is not None and moment > self.clock.ms]
        self.clock.ms = min(ends, default=self.clock.ms + 1) - 1
        self.both_see_the_model()
        self.clock.ms += 1
        self.do(self.owner, calls)

    @rule(handle=st.integers(0, 1))
    def look_at_one_moment(self, handle: int) -> None:
        if handle in self.snapshots:
            self.snapshots.pop(handle)[0].__exit__(None, None, None)
        else:
            now = self.clock.ms
            model = self.model_of(handle).fork(lambda: now)
            self.snapshots[handle] = self.handles[handle].snapshot(), model
            self.snapshots[handle][0].__enter__()

    @precondition(lambda self: not self.transactions and not self.snapshots)
    @rule(handle=st.integers(0, 1))
    def sweep(self, handle: int) -> None:
        self.handles[handle].sweep()
        assert self.handles[handle].stats()["expired_pending"] == 0

    @precondition(lambda self: not self.transactions and not self.snapshots)
    @rule(handle=st.integers(0, 1), both=st.booleans())
    def reopen(self, handle: int, both: bool) -> None:
        for number in (0, 1) if both else (handle,):
            self.handles[number].close()
            self.locks = {name: owner for name, owner in self.locks.items() if owner != number}
        for number in (0, 1) if both else (handle,):
            self.handles[number] = self.open()

    @precondition(lambda self: len(self.transactions) < 3)
    @rule(handle=st.integers(0, 1))
    def begin(self, handle: int) -> None:
        if (self.owner if self.transactions else handle) in self.snapshots:
            return
        if not self.transactions:
            self.owner = handle
        self.transactions.append(self.handles[self.owner].transaction())
        self.transactions[-1].__enter__()
        self.models.append(self.models[-1].fork())

    @precondition(lambda self: self.transactions and self.owner not in self.snapshots)
    @rule(keep=st.booleans())
    def end(self, keep: bool) -> None:
        transaction, model = self.transactions.pop(), self.models.pop()
        if keep:
            transaction.__exit__(None, None, None)
            self.models[-1] = model
        else:
            assert not transaction.__exit__(LookupError, LookupError(), None)

    @precondition(lambda self: not self.transactions and not self.snapshots)
    @rule(
        handle=st.integers(0, 1), name=st.sampled_from(["n", "a"]), verb=st.sampled_from(["try_lock", "lock", "unlock"])
    )
    def lock(self, handle: int, name: str, verb: str) -> None:
        owner = self.locks.get(name)
        state = self.handles[handle]
        if verb == "unlock":
            assert state.unlock(name) == (owner == handle)
            if owner == handle:
                del self.locks[name]
        elif verb == "lock" and owner == handle:
            assert outcome(state, "lock", [name, 0]) is AlreadyHeld
        else:
            assert (state.try_lock(name) if verb == "try_lock" else state.lock(name, 0)) == (owner is None)
            self.locks.setdefault(name, handle)

    @invariant()
    def both_see_the_model(self) -> None:
        for number, state in enumerate(self.handles):
            assert exactly(dict(state.items())) == exactly(self.model_of(number).live())
        self.last_seen |= self.models[-1].live()
        assert self.handles[self.owner].check() == []

    def teardown(self) -> None:
        while self.snapshots:
            self.look_at_one_moment(next(iter(self.snapshots)))
        while self.transactions:
            self.end(keep=False)
        self.place.close()
        self.directory.cleanup()


EXAMPLES = dict.fromkeys(PLACES, 150) | {"model": 30, "postgresql": 25}


@pytest.mark.parametrize("engine", PLACES)
def test_whatever_is_done_in_whatever_order(engine: str) -> None:
    """Both handles answer as the model does, and the store is sound."""
    machine = type("Machine", (Machine,), {"engine": engine})
    run_state_machine_as_test(machine, settings=settings(max_examples=EXAMPLES[engine], stateful_step_count=40))
