"""Looking at keys without loading them: entries, sums by prefix; and how a store is doing."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from helpers.support import Clock
from slothstate import Entry, InvalidValue, State, Usage
from slothstate.native import json_encode


def test_entry_of_each_kind(state: State) -> None:
    """An entry tells kind, size in bytes, length of a list and the beginning of the value, whatever the kind."""
    values = {
        "text": "aü€",
        "number": 12,
        "float": 1.5,
        "yes": True,
        "no": False,
        "bytes": b"\xff\x00a",
        "table": {"a": [1, 2]},
        "list": [1, "two"],
        "empty": [],
    }
    state.set_many(values)
    assert state.entry("text", 2) == Entry("text", "string", 6, None, None, "aü")
    assert state.entry("number", 9) == Entry("number", "number", 2, None, None, "12")
    assert state.entry("float", 9) == Entry("float", "number", 3, None, None, "1.5")
    assert state.entry("yes", 9) == Entry("yes", "boolean", 1, None, None, "true")
    assert state.entry("no", 9) == Entry("no", "boolean", 1, None, None, "false")
    assert state.entry("bytes", 1) == Entry("bytes", "bytes", 3, None, None, b"\xff")
    assert state.entry("table", 4) == Entry("table", "table", 11, None, None, '{"a"')
    assert state.entry("list", 99) == Entry("list", "list", 9, 2, None, '[1,"two"]')
    assert state.entry("empty", 99) == Entry("empty", "list", 2, 0, None, "[]")
    assert state.entry("missing", 99) is None


@pytest.mark.parametrize(
    "value",
    [
        *("a\0b", "\0\1\0", "\1\2\3", "\0" * 5, "a\1", "ü€\0𐍈\0x", "", b"", b"\0\1\xff"),
        *(0, -5, 2**63 - 1, -(2**63), 1.0, -1.0, 0.0, -0.0, 0.1 + 0.2, -0.5, 1e15, -1e15, 1e16, 123456789012345.6),
        *(1234567890123456.8, 1e15 + 0.125, 9007199254740993.0, 1e-4, 1e-5, 1.5e-7, 1e100, 1e308, 5e-324, 1e22, 1e21),
        *(True, False, {}, [], {"\0": "\0"}, ["\0", -0.0, 1e308]),
    ],
    ids=repr,
)
def test_the_beginning_and_the_size_of_a_value(state: State, value: Any) -> None:
    """The preview is the first characters of the value, as many as were asked for; size and usage are those of all."""
    state.set("k", value)
    if isinstance(value, bool):
        whole: str | bytes = "true" if value else "false"
        size = 1
    else:
        plain = isinstance(value, str | bytes)
        whole = value if plain else json_encode(value, "value") if isinstance(value, dict | list) else repr(value)
        size = len(whole.encode() if isinstance(whole, str) else whole)
    for length in (*range(len(whole) + 2), 2**31, 2**62):
        entry = state.entry("k", length)
        assert entry is not None
        assert (entry.preview, entry.size) == (whole[:length], size)
    assert state.usage() == [Usage("", 1, 1 + size)]


def test_the_size_of_many_floats(shared_state: State) -> None:
    """The sums are those of the entries, whatever the floats."""
    generator = random.Random(5)
    floats = [struct.unpack("d", generator.randbytes(8))[0] for _ in range(2000)]
    floats += [generator.uniform(-1, 1) * 10.0 ** generator.randrange(-20, 20) for _ in range(2000)]
    floats += [generator.uniform(1e14, 1e17) for _ in range(1000)]
    shared_state.set_many({f"f{n}:x": number for n, number in enumerate(floats) if math.isfinite(number)})
    assert {row.prefix: row.size for row in shared_state.usage("f")} == {
        f"{entry.key[:-1]}": len(entry.key) + entry.size for entry in shared_state.entries("f*")
    }
    shared_state.clear()


def test_entry_of_a_list_in_rows(state: State) -> None:
    """A pushed list has the size of its JSON, and its preview begins as its JSON does, however long it is."""
    items = [f"item {number}" for number in range(100)]
    state.list_push("queue", *items)
    text = json_encode(items, "items")
    entry = state.entry("queue", 50)
    assert entry is not None
    assert (entry.size, entry.length) == (len(text), 100)
    assert text.startswith(str(entry.preview))
    assert len(entry.preview) > 40
    state.list_push("short", 1, "two")
    whole = '[1,"two"]'
    for length in range(len(whole) + 2):
        entry = state.entry("short", length)
        assert entry is not None
        assert entry.preview == whole[:length]


def test_entry_and_entries_see_only_live_keys(state: State, clock: Clock) -> None:
    """An expired, unswept key has no entry; before, its TTL is told to the millisecond."""
    state.set("short", 1, ttl=1.5)
    state.set("long", 1)
    entry = state.entry("short")
    assert entry is not None
    assert entry.ttl == 1.5
    clock.advance(1.5)
    assert state.entry("short") is None
    assert [entry.key for entry in state.entries()] == ["long"]
    assert state.usage() == [Usage("", 1, 5)]


def test_entries_page_by_page(state: State) -> None:
    """Entries come for the keys that match, all of them, in the order of keys."""
    state.set_many({f"k{number:04}": number for number in range(2500)} | {"other": 1})
    assert [entry.key for entry in state.entries("k*")] == state.keys("k*")
    page, after = state._engine.entries.page_of_descriptions(None, "", 10, 0)
    assert (len(page), after) == (10, "k0009")


@pytest.mark.parametrize("delimiter", [":", "::", "€"])
def test_usage_by_prefix(state: State, delimiter: str) -> None:
    """Keys are summed by the part up to the next delimiter behind the prefix; the sums add up to all there is."""
    d = delimiter
    keys = [f"user{d}1", f"user{d}2{d}x", f"user{d}2{d}y", "site", f"[a]{d}1", f"{d}empty"]
    state.set_many(dict.fromkeys(keys, "0123456789"))

    def octets(*names: str) -> int:
        return sum(len(name.encode()) + 10 for name in names)

    everything = state.usage("", d)
    assert {row.prefix: (row.keys, row.size) for row in everything} == {
        f"user{d}": (3, octets(*keys[:3])),
        "": (1, octets("site")),
        f"[a]{d}": (1, octets(keys[4])),
        d: (1, octets(keys[5])),
    }
    assert [row.size for row in everything] == sorted((row.size for row in everything), reverse=True)
    assert {row.prefix: row.keys for row in state.usage(f"user{d}", d)} == {f"user{d}": 1, f"user{d}2{d}": 2}
    assert state.usage("[a", d) == [Usage(f"[a]{d}", 1, octets(keys[4]))]
    assert state.usage("nobody", d) == []


@pytest.mark.parametrize("preview", [-1, True, 1.0, "1", None, 2**64])
def test_entry_refuses_a_preview_that_is_no_length(state: State, preview: Any) -> None:
    """A preview that is no int >= 0 is refused, before anything is read."""
    for call in (lambda: state.entry("a", preview), lambda: state.entries(None, preview)):
        with pytest.raises(InvalidValue, match="preview"):
            call()


def test_usage_refuses_an_empty_delimiter(state: State) -> None:
    """An empty delimiter, and what is no str, are refused."""
    for arguments in (("", ""), (b"a", ":"), ("a", 1)):
        with pytest.raises(InvalidValue):
            state.usage(*arguments)


def test_break_lock(state: State, open_state: Callable[[], State]) -> None:
    """Only `alive=True` takes a lock from an owner that lives; the owner finds it lost, the next has a new token."""
    assert not state.break_lock("L", alive=True)
    with open_state() as other:
        assert other.lock("L")
        token = state.locks()[0]["token"]
        assert not state.break_lock("L")
        assert state.locks()[0]["token"] == token
        assert state.break_lock("L", alive=True)
        assert state.locks() == []
        assert not other.unlock("L")
        assert state.lock("L", timeout=0)
        assert state.locks()[0]["token"] > token
