"""`dump` and `load`: whole keys out of a store and into another, whatever engine either has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from helpers.places import Place, unchanged
from helpers.support import Clock, exactly
from helpers.verbs import KINDS, put
from slothstate import InvalidKey, InvalidValue, OutOfRange, PatternError, Record, State


def test_everything_comes_over(place: Place, state: State, clock: Clock) -> None:
    """Key, kind, value and moment of expiry; loaded again it is the same store."""
    for kind in KINDS:
        put(state, f"plain:{kind}", kind)
        put(state, f"short:{kind}", kind, ttl=60)
    state.set_many({"one": 1, "float": 1.0, "zero": -0.0, "empty": {}, "none": []})
    records = list(state.dump())
    assert [record.key for record in records] == state.keys()
    before = place.contents()[0]
    assert state.clear() == state.load(records) == len(records)
    assert place.contents()[0] == before
    clock.advance(60)
    assert [record.key for record in state.dump()] == [key for key in state if not key.startswith("short:")]


def test_dump_is_of_one_moment(state: State, place: Place, clock: Clock) -> None:
    """What is written while a dump is read is not in it; a dump can be left early."""
    state.set_many({f"k{number:03}": number for number in range(300)})
    dump = state.dump("k*")
    assert next(dump).key == "k000"
    other = place.open(clock)
    other.set("k150", "changed")
    other.delete("k200")
    other.set("k999", 1)
    assert [record.value for record in dump] == list(range(1, 300))
    unread = state.dump()
    next(unread)
    unread.close()  # type: ignore[attr-defined]
    assert state.set("k", 1)


def test_what_is_done_beside_a_dump(state: State) -> None:
    """Its reader writes and reads what is now, also in a transaction, and any thread may read on."""
    many = {f"k{number:04}": number for number in range(2100)}
    state.set_many(many)
    dump = state.dump()
    assert next(dump).key == "k0000"
    state.set("k2000", "changed")
    with ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: [record.value for record in dump]).result() == list(range(1, 2100))
    for record in state.dump():
        state.set(record.key, -1)
        assert state.get(record.key) == -1
        state.set(f"new:{record.key}", 1)
    assert len(state) == 4200
    with state.transaction():
        for record in state.dump("k*"):
            assert state.delete(record.key)
    assert len(state) == 2100


def test_load_replaces_whole_keys(state: State, clock: Clock) -> None:
    """Value, kind and time to live; the last of two records of a key counts, and what has expired is left out."""
    state.set("k", "old", ttl=5)
    state.list_push("list", 1, 2)
    soon = clock.ms + 10_000
    records = [Record("k", "number", 1), Record("list", "list", [3]), Record("k", "string", "last", soon)]
    assert state.load([*records, Record("gone", "number", 1, clock.ms)]) == 3
    assert (state.get("k"), state.get_ttl("k"), state.get("list")) == ("last", 10, [3])
    assert state.list_push("list", 4) == 2
    assert not state.exists("gone")
    assert state.load([]) == 0


BAD: list[tuple[Any, type[Exception], str]] = [
    (Record("", "number", 1), InvalidKey, "key must not be empty"),
    (Record("k", "number", "1"), InvalidValue, "a number expected, got a string"),
    (Record("k", "string", 1), InvalidValue, "a string expected, got a number"),
    (Record("k", "number", True), InvalidValue, "a number expected, got a boolean"),
    (Record("k", "table", {"a": object()}), InvalidValue, "an object cannot be stored"),
    (Record("k", "number", 2**63), OutOfRange, "does not fit in 64 bits"),
    (
        Record("k", "other", 1),  # type: ignore[arg-type]
        InvalidValue,
        "kind of 'k' must be one of string, number, .*, got str 'other'",
    ),
    (("k", "number", 1), InvalidValue, "a record must be a Record, got tuple"),
    (None, InvalidValue, "a record must be a Record, got None"),
]


@pytest.mark.parametrize(("bad", "error", "says"), BAD)
def test_one_bad_record_and_none_is_loaded(
    state: State, place: Place, bad: Any, error: type[Exception], says: str
) -> None:
    """Whatever is no record of a key, wherever it comes."""
    state.set("k", 1)
    with unchanged(place), pytest.raises(error, match=says):
        state.load([Record("new", "number", 1), bad, Record("newer", "number", 1)])
    with unchanged(place), pytest.raises(InvalidValue, match="records must be an iterable of Records, got int 7"):
        state.load(7)  # type: ignore[arg-type]


def test_loading_is_part_of_a_transaction(state: State, place: Place) -> None:
    """It is undone with it, and a dump inside sees it."""
    state.set("k", 1)
    with unchanged(place), pytest.raises(LookupError), state.transaction():
        state.load([Record("new", "number", 1)])
        assert [exactly(record.value) for record in state.dump()] == [exactly(1), exactly(1)]
        raise LookupError


def test_dump_checks_its_pattern_at_the_call(state: State) -> None:
    """Not at the first record."""
    with pytest.raises(PatternError):
        state.dump("[")
