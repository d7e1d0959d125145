"""The grid: what holds for every verb, whatever it does to a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.places import Place, unchanged
from helpers.support import Clock
from helpers.verbs import ABSENT, KINDS, VERBS, Verb, put
from slothstate import InvalidKey, State, StateClosed, WrongType

BAD_KEYS = {
    "none": None,
    "int": 7,
    "bool": True,
    "bytes": b"key",
    "list": ["key"],
    "empty": "",
    "nul": "a\0b",
    "surrogate": "a\ud800b",
    "low-surrogate": "\udfff",
    "long": "k" * 4097,
    "long-multibyte": "é" * 2048 + "k",
    "megabyte": "k" * 2**20,
}

GOOD_KEYS = {
    "one": "k",
    "space": " ",
    "newline": "line\n",
    "wildcards": "*?[a]\\",
    "longest": "k" * 4096,
    "longest-two-byte": "é" * 2048,
    "longest-four-byte": "\U0001f600" * 1024,
    "last-code-point": "\U0010ffff",
    "noncharacter": "\uffff\ufffe",
    "percent": "100%_",
    "quote": 'it\'s "quoted"',
}

each_verb = pytest.mark.parametrize("verb", VERBS, ids=str)

# Each verb on each kind of value it works on.
WORKING = [(verb, kind) for verb in VERBS for kind in verb.works_on]
# The same, and on a missing key.
STARTS = [*WORKING, *((verb, None) for verb in VERBS)]

each_working = pytest.mark.parametrize(("verb", "kind"), WORKING, ids=str)
each_start = pytest.mark.parametrize(("verb", "kind"), STARTS, ids=str)


def left(state: State, key: str = "k") -> object:
    return state.get(key, ABSENT)


@each_verb
def test_missing_key(state: State, verb: Verb) -> None:
    """On a missing key every verb returns its default, and leaves what starts from nothing or no key at all."""
    state.set("other", 1)
    assert verb.call(state, "k") == verb.missing
    assert left(state) == verb.leaves
    assert state.get_ttl("k") == (-2 if verb.leaves is ABSENT else -1)
    assert state.get("other") == 1


@each_verb
def test_expired_key_is_a_missing_key(state: State, place: Place, clock: Clock, verb: Verb) -> None:
    """An expired key that no sweep has removed yet is, to every verb, a missing key of no kind and no TTL."""
    for kind in KINDS:
        state.clear()
        put(state, "k", kind, ttl=10)
        clock.advance(10)
        assert len(place.contents()[0]) == 1
        assert verb.call(state, "k") == verb.missing, kind
        assert left(state) == verb.leaves, kind
        assert state.get_ttl("k") == (-2 if verb.leaves is ABSENT else -1), kind
        clock.advance(10**6)
        assert left(state) == verb.leaves, kind


@pytest.mark.parametrize("kind", KINDS)
def test_key_expires_at_its_millisecond(state: State, clock: Clock, kind: str) -> None:
    """A key lives to the last millisecond before its expiry and is gone at the expiry itself."""
    value = put(state, "k", kind, ttl=1)
    clock.advance(0.999)
    assert (state.get("k"), state.exists("k"), state.keys(), len(state)) == (value, True, ["k"], 1)
    clock.advance(0.001)
    assert (state.get("k"), state.exists("k"), state.keys(), len(state)) == (None, False, [], 0)
    assert list(state.scan()) == [] == list(state)


@pytest.mark.parametrize(
    ("verb", "kind"), [(verb, kind) for verb in VERBS for kind in KINDS if kind not in verb.works_on], ids=str
)
def test_wrong_kind(state: State, place: Place, verb: Verb, kind: str) -> None:
    """A verb for one kind of value refuses any other, names key, expected and found kind, and changes nothing."""
    put(state, "k", kind)
    with unchanged(place), pytest.raises(WrongType) as caught:
        verb.call(state, "k")
    error = caught.value
    assert (error.key, error.found) == ("k", kind.replace("rows", "list"))
    assert error.expected == verb.works_on[0]
    expected, found = (each if each == "bytes" else f"a {each}" for each in (error.expected, error.found))
    assert str(error).endswith(f"'k': expected {expected}, found {found}")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("list", "rows")])
def test_wrong_kind_for_nothing(state: State, kind: str) -> None:
    """A verb that was given nothing says the same as with something."""
    put(state, "k", kind)
    for verb in (state.list_push, state.list_unshift):
        said = set()
        for items in ((), (1,), (1, 2)):
            with pytest.raises(WrongType) as caught:
                verb("k", *items)
            said.add(str(caught.value))
        assert len(said) == 1, said


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.name != "set_many"], ids=str)
def test_bad_key(state: State, place: Place, verb: Verb) -> None:
    """Whatever is not a key is `InvalidKey` for every verb, and nothing is written."""
    takes_several = verb.name.startswith(("list_claim", "list_pop", "list_shift")) and "many" not in verb.name
    state.set("k", 1)
    for name, key in BAD_KEYS.items():
        if isinstance(key, list) and takes_several:
            continue
        with unchanged(place), pytest.raises(InvalidKey, match=r"^key "):
            pytest.fail(f"{name} was taken for a key: {verb.call(state, key)!r}")


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (None, "key must be a str, got None"),
        (7, "key must be a str, got int 7"),
        (["a"], "key must be a str, got list"),
        ("", "key must not be empty"),
        ("a\0b", "key 'a\\x00b' must not contain NUL (at index 1)"),
        ("a\ud800", "key 'a\\ud800' has a lone surrogate at index 1"),
        ("é" * 2049, "has 4098 bytes of UTF-8, expected at most 4096"),
    ],
)
def test_bad_key_message(state: State, key: object, says: str) -> None:
    """The message of `InvalidKey` names the argument, the value and what was expected."""
    with pytest.raises(InvalidKey) as caught:
        state.get(key)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("key", GOOD_KEYS.values(), ids=GOOD_KEYS)
def test_boundary_key(state: State, key: str) -> None:
    """Every str up to 4096 bytes of UTF-8 is a key of its own, for every verb."""
    for verb in VERBS:
        state.set(key + "k" if len(key) < 1000 else "k", "neighbour")
        state.delete(key)
        assert verb.call(state, key) == verb.missing
        assert left(state, key) == verb.leaves
        assert state.keys().count(key) == (verb.leaves is not ABSENT)


@pytest.mark.parametrize("pair", [("é", "e\u0301"), ("k", "K"), ("a", "a "), ("1", "01"), ("ß", "ss")])
def test_similar_keys_are_different_keys(state: State, pair: tuple[str, str]) -> None:
    """Keys are compared by their code points: no normalisation, no folding, no trimming."""
    state.set_many({key: key for key in pair})
    assert [state.get(key) for key in pair] == list(pair)


def test_key_of_a_subclass_is_stored_as_str(state: State) -> None:
    """A str subclass counts as the text it holds, whatever its methods say."""

    class Shouting(str):
        def __str__(self) -> str:
            return self.upper()

        __repr__ = __str__

    state.set(Shouting("key"), Shouting("value"))
    assert state.keys() == ["key"]
    assert (state.get("key"), type(state.get("key"))) == ("value", str)


@each_start
def test_in_a_transaction_that_is_kept(
    state: State, open_state: Callable[[], State], verb: Verb, kind: str | None
) -> None:
    """Inside a transaction a verb returns what it returns outside, and its own reads see it at once."""
    for key in ("k", "twin"):
        if kind is not None:
            put(state, key, kind, ttl=60)
    expected = verb.call(state, "twin")
    with state.transaction():
        got = verb.call(state, "k")
        inside = left(state), state.get_ttl("k")
    if verb.name != "get_many":
        assert got == expected
    assert inside == (left(state), state.get_ttl("k")) == (left(state, "twin"), state.get_ttl("twin"))
    with open_state() as other:
        assert left(other) == inside[0]


@each_start
def test_in_a_transaction_that_is_undone(state: State, place: Place, verb: Verb, kind: str | None) -> None:
    """A transaction or savepoint that is left by an exception takes back all that its verbs wrote, TTL included."""
    if kind is not None:
        put(state, "k", kind, ttl=60)
    before = left(state), state.get_ttl("k")
    contents = place.contents()

    def fail() -> None:
        with state.transaction():
            verb.call(state, "k")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert place.contents() == contents
    with state.transaction():
        with pytest.raises(LookupError):
            fail()
        assert (left(state), state.get_ttl("k")) == before
    assert place.contents() == contents


@each_working
def test_ttl_of_a_live_key(state: State, clock: Clock, verb: Verb, kind: str) -> None:
    """`set` and its kin clear the TTL, what changes a value in place keeps it, and reading never touches it."""
    put(state, "k", kind, ttl=60)
    clock.advance(20)
    verb.call(state, "k")
    assert state.get_ttl("k") == {"kept": 40, "cleared": -1, "gone": -2, "set": 5}[verb.ttl]


@pytest.mark.parametrize("kind", KINDS)
def test_compare_swap_keeps_the_ttl(state: State, kind: str) -> None:
    """A successful swap, to whatever kind, leaves the TTL as it was."""
    new: Any
    for new in ("text", 1, {}, [1, 2], b""):
        state.delete("k")
        old = put(state, "k", kind, ttl=60)
        assert state.compare_swap("k", old, new)
        assert (state.get("k"), state.get_ttl("k")) == (new, 60)


@each_verb
def test_closed_state(state: State, place: Place, verb: Verb) -> None:
    """After `close` every verb is `StateClosed` naming the store, and closing again does nothing."""
    state.set("k", 1)
    state.close()
    state.close()
    with unchanged(place), pytest.raises(StateClosed, match="is closed"):
        verb.call(state, "k")
    assert "(closed)" in repr(state)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.keys(),
        lambda s: s.keys(limit=0),
        lambda s: s.get_many([]),
        lambda s: s.set_many({}),
        lambda s: s.update({}),
        lambda s: s.load([]),
        lambda s: next(s.scan()),
        lambda s: s.clear(),
        lambda s: s.stats(),
        lambda s: s.check(),
        lambda s: s.sweep(),
        lambda s: s.locks(),
        lambda s: s.try_lock("n"),
        lambda s: s.lock("n", 0),
        lambda s: len(s),
        lambda s: s.backup("/nowhere/copy.db"),
        lambda s: s.transaction().__enter__(),
        lambda s: s.locked("n").__enter__(),
        lambda s: s.with_lock("n", list),
    ],
)
def test_closed_state_for_the_other_verbs(state: State, call: Callable[[State], object]) -> None:
    """The verbs without a key say `StateClosed` too."""
    state.set("k", 1)
    state.close()
    with pytest.raises(StateClosed):
        call(state)


def test_context_manager_closes(open_state: Callable[[], State]) -> None:
    """Leaving the `with` block closes the State, and what it wrote is there for the next one."""
    with open_state() as state:
        state.set("k", 1)
    with pytest.raises(StateClosed):
        state.get("k")
    with open_state() as again:
        assert again.get("k") == 1
