"""Values of 100 bytes, 10 KiB and 1 MiB."""

from __future__ import annotations

from itertools import count
from random import Random
from string import ascii_letters
from typing import Any, Final

from bench.compare import Lane, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import Report
from bench.under_pytest import run_lane

TOPIC: Final = "values"

SIZES: Final = {"100 B": 100, "10 KiB": 10 * 1024, "1 MiB": 1024 * 1024}

_SHIFTS: Final = 5_003

_text: Final[list[str]] = []


def text(size: int, number: int) -> str:
    """Return one of many texts of a size; two of them differ everywhere, so that an overwrite spares no page."""
    if not _text:
        _text.append("".join(Random(9).choices(ascii_letters, k=max(SIZES.values()) + _SHIFTS)))
    shift = number * 31 % _SHIFTS
    return _text[0][shift : shift + size]


def how_many(size: int) -> int:
    """Return how many keys and operations suffice: some megabytes of them."""
    return max(4, min(1_000, 8 * 2**20 // size))


def set_value(peer: Peer, *, size: int) -> Source:
    """Overwrite texts of a size, each time with others."""
    keys = how_many(size)
    names = [peer.key(f"value-{size}:{number}") for number in range(keys)]
    numbers = count()

    def source(operations: int) -> Batch:
        chosen = [next(numbers) for _ in range(operations)]
        values = [peer.value(text(size, number)) for number in chosen]

        def verify() -> None:
            assert peer.get is not None
            assert peer.get(names[chosen[-1] % keys]) == values[-1]

        assert peer.set is not None
        return Batch(peer.set, ([names[number % keys] for number in chosen], values), verify=verify)

    return source


def get_value(peer: Peer, *, size: int) -> Source:
    """Read texts of a size over and over."""
    assert peer.set is not None
    keys = how_many(size)
    names = [peer.key(f"read-{size}:{number}") for number in range(keys)]
    values = [peer.value(text(size, number)) for number in range(keys)]
    for name, value in zip(names, values, strict=True):
        peer.set(name, value)

    def source(operations: int) -> Batch:
        chosen = [number % keys for number in range(operations)]
        assert peer.get is not None
        # The writes of another lane may have cooled them, and a turn is hardly longer than one pass over the keys.
        for name in names:
            peer.get(name)
        return Batch(peer.get, ([names[i] for i in chosen],), [values[i] for i in chosen])

    return source


_STORES: Final[tuple[dict[str, Any], ...]] = (
    {"peer": "slothstate"},
    {"peer": "apsw"},
    {"peer": "apsw", "variant": "4 KiB pages", "open": {"page_size": 4096}},
    {"peer": "lmdb"},
    {"peer": "diskcache"},
    {"peer": "redis"},
)

LANES: Final = tuple(
    Lane(what=f"{verb} of {name}", workload=workload, options={"size": size}, limit=how_many(size), **store)
    for name, size in SIZES.items()
    for verb, workload in (("set", set_value), ("hot get", get_value))
    for store in _STORES
)


def run(report: Report) -> None:
    report.measure(TOPIC, LANES, report.scale.few_rounds)


PARAMETERS: Final = {"lane": LANES}


def bench_values(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
