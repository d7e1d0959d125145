"""What an engine promises that no verb asks of it alone: limits, features, waiting for commits, acquisitions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from helpers.places import Place
from helpers.support import wanted
from slothstate import InvalidKey, NotSupported, State
from slothstate.engines.protocol import Engine


@pytest.fixture
def engine(place: Place) -> Engine:
    return place.open()._engine


def test_limits_are_what_is_taken(place: Place, state: State) -> None:
    """A key of the longest length is one, and one byte more is none."""
    longest = "k" * place.limits.key
    assert state.set(longest, 1)
    assert state.keys() == [longest]
    with pytest.raises(InvalidKey):
        state.set(longest + "k", 1)


@pytest.mark.parametrize("feature", ["backup", "compact"])
def test_what_is_no_feature_is_not_supported(place: Place, state: State, tmp_path: Path, feature: str) -> None:
    """What an engine does not name among its features is refused by that name, and what it names works."""
    use = {"backup": lambda: state.backup(tmp_path / "copy"), "compact": state.compact}[feature]
    if feature in place.features:
        use()
    else:
        with pytest.raises(NotSupported):
            use()


def test_a_commit_ends_a_wait(place: Place, engine: Engine) -> None:
    """A token stands for the present state: a wait with it ends with the next commit of anybody, or when time is up."""
    other = place.open()
    other.set("k", 0)
    token = engine.changes.token()
    if token is not None:
        assert not engine.changes.wait(token, 0.05)
    writer = threading.Timer(0.05, other.set, ("k", 1))
    writer.start()
    assert engine.changes.wait(token, 30) or token is None
    writer.join()
    # Level, not edge: what was committed before the wait began ends it too.
    assert engine.changes.wait(token, 30)


def test_an_acquisition_is_named_by_its_nonce(engine: Engine) -> None:
    """It holds until it is released, lost or over; only its own nonce releases or extends it."""
    locks = engine.locks
    seen: list[int] = []
    token = locks.acquire(wanted("job", 17), 0, None, seen.append)
    assert token is not None
    assert (locks.holders("job"), locks.holds("job", 17), locks.holds("job", 18)) == ([17], True, False)
    assert locks.acquire(wanted("job", 18), 0.05, None, seen.append) is None
    assert set(seen) == {17}
    assert not locks.release("job", 18)
    assert not locks.extend("job", 18, 1000)
    assert locks.extend("job", 17, 3_600_000)
    assert locks.describe()[0]["expires"] is not None
    assert not locks.remove("job", False)
    assert locks.remove("job", True)
    assert (locks.holders("job"), locks.release("job", 17)) == ([], False)
    later = locks.acquire(wanted("job", 18), 0, 1, seen.append)
    assert later is not None
    assert later > token
    tokens = [locks.acquire(wanted("other", nonce, shared=True), 0, None, seen.append) for nonce in (19, 20)]
    assert None not in tokens
    assert sorted(locks.holders("other")) == [19, 20]


def test_what_is_to_follow_a_transaction_follows_it(engine: Engine) -> None:
    """Whichever way it ends, and once."""
    calls: list[bool] = []
    with engine.transaction():
        engine.after_transaction(lambda: calls.append(engine.in_transaction))
        assert calls == []
    with pytest.raises(LookupError), engine.transaction(), engine.transaction():
        engine.after_transaction(lambda: calls.append(engine.in_transaction))
        raise LookupError
    assert calls == [False, False]


def test_an_engine_names_itself(place: Place, state: State) -> None:
    """In `stats`, and in the text of a State."""
    engine = state._engine
    assert state.stats()["backend"] == engine.name
    assert engine.address in repr(state)
    assert (engine.limits, engine.features) == (place.limits, place.features)


def counted(state: State, use: Callable[[State], object]) -> dict[str, int]:
    """Return what a use of the store was counted as."""
    before = state.stats()["operations"]
    use(state)
    return {name: count - before.get(name, 0) for name, count in state.stats()["operations"].items()}


USES: dict[str, tuple[Callable[[State], object], ...]] = {
    "set": (lambda s: s.set("a", 1), lambda s: s.set("a", 1, when="absent"), lambda s: s.set("a", 1, keep_ttl=True)),
    "exists": (lambda s: s.exists("a"),),
    "rename": (lambda s: s.rename("a", "b"), lambda s: s.rename("missing", "b"), lambda s: s.rename("a", "a")),
    "copy": (lambda s: s.copy("a", "b"), lambda s: s.copy("rows", "b"), lambda s: s.copy("missing", "b")),
    "take": (lambda s: s.take("table"),),
    "delete": (lambda s: s.delete("a"),),
    "clear": (lambda s: s.clear("a*"), lambda s: s.clear()),
    "keys": (lambda s: s.keys(), lambda s: s.keys("r*", limit=1)),
    "scan": (lambda s: list(s.scan()),),
    "compare_swap": (lambda s: s.compare_swap("a", 1, 2), lambda s: s.compare_swap("missing", None, 1)),
    "get_field": (lambda s: s.get_field("table", "a"),),
    "set_field": (lambda s: s.set_field("table", "b", 1), lambda s: s.set_field("missing", "b", 1)),
    "increment_field": (lambda s: s.increment_field("table", "a"), lambda s: s.increment_field("missing", "a")),
    "delete_field": (lambda s: s.delete_field("rows", (0,)), lambda s: s.delete_field("list", (0,))),
    "increment": (lambda s: s.increment("a"), lambda s: s.increment("a", 0.5), lambda s: s.increment("new", 1e308)),
    "list_push": (lambda s: s.list_push("rows", 1), lambda s: s.list_push("rows")),
    "list_insert": (lambda s: s.list_insert("rows", 0, 1), lambda s: s.list_insert("rows", 3, 1)),
    "list_set": (lambda s: s.list_set("rows", 0, 1), lambda s: s.list_set("missing", 0, 1)),
    "list_trim": (lambda s: s.list_trim("rows", 0, 1), lambda s: s.list_trim("missing", 0, 1)),
    "list_remove": (lambda s: s.list_remove("list", 1), lambda s: s.list_remove("missing", 1)),
    "list_pop": (lambda s: s.list_pop("rows"), lambda s: s.list_pop(["missing", "list"])),
    "list_shift": (lambda s: s.list_shift("rows"),),
}


@pytest.mark.parametrize("verb", USES)
@pytest.mark.parametrize("inside", [False, True])
def test_each_verb_counts_itself(place: Place, verb: str, inside: bool) -> None:
    """`stats()["operations"]` counts what was called, not what it is made of."""
    state = place.open()
    if state._engine.name == "model":
        pytest.skip("it counts nothing")
    for use in USES[verb]:
        state.clear()
        state.set_many({"a": 1, "table": {"a": 1}, "list": [1]})
        state.list_push("rows", 1, 2, 3)
        with state.transaction() if inside else nullcontext():
            found = counted(state, use)
        assert {name: count for name, count in found.items() if count} == {verb: 1}


@pytest.mark.parametrize("block", ["transaction", "snapshot"])
def test_looking_after_a_store_inside_a_block(place: Place, block: str) -> None:
    """How a store is doing can be asked anywhere, and nothing of the block is changed by it."""
    state = place.open()
    if state._engine.name == "model":
        pytest.skip("it has no health")
    with getattr(state, block)():
        if block == "transaction":
            state.set("k", 1)
        health = state.health()
        assert health.keys() == {"settings", "file_system", "wal_pages", "wal_pages_copied", "commits", "users"}
        assert all(finding.subject for finding in state.examine())
        assert state.check() == []
        assert state.get("k") == (1 if block == "transaction" else None)
    assert state.health().keys() == health.keys()
