"""What the verbs of locks refuse: bad names, times and closed States, with nothing locked."""

from __future__ import annotations

import pytest

import slothstate
from helpers.places import Place
from slothstate.state import State


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "30", None, True, [1]])
def test_bad_ttl_writes_nothing(state: State, ttl: object) -> None:
    """A TTL that is no positive finite number is refused by name and nothing is locked."""
    with pytest.raises(slothstate.InvalidValue, match="ttl"):
        state.try_lock("job", ttl)  # type: ignore[arg-type]
    if ttl is not None:
        with pytest.raises(slothstate.InvalidValue, match="ttl"):
            state.locked("job", ttl=ttl)  # type: ignore[arg-type]
    assert state.locks() == []


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_bad_timeout_writes_nothing(state: State, timeout: object) -> None:
    """A timeout that is no finite number >= 0 is refused by name and nothing is locked."""
    for acquire in (
        lambda: state.lock("job", timeout),  # type: ignore[arg-type]
        lambda: state.with_lock("job", pytest.fail, timeout),  # type: ignore[arg-type]
        lambda: state.locked("job", timeout),  # type: ignore[arg-type]
    ):
        with pytest.raises(slothstate.InvalidValue, match="timeout"):
            acquire()
    assert state.locks() == []


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 1, None, b"bytes", "x" * 4097])
def test_bad_name_is_refused(state: State, name: object) -> None:
    """A lock's name follows the rules of a key."""
    for verb in (state.lock, state.try_lock, state.unlock, state.locked):
        with pytest.raises(slothstate.InvalidKey):
            verb(name)  # type: ignore[arg-type]
    assert state.locks() == []


def test_lock_verbs_on_a_closed_state(place: Place) -> None:
    """Each lock verb of a closed State raises StateClosed."""
    state = place.open()
    state.lock("job")
    state.close()
    for verb in (state.lock, state.try_lock, state.unlock):
        with pytest.raises(slothstate.StateClosed):
            verb("job")
    with pytest.raises(slothstate.StateClosed):
        state.locks()


@pytest.mark.parametrize("alive", ["no", 1, None])
def test_breaking_a_lock_takes_a_bool(place: Place, state: State, alive: object) -> None:
    """break_lock refuses what is no bool for `alive`: a living owner keeps its lock."""
    with place.open() as other, other.locked("job"):
        with pytest.raises(slothstate.InvalidValue, match="alive must be True or False"):
            state.break_lock("job", alive=alive)  # type: ignore[arg-type]
        assert len(state.locks()) == 1


@pytest.mark.parametrize("fn", [None, 5, "print"])
def test_what_cannot_be_called_is_never_waited_for(place: Place, state: State, fn: object) -> None:
    """with_lock refuses a function that is none at once, even while somebody else holds the lock."""
    with (
        place.open() as other,
        other.locked("job"),
        pytest.raises(slothstate.InvalidValue, match="fn must be callable"),
    ):
        state.with_lock("job", fn)  # type: ignore[arg-type]
