"""State as a MutableMapping: what a dict does, a State does, atomically."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import pytest

from helpers.places import Place, unchanged
from helpers.support import Clock
from slothstate import InvalidValue, SlothStateError, State


def test_it_is_one(state: State) -> None:
    """A State is registered and behaves as a mapping."""
    assert isinstance(state, MutableMapping)
    assert isinstance(state, Mapping)
    state["b"] = [1]
    state["a"] = 1
    assert (state["a"], state["b"], "a" in state, "c" in state, len(state)) == (1, [1], True, False, 2)
    assert list(state) == ["a", "b"]
    assert dict(state) == {"a": 1, "b": [1]}
    assert (list(state.items()), list(state.values())) == ([("a", 1), ("b", [1])], [1, [1]])
    del state["a"]
    assert list(state) == ["b"]


def test_missing_keys(state: State, clock: Clock, place: Place) -> None:
    """A missing or expired key is a `KeyError` with the key, as in a dict."""
    state.set("expired", 1, ttl=1)
    clock.advance(1)
    for key in ("missing", "expired"):
        for act in (state.__getitem__, state.__delitem__, state.pop):
            with pytest.raises(KeyError) as caught:
                act(key)
            assert caught.value.args == (key,)
    with pytest.raises(KeyError):
        state.popitem()
    with unchanged(place):
        assert state.pop("missing", "default") == "default"
        assert state.pop("missing", None) is None


def test_pop_popitem_setdefault_update(state: State) -> None:
    """The mixed-in methods work, and `popitem` takes the first key."""
    state.update({"a": 1, "b": 2}, c=3)
    assert state.pop("b") == 2
    assert state.popitem() == ("a", 1)
    assert state.setdefault("c", 9) == 3
    assert state.setdefault("d", {"x": 1}) == {"x": 1} == state["d"]
    assert dict(state) == {"c": 3, "d": {"x": 1}}
    with pytest.raises(InvalidValue):
        state.setdefault("e")
    assert "e" not in state


def test_update_is_one_step(place: Place, state: State) -> None:
    """All of a mapping, of pairs or of another State is set, or after an error none."""
    for wrong in ({"a": 1, "b": object()}, [("a", 1), ("b", object())], {"a": 1, "": 2}):
        with unchanged(place), pytest.raises(SlothStateError):
            state.update(wrong)
    with unchanged(place), pytest.raises(SlothStateError):
        state.update(a=1, b=object())
    state.update([("a", 1), ("b", [2])], c=3)
    before = state.stats()["operations"]
    state.update(state)
    assert dict(state) == {"a": 1, "b": [2], "c": 3}
    assert state.stats()["operations"].get("set_many", 0) - before.get("set_many", 0) in (0, 1)


@pytest.mark.parametrize("milliseconds", range(1, 12))
def test_pop_of_a_key_that_expires_meanwhile(place: Place, milliseconds: int) -> None:
    """A key is there for the whole of a `pop` or `popitem` or for none of it, whenever in the middle it expires."""
    clock = Clock()

    def ticking() -> float:
        clock.ms += 1
        return clock()

    with place.open(ticking) as state:
        state.set("a", 1, ttl=milliseconds / 1000)
        assert state.pop("a", "default") in (1, "default")
        state.set("z", 2)
        state.set("a", 1, ttl=milliseconds / 1000)
        assert state.popitem() in (("a", 1), ("z", 2))


def test_truth_and_equality(state: State, open_state: object) -> None:
    """A State is true when it holds keys, equal only to itself, and hashable."""
    assert not state
    state["a"] = 1
    assert state
    with open_state() as other:  # type: ignore[operator]
        assert other != state
        assert len({state, other, state}) == 2
    assert state == state
    assert state != {"a": 1}


def test_setting_an_item_clears_the_ttl(state: State) -> None:
    """`state[key] = value` is `set` without a TTL; `setdefault` on a live key leaves it alone."""
    state.set("a", 1, ttl=60)
    assert state.setdefault("a", 2) == 1
    assert state.get_ttl("a") == 60
    state["a"] = 2
    assert state.get_ttl("a") == -1


def test_items_while_keys_go(state: State) -> None:
    """Iterating over items and values skips a key that went away meanwhile, instead of failing in the middle."""
    state.update({"a": 1, "b": 2, "c": 3})
    seen = []
    for key, value in state.items():
        seen.append((key, value))
        state.delete("b")
    assert seen == [("a", 1), ("c", 3)]
    state.set("b", 2)
    values = iter(state.values())
    assert next(values) == 1
    state.delete("b")
    assert list(values) == [3]
    assert 3 in state.values()
    assert 2 not in state.values()
    assert ("a", 1) in state.items()
