"""The operations that several topics share; see `bench.measure.Source`. Values vary, so that every write writes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Final

from bench.measure import Batch, Source
from bench.peers import Peer

__all__ = [
    "TABLE",
    "append",
    "get",
    "get_many",
    "get_table",
    "increment",
    "list_length",
    "push_pop",
    "set_scalar",
    "set_table",
    "swap",
    "take_items",
]

KEYS: Final = 100
WRITTEN_KEYS: Final = 1_000

TABLE: Final = {"app": "frontend", "version": "v2.1.0", "replicas": 3, "ratio": 0.25, "healthy": True}
"""Five fields of the types a configuration has."""


NESTED: Final = {
    "app": "web",
    "ports": [80, 443],
    "env": {"A": "1", "B": "2"},
    "steps": [{"id": 1, "ok": True}, {"id": 2, "ok": False}],
}

DOCUMENTS: Final[dict[str, Callable[[int], Any]]] = {
    "table": lambda number: {**TABLE, "replicas": number},
    "list": lambda number: list(range(1000 * number, 1000 * number + 20)),
    "nested": lambda number: {**NESTED, "number": number},
}


def scalar(kind: str, number: int) -> Any:
    return number if kind == "int" else f"value number {number}"


def get(peer: Peer, *, kind: str, keys: int = KEYS) -> Source:
    """Read scalars (`kind` int or str) under a few keys over and over: the hot read."""
    assert peer.get is not None
    assert peer.set is not None
    names = [peer.key(f"{kind}:{number}") for number in range(keys)]
    values = [peer.value(scalar(kind, number)) for number in range(keys)]
    for name, value in zip(names, values, strict=True):
        peer.set(name, value)

    def source(operations: int) -> Batch:
        chosen = [number % keys for number in range(operations)]
        assert peer.get is not None
        return Batch(peer.get, ([names[i] for i in chosen],), [values[i] for i in chosen])

    return source


def get_table(peer: Peer, *, document: str = "table") -> Source:
    """Read a table of five fields, or another of DOCUMENTS, under a few keys over and over."""
    assert peer.set_table is not None
    names = [peer.key(f"{document}:{number}") for number in range(KEYS)]
    tables = [DOCUMENTS[document](number) for number in range(KEYS)]
    for name, table in zip(names, tables, strict=True):
        peer.set_table(name, table)

    def source(operations: int) -> Batch:
        chosen = [number % KEYS for number in range(operations)]
        assert peer.get_table is not None
        return Batch(peer.get_table, ([names[i] for i in chosen],), [tables[i] for i in chosen])

    return source


def get_many(peer: Peer, *, together: bool) -> Source:
    """Read a hundred keys over and over, in one call or in one each; one operation is all of them."""
    assert peer.get is not None
    names = [f"many:{number}" for number in range(KEYS)]
    values = {name: number for number, name in enumerate(names)}
    state = peer.native
    state.set_many(values)
    read = state.get

    def one_by_one(keys: list[str]) -> list[Any]:
        return [read(key) for key in keys]

    def source(operations: int) -> Batch:
        if together:
            return Batch(state.get_many, ([names] * operations,), [values] * operations)
        return Batch(one_by_one, ([names] * operations,), [list(values.values())] * operations)

    return source


def list_length(peer: Peer) -> Source:
    """Ask for the length of a list of ten items over and over."""
    state = peer.native
    state.list_push("measured", *range(10))

    def source(operations: int) -> Batch:
        return Batch(state.list_length, (["measured"] * operations,), [10] * operations)

    return source


def set_scalar(peer: Peer, *, kind: str = "int", keys: int = WRITTEN_KEYS) -> Source:
    """Overwrite scalars under many keys, each time with another value."""
    names = [peer.key(f"set-{kind}:{number}") for number in range(keys)]
    numbers = count()

    def source(operations: int) -> Batch:
        chosen = [next(numbers) for _ in range(operations)]
        values = [peer.value(scalar(kind, number)) for number in chosen]

        def verify() -> None:
            assert peer.get is not None
            assert peer.get(names[chosen[-1] % keys]) == values[-1]

        assert peer.set is not None
        return Batch(peer.set, ([names[number % keys] for number in chosen], values), verify=verify)

    return source


def set_table(peer: Peer) -> Source:
    """Overwrite tables of five fields under many keys, each time with another value."""
    names = [peer.key(f"set-table:{number}") for number in range(WRITTEN_KEYS)]
    numbers = count()

    def source(operations: int) -> Batch:
        chosen = [next(numbers) for _ in range(operations)]
        tables = [{**TABLE, "replicas": number} for number in chosen]

        def verify() -> None:
            assert peer.get_table is not None
            assert peer.get_table(names[chosen[-1] % WRITTEN_KEYS]) == tables[-1]

        assert peer.set_table is not None
        return Batch(peer.set_table, ([names[number % WRITTEN_KEYS] for number in chosen], tables), verify=verify)

    return source


def increment(peer: Peer) -> Source:
    """Add one to one counter after the other."""
    names = [peer.key(f"counter:{number}") for number in range(WRITTEN_KEYS)]
    numbers = count()

    def source(operations: int) -> Batch:
        chosen = [next(numbers) for _ in range(operations)]
        totals = [number // WRITTEN_KEYS + 1 for number in chosen]
        assert peer.increment is not None
        return Batch(peer.increment, ([names[number % WRITTEN_KEYS] for number in chosen],), totals)

    return source


def append(peer: Peer) -> Source:
    """Append ten characters to one text after the other; at a hundred, new texts take over."""
    numbers = count()
    piece = "0123456789"

    def source(operations: int) -> Batch:
        chosen = [next(numbers) for _ in range(operations)]
        names = [peer.key(f"text:{number // (10 * WRITTEN_KEYS)}:{number % WRITTEN_KEYS}") for number in chosen]
        lengths = [10 * (number // WRITTEN_KEYS % 10 + 1) for number in chosen]
        assert peer.append is not None
        return Batch(peer.append, (names, [piece] * operations), lengths)

    return source


def swap(peer: Peer) -> Source:
    """Swap the value that is there for the next, under one key after the other."""
    assert peer.set is not None
    names = [peer.key(f"swap:{number}") for number in range(WRITTEN_KEYS)]
    for name in names:
        peer.set(name, 0)
    numbers = count()

    def source(operations: int) -> Batch:
        chosen = [next(numbers) for _ in range(operations)]
        old = [number // WRITTEN_KEYS for number in chosen]
        new = [value + 1 for value in old]
        assert peer.compare_swap is not None
        columns = ([names[number % WRITTEN_KEYS] for number in chosen], old, new)
        return Batch(peer.compare_swap, columns, [True] * operations)

    return source


def take_items(peer: Peer, *, claims: bool) -> Source:
    """Take the items of a long list from its front; with `claims` each is claimed, and done."""
    state = peer.native
    name = peer.key(f"queue:{claims}")

    def claim(key: Any) -> Any:
        claimed = state.list_claim(key)
        claimed.done()
        return claimed.item

    def source(operations: int) -> Batch:
        state.delete(name)
        # One stays: what empties a list does more.
        state.list_push(name, *range(operations + 1))
        return Batch(claim if claims else state.list_shift, ([name] * operations,), list(range(operations)))

    return source


def push_pop(peer: Peer, *, length: int) -> Source:
    """Push an item to a list that stays at a length and pop it again; one operation is the pair."""
    push, pop = peer.push, peer.pop
    assert push is not None
    assert pop is not None
    name = peer.key(f"list:{length}")
    page = 10_000
    for start in range(0, length, page):
        items = [peer.value(number) for number in range(start, min(start + page, length))]
        if peer.push_many is not None:
            peer.push_many(name, items)
        else:
            for item in items:
                push(name, item)
    numbers = count(length)

    def pair(key: Any, item: Any) -> Any:
        push(key, item)
        return pop(key)

    def source(operations: int) -> Batch:
        items = [peer.value(next(numbers)) for _ in range(operations)]
        return Batch(pair, ([name] * operations, items), items)

    return source
