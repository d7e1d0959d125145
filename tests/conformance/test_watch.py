"""Following changes: each change of a matching key once, in the order of the commits; the same on each engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest

from helpers.places import Place
from helpers.support import Clock, in_time, until
from slothstate import InvalidKey, PatternError, SlothStateError, State, StateClosed, Watch, WatchLost

SOON = 0.1
"""Seconds within which what has expired is a change."""


def changes(watch: Watch, timeout: float = 0) -> list[tuple[str, str]]:
    """What is there to be read now: op and key."""
    found: list[tuple[str, str]] = []
    while (change := watch.next(timeout)) is not None:
        found.append((change.op, change.key))
    return found


VERBS: dict[str, tuple[Callable[[State], object], list[tuple[str, str]]]] = {
    "set": (lambda s: s.set("new", 1), [("set", "new")]),
    "set again": (lambda s: s.set("k", 1), [("set", "k")]),
    "set to the same": (lambda s: s.set("n", 1), [("set", "n")]),
    "set over a list": (lambda s: s.set("l", 1), [("set", "l")]),
    "set with a ttl": (lambda s: s.set("k", 1, ttl=5), [("set", "k")]),
    "set when absent": (lambda s: s.set("k", 1, when="absent"), []),
    "set_many": (lambda s: s.set_many({"a": 1, "l": 2}), [("set", "a"), ("set", "l")]),
    "delete": (lambda s: s.delete("k"), [("delete", "k")]),
    "delete a list": (lambda s: s.delete("l"), [("delete", "l")]),
    "delete nothing": (lambda s: s.delete("missing"), []),
    "take": (lambda s: s.take("l"), [("delete", "l")]),
    "rename": (lambda s: s.rename("k", "new"), [("delete", "k"), ("set", "new")]),
    "rename onto another": (lambda s: s.rename("k", "l"), [("delete", "k"), ("set", "l")]),
    "rename onto itself": (lambda s: s.rename("k", "k"), []),
    "copy": (lambda s: s.copy("l", "new"), [("set", "new")]),
    "copy onto another": (lambda s: s.copy("l", "k"), [("set", "k")]),
    "increment": (lambda s: s.increment("n"), [("set", "n")]),
    "increment a new one": (lambda s: s.increment("new", ttl=5), [("set", "new")]),
    "append": (lambda s: s.append("k", "x"), [("set", "k")]),
    "compare_swap": (lambda s: s.compare_swap("n", 1, 2), [("set", "n")]),
    "compare_swap of a list": (lambda s: s.compare_swap("l", [1, 2, 3], [4]), [("set", "l")]),
    "compare_swap in vain": (lambda s: s.compare_swap("n", 5, 2), []),
    "compare_swap to nothing": (lambda s: s.compare_swap("n", 1, None), [("delete", "n")]),
    "set_ttl": (lambda s: s.set_ttl("k", 5), [("set", "k")]),
    "persist": (lambda s: (s.set_ttl("k", 5), s.persist("k")), [("set", "k"), ("set", "k")]),
    "set_field": (lambda s: s.set_field("t", ("b", "c"), 1), [("set", "t")]),
    "delete_field of an item": (lambda s: s.delete_field("l", (0,)), [("set", "l")]),
    "increment_field": (lambda s: s.increment_field("t", "a"), [("set", "t")]),
    "list_push": (lambda s: s.list_push("l", 4), [("set", "l")]),
    "list_push of many": (lambda s: s.list_push("l", *range(50)), [("set", "l")]),
    "list_push to a text": (lambda s: s.list_push("s", 3), [("set", "s")]),
    "list_unshift": (lambda s: s.list_unshift("l", 0, 1), [("set", "l")]),
    "list_pop": (lambda s: s.list_pop("l"), [("set", "l")]),
    "list_shift to the end": (lambda s: s.list_shift("one"), [("delete", "one")]),
    "list_pop_many": (lambda s: s.list_pop_many("l", 2), [("set", "l")]),
    "list_shift_many to the end": (lambda s: s.list_shift_many("l", 9), [("delete", "l")]),
    "list_set": (lambda s: s.list_set("l", 0, 9), [("set", "l")]),
    "list_insert": (lambda s: s.list_insert("l", 1, 9), [("set", "l")]),
    "list_remove": (lambda s: s.list_remove("l", 2), [("set", "l")]),
    "list_trim": (lambda s: s.list_trim("l", 1, 1), [("set", "l")]),
    "clear": (lambda s: s.clear("[kn]"), [("delete", "k"), ("delete", "n")]),
    "locks": (lambda s: (s.lock("k"), s.unlock("k")), []),
    "load": (lambda s: s.load(list(s.dump("k"))), [("set", "k")]),
    "reads": (lambda s: (s.get("k"), s.list_range("l"), s.keys(), s.get_many(["k"])), []),
}


def fill(state: State) -> None:
    state.set_many({"k": "text", "n": 1, "t": {"a": 1}, "s": [1, 2]})
    state.list_push("l", 1, 2, 3)
    state.list_push("one", 1)


@pytest.mark.parametrize("verb", VERBS)
def test_one_verb_is_one_change(place: Place, verb: str) -> None:
    """Of each key that it changes, whatever the number of items; what changes nothing is none."""
    writer, watcher = place.open(), place.open()
    fill(writer)
    call, expected = VERBS[verb]
    with watcher.watch() as watch:
        call(writer)
        assert sorted(changes(watch)) == sorted(expected)


@pytest.mark.parametrize("block", ["snapshot", "transaction", "snapshot in a transaction", "undone"])
def test_writes_after_a_block(place: Place, block: str) -> None:
    """Each is a change of its own, whatever the block before them read, wrote or was refused."""
    state = place.open()
    with state.watch() as watch:
        with (
            suppress(ZeroDivisionError),
            nullcontext() if block == "snapshot" else state.transaction(),
            state.snapshot() if "snapshot" in block else nullcontext(),
        ):
            assert state.get("k") is None
            with suppress(SlothStateError):
                state.set("k", 0)
            if block == "undone":
                raise ZeroDivisionError
        assert changes(watch) == [("set", "k")] * (block == "transaction")
        for value in range(3):
            state.set("k", value)
        with state.snapshot():
            assert state.keys() == ["k"]
        state.increment("k")
        state.increment("k")
        state.list_push("l", 1)
        state.list_push("l", 2)
        assert changes(watch) == [("set", "k")] * 5 + [("set", "l")] * 2


def test_several_in_a_transaction(place: Place) -> None:
    """Each comes, in order, when it is committed; what is undone never does."""
    writer, watcher = place.open(), place.open()
    with watcher.watch() as watch:
        with writer.transaction():
            writer.set("a", 1)
            writer.set("a", 2)
            writer.list_push("l", 1, 2)
            writer.list_push("l", 3)
            assert changes(watch) == []
            with pytest.raises(ZeroDivisionError), writer.transaction():
                writer.set("inner", 1)
                raise ZeroDivisionError
            writer.delete("a")
        assert changes(watch) == [("set", "a"), ("set", "a"), ("set", "l"), ("set", "l"), ("delete", "a")]
        with pytest.raises(ZeroDivisionError), writer.transaction():
            writer.set("b", 1)
            raise ZeroDivisionError
        assert changes(watch) == []


def test_own_writes_and_patterns(state: State) -> None:
    """A State sees its own writes; only matching keys come; revisions rise, for all watches alike."""
    with state.watch("user:*") as users, state.watch() as everything:
        state.set_many({"user:1": 1, "other": 2})
        state.set("user:2", 3)
        assert changes(users) == [("set", "user:1"), ("set", "user:2")]
        seen = [everything.next(0) for _ in range(3)]
        revisions = [change.revision for change in seen if change is not None]
        assert len(revisions) == 3
        assert revisions == sorted(set(revisions))
        assert (users.pattern, users.name, everything.pattern) == ("user:*", None, None)
    assert state.watches() == []


def test_only_what_comes_after_it_began(place: Place, clock: Clock) -> None:
    """Neither earlier changes, nor what had expired by then and is swept afterwards."""
    state = place.open(clock)
    state.set("before", 1)
    state.set("expired", 1, ttl=1)
    clock.advance(2)
    with state.watch() as watch:
        state.sweep()
        state.set("after", 1)
        assert changes(watch) == [("set", "after")]


@pytest.mark.parametrize("over", ["nothing", "set", "list_push", "delete", "increment"])
def test_expiry(place: Place, clock: Clock, over: str) -> None:
    """A key that expires is a change, also where another verb comes before the sweep."""
    writer, watcher = place.open(clock), place.open(clock)
    with watcher.watch() as watch:
        writer.set("k", 1, ttl=5)
        writer.list_push("l", 1, 2)
        writer.set_ttl("l", 5)
        assert changes(watch) == [("set", "k"), ("set", "l"), ("set", "l")]
        clock.advance(6)
        if over == "set":
            writer.set("k", 2)
        elif over == "list_push":
            writer.list_push("k", 2)
        elif over == "increment":
            writer.increment("k")
        elif over == "delete":
            writer.delete("k")
        again = [("set", "k")] if over in ("set", "list_push", "increment") else []
        assert sorted(changes(watch)) == sorted([("expire", "k"), ("expire", "l"), *again])


def test_expiry_comes_by_itself(place: Place) -> None:
    """Within 100 ms, without anybody else doing anything."""
    state = place.open()

    def late() -> float:
        with state.watch("e*") as watch:
            state.set("e", 1, ttl=0.1)
            began = time.monotonic()
            assert [watch.next(5), watch.next(5)][-1] is not None
            return time.monotonic() - began - 0.1

    assert in_time(late, SOON)


def test_waits_and_iterates(place: Place) -> None:
    """`next` waits up to its timeout, iteration for ever; another thread's change ends the wait."""
    writer, watcher = place.open(), place.open()
    with watcher.watch("k*") as watch:
        before = time.monotonic()
        assert watch.next(0.05) is None
        assert time.monotonic() - before >= 0.05
        thread = threading.Timer(0.05, lambda: [writer.set(f"k{number}", 1) for number in range(3)])
        thread.start()
        found = []
        for change in watch:
            found.append(change.key)
            if change.key == "k2":
                break
        thread.join()
        assert found == ["k0", "k1", "k2"]


def test_a_name_goes_on(place: Place) -> None:
    """After the last change that was handled, which the next one says; changes meanwhile are kept."""
    writer, first = place.open(), place.open()
    writer.set("before", 1)
    watch = first.watch(name="w")
    for number in range(4):
        writer.set(f"k{number}", 1)
    assert [watch.next(0).key, watch.next(0).key] == ["k0", "k1"]  # type: ignore[union-attr]
    watch.close()
    writer.set("meanwhile", 1)
    [description] = writer.watches()
    assert (description["name"], description["owner"], description["alive"]) == ("w", None, None)
    second = place.open()
    with second.watch(name="w") as again:
        # k1 was given and not handled: what came of it nobody knows.
        assert [key for _, key in changes(again)] == ["k1", "k2", "k3", "meanwhile"]
        assert [key for _, key in changes(again)] == []
    with second.watch(name="w") as again:
        assert changes(again) == []
    assert writer.unwatch("w") is True
    assert writer.unwatch("w") is False
    assert writer.watches() == []


def test_how_far_behind(state: State, clock: Clock) -> None:
    """`watches` says how many changes are kept for a watch, and since when the first of them is."""

    def told() -> list[Any]:
        return [(each["behind"], each["behind_since"]) for each in state.watches()]

    watch = state.watch("k", name="w")
    assert told() == [(0, None)]
    first = clock()
    state.set("k", 1)
    clock.advance(5)
    state.set("k", 2)
    assert told() == [(2, pytest.approx(first, abs=0.01))]
    assert [watch.next(0) is None, watch.next(0) is None] == [False, False]
    assert told() == [(1, pytest.approx(clock(), abs=0.01))]
    assert watch.next(0) is None
    assert told() == [(0, None)]
    # What it is not about does not pile up for it; but what it gave and nobody handled does.
    for number in range(4):
        state.set_many({f"other{key}": number for key in range(600)})
    assert watch.next(0) is None
    assert told()[0][0] < 1000
    state.set("k", 3)
    state.set_many({f"other{key}": 4 for key in range(1200)})
    assert watch.next(0) is not None
    assert told()[0][0] > 1200
    watch.close()
    state.unwatch("w")


def test_one_at_a_time_has_a_name(place: Place) -> None:
    """A second waits, and takes over when the first ends."""
    writer, first, second = place.open(), place.open(), place.open()
    holder = first.watch(name="w")
    waiting = second.watch("k*", name="w")
    writer.set("k", 1)
    assert waiting.next(0.02) is None
    assert holder.next(0).key == "k"  # type: ignore[union-attr]
    assert holder.next(0) is None
    holder.close()
    assert waiting.next(0) is None
    writer.set("k2", 1)
    assert waiting.next(1).key == "k2"  # type: ignore[union-attr]
    waiting.close()
    writer.unwatch("w")


def test_who_waits_for_a_name_waits_for_no_writer(place: Place) -> None:
    """It looks whether another runs the watch, and is neither in the way of a transaction nor kept by one."""
    state, other = place.open(), place.open()
    with state.watch(name="w"), state.transaction():
        state.set("k", 1)
        before = time.monotonic()
        with other.watch(name="w") as waiting:
            assert waiting.next(0.05) is None
        assert time.monotonic() - before < 5
    state.unwatch("w")


def test_a_busy_store_ends_a_wait_in_time(place: Place) -> None:
    """Also where the change before is yet to be noted as handled; that comes later."""
    state, other = place.open(), place.open()
    with state.watch("k*", name="w") as watch:
        other.set("k1", 1)
        assert watch.next(1) is not None
        begun, over = threading.Event(), threading.Event()

        def hold() -> None:
            with other.transaction():
                begun.set()
                over.wait(10)

        thread = threading.Thread(target=hold)
        thread.start()
        begun.wait()
        before = time.monotonic()
        assert watch.next(0.05) is None
        assert time.monotonic() - before < 5
        over.set()
        thread.join()
        assert watch.next(0) is None
    with state.watch("k*", name="w") as watch:
        assert watch.next(0) is None
    state.unwatch("w")


def test_nobody_waits_for_himself(place: Place) -> None:
    """For ever for a name that the same thread runs is an error at once, through another State too."""
    state, other = place.open(), place.open()
    with state.watch(name="w") as first:
        for second in (state.watch(name="w"), other.watch(name="w")):
            with pytest.raises(SlothStateError, match=r"'w' is run by thread .* already"):
                second.next()
            assert second.next(0) is None
            second.close()
        state.set("k", 1)
        assert first.next(1).key == "k"  # type: ignore[union-attr]
    with state.watch(name="w") as again:
        assert again.next().key == "k"  # type: ignore[union-attr]
    state.unwatch("w")


def test_forgotten(place: Place) -> None:
    """`unwatch` of one that runs: it says once that changes are missing, and goes on."""
    writer, watcher = place.open(), place.open()
    with watcher.watch(name="w") as watch:
        writer.set("a", 1)
        assert watch.next(0) is not None
        assert writer.unwatch("w")
        writer.set("b", 1)
        with pytest.raises(WatchLost) as lost:
            watch.next(0)
        assert isinstance(lost.value, RuntimeError)
        writer.set("c", 1)
        found = watch.next(1)
        assert found is not None
        assert (found.key, found.revision > lost.value.revision) == ("c", True)
    writer.unwatch("w")


def test_forgotten_and_taken(place: Place) -> None:
    """One that another runs by the time it notices says so when it goes on: it does not know what it has missed."""
    writer, first, second = place.open(), place.open(), place.open()
    watch = first.watch(name="w")
    assert writer.unwatch("w")
    writer.set("missed", 1)
    with second.watch(name="w"):
        assert watch.next(0) is None
    with pytest.raises(WatchLost):
        watch.next(1)
    writer.set("k", 1)
    assert watch.next(1).key == "k"  # type: ignore[union-attr]
    watch.close()
    writer.unwatch("w")


def test_wrong_arguments(state: State) -> None:
    """At the call, and nothing is left of it."""
    with pytest.raises(PatternError):
        state.watch("[")
    for name in ("", "a\0b", 7, "n" * 4097):
        with pytest.raises(InvalidKey, match="name"):
            state.watch(name=name)  # type: ignore[arg-type]
        with pytest.raises(InvalidKey, match="name"):
            state.unwatch(name)  # type: ignore[arg-type]
    for block in (state.transaction, state.snapshot):
        with block(), pytest.raises(SlothStateError, match="inside"):
            state.watch()
    assert state.watches() == []


def test_inside_a_transaction(state: State) -> None:
    """A wait is an error at once; with a timeout of 0 it gives what is committed, not what the transaction wrote."""
    with state.watch() as watch:
        state.set("a", 1)
        with state.transaction():
            state.set("b", 1)
            with pytest.raises(SlothStateError, match="inside"):
                watch.next(1)
            assert changes(watch) == [("set", "a")]
        assert changes(watch) == [("set", "b")]


def test_closed(place: Place) -> None:
    """A closed watch, and one of a closed State, say so; closing twice does nothing."""
    state, other = place.open(), place.open()
    watch, left = state.watch(), state.watch()
    watch.close()
    watch.close()
    with pytest.raises(SlothStateError, match="closed"):
        watch.next(0)
    assert len(other.watches()) == 1
    state.close()
    with pytest.raises(StateClosed):
        left.next(0)
    left.close()
    assert other.watches() == []


@pytest.mark.parametrize("name", [None, "mailer"])
def test_closed_by_another_thread(place: Place, name: str | None) -> None:
    """Who waits for the next change is told so, soon, and nothing goes on being noted."""
    state = place.open()
    watch = state.watch("none", name=name)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            watch.next()
        except SlothStateError as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    watch.close()
    thread.join(2)
    assert not thread.is_alive()
    assert [str(error) for error in errors] == ["this watch is closed"]
    assert [each["owner"] for each in state.watches()] == ([] if name is None else [None])


def test_one_that_nobody_refers_to_ends(place: Place) -> None:
    """Soon, also when it was a loop's, or is dropped inside a transaction; the name of one stays."""
    state, other = place.open(), place.open()
    for _ in range(3):
        state.watch("a*")
    state.set("b", 1)
    named = state.watch("b*", name="mine")
    other.set("b", 2)
    assert named.next(0) is not None
    threading.Timer(0.05, other.set, ("c", 1)).start()
    assert [change.key for _, change in zip(range(1), state.watch("c*"), strict=False)] == ["c"]
    with state.transaction():
        del named
        state.set("kept", 1)
    until(lambda: [(watch["name"], watch["alive"]) for watch in other.watches()] == [("mine", None)])
    assert (state.get("kept"), state.unwatch("mine")) == (1, True)


def test_replayed_it_is_the_store(place: Place) -> None:
    """What a watch told, and the values at that time, make the store again, whoever wrote."""
    states = [place.open() for _ in range(3)]
    watcher = place.open()
    done = threading.Event()

    def write(state: State, seed: int) -> None:
        for number in range(60):
            key = f"k{(number * seed) % 7}"
            step: Any = (number + seed) % 5
            if step == 0:
                state.delete(key)
            elif step == 1:
                state.list_push(f"list:{key}", number)
            elif step == 2:
                state.list_shift(f"list:{key}")
            else:
                state.set(key, [seed, number])

    with watcher.watch() as watch:
        threads = [threading.Thread(target=write, args=(state, seed)) for seed, state in enumerate(states, 2)]
        for thread in threads:
            thread.start()
        copy: set[str] = set()
        while any(thread.is_alive() for thread in threads) or not done.is_set():
            if not any(thread.is_alive() for thread in threads):
                done.set()
            while (change := watch.next(0.01)) is not None:
                (copy.add if change.op == "set" else copy.discard)(change.key)
        assert copy == set(watcher.keys())
