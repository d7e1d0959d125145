"""Claims of items of lists: taking, ending, coming back; on each engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Any

import pytest

from helpers.places import Place
from helpers.support import Clock
from helpers.verbs import claimed
from slothstate import LockLost, SlothStateError, State, WrongType

FIELDS = {"key", "owner", "since", "attempt", "alive", "due"}


def whole(state: State) -> dict[str, Any]:
    """Return what a dump has, which carries claimed items."""
    return {record.key: record.value for record in state.dump()}


@pytest.mark.parametrize("key", ["missing", "emptied", "table", "expired"])
def test_nothing_to_claim(state: State, clock: Clock, key: str) -> None:
    """A missing, emptied, expired key and an empty table have nothing; nothing is written."""
    state.list_push("emptied", 1)
    state.list_pop("emptied")
    state.set("table", {})
    state.set("expired", [1], 1)
    clock.advance(1)
    assert state.list_claim(key) is None
    assert state.claims() == []
    assert state.keys() == ["table"]


@pytest.mark.parametrize("rows", [True, False])
@pytest.mark.parametrize("items", [["one"], [None, False], [1, 1.0, True], [{"a": [None]}, "b", [[]]]])
def test_in_order_and_done(state: State, items: list[Any], rows: bool) -> None:
    """Items come in their order, exactly as they are; what is claimed is in no verb; done, it is gone for good."""
    if rows:
        state.list_push("q", *items)
    else:
        state.set("q", items)
    for index, item in enumerate(items):
        claim = claimed(state, "q")
        assert (claim.key, repr(claim.item), claim.attempt, claim.lost) == ("q", repr(item), 1, False)
        rest = items[index + 1 :]
        assert state.get("q") == (rest or None)
        assert state.list_length("q") == len(rest)
        assert state.list_range("q") == rest
        assert state.exists("q") == bool(rest)
        assert whole(state) == {"q": items[index:]}
        assert [set(each) for each in state.claims()] == [FIELDS]
        assert claim.done() is True
        assert claim.lost
        assert claim.done() is False
        assert claim.release() is False
        assert claim.extend(5) is False
        with pytest.raises(LockLost, match=r"'q' \(attempt 1\)"):
            claim.ensure_held()
    assert state.list_claim("q") is None
    assert state.keys() == []
    assert state.claims() == []


def test_released_at_its_place(state: State) -> None:
    """What is released stands where it stood, whatever happened to the list meanwhile; attempts count up."""
    state.list_push("q", *"abcdef")
    a, b, c = (claimed(state, "q") for _ in "abc")
    assert state.get("q") == ["d", "e", "f"]
    assert b.release()
    assert state.get("q") == ["b", "d", "e", "f"]
    assert state.list_unshift("q", "0") == 5
    assert state.list_push("q", "g") == 6
    assert state.get("q") == ["0", "b", "d", "e", "f", "g"]
    assert a.release()
    assert state.get("q") == ["0", "a", "b", "d", "e", "f", "g"]
    assert state.list_insert("q", 3, "new") == 8
    assert state.list_pop("q") == "g"
    assert c.release()
    assert state.get("q") == ["0", "a", "b", "c", "new", "d", "e", "f"]
    assert [claimed(state, "q").attempt for _ in range(4)] == [1, 2, 2, 2]
    assert state.list_range("q") == ["new", "d", "e", "f"]


def test_emptied_and_filled_again(state: State) -> None:
    """A list of which everything is claimed does not exist; what comes is behind what comes back, without a TTL."""
    state.set("q", ["a", "b"], 60)
    first, second = claimed(state, "q"), claimed(state, "q")
    assert not state.exists("q")
    assert state.get_ttl("q") == -2
    assert state.list_push("q", "c") == 1
    assert state.get_ttl("q") == -1
    assert second.release()
    assert state.get("q") == ["b", "c"]
    assert state.list_pop_many("q", 5) == ["c", "b"]
    assert not state.exists("q")
    assert first.release()
    assert state.get("q") == ["a"]
    assert state.get_ttl("q") == -1
    assert state.list_unshift("q", "x", "y") == 3
    assert state.get("q") == ["x", "y", "a"]


VERBS: dict[str, Callable[[State], object]] = {
    "delete": lambda state: state.delete("q"),
    "clear": lambda state: state.clear(),
    "clear some": lambda state: state.clear("?"),
    "set": lambda state: state.set("q", "text"),
    "set a list": lambda state: state.set("q", ["new"]),
    "set_many": lambda state: state.set_many({"q": 1}),
    "set with a ttl": lambda state: state.set("q", 1, 5),
    "set absent or present": lambda state: state.set("q", 1, when="present") or state.set("q", 1, when="absent"),
    "take": lambda state: state.take("q") or state.clear("q"),
    "swap": lambda state: state.compare_swap("q", ["b"], "new") or state.compare_swap("q", None, "new"),
    "swap a list": lambda state: state.compare_swap("q", ["b"], ["c"]) or state.compare_swap("q", None, ["c"]),
    "copy": lambda state: state.copy("other", "q"),
    "rename": lambda state: state.rename("other", "q"),
    "load": lambda state: state.load(state.dump("nothing")) or state.set("q", 1),
}


@pytest.mark.parametrize("alone", [False, True], ids=["with others", "alone"])
@pytest.mark.parametrize("verb", VERBS)
def test_what_replaces_the_key_ends_its_claims(state: State, verb: str, alone: bool) -> None:
    """Replaced or removed as a whole, hidden or not, a list loses its claims and delayed items."""
    state.list_push("q", "late", "a", *([] if alone else ["b"]))
    state.set("other", [7])
    claimed(state, "q").release(delay=60)
    claim = claimed(state, "q")
    assert len(state.claims("q")) == 2
    VERBS[verb](state)
    after = state.get("q")
    assert claim.lost
    assert not claim.done()
    assert not claim.release()
    assert state.claims() == []
    assert state.get("q") == after
    if verb not in ("copy", "rename"):
        state.delete("q")
        assert state.list_push("q", "again") == 1


def test_what_is_all_claimed_counts_as_deleted(state: State) -> None:
    """Whoever deletes a list that is not there, because all of it is claimed, learns that there was something."""
    remove: list[Callable[[], object]] = [lambda: state.delete("q"), lambda: state.clear("q"), state.clear]
    for number, call in enumerate(remove):
        state.set("other", 1)
        state.list_push("q", "a", "b")
        claims = [claimed(state, "q"), claimed(state, "q")]
        if number == 1:
            claims[0].release(delay=60)
        assert not state.exists("q")
        # What takes a value finds none, and leaves the claims alone.
        assert (state.take("q"), state.rename("q", "r"), len(state.claims())) == (None, False, 2)
        assert call() == (True, 1, 2)[number]
        assert (state.delete("q"), state.clear("q"), claims[1].lost, state.claims()) == (False, 0, True, [])


@pytest.mark.parametrize("change", ["number", "text", "table"])
def test_another_kind_ends_the_claims(state: State, change: str) -> None:
    """A key whose list is claimed whole is missing, so what writes to it begins anew, and the claims are lost."""
    state.list_push("q", 1)
    claim = claimed(state, "q")
    if change == "number":
        assert state.increment("q") == 1
    elif change == "text":
        assert state.append("q", "ab") == 2
    else:
        assert state.set_field("q", "a", 1)
    assert not claim.release()
    assert state.claims() == []


def test_expired_list_keeps_its_claims(state: State, clock: Clock) -> None:
    """When a list expires its items go; what is claimed comes back into a list without a TTL."""
    state.set("q", ["a", "b", "c"], 10)
    a, b = claimed(state, "q"), claimed(state, "q")
    clock.advance(10)
    assert state.get("q") is None
    assert whole(state) == {"q": ["a", "b"]}
    assert not a.lost
    assert b.release()
    assert state.get("q") == ["b"]
    assert state.get_ttl("q") == -1
    state.set_ttl("q", 10)
    clock.advance(10)
    state.sweep()
    assert a.release()
    assert state.get("q") == ["a"]


def test_renamed_and_copied(state: State) -> None:
    """`rename` takes the claims along, `copy` leaves them."""
    state.list_push("q", "a", "b")
    claim = claimed(state, "q")
    assert state.copy("q", "copied")
    assert state.rename("q", "r")
    assert [each["key"] for each in state.claims()] == ["r"]
    assert claim.release()
    assert state.get_many(["q", "r", "copied"]) == {"r": ["a", "b"], "copied": ["b"]}
    assert state.list_unshift("copied", 0) == 2


def test_delay(state: State, clock: Clock) -> None:
    """Released with a delay it is nowhere until that is over; then whoever asks first has it back at its place."""
    state.list_push("q", "a", "b")
    claim = claimed(state, "q")
    assert claim.release(delay=timedelta(seconds=5))
    assert claim.lost
    assert not claim.release()
    (description,) = state.claims("q")
    assert description["owner"] is None
    assert description["alive"] is None
    assert description["due"] == pytest.approx(clock() + 5, abs=0.01)
    clock.advance(4.9)
    assert state.list_length("q") == 1
    assert state.list_range("q") == ["b"]
    clock.advance(0.1)
    with state.snapshot():
        assert state.list_length("q") == 1
    assert state.list_range("q") == ["b"]
    assert state.list_length("q") == 2
    assert state.list_range("q") == ["a", "b"]
    assert claimed(state, "q").attempt == 2


RETURNERS: dict[str, Callable[[State], object]] = {
    "list_claim": lambda state: state.list_claim("other") or claimed(state, "q").release(),
    "list_pop": lambda state: state.list_push("q", state.list_pop("q")),
    "list_shift": lambda state: state.list_unshift("q", state.list_shift("q")),
    "list_pop of several": lambda state: state.list_push("q", state.list_pop(["other", "q"], ("", ""))[1]),
    "list_shift of several": lambda state: state.list_unshift("q", state.list_shift(["other", "q"], ("", ""))[1]),
    "list_pop_many": lambda state: state.list_push("q", *state.list_pop_many("q", 9)[::-1]),
    "list_shift_many": lambda state: state.list_push("q", *state.list_shift_many("q", 9)),
    "list_length": lambda state: state.list_length("q"),
    "sweep": lambda state: state.sweep(),
}


@pytest.mark.parametrize("alone", [False, True], ids=["with others", "alone"])
@pytest.mark.parametrize("who", RETURNERS)
def test_whoever_asks_first(state: State, open_state: Callable[[], State], who: str, alone: bool) -> None:
    """What a closed State had claimed, and what a ttl ended, is back for the first who asks."""
    state.list_push("q", "a", "b", *([] if alone else ["c"]))
    other = open_state()
    first = claimed(other, "q")
    second = claimed(state, "q", ttl=0.001)
    other.close()
    time.sleep(0.005)
    RETURNERS[who](state)
    assert state.get("q") == ["a", "b", *([] if alone else ["c"])]
    assert second.lost
    assert not second.done()
    with pytest.raises(SlothStateError):
        first.done()


def test_ttl(state: State) -> None:
    """A ttl ends a claim though its owner lives; `extend` gives a new one."""
    state.list_push("q", "a", "b")
    claim = claimed(state, "q", ttl=0.05)
    assert claim.extend(60)
    time.sleep(0.06)
    assert claimed(state, "q").item == "b"
    assert claim.extend(0.001)
    time.sleep(0.002)
    assert claim.lost
    assert not claim.extend(60)
    assert not claim.release()
    again = claimed(state, "q")
    assert (again.item, again.attempt) == ("a", 2)
    assert not claim.done()
    assert again.done()


@pytest.mark.parametrize("end", ["done", "release", "delay", "extend", "none", "undone"])
def test_a_ttl_that_passes_in_the_claims_transaction(place: Place, end: str) -> None:
    """Nobody else can have the item meanwhile: what ends the claim in it is kept with all else that is written."""
    state, other = place.open(), place.open()
    state.list_push("q", "a")
    claim = claimed(state, "q", ttl=0.1)
    with suppress(ZeroDivisionError), claim.transaction(), state.transaction():
        state.increment("n")
        time.sleep(0.11)
        assert not claim.lost
        if end in ("done", "undone"):
            assert claim.done()
            assert not claim.done()
        elif end in ("release", "delay"):
            assert claim.release(60 if end == "delay" else 0)
        elif end == "extend":
            assert claim.extend(60)
        if end == "undone":
            raise ZeroDivisionError
    assert claim.lost is (end != "extend")
    assert not claim.done() or end == "extend"
    assert state.get("n") == (None if end == "undone" else 1)
    again = other.list_claim("q")
    assert (again and again.attempt) == (2 if end in ("release", "none", "undone") else None)
    assert [each["due"] is not None for each in other.claims()] == (
        [True] if end == "delay" else [] if end in ("done", "extend") else [False]
    )


def test_poison(state: State) -> None:
    """What was claimed `max_attempts` times goes to the list of the dead, in the same step."""
    state.list_push("q", "bad", "good")
    for attempt in (1, 2):
        claim = claimed(state, "q", max_attempts=2)
        assert (claim.item, claim.attempt) == ("bad", attempt)
        claim.release()
    claim = claimed(state, "q", max_attempts=2)
    assert (claim.item, claim.attempt) == ("good", 1)
    assert whole(state) == {"q": ["good"], "q:dead": ["bad"]}
    claim.release()
    claim = claimed(state, "q", max_attempts=3, dead="grave")
    claim.release()
    assert state.list_claim("q", max_attempts=1, dead="grave") is None
    assert whole(state) == {"q:dead": ["bad"], "grave": ["good"]}
    assert claimed(state, "grave").attempt == 1


def test_list_of_the_dead_of_another_kind(state: State) -> None:
    """Where the dead cannot go, nothing moves."""
    state.list_push("q", "bad")
    claimed(state, "q").release()
    state.set("q:dead", "text")
    with pytest.raises(WrongType, match="'q:dead'"):
        state.list_claim("q", max_attempts=1)
    assert state.get("q") == ["bad"]
    assert state.claims() == []


def test_several_keys(state: State) -> None:
    """The first that has an item, in their order."""
    state.list_push("low", 1, 2)
    state.list_push("high", 3)
    keys = ("high", "none", "low")
    taken = [claimed(state, keys) for _ in range(3)]  # type: ignore[arg-type]
    assert [(claim.key, claim.item) for claim in taken] == [("high", 3), ("low", 1), ("low", 2)]
    assert state.list_claim(keys) is None
    taken[0].release()
    assert claimed(state, keys).key == "high"  # type: ignore[arg-type]


def test_block(state: State) -> None:
    """A block gives the item; done when it ends, released when it raises, unless it ended the claim itself."""
    state.list_push("q", "a", "b")
    with claimed(state, "q") as item:
        assert item == "a"
    assert whole(state) == {"q": ["b"]}
    with pytest.raises(ValueError, match="body"), claimed(state, "q"):
        raise ValueError("body")
    assert state.get("q") == ["b"]
    claim = claimed(state, "q")
    with claim:
        claim.release(delay=60)
    assert len(state.claims()) == 1
    state.clear()
    state.list_push("q", "c")
    claim = claimed(state, "q")
    with claim:
        assert claim.done()
    assert state.claims() == []


def test_block_of_a_lost_claim(state: State) -> None:
    """Leaving the block after a loss is `LockLost`, unless the body raised or ended the claim itself."""
    state.list_push("q", "a", "b", "c")
    with pytest.raises(LockLost, match="'q'"), claimed(state, "q"):
        state.delete("q")
    state.list_push("q", "a", "b")
    with pytest.raises(ValueError, match="body"), claimed(state, "q"):
        state.delete("q")
        raise ValueError("body")
    state.list_push("q", "a", "b")
    claim = claimed(state, "q")
    with claim:
        state.delete("q")
        assert not claim.done()


def test_transaction(state: State) -> None:
    """What is written in the claim's transaction is kept with its end, or not at all; a lost claim refuses it."""
    state.list_push("q", "a", "b")
    claim = claimed(state, "q")
    with pytest.raises(ValueError, match="fails"), claim.transaction():
        state.increment("effects")
        assert claim.done()
        raise ValueError("fails")
    assert state.get("effects") is None
    assert not claim.lost
    with claim, claim.transaction():
        state.increment("effects")
        claim.done()
    assert state.get("effects") == 1
    assert whole(state) == {"effects": 1, "q": ["b"]}
    with pytest.raises(LockLost), claim.transaction():
        state.increment("effects")
    assert state.get("effects") == 1


def test_undone_in_a_block(state: State) -> None:
    """An end that a transaction undid is none: the block ends the claim after all."""
    state.list_push("q", "a")
    claim = claimed(state, "q")
    with claim:
        with pytest.raises(ValueError, match="fails"), claim.transaction():
            claim.done()
            raise ValueError("fails")
        assert not claim.lost
    assert claim.lost
    assert whole(state) == {}


def test_inside_a_transaction(state: State) -> None:
    """A claim in a transaction is undone with it; one that waits is refused, item or not."""
    state.list_push("q", "a", "b")
    with pytest.raises(ValueError, match="fails"), state.transaction():
        claim = claimed(state, "q")
        assert not claim.lost
        raise ValueError("fails")
    assert claim.lost
    assert state.get("q") == ["a", "b"]
    for block in (state.transaction, state.snapshot):
        with block(), pytest.raises(SlothStateError, match="timeout of 0"):
            state.list_claim("q", timeout=1)
    with state.snapshot(), pytest.raises(SlothStateError, match="snapshot"):
        state.list_claim("q")
    with state.transaction():
        assert claimed(state, "q").done()
    assert state.get("q") == ["b"]


EDITS: dict[str, tuple[Callable[[State], object], object, list[object]]] = {
    "list_remove": (lambda state: state.list_remove("q", {"v": 3}), 1, [1, 2, 4]),
    "list_set": (lambda state: state.list_set("q", 0, {"v": "new"}), True, [1, 2, "new", 4]),
    "list_set the last": (lambda state: state.list_set("q", -1, {"v": "new"}), True, [1, 2, 3, "new"]),
    "list_insert": (lambda state: state.list_insert("q", 1, {"v": "new"}), 3, [1, 2, 3, "new", 4]),
    "list_trim": (lambda state: state.list_trim("q", 0, 0), 1, [1, 2, 3]),
    "list_trim from the end": (lambda state: state.list_trim("q", -1), 1, [1, 2, 4]),
    "set_field": (lambda state: state.set_field("q", (0, "v"), "new"), True, [1, 2, "new", 4]),
    "increment_field": (lambda state: state.increment_field("q", (0, "v"), 100), 103, [1, 2, 103, 4]),
    "delete_field": (lambda state: state.delete_field("q", (0,)), True, [1, 2, 4]),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
def test_edits_are_of_what_is_seen(state: State, clock: Clock, edit: str, inside: bool) -> None:
    """Items that are due, and not yet back, shift no position: they come back where they were."""
    state.list_push("q", *({"v": number} for number in (1, 2, 3, 4)))
    for claim in [claimed(state, "q"), claimed(state, "q")]:
        claim.release(5)
    clock.advance(6)
    assert state.get("q") == [{"v": 3}, {"v": 4}]
    call, answer, left = EDITS[edit]
    with state.transaction() if inside else nullcontext():
        assert call(state) == answer
    assert state.list_length("q") == len(left)
    assert [item["v"] for item in state.get("q")] == left


def test_the_text_of_an_empty_list_is_no_list(state: State) -> None:
    """Nor is that of an empty table: taking from it is `WrongType`, and nothing is waited for."""
    for text in ("[]", "{}"):
        state.set("k", text)
        for take in (
            lambda: state.list_pop("k"),
            lambda: state.list_shift("k", timeout=60),
            lambda: state.list_pop_many("k", 1),
            lambda: state.list_shift_many("k", 1),
            lambda: state.list_claim("k"),
        ):
            with pytest.raises(WrongType):
                take()
