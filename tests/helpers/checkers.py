"""Histories of what several processes did to one store, and two checkers that tell whether there is an order for it.

A history is linearizable if its operations can be put into one order that explains every result and in which an
operation that had returned before another was called comes first. `replay` is handed the order of the writes by the
store itself and checks any number of operations, transactions of several keys included. `linearizable` searches for an
order, one key at a time, knowing nothing but the results.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

from helpers.histories import REFUSED, UNKNOWN, Operation

TRIES: Final = 5000
"""How many ways of keeping and losing the writes of dead processes a replay tries before it gives up."""

Store = dict[str, Any]

_GROWS: Final = {"increment": int, "append": str}
"""The type that a verb needs, other than a list."""


def step(value: Any, verb: str, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return a key's next value and the verb's result. Values are immutable, None is a missing key."""
    if verb == "get":
        return value, value
    if verb == "set":
        return arguments[0], True
    if verb == "delete":
        return None, value is not None
    if verb == "compare_swap":
        old, new = arguments
        return (new, True) if _same(value, old) else (value, False)
    if value is not None and type(value) is not _GROWS.get(verb, tuple):
        return value, REFUSED
    if verb == "append":
        text = (value or "") + arguments[0]
        return text, len(text)
    if verb == "increment":
        total = (value or 0) + arguments[0]
        return total, total
    items: Any = value or ()
    if verb == "list_push":
        return (*items, *arguments), len(items) + len(arguments)
    if verb == "list_pop":
        return items[:-1] or None, items[-1] if items else None
    if verb == "list_shift":
        return items[1:] or None, items[0] if items else None
    if verb == "list_range":
        return value, items
    raise ValueError(verb)


def apply(store: Store, verb: str, arguments: tuple[Any, ...]) -> tuple[Store, Any]:
    """Return the next store and the verb's result; the same object if nothing changed."""
    if verb == "get_many":
        return store, tuple(store.get(key) for key in arguments)
    if verb == "set_many":
        keys, value = arguments[:-1], arguments[-1]
        return {**store, **dict.fromkeys(keys, value)}, True
    if verb in ("transfer", "abandon"):
        source, target, amount = arguments
        left, there = store.get(source, 0) - amount, store.get(target, 0) + amount
        return ({**store, source: left, target: there} if verb == "transfer" else store), (left, there)
    key = arguments[0]
    before = store.get(key)
    value, result = step(before, verb, arguments[1:])
    if value is before:
        return store, result
    if value is None:
        return {other: kept for other, kept in store.items() if other != key}, result
    return {**store, key: value}, result


@dataclass
class Verdict:
    """What `replay` found, and what it looked at."""

    violation: str | None = None
    operations: int = 0
    writes: int = 0
    unknown: int = 0
    """Writes in the order whose process died: each was kept or lost, and the rest of the history must tell."""
    kept: int = 0

    def __str__(self) -> str:
        return (
            f"{self.operations} operations, {self.writes} writes, {self.unknown} of unknown outcome ({self.kept} kept),"
            f" violations {int(self.violation is not None)}"
        )


@dataclass
class _Replay:
    """The state of a replay, and how to go back to an earlier one."""

    states: list[Store] = field(default_factory=lambda: [{}])
    reads: int = 0
    returned: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """For the reads so far, in the order they returned: the largest place in the order that any of them has."""

    def rewind(self, states: int, reads: int) -> None:
        """Forget what came after that many states and reads."""
        del self.states[states:]
        del self.returned[reads:], self.places[reads:]
        self.reads = reads


def replay(operations: Sequence[Operation], order: Sequence[tuple[int, int]]) -> Verdict:
    """Check a history against the order in which its writes were committed.

    Each write must have its result at its own place; each read at some place between the last write that was
    acknowledged before it was called and the first write that was called after it returned, and no read earlier than
    one that had returned before it was called. A write whose process died may be kept or lost.
    """
    by_name = {(operation.worker, operation.number): operation for operation in operations}
    # What was refused changed nothing; that it committed is about a guard (`Witness.order`), not about its place.
    order = [name for name in order if by_name[name].result != REFUSED]
    writes = [by_name[name] for name in order]
    verdict = Verdict(operations=len(operations), writes=len(order))
    verdict.unknown = sum(write.result is UNKNOWN for write in writes)
    verdict.violation = _real_time(writes)
    if verdict.violation is not None:
        return verdict
    committed = set(order)
    reads = sorted(
        (one for name, one in by_name.items() if name not in committed and one.result is not UNKNOWN),
        key=lambda one: one.returned,
    )
    windows = _windows(writes, reads)
    at = _Replay()
    choices: list[tuple[int, int]] = []
    index, lost = 0, False
    for _ in range(TRIES):
        found = _advance(at, writes, reads, windows, index, lost, choices)
        if found is None:
            verdict.violation = None
            verdict.kept = len(choices)
            return verdict
        verdict.violation = verdict.violation or found
        if not choices:
            return verdict
        # The last write of a dead process that was taken for kept: try it as lost.
        index, done = choices.pop()
        at.rewind(index + 1, done)
        lost = True
    return verdict


def _advance(
    at: _Replay,
    writes: Sequence[Operation],
    reads: Sequence[Operation],
    windows: Sequence[tuple[int, int]],
    index: int,
    lost: bool,
    choices: list[tuple[int, int]],
) -> str | None:
    """Go on from a write to the end; `lost` is about that first one. Return what does not fit, or None."""
    for here in range(index, len(writes) + 1):
        while at.reads < len(reads) and windows[at.reads][1] <= here:
            found = _place(at, reads[at.reads], *windows[at.reads])
            if found is not None:
                return found
        if here == len(writes):
            break
        write = writes[here]
        if write.result is UNKNOWN and not (lost and here == index):
            choices.append((here, at.reads))
        after, result = apply(at.states[-1], write.verb, write.arguments)
        if write.result is UNKNOWN:
            at.states.append(at.states[-1] if lost and here == index else after)
        elif not _same(result, write.result):
            return f"write {here}: {write}, but it should be {result!r}"
        else:
            at.states.append(after)
    return None


def _place(at: _Replay, read: Operation, first: int, last: int) -> str | None:
    """Find the earliest place for a read; return what it should have seen if there is none."""
    earlier = bisect_left(at.returned, read.called)
    if earlier:
        first = max(first, at.places[earlier - 1])
    for place in range(first, last + 1):
        store = at.states[place]
        after, result = apply(store, read.verb, read.arguments)
        if after is store and _same(result, read.result):
            at.reads += 1
            at.returned.append(read.returned)
            at.places.append(max(place, at.places[-1]) if at.places else place)
            return None
    seen = [apply(at.states[place], read.verb, read.arguments)[1] for place in range(first, min(last, first + 3) + 1)]
    return f"read: {read}, but between writes {first} and {last} it should be one of {seen!r}"


def _real_time(writes: Sequence[Operation]) -> str | None:
    """Return a pair of writes that was committed against real time, or None."""
    soonest = Operation(0, 0, "", (), 0)
    for write in reversed(writes):
        if soonest.returned < write.called:
            return f"{soonest} had returned before {write} was called, but was committed after it"
        if write.returned < soonest.returned:
            soonest = write
    return None


def _windows(writes: Sequence[Operation], reads: Sequence[Operation]) -> list[tuple[int, int]]:
    """Return for each read the first and last place it may have, as a number of writes before it."""
    by_return = sorted((write.returned, place + 1) for place, write in enumerate(writes) if write.result is not UNKNOWN)
    returns = [returned for returned, _ in by_return]
    firsts = list(accumulate((place for _, place in by_return), max))
    by_call = sorted((write.called, place) for place, write in enumerate(writes))
    calls = [called for called, _ in by_call]
    lasts = list(accumulate((place for _, place in reversed(by_call)), min))[::-1]
    windows = []
    for read in reads:
        acknowledged = bisect_left(returns, read.called)
        later = bisect_right(calls, read.returned)
        windows.append(
            (firsts[acknowledged - 1] if acknowledged else 0, lasts[later] if later < len(lasts) else len(writes))
        )
    return windows


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


Model = Callable[[Any, Any], tuple[Any, Any]]
"""From a state and an operation to the next state and the result; states can be hashed."""


def key_model(value: Any, operation: Operation) -> tuple[Any, Any]:
    """The model of one key."""
    return step(value, operation.verb, operation.arguments[1:])


LockState = tuple[frozenset[tuple[int, int]], int]
"""Who holds a lock, each with the slots that it states, 0 for a shared one; and its last token."""

UNLOCKED: Final[LockState] = (frozenset(), 0)


def lock_model(held: LockState, operation: Operation) -> tuple[LockState, Any]:
    """The model of one lock: as many hold it as state the same slots, and each acquisition exceeds the last token."""
    holders, last = held
    who = operation.worker
    if operation.verb == "acquire":
        _, slots = operation.arguments
        has_room = all(other == slots for _, other in holders) and (slots == 0 or len(holders) < slots)
        token = operation.result
        if token is UNKNOWN:
            return ((holders | {(who, slots)}, last) if has_room else held), UNKNOWN
        return (holders | {(who, slots)}, token), (token if has_room and token > last else "taken")
    # A release, and what the death of a process does to its locks.
    left = frozenset(holder for holder in holders if holder[0] != who)
    return (left, last), left != holders


def linearizable(operations: Sequence[Any], model: Model = key_model, initial: Any = None) -> bool:
    """Search for an order that explains the results of operations on one key.

    Wing and Gong's search with Lowe's memory of what was tried (Gavin Lowe, "Testing for linearizability", 2017): take
    any operation that no waiting one had to precede, and never the same set of operations in the same state twice.
    Those with an unknown result may happen at any time after their call, or never.
    """
    events = sorted(
        [(one.called, 0, index) for index, one in enumerate(operations)]
        + [(one.returned, 1, index) for index, one in enumerate(operations) if one.result is not UNKNOWN]
    )
    # A doubly linked list: what is taken is cut out, and put back in reverse order.
    size = len(events)
    following = [*range(1, size + 1), 0]
    preceding = [size, *range(size)]
    returns = {index: place for place, (_, kind, index) in enumerate(events) if kind == 1}
    waiting = len(returns)
    state, taken = initial, 0
    tried: set[tuple[int, Any]] = set()
    trail: list[tuple[int, Any]] = []
    place = following[size]
    while waiting:
        if place != size and events[place][1] == 0:
            index = events[place][2]
            operation = operations[index]
            after, result = model(state, operation)
            grown = taken | 1 << index
            if (operation.result is UNKNOWN or _same(result, operation.result)) and (grown, after) not in tried:
                tried.add((grown, after))
                trail.append((place, state))
                state, taken = after, grown
                for gone in (place, returns.get(index)):
                    if gone is not None:
                        following[preceding[gone]], preceding[following[gone]] = following[gone], preceding[gone]
                waiting -= index in returns
                place = following[size]
            else:
                place = following[place]
            continue
        # A return that is still waiting: something before it was taken in vain.
        if not trail:
            return False
        place, state = trail.pop()
        index = events[place][2]
        taken &= ~(1 << index)
        for back in (returns.get(index), place):
            if back is not None:
                following[preceding[back]] = preceding[following[back]] = back
        waiting += index in returns
        place = following[place]
    return True
