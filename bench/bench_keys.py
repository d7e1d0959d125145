"""Wildcard search among a million keys: by prefix, by suffix, all of them."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from bench.compare import Lane, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import Report
from bench.scale import QUICK, Scale
from bench.under_pytest import run_lane

TOPIC: Final = "keys"

PATTERNS: Final = {"prefix": "user:1*", "suffix": "*:profile", "all": "*"}

_FAMILIES: Final = ("build", "cart", "device", "group", "host", "job", "order", "queue", "session", "user")
_ASPECTS: Final = ("profile", "settings", "state", "history")

_PAGE: Final = 50_000


def all_keys(count: int) -> list[str]:
    """Return so many keys of ten families, one in four of them a profile, in code point order."""
    each = count // len(_FAMILIES)
    return sorted(f"{family}:{number}:{_ASPECTS[number % 4]}" for family in _FAMILIES for number in range(each))


def fill(peer: Peer, count: int) -> list[str]:
    """Put the keys into the store unless they are there, and return them."""
    keys = all_keys(count)
    assert peer.get is not None
    assert peer.set_many is not None
    if peer.get(peer.key(keys[-1])) is None:
        numbered = iter(enumerate(keys))
        while page := {key: number for number, key in islice(numbered, _PAGE)}:
            peer.set_many(page)
    return keys


def matching(peer: Peer, *, count: int, search: str) -> Source:
    """Collect every key that matches a pattern; one operation is the whole list."""
    keys = fill(peer, count)
    wanted = {
        "prefix": [key for key in keys if key.startswith("user:1")],
        "suffix": [key for key in keys if key.endswith(":profile")],
        "all": keys,
    }[search]
    expected = sorted(peer.value(key) for key in wanted)

    def find(pattern: str) -> list[Any]:
        assert peer.keys is not None
        return peer.keys(pattern)

    def check(found: list[Any]) -> None:
        # Redis answers in no order.
        assert sorted(found) == expected

    assert peer.keys is not None
    check(peer.keys(PATTERNS[search]))

    def source(operations: int) -> Batch:
        return Batch(_Checked(find, len(expected)), ([PATTERNS[search]] * operations,))

    return source


class _Checked:
    """Searches, and keeps nothing but the number of keys, so that a list does not outlive its own operation."""

    def __init__(self, find: Any, expected: int) -> None:
        self._find = find
        self._expected = expected

    def __call__(self, pattern: str) -> None:
        if len(self._find(pattern)) != self._expected:
            raise AssertionError(f"{pattern}: not {self._expected} keys")


def what(search: str, scale: Scale) -> str:
    return f"keys({PATTERNS[search]!r}) of {scale.many_keys:,}"


def lanes(scale: Scale) -> list[Lane]:
    stores: tuple[dict[str, Any], ...] = (
        {"peer": "slothstate"},
        {"peer": "apsw", "variant": "GLOB"},
        {"peer": "redis"},
    )
    return [
        Lane(
            what=what(search, scale),
            workload=matching,
            options={"count": scale.many_keys, "search": search},
            limit=1,
            **store,
        )
        for search in PATTERNS
        for store in stores
    ]


def run(report: Report) -> None:
    scale = report.scale
    report.measure(TOPIC, lanes(scale), scale.few_rounds)
    for search, goal in (("prefix", 0.8), ("suffix", 1.0), ("all", 0.8)):
        name = what(search, scale)
        report.at_most(f"{name}: times SQLite's GLOB", goal, report.times(name, "slothstate", than="apsw, GLOB"))
        report.at_most(f"{name}: times Redis KEYS", 1.0, report.times(name, "slothstate", than="redis"))


PARAMETERS: Final = {"lane": lanes(QUICK)}


def bench_keys(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
