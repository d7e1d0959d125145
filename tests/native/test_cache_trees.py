"""What the read cache keeps of tables and lists: a tree that nobody gets, and copies of it."""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import TESTS
from helpers.fake_walindex import MISS, Store, base_of
from helpers.support import SANITIZED, run_python
from slothstate.engines.sqlite.read_cache import ABSENT, LENGTH
from slothstate.native import StateBase, json_decode, json_encode

TABLE, LIST = 1, 2

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)

VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=5), inner, max_size=6)
).filter(lambda value: isinstance(value, dict | list))


def base_on(store: Store, encode: Callable[[Any, str], str] | None = None) -> StateBase:
    """Return the base of a State that reads what is in a store's cache."""
    return base_of(store.cache, lambda key, default: MISS, json_decode, json_decode, encode)


def form_of(value: object) -> int:
    return TABLE if isinstance(value, dict) else LIST


@given(VALUES)
def test_a_copy_is_what_the_text_says(value: Any) -> None:
    """Every hit gives what json.loads gives of the text, types and order too, whether it was parsed or copied."""
    store = Store()
    text = json_encode(value, "value")
    base = base_on(store)
    store.put("k", text, form=form_of(value))
    for _ in range(3):
        got = base.get("k")
        assert repr(got) == repr(json.loads(text))
        assert json_encode(got, "value") == text


def parts_of(value: Any) -> list[int]:
    """Return the identities of the dicts and lists of a value."""
    if not isinstance(value, dict | list):
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [id(value), *(part for each in inner for part in parts_of(each))]


@given(VALUES)
def test_copies_have_no_part_in_common(value: Any) -> None:
    """No dict or list of a value is one of another's, at whatever depth; the collector knows all that are nested."""
    store = Store()
    base = base_on(store)
    store.put("k", json_encode(value, "value"), form=form_of(value))
    copies = [base.get("k") for _ in range(4)]
    parts = [part for copy in copies for part in parts_of(copy)]
    assert len(parts) == len(set(parts))
    for copy in copies:
        if any(isinstance(each, dict | list) for each in (copy.values() if isinstance(copy, dict) else copy)):
            assert gc.is_tracked(copy)


def test_what_is_done_to_a_copy_shows_nowhere() -> None:
    """Changing a value at any depth changes neither another one nor what comes next."""
    store = Store()
    base = base_on(store)
    value = {"a": [1, {"b": [2, []]}], "c": {}}
    store.put("k", json_encode(value, "value"), form=TABLE)
    for _ in range(3):
        got, other = base.get("k"), base.get("k")
        got["a"][1]["b"][1].append(3)
        got["a"].append(4)
        got["c"]["d"] = 5
        got["e"] = got
        assert other == value
    assert base.get("k") == value


def test_a_cycle_through_a_copy_is_collected() -> None:
    """A copy is an ordinary value to the collector, whatever is made of it."""

    class Canary:
        pass

    store = Store()
    base = base_on(store)
    store.put("flat", '{"a":1}', form=TABLE)
    store.put("nested", '{"a":{"b":[1]}}', form=TABLE)
    for key in ("flat", "nested"):
        for _ in range(3):
            got = base.get(key)
            got["self"] = got
            got["canary"] = Canary()
            del got
    gc.collect()
    assert not [each for each in gc.get_objects() if type(each) is Canary]


def test_nobody_comes_by_the_tree_itself() -> None:
    """The collector does not know it: there is no way from a part of it to the whole."""
    store = Store()
    base = base_on(store)
    mark = "a text that nothing else has"
    store.put("k", json_encode({"a": [mark], "b": {"c": [mark]}}, "value"), form=TABLE)
    base.get("k")
    got = base.get("k")
    gc.collect()
    own = {id(got["a"]), id(got["b"]["c"]), id(got["b"])}
    for part in (got["a"][0], got["b"]["c"][0]):
        assert [each for each in gc.get_referrers(part) if isinstance(each, list) and id(each) not in own] == []


def test_a_builder_that_keeps_what_it_built_is_asked_each_time() -> None:
    """What somebody else has a reference to, or what is more than JSON, is not kept."""
    store = Store()
    kept: list[Any] = [[1], [2]]
    for build in (lambda text: kept, lambda text: [kept[0]], lambda text: [object()], lambda text: [(1,)]):
        store.put("k", "[1]", form=LIST)
        base = base_of(store.cache, lambda key, default: MISS, build, build)
        for _ in range(3):
            assert type(base.get("k")) is list
        assert base_on(store).get("k") == [1]


def test_a_reader_of_text_gets_the_text_of_a_tree() -> None:
    """What Python made a tree of is still text to another language, with each number as it was."""
    text = '{"a":[1,1.0,-0.0,true,null,"\u00e4"],"b":{}}'
    store = Store()
    store.put("k", text, form=TABLE)
    python = base_on(store)
    other = base_of(store.cache, lambda key, default: MISS, lambda text: ("table", text), print, json_encode)
    assert other.get("k") == ("table", text)
    for _ in range(2):
        python.get("k")
        assert other.get("k") == ("table", text)


def test_the_deepest_value_is_copied() -> None:
    """500 levels, as deep as anything can be stored."""
    store = Store()
    base = base_on(store)
    text = '{"a":[' * 250 + "]}" * 250
    store.put("k", text, form=TABLE)
    for _ in range(3):
        assert json_encode(base.get("k"), "value") == text


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"app": "frontend", "version": "v2.1.0", "replicas": 3000, "ratio": 0.25, "healthy": True},
        [number * 1000 for number in range(1000)],
        {f"key {number}": number + 0.5 for number in range(1000)},
        [{"a": [number], "b": {"c": None}} for number in range(1000, 1200)],
    ],
)
def test_a_tree_costs_what_it_takes(value: Any) -> None:
    """What is charged is at least what sys.getsizeof counts, each object for itself, and not much more."""

    def size_of(part: Any) -> int:
        inner = [*part, *part.values()] if isinstance(part, dict) else part if isinstance(part, list) else []
        shared = part is None or isinstance(part, bool) or (isinstance(part, int) and -5 <= part <= 256)
        return (0 if shared else sys.getsizeof(part)) + sum(map(size_of, inner))

    store = Store()
    base = base_on(store)
    before = store.cache.figures()["bytes"]
    store.put("k", json_encode(value, "value"), form=form_of(value))
    base.get("k")
    charged = store.cache.figures()["bytes"] - before
    assert size_of(json_decode(json_encode(value, "value"))) <= charged <= 1.8 * size_of(value) + 300


def test_a_tree_too_large_to_keep_leaves_its_text() -> None:
    """A text that fits is still a hit when what is built from it does not."""
    store = Store(100_000)
    base = base_on(store)
    value: list[list[int]] = [[] for _ in range(2000)]
    store.put("k", json_encode(value, "value"), form=LIST)
    for _ in range(3):
        assert base.get("k") == value
    assert store.cache.figures()["bytes"] < 20_000


def test_many_keys_are_of_one_moment() -> None:
    """All known: their dict, without the missing ones. Anything unknown, or a commit before the end: nothing."""
    store = Store()
    base = base_on(store)
    store.put("a", 1)
    store.put("b", '{"x":[1]}', form=TABLE)
    store.put("absent", None, form=ABSENT)
    store.put("length", 5, form=LENGTH)
    names: list[Any] = ["b", "a", "absent", "a"]
    assert base._known_values(names) == {"b": {"x": [1]}, "a": 1}
    assert list(base._known_values(names) or ()) == ["b", "a"]
    assert base._known_values([]) == {}
    for unknown in ("other", "length", 5, None, b"a"):
        assert base._known_values(["a", unknown]) is None
    store.transactions.update({threading.get_ident(): None})
    assert base._known_values(["a"]) is None
    store.transactions.clear()
    text = base_of(store.cache, print, lambda text: store.commit(), print, json_encode)
    assert text._known_values(["a", "b"]) is None
    assert base._known_values(["a"]) is None


def test_many_keys_expire_by_one_reading_of_the_clock() -> None:
    """What has expired is missing."""
    now = [5.0]
    store = Store(clock=lambda: now[0])
    base = base_on(store)
    store.put("a", 1, 6_000)
    store.put("b", 2)
    assert base._known_values(["a", "b"]) == {"a": 1, "b": 2}
    now[0] = 6.0
    assert base._known_values(["a", "b"]) == {"b": 2}


def test_the_length_of_a_list() -> None:
    """Known of what was measured: a list that is known whole, one that is not, a missing key; of nothing else."""
    now = [5.0]
    store = Store(clock=lambda: now[0])
    base = base_on(store)
    store.put("list", "[1,2,3]", form=LIST)
    store.put("measured", 10**6, 6_000, form=LENGTH)
    store.put("absent", None, form=ABSENT)
    store.put("table", "{}", form=TABLE)
    store.put("number", 1)
    base.get("list")
    assert base._known_length("list") is None
    store.put("list", 3, form=LENGTH)
    assert base._known_length("list") == 3
    assert base.get("list") == [1, 2, 3]
    assert base._known_length("absent") is None
    store.put("absent", 0, form=LENGTH)
    assert base.get("absent") is None
    assert base.get("measured") == MISS
    expected = {"measured": 10**6, "absent": 0, "table": None, "number": None, "other": None}
    assert {key: base._known_length(key) for key in expected} == expected
    now[0] = 6.0
    assert base._known_length("measured") == 0
    store.commit()
    assert base._known_length("list") is None


def test_no_reference_of_a_tree_is_lost_or_kept() -> None:
    """Exchanging, copying, evicting and dropping give every reference back."""
    default = object()
    before = sys.getrefcount(default)
    for limit in (3_000, 10_000_000):
        store = Store(limit)
        base = base_on(store)
        for number in range(200):
            store.put(f"k{number}", json_encode({"a": [number, {"b": "text"}]}, "value"), form=TABLE)
            for _ in range(3):
                assert base.get(f"k{number}", default) in ({"a": [number, {"b": "text"}]}, MISS)
        store.cache.detach()
        del base, store
    assert sys.getrefcount(default) == before


GROWTH = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from helpers.fake_walindex import Store, base_of
from slothstate.native import json_decode, json_encode

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

limit = 32 * 2**20
store = Store(limit)
base = base_of(store.cache, lambda key, default: None, json_decode, json_decode)
token = store.cache.sync()
before = resident()
for number in range(200_000):
    key, value = f"key:{number}", {"name": f"name {number}", "size": number + 0.5, "list": [number, {"täxt": "ä"}]}
    store.cache.store(token, key, 1, json_encode(value, "value"), None)
    assert base.get(key) == value
grown = resident() - before
assert store.cache.figures()["bytes"] <= limit
print(round(grown / limit, 2))
"""


@pytest.mark.skipif(SANITIZED or not sys.platform.startswith("linux"), reason="measures memory through /proc")
def test_a_cache_full_of_trees_stays_within_the_limit_in_real_memory() -> None:
    """What is charged for tables is what the process grows by."""
    share = float(run_python(GROWTH, TESTS))
    assert 0.4 < share <= 1.1
