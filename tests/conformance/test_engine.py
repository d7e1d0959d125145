"""What an engine promises that no verb asks of it alone: limits, features, waiting for commits, acquisitions."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from helpers.places import Place
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
    token = locks.acquire("job", 17, 0, None, seen.append)
    assert token is not None
    assert (locks.holders("job"), locks.holds("job", 17), locks.holds("job", 18)) == ([17], True, False)
    assert locks.acquire("job", 18, 0.05, None, seen.append) is None
    assert set(seen) == {17}
    assert not locks.release("job", 18)
    assert not locks.extend("job", 18, 1000)
    assert locks.extend("job", 17, 3_600_000)
    assert locks.describe()[0]["expires"] is not None
    assert not locks.remove("job", False)
    assert locks.remove("job", True)
    assert (locks.holders("job"), locks.release("job", 17)) == ([], False)
    later = locks.acquire("job", 18, 0, 1, seen.append)
    assert later is not None
    assert later > token
    tokens = [locks.acquire("other", nonce, 0, None, seen.append, shared=True) for nonce in (19, 20)]
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
