"""The table of the read cache: what is found is what was put last, within the limit, and no reference is lost."""

from __future__ import annotations

import gc
import random
import sys
from typing import Any

import pytest

from helpers import TESTS
from helpers.fake_walindex import MISS, Store, reader
from helpers.support import SANITIZED, run_python
from slothstate.engines.sqlite.read_cache import ABSENT

SCALARS = (
    "text",
    "täxt",
    "\u4e2d\u6587",
    "\U0001f600" * 9,
    b"",
    b"\x00\xff" * 50,
    0,
    -(2**63),
    2**63 - 1,
    1.5,
    True,
    False,
)


def test_every_kind_of_value_comes_back() -> None:
    """Scalars come back as they are, tables and lists through their builders, and a missing key is the default."""
    store = Store()
    for number, value in enumerate(SCALARS):
        store.put(f"k{number}", value)
    store.put("table", '{"a":1}', form=1)
    store.put("list", "[1]", form=2)
    store.put("absent", None, form=ABSENT)
    for number, value in enumerate(SCALARS):
        found = store.get(f"k{number}")
        assert found == value
        assert type(found) is type(value)
    assert store.get("table") == ['{"a":1}']
    assert store.get("list") == ("[1]",)
    assert store.get("absent", "default") == "default"
    assert store.get("other", "default") == ("miss", "default")


def test_keys_are_told_apart_by_their_text() -> None:
    """Equal texts in different objects are one key; texts that differ in one character, case or width are not."""
    store = Store()
    names = ["a", "b", "A", "ab", "a" * 100, "a" * 99 + "b", "ä", "\u4e2d", "\U0001f600", "\x01", "k\u0301"]
    for number, name in enumerate(names):
        store.put(name, number)
    for number, name in enumerate(names):
        assert store.get("".join(list(name))) == number


@pytest.mark.parametrize("seed", range(5))
def test_a_random_history_never_finds_anything_but_the_last_value(seed: int) -> None:
    """Beside a dict that forgets nothing: put, forget, outdate, values of all sizes, in a table that is too small."""
    choice = random.Random(seed)
    limit = choice.choice([8_000, 20_000, 200_000])
    store = Store(limit)
    known: dict[str, Any] = {}
    hits = 0
    for step in range(20_000):
        key = f"k{int(choice.paretovariate(0.5)) % 3000}"
        what = choice.random()
        if what < 0.45:
            found = store.get(key)
            hits += found != MISS
            assert found == MISS or found == known[key], step
        elif what < 0.95:
            known[key] = choice.choice([step, str(step), "é" * choice.randrange(200), b"x" * choice.randrange(2000)])
            store.put(key, known[key])
        elif what < 0.999:
            known.pop(key, None)
            store.forget(key)
            assert store.get(key) == MISS
        else:
            known.clear()
            store.commit()
            assert store.get(key) == MISS
        assert store.cache.figures()["bytes"] <= limit
    assert hits > 300


def test_a_value_of_more_than_a_quarter_of_the_limit_is_not_kept() -> None:
    """It would push out everything else; what was known of its key before is forgotten all the same."""
    store = Store(100_000)
    store.put("other", 1)
    store.put("k", "x" * 20_000)
    assert store.get("k") == "x" * 20_000
    store.put("k", "y" * 30_000)
    assert store.get("k") == MISS
    assert store.get("other") == 1


def test_a_limit_of_nothing_keeps_nothing() -> None:
    """`cache_size=0` is a cache that never hits."""
    store = Store(0)
    store.put("k", 1)
    assert store.get("k") == MISS
    assert store.cache.figures()["entries"] == 0


@pytest.mark.parametrize(
    ("order", "share"), [("in turn", 0.3), ("at random", 0.55), ("skewed", 0.8), ("hot beside a scan", 0.4)]
)
def test_a_working_set_beyond_the_limit_still_hits(order: str, share: float) -> None:
    """With one and a half times as many keys as fit, a fair share of reads hit, also of keys read in turn."""
    size, choice = 3000, random.Random(1)
    store = Store(2**30)
    for number in range(size):
        store.put(f"key:{number:06}", number)
    store = Store(store.cache.figures()["bytes"] * 2 // 3)
    hits = rounds = 0
    for step in range(20 * size):
        if order == "in turn":
            number = step % size
        elif order == "at random":
            number = choice.randrange(size)
        elif order == "skewed":
            number = min(int(choice.paretovariate(1)), size) - 1
        else:
            number = step // 2 % 500 if step % 2 else 10_000 + step
        key = f"key:{number:06}"
        found = store.get(key)
        if found == MISS:
            store.put(key, number)
        if step >= 5 * size:
            rounds += 1
            hits += found != MISS
    print(f"{order}: {hits / rounds:.2f}")
    assert hits / rounds > share


def test_outdated_entries_make_room_before_valid_ones() -> None:
    """After a commit the old entries are the first to go: a working set that fits is found again whole."""
    store = Store(400_000)
    for _ in range(20):
        store.commit()
        for number in range(1000):
            store.put(f"k{number}", number)
        assert sum(store.get(f"k{number}") == number for number in range(1000)) > 980


def test_no_reference_is_lost_or_kept() -> None:
    """Putting, replacing, evicting, forgetting, clearing and dropping give every reference back."""
    keys = ["key of its own " + str(number) for number in range(2000)]
    values = [f"value {number}" for number in range(2000)]
    default = object()
    gc.collect()  # what earlier tests left must not go meanwhile
    counts = [sys.getrefcount(each) for each in (*keys, *values, default, None)]
    for limit in (10_000, 100_000, 10_000_000):
        store = Store(limit)
        for key, value in zip(keys, values, strict=True):
            store.put(key, value)
            store.put(key, value)
            assert store.get(key, default) in (value, ("miss", default))
        store.put(keys[0], values[0])
        store.forget(keys[0])
        store.commit()
        for key, value in zip(keys[:500], values, strict=False):
            store.put(key, value, form=1)
            store.get(key)
        store.put("absent", None, form=ABSENT)
        assert store.get("absent", default) is default
        store.cache.detach()
        del store, key, value
    after = [sys.getrefcount(each) for each in (*keys, *values, default, None)]
    assert after[:-1] == counts[:-1]
    assert abs(after[-1] - counts[-1]) < 500  # everybody has None: one for each key would be more


def test_a_builder_may_change_the_cache_under_the_entry() -> None:
    """Building a table runs Python code: it may take its own entry out, and the text lives until it is built."""
    store = Store()

    def build(text: str) -> str:
        store.forget("k")
        store.cache.detach()
        return text + "!"

    get = reader(store.cache, lambda key, default: MISS, build, build)
    store.put("k", "".join(["te", "xt"]), form=1)
    assert get("k") == "text!"
    assert get("k") == MISS


def test_an_error_of_a_builder_passes_through() -> None:
    """What the builder raises is what `get` raises, and the entry stays."""
    store = Store()

    def build(text: str) -> object:
        raise LookupError(text)

    get = reader(store.cache, lambda key, default: MISS, build, build)
    store.put("k", "text", form=2)
    for _ in range(2):
        with pytest.raises(LookupError, match="text"):
            get("k")


def test_a_given_clock_may_change_the_cache() -> None:
    """The clock is asked before the look: whatever it does to the cache, the answer is of the moment after it."""
    actions: list[Any] = []

    def clock() -> float:
        return actions.pop()() if actions else 5.0

    store = Store(clock=clock)
    store.put("k", 1, 6_000)
    assert store.get("k") == 1
    assert store.cache.remaining_ms("k") == 1_000

    def replace() -> float:
        store.put("k", 2, 9_000)
        return 7.0

    def forget() -> float:
        store.forget("k")
        return 5.0

    def detach() -> float:
        store.cache.detach()
        store.file.free()
        return 5.0

    actions.append(replace)
    assert store.get("k") == 2
    actions.append(forget)
    assert store.get("k") == MISS
    store.put("k", 3, 6_000)
    actions.append(detach)
    assert store.get("k") == MISS


@pytest.mark.parametrize("reading", [float("nan"), float("inf"), "x", None])
def test_a_clock_without_sense_is_an_error(reading: object) -> None:
    """A clock that raises or gives no time fails the read and breaks nothing."""
    store = Store(clock=lambda: reading)  # type: ignore[arg-type,return-value]
    store.put("k", 1, 6_000)
    for call in (store.get, store.cache.remaining_ms):
        with pytest.raises((ValueError, TypeError)):
            call("k")


def test_the_time_that_is_left() -> None:
    """`remaining_ms` says what the store would: milliseconds, no TTL, no such key, or nothing."""
    now = [5.0]
    store = Store(clock=lambda: now[0])
    store.put("k", 1, 6_000)
    store.put("for ever", 1)
    store.put("absent", None, form=ABSENT)
    expected = {"k": 1_000, "for ever": -1, "absent": -2, "unknown": None}
    assert {key: store.cache.remaining_ms(key) for key in expected} == expected
    now[0] = 5.9995
    assert store.cache.remaining_ms("k") == 1
    now[0] = 6.0
    assert store.cache.remaining_ms("k") == -2
    assert store.get("k", "gone") == "gone"
    assert store.cache.remaining_ms([]) is None  # type: ignore[arg-type]


GROWTH = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from helpers.fake_walindex import Store, reader

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

limit = 32 * 2**20
store = Store(limit)
token = store.cache.sync()
before = resident()
for number in range(1_000_000):
    store.cache.store(token, f"key:{number}", 0, 1_000_000 + number, None)
grown = resident() - before
assert store.cache.figures()["bytes"] <= limit
print(round(grown / limit, 2))
"""


@pytest.mark.skipif(SANITIZED or not sys.platform.startswith("linux"), reason="measures memory through /proc")
def test_a_million_keys_stay_within_the_limit_in_real_memory() -> None:
    """What the cache counts is what the process grows by, to ten per cent."""
    share = float(run_python(GROWTH, TESTS))
    assert 0.6 < share <= 1.1
