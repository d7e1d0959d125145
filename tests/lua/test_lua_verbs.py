"""The verbs of `state`: what each returns, what it refuses, and the manual's examples."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers import manual_examples
from helpers.lua import BOTH_BINDINGS, Scripts

pytestmark = BOTH_BINDINGS


VERBS: list[tuple[str, Any]] = [
    ("state.set('k', 1), state.get('k')", (True, 1)),
    ("state.set('k', 'v', 60), state.get_ttl('k')", (True, 60)),
    ("state.set('k', 'v', nil), state.get_ttl('k')", (True, -1)),
    ("state.set('k', 'v', 0.5), state.get_ttl('k')", (True, 1)),
    ("state.get('missing')", None),
    ("state.get('missing', 'default')", "default"),
    ("state.set('k', false), state.get('k', 'default')", (True, False)),
    ("state.delete('missing'), state.set('k', 1), state.delete('k')", (False, True, True)),
    ("state.exists('missing'), state.set('k', 1), state.exists('k')", (False, True, True)),
    ("state.set('a', 1), state.set('b', 1), state.clear('a*'), #state.keys()", (True, True, True, 1)),
    ("state.set('a', 1), state.set('b', 1), state.clear()", (True, True, True, 2)),
    ("state.clear(nil)", (True, 0)),
    ("#state.keys(), #state.keys('a*')", (0, 0)),
    ("state.set('b', 1), state.set('a', 1), table.concat(state.keys(), ' ')", (True, True, "a b")),
    ("state.set_ttl('missing', 1), state.set('k', 1), state.set_ttl('k', 5)", (False, True, True)),
    ("state.get_ttl('missing')", -2),
    ("state.persist('missing'), state.set('k', 1, 9), state.persist('k')", (False, True, True)),
    ("state.increment('n'), state.increment('n', 5), state.increment('n', 0.5)", (1, 6, 6.5)),
    ("state.decrement('n'), state.decrement('n', 5), state.decrement('n', -6)", (-1, -6, 0)),
    ("state.append('s', 'gr\\195\\188n'), state.append('s', '')", (5, 5)),
    ("state.append('s', '\\255'), state.get('s') == '\\255'", (1, True)),
    ("state.compare_swap('k', nil, 1), state.compare_swap('k', nil, 2)", (True, False)),
    ("state.set('k', 1), state.compare_swap('k', 1, 2), state.compare_swap('k', 1, 2)", (True, True, False)),
    ("state.set('k', {a = {1}}), state.compare_swap('k', {a = {1}}, {2}), state.get('k')[1]", (True, True, 2)),
    ("state.list_push('l', 'a'), state.list_push('l', 'b', {3}, 'd'), state.list_push('l')", (1, 4, 4)),
    ("state.list_push('l'), state.exists('l')", (0, False)),
    ("state.set('l', {}), state.list_push('l', 1), #state.get('l')", (True, 1, 1)),
    ("state.list_push('l', 1, 2, 3), state.list_pop('l'), state.list_shift('l')", (3, 3, 1)),
    ("state.list_pop('l'), state.list_shift('l')", (None, None)),
    ("state.list_pop('l', 'none'), state.list_shift('l', 7)", ("none", 7)),
    ("state.list_length('l'), state.list_push('l', 1), state.list_length('l')", (0, 1, 1)),
    ("state.set_many({a = 1, b = {2}, c = '\\255'}), state.get('b')[1], #state.get('c')", (True, 2, 1)),
    ("state.set_many({a = 1}, 60), state.get_ttl('a'), state.set_many({})", (True, 60, True)),
    ("next(state.get_many({}))", None),
    (
        "state.try_lock('L', 30), state.try_lock('L', 30), state.unlock('L'), state.unlock('L')",
        (True, False, True, False),
    ),
    ("state.try_lock('L'), state.lock('M'), state.lock('N', 0)", (True, True, True)),
    ("#state.locks(), state.lock('L', 1), state.locks()[1].name, state.locks()[1].expires", (0, True, "L", None)),
    ("state.try_lock('L', 9), state.locks()[1].token, state.locks()[1].owner.pid > 1", (True, 1, True)),
    ("state.stats().total_keys, type(state.stats().path), type(state.stats().operations)", (0, "string", "table")),
    ("state.set('k', 1, 0.001), state.sweep() >= 0", (True, True)),
    ("#state.check()", 0),
]


@pytest.mark.parametrize(("source", "expected"), VERBS)
def test_verbs_return_what_the_manual_says(lua: Scripts, source: str, expected: Any) -> None:
    """Each verb, in the order written, on an empty store."""
    assert lua.run(f"return {source}") == expected


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ("", "1 2 3 4"),
        ("2", "2 3 4"),
        ("2, 3", "2 3"),
        ("-2", "3 4"),
        ("-3, -2", "2 3"),
        ("nil, 2", "1 2"),
        ("1, nil", "1 2 3 4"),
        ("0, 2", "1 2"),
        ("1, 0", ""),
        ("3, 2", ""),
        ("5", ""),
        ("-9, 99", "1 2 3 4"),
        ("1, -9", ""),
    ],
)
def test_list_range_counts_from_one(lua: Scripts, bounds: str, expected: str) -> None:
    """Both ends are inclusive, negative ones count from the end, 0 lies before the first."""
    lua.state.set("l", [1, 2, 3, 4])
    arguments = f"'l', {bounds}" if bounds else "'l'"
    assert lua.run(f"return table.concat(state.list_range({arguments}), ' ')") == expected


def test_a_default_comes_back_as_the_object_it_is(lua: Scripts) -> None:
    """Whatever the default is, a table, a function, a thread, it is not converted but returned itself."""
    assert (
        lua.run("""
        local function same(default)
            return state.get('missing', default) == default and state.list_pop('missing', default) == default
                and state.list_shift('missing', default) == default
        end
        return same({}), same(print), same(coroutine.create(function() end)), same(io.stdout), same(state.null),
            same('\\255'), same(2^60)
    """)
        == (True,) * 7
    )


def test_scan_iterates_in_order(lua: Scripts) -> None:
    """`for key in state.scan(pattern)` gives the keys of `keys(pattern)`; writing meanwhile is fine."""
    lua.state.set_many({f"k{n:03}": n for n in range(300)} | {"other": 1})
    assert lua.run("""
        local seen = {}
        for key in state.scan('k*') do
            seen[#seen + 1] = key
            state.delete(key)
        end
        return table.concat(seen, ' ') , #state.keys()
    """) == (" ".join(f"k{n:03}" for n in range(300)), 1)
    assert lua.run("local n = 0 for _ in state.scan() do n = n + 1 end return n") == 1


def test_get_many_leaves_missing_keys_out(lua: Scripts) -> None:
    """The table has what is there, each value of its own type."""
    lua.state.set_many({"a": 1, "t": {"x": [True]}, "b": b"\xff", "f": False})
    assert lua.run("local m = state.get_many({'a', 't', 'b', 'f', 'zz'}) return m.a, m.t.x[1], #m.b, m.f, m.zz") == (
        (1, True, 1, False, None)
    )


def test_a_backup_is_a_store(lua: Scripts, tmp_path: Path) -> None:
    """`backup(path)` gives true and a store with the same keys."""
    lua.state.set("k", 1)
    path = str(tmp_path / "copy.db")
    assert lua.run("return state.backup(...)", path.encode()) is True
    with slothstate.open(path) as copy:
        assert copy.get("k") == 1


def test_results_of_any_size_arrive_whole(lua: Scripts) -> None:
    """Around the size that is copied and far past it, strings and tables come back equal."""
    for size in (1023, 1024, 1025, 100_000):
        lua.state.set_many({"s": "ü" * size, "b": b"\xff" * size, "t": ["x" * size]})
        assert lua.run("return #state.get('s'), #state.get('b'), #state.get('t')[1]") == (2 * size, size, size)
        assert lua.run("return state.get('s') == ('\\195\\188'):rep(...)", size) is True


def test_arguments_of_any_number_arrive_whole(lua: Scripts) -> None:
    """More items than fit on the C stack, tables among them, keep their order."""
    assert (
        lua.run("""
        local items = {}
        for i = 1, 200 do items[i] = i % 3 == 0 and {i} or i end
        return state.list_push('l', (unpack or table.unpack)(items))
    """)
        == 200
    )
    assert lua.state.get("l") == [[i] if i % 3 == 0 else i for i in range(1, 201)]
    lua.run("local m = {} for i = 1, 200 do m['k' .. i] = 'v' .. i end state.set_many(m)")
    assert lua.state.get_many([f"k{i}" for i in range(1, 201)]) == {f"k{i}": f"v{i}" for i in range(1, 201)}


MISUSE = [
    ("set('k')", "bad argument #2 to 'set' (value expected, got no value)"),
    ("set('k', nil)", "bad argument #2 to 'set' (value expected, got nil)"),
    ("set('k', 1, '60')", "bad argument #3 to 'set' (number expected, got string)"),
    ("set('k', 1, true)", "bad argument #3 to 'set' (number expected, got boolean)"),
    ("set('k', 1, 0)", "ttl must be a number of seconds > 0"),
    ("set('k', 1, -1)", "ttl must be a number of seconds > 0"),
    ("set('k', 1, 0/0)", "ttl must be a number of seconds > 0"),
    ("set('k', 1/0)", "value: inf cannot be stored"),
    ("set('', 1)", "key must not be empty"),
    ("set(('k'):rep(4097), 1)", "expected at most 4096"),
    ("set('a\\0b', 1)", "must not contain NUL"),
    ("clear(1)", "bad argument #1 to 'clear' (string expected, got number)"),
    ("clear('[')", "["),
    ("keys({})", "bad argument #1 to 'keys' (string expected, got table)"),
    ("scan(true)", "bad argument #1 to 'scan' (string expected, got boolean)"),
    ("set_ttl('k')", "bad argument #2 to 'set_ttl' (number expected, got no value)"),
    ("set_ttl('k', '5')", "bad argument #2 to 'set_ttl' (number expected, got string)"),
    ("set_ttl('k', 0)", "seconds must be a number of seconds > 0"),
    ("increment('k', '1')", "bad argument #2 to 'increment' (number expected, got string)"),
    ("increment('k', 1/0)", "delta: inf cannot be stored"),
    ("decrement('k', {})", "bad argument #2 to 'decrement' (number expected, got table)"),
    ("append('k')", "bad argument #2 to 'append' (string expected, got no value)"),
    ("append('k', 1)", "bad argument #2 to 'append' (string expected, got number)"),
    ("compare_swap('k')", "bad argument #2 to 'compare_swap' (value expected, got no value)"),
    ("compare_swap('k', 1)", "bad argument #3 to 'compare_swap' (value expected, got no value)"),
    ("compare_swap('k', 1, state.null)", "new: state.null can only be inside a table"),
    ("compare_swap('k', {print}, 1)", "bad argument #2 to 'compare_swap' (old[1]: a function cannot be stored)"),
    ("compare_swap('k', 1, {print})", "bad argument #3 to 'compare_swap' (new[1]: a function cannot be stored)"),
    ("compare_swap('k', state.null, 1)", "old: state.null can only be inside a table"),
    ("list_push('l', nil)", "bad argument #2 to 'list_push' (value expected, got nil)"),
    ("list_push('l', 1, nil, 2)", "bad argument #3 to 'list_push' (value expected, got nil)"),
    ("list_push('l', 1, {x = print})", "bad argument #3 to 'list_push' (item.x: a function cannot be stored)"),
    ("list_push('l', '\\255')", "items[1]"),
    ("list_range('l', '1')", "bad argument #2 to 'list_range' (number expected, got string)"),
    ("list_range('l', 1.5)", "start must be an integer, got 1.5"),
    ("list_range('l', 1, 0/0)", "stop must be an integer, got"),
    ("get_many()", "bad argument #1 to 'get_many' (table expected, got no value)"),
    ("get_many('k')", "bad argument #1 to 'get_many' (table expected, got string)"),
    ("get_many({a = 1})", "keys must be a list of strings"),
    ("get_many({1})", "keys[1] must be a string, got number 1"),
    ("get_many({print})", "bad argument #1 to 'get_many' (keys[1]: a function cannot be stored)"),
    ("set_many()", "bad argument #1 to 'set_many' (table expected, got no value)"),
    ("set_many({1})", "bad argument #1 to 'set_many' (values: every key must be a string)"),
    ("set_many({['\\255'] = 1})", "bad argument #1 to 'set_many' (values: a key must be valid UTF-8)"),
    ("set_many({a = {b = print}})", "bad argument #1 to 'set_many' (values.a.b: a function cannot be stored)"),
    ("set_many({a = print})", "bad argument #1 to 'set_many' (values.a: a function cannot be stored)"),
    ("set_many({a = state.null})", "values.a: state.null can only be inside a table"),
    ("set_many({a = 1}, '5')", "bad argument #2 to 'set_many' (number expected, got string)"),
    ("transaction()", "bad argument #1 to 'transaction' (function expected, got no value)"),
    ("transaction({})", "bad argument #1 to 'transaction' (function expected, got table)"),
    ("try_lock('L', '30')", "bad argument #2 to 'try_lock' (number expected, got string)"),
    ("try_lock('L', 0)", "ttl must be a number of seconds > 0"),
    ("lock('L', {})", "bad argument #2 to 'lock' (number expected, got table)"),
    ("lock('L', -1)", "timeout must be"),
    ("with_lock('L')", "bad argument #2 to 'with_lock' (function expected, got no value)"),
    ("with_lock('L', 5)", "bad argument #2 to 'with_lock' (function expected, got number)"),
    ("with_lock('L', print, '5')", "bad argument #3 to 'with_lock' (number expected, got string)"),
]


@pytest.mark.parametrize(("source", "message"), MISUSE)
def test_misuse_is_a_string_with_the_line(lua: Scripts, source: str, message: str) -> None:
    """A wrong argument names position, number, verb, expectation and finding; the store and locks stay as they were."""
    told = lua.error(f"state.{source}")
    assert told.startswith("deploy.lua:1: ")
    assert message in told
    assert (lua.state.keys(), lua.state.locks()) == ([], [])


KEYED = [
    *["set", "get", "delete", "exists", "set_ttl", "get_ttl", "persist", "increment", "decrement", "append"],
    *["compare_swap", "list_push", "list_length", "list_range", "take", "rename", "copy", "get_field", "set_field"],
    *["delete_field", "increment_field", "list_unshift", "list_pop_many", "list_shift_many", "list_set", "list_insert"],
    *["list_remove", "list_trim", "wait"],
    *["try_lock", "lock", "unlock", "with_lock", "backup"],
]


def test_a_key_is_a_string(lua: Scripts) -> None:
    """Every verb of a key or name refuses all else, a number included, and what is no text."""
    for verb in KEYED:
        for given, found in (("", "no value"), ("nil", "nil"), ("7", "number"), ("{}", "table"), ("print", "function")):
            told = lua.error(f"state.{verb}({given})")
            assert told == f"deploy.lua:1: bad argument #1 to '{verb}' (string expected, got {found})"
        told = lua.error(f"state.{verb}('\\255', 1, 2)")
        assert told == f"deploy.lua:1: bad argument #1 to '{verb}' (valid UTF-8 expected)"
    assert (lua.state.keys(), lua.state.locks()) == ([], [])


def test_the_manuals_examples_run_as_written(lua: Scripts) -> None:
    """Every example of the sections on verbs runs verbatim and leaves what its text says."""
    lines: list[str] = []
    lua.run("log = {info = ...}", lambda text: lines.append(text.decode()))
    lua.state.set("config_version", 1)
    lua.state.set("user_session", "abc")
    for section in (
        manual_examples.BASIC_USAGE,
        manual_examples.TIME_TO_LIVE,
        manual_examples.ATOMIC_OPERATIONS,
        manual_examples.LIST_OPERATIONS,
        manual_examples.LOCKS,
    ):
        lua.run(section)
    assert lines == [
        "App version is configured",
        "Token expires in 60 seconds",
        "Configuration updated safely",
        "Items in queue: 1",
        "Processing deployment: frontend",
        "Executing critical operation...",
        "Critical operation completed - counter: 1",
    ]
    expected = {
        "app_version": "v1.2.3",
        "user_count": 1000,
        "config": {"debug": True, "max_connections": 100},
        "session_token": "abc123",
        "user_session": "abc",
        "page_views": 1,
        "downloads": 50,
        "inventory": -5,
        "log_messages": "Starting application -> Connecting to database",
        "config_version": 2,
        "global_counter": 1,
    }
    found = lua.state.get_many(lua.state.keys())
    assert found.pop("last_operation") == pytest.approx(time.time(), abs=60)
    assert found == expected
    assert (lua.state.get_ttl("user_session"), lua.state.locks()) == (300, [])
