"""The writes of one step, waiting and watching in Lua: options as a last table, positions from 1, paths as lists."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.lua import BOTH_BINDINGS, Scripts

pytestmark = BOTH_BINDINGS


@pytest.fixture
def state(tmp_path: Path) -> Iterator[slothstate.State]:
    """A store of its own for each test."""
    with slothstate.open(tmp_path / "state.db") as state:
        state.set_many({"x": 1, "y": 2, "z": 3, "t": {"servers": [{"port": 80}, {"port": 443}], "ratio": 1.0}})
        state.list_push("l", "a", "b", "c")
        yield state


STEPS: list[tuple[str, Any]] = [
    (
        "state.set('n', 1, nil, {when = 'absent'}), state.set('n', 2, nil, {when = 'absent'}), state.get('n')",
        (True, False, 1),
    ),
    ("state.set('n', 1, 9, {when = 'present'}), state.exists('n')", (False, False)),
    ("state.set('x', 5, 60), state.set('x', 6, nil, {keep_ttl = true}), state.get_ttl('x')", (True, True, 60)),
    ("state.set('x', 5, 60, {}), state.get_ttl('x')", (True, 60)),
    ("state.take('x'), state.take('x', 'gone'), state.take('x')", (1, "gone", None)),
    ("state.take('l')[3], state.exists('l')", ("c", False)),
    ("state.rename('x', 'to'), state.get('to'), state.rename('x', 'to')", (True, 1, False)),
    ("state.copy('l', 'to'), #state.get('to'), #state.get('l')", (True, 3, 3)),
    ("state.increment('n', nil, {ttl = 60}), state.get_ttl('n'), state.increment('n', 5, {ttl = 9})", (1, 60, 6)),
    ("state.decrement('n', 2, {ttl = 60}), state.get_ttl('n')", (-2, 60)),
    ("state.compare_swap('x', 1, 2, {ttl = 60}), state.get_ttl('x')", (True, 60)),
    ("state.compare_swap('x', 1, nil), state.exists('x'), state.compare_swap('x', nil, nil)", (True, False, True)),
    ("state.compare_swap('n', nil, 'v', {ttl = 60}), state.get_ttl('n')", (True, 60)),
    ("table.concat(state.keys('[xyz]', {reverse = true, limit = 2}), ' ')", "z y"),
    ("table.concat(state.keys('?', {after = 'x'}), ' ')", "y z"),
    ("table.concat(state.keys(nil, {limit = 1}), ' '), #state.keys(nil, {limit = 0})", ("l", 0)),
    (
        "(function() local n = '' for k in state.scan('?', {reverse = true, after = 'z'}) do n = n .. k end "
        "return n end)()",
        "yxtl",
    ),
    ("state.get_field('t', {'servers', 1, 'port'}), state.get_field('t', {'servers', -1, 'port'})", (80, 443)),
    (
        "state.get_field('t', {'servers', 0}), state.get_field('t', 'no', 'd'), state.get_field('x', 'a', 'd')",
        (None, "d", "d"),
    ),
    ("state.get_field('l', {2}), state.get_field('l', {4})", ("b", None)),
    ("state.get_field('big', 'n', 'd'), state.get_field('t', {'ratio'})", ("d", 1)),
    (
        "state.set_field('t', 'nul', state.null), state.get('t').nul == state.null, state.get_field('t', 'nul', 'd')",
        (True, True, None),
    ),
    (
        "state.list_push('n', 1, state.null), state.list_unshift('n', state.null), state.get('n')[1] == state.null, "
        "state.list_set('n', 2, state.null), state.list_insert('n', 1, state.null), state.list_shift('n', 'd'), "
        "state.list_remove('n', state.null), state.exists('n')",
        (2, 3, True, True, 4, None, 3, False),
    ),
    ("state.set_field('t', {'new', 'deep'}, {1}), state.get('t').new.deep[1]", (True, 1)),
    ("state.set_field('made', 'name', true), state.get('made').name", (True, True)),
    ("state.delete_field('t', {'servers', 1}), state.get_field('t', {'servers', 1, 'port'})", (True, 443)),
    ("state.delete_field('t', 'servers'), state.delete_field('t', 'servers')", (True, False)),
    ("state.increment_field('t', {'hits'}), state.increment_field('t', 'hits', 2)", (1, 3)),
    ("state.list_unshift('l', 'y', 'z'), state.get('l')[1]", (5, "y")),
    ("state.list_set('l', 1, 'A'), state.list_set('l', -1, 'C'), table.concat(state.get('l'))", (True, True, "AbC")),
    ("state.list_set('l', 0, 'n'), state.list_set('l', 4, 'n'), state.list_set('no', 1, 'n')", (False, False, False)),
    ("state.list_insert('l', 1, '0'), state.list_insert('l', 5, 'd'), table.concat(state.get('l'))", (4, 5, "0abcd")),
    ("state.list_insert('l', -1, 'x'), table.concat(state.get('l'))", (4, "abxc")),
    (
        "state.list_push('l', 'a'), state.list_remove('l', 'a', -1), state.list_remove('l', 'a'), "
        "state.list_remove('l', 1)",
        (4, 1, 1, 0),
    ),
    ("state.list_trim('l', 2), table.concat(state.get('l'))", (2, "bc")),
    ("state.list_trim('l', 1, 0), state.exists('l')", (0, False)),
    ("state.list_trim('l', 0, 1), table.concat(state.get('l'))", (1, "a")),
    (
        "table.concat(state.list_pop_many('l', 2)), table.concat(state.list_shift_many('l', 9)), "
        "#state.list_pop_many('l', 1)",
        ("cb", "a", 0),
    ),
    ("state.list_pop({'none', 'l'})", ("l", "c")),
    ("state.list_shift({'none', 'l'}, nil, 1)", ("l", "a")),
    (
        "state.list_pop({'none'}, 'd'), state.list_shift('none', 'd', 0.01), state.list_shift('none', nil, 0)",
        ("d", "d", None),
    ),
    ("state.wait('x'), state.wait('x', 5), state.wait('none', 1), state.wait('x', 1, 0.01)", (1, 1, None, 1)),
    ("state.wait('t', {ratio = 1}, 0).ratio", 1.0),
    ("state.snapshot(function() return state.get('x'), 'two' end)", (1, "two")),
    ("state.unwatch('none'), #state.watches()", (False, 0)),
]


@pytest.mark.parametrize(("source", "expected"), STEPS)
def test_what_each_returns(lua: Scripts, source: str, expected: Any) -> None:
    """The same as in Python, but for positions, which count from 1."""
    assert lua.run(f"return {source}") == expected
    assert lua.state.check() == []


MISUSE = [
    ("set('k', 1, nil, 5)", "bad argument #4 to 'set' (table expected, got number)"),
    ("set('k', 1, nil, {wen = 'absent'})", "options: there is no 'wen', only when, keep_ttl"),
    ("set('k', 1, nil, {when = 'never'})", "when must be 'absent', 'present' or nil, got string 'never'"),
    ("set('k', 1, 5, {keep_ttl = true})", "ttl and keep_ttl exclude each other"),
    ("set('k', 1, nil, {'absent'})", "options must be a table of names and values, got a list"),
    ("set('k', 1, nil, {when = print})", "bad argument #4 to 'set' (options.when: a function cannot be stored)"),
    ("compare_swap('k', 1)", "bad argument #3 to 'compare_swap' (value expected, got no value)"),
    ("compare_swap('x', 1, nil, {ttl = 5})", "ttl: what nil as the new value deletes has no time to live"),
    ("increment('k', 1, {ttl = 0})", "ttl must be a number of seconds > 0 and at most 10000000000, got 0"),
    ("keys(nil, {limit = -1})", "limit must be a whole number >= 0, got number -1"),
    ("keys(nil, {after = ''})", "after must"),
    ("scan(nil, {reverse = 1})", "reverse must be true or false, got number 1"),
    ("get_field('t')", "bad argument #2 to 'get_field' (string or table expected, got no value)"),
    ("get_field('t', 1)", "bad argument #2 to 'get_field' (string or table expected, got number)"),
    ("get_field('t', {})", "path must not be empty"),
    ("get_field('t', {a = 1})", "path must be a string or a list of names and positions"),
    ("get_field('t', {1.5})", "path[1] must be an integer, got 1.5"),
    ("get_field('t', {true})", "path[1] must be a name or a position, got boolean true"),
    ("set_field('t', 'a', nil)", "bad argument #3 to 'set_field' (value expected, got nil)"),
    ("set_field('t', {'servers', 9}, 1)", "'t' has no position .servers[9]; nothing was changed"),
    ("set_field('t', {'servers', 0}, 1)", "'t' has no position .servers[0]; nothing was changed"),
    ("set_field('l', {-4}, 1)", "'l' has no position [-4]; nothing was changed"),
    ("increment_field('l', {0})", "'l' has no position [0]; nothing was changed"),
    ("set_field('t', {'servers', 1, 'port', 'x'}, 1)", "cannot set a field of 't' at .servers[1].port: expected a ta"),
    ("set_field('l', {3, 'x'}, 1)", "cannot set a field of 'l' at [3]: expected a table, found a string"),
    ("delete_field('l', {1, 'x'})", "cannot delete a field of 'l' at [1]: expected a table, found a string"),
    ("set_field('x', 'a', 1)", "cannot set a field of 'x': expected a table, found a number"),
    ("increment_field('t', 'servers')", "cannot increment a field of 't' at .servers: expected a number, found a list"),
    ("list_set('l', 1.5, 1)", "index must be an integer, got 1.5"),
    ("list_insert('l', 0, 1)", "index 0 is not in the list 'l' nor its end; nothing was inserted"),
    ("list_insert('l', 5, 1)", "index 5 is not in the list 'l' nor its end; nothing was inserted"),
    ("list_remove('l', 'a', 0.5)", "count must be an integer, got 0.5"),
    ("list_pop_many('l', -1)", "count must be a whole number >= 0, got number -1"),
    ("list_pop({})", "key must be a string or a list of strings, not empty"),
    ("list_pop({a = 1})", "key must be a string or a list of strings, not empty"),
    ("list_pop({'l', 1})", "key[2] must be a string, got number 1"),
    ("list_shift('l', nil, -1)", "timeout must be a number of seconds >= 0 and at most 10000000000, got -1"),
    ("list_shift('x', nil, 1)", "cannot shift from 'x': expected a list, found a number"),
    ("wait('x', print)", "bad argument #2 to 'wait' (value: a function cannot be stored)"),
    ("watch('[')", ""),
    ("watch(nil, {names = 'w'})", "options: there is no 'names', only name, timeout"),
    ("snapshot(1)", "bad argument #1 to 'snapshot' (function expected, got number)"),
    ("snapshot(function() state.set('x', 2) end)", "inside snapshot() nothing can be written"),
    *(
        (f"snapshot(function() state.{call} end)", "inside snapshot() nothing can be written")
        for call in (
            "set('n', 1, nil, {when = 'absent'})",
            "increment('n', 1, {ttl = 5})",
            "compare_swap('x', 1, nil)",
            "take('x')",
            "rename('x', 'y')",
            "copy('x', 'y')",
            "set_field('t', 'a', 1)",
            "delete_field('t', 'ratio')",
            "increment_field('t', 'n')",
            "list_unshift('l', 1)",
            "list_pop_many('l', 1)",
            "list_shift_many('l', 1)",
            "list_set('l', 1, 2)",
            "list_insert('l', 1, 2)",
            "list_remove('l', 'a')",
            "list_trim('l', 2)",
        )
    ),
    ("transaction(function() state.wait('x', 1, 1) end)", "nobody could end a wait inside transaction() or snapshot()"),
]


@pytest.mark.parametrize(("call", "message"), MISUSE)
def test_misuse(lua: Scripts, call: str, message: str) -> None:
    """An error with the line, which names what is wrong; the store is as it was."""
    before = list(lua.state.dump())
    assert lua.error(f"state.{call}").startswith(f"deploy.lua:1: {message}")
    assert list(lua.state.dump()) == before


def test_undone_by_a_transaction(lua: Scripts) -> None:
    """What they did is undone with the rest."""
    before = list(lua.state.dump())
    told = lua.error("""state.transaction(function()
        state.take('x') state.rename('y', 'x') state.copy('z', 'c') state.set_field('t', 'a', 1)
        state.delete_field('t', 'ratio') state.increment_field('t', 'n') state.list_unshift('l', 1)
        state.list_set('l', 2, 3) state.list_insert('l', 2, 4) state.list_remove('l', 'b') state.list_trim('l', 2)
        state.list_pop_many('l', 1) state.list_shift({'l'}) state.set('n', 1, nil, {when = 'absent'})
        state.increment('m', 1, {ttl = 5}) state.compare_swap('z', 3, nil)
        error('no') end)""")
    assert told.endswith("no")
    assert list(lua.state.dump()) == before


def test_expired_and_not_swept(lua: Scripts) -> None:
    """It is not there for any of them."""
    state = lua.state
    state.set_many({"e": {"a": 1}, "n": 5}, ttl=0.01)
    state.list_push("q", 1)
    state.set_ttl("q", 0.01)
    time.sleep(0.02)
    assert lua.run("""return state.take('e', 'd'), state.rename('e', 'f'), state.copy('e', 'f'),
        state.get_field('e', 'a'), state.delete_field('e', 'a'), state.list_shift('q', 'd', 0),
        state.list_set('q', 1, 2), #state.list_pop_many('q', 2), state.list_trim('q', 1),
        state.set('e', 1, nil, {when = 'present'}), state.increment('n', 1, {ttl = 60}), state.get_ttl('n')
    """) == ("d", False, False, None, False, "d", False, 0, 0, False, 1, 60)


@pytest.mark.parametrize(
    "verb",
    [
        "take('big')",
        "increment_field('big', 'n')",
        "list_pop('bigs')",
        "list_shift({'bigs'})",
        "list_pop_many('bigs', 2)",
        "list_shift_many('bigs', 1)",
    ],
)
def test_what_this_lua_cannot_hold_stays(lua: Scripts, verb: str) -> None:
    """An integer past 2^53 is an error for LuaJIT, and what held it is as it was."""
    state = lua.state
    state.set("big", {"n": 2**60})
    state.list_push("bigs", 2**60, 2**60)
    before = list(state.dump())
    if lua.implementation == "luajit":
        assert "cannot hold it exactly" in lua.error(f"state.{verb}")
        assert list(state.dump()) == before
    else:
        lua.run(f"return state.{verb}")
        assert list(state.dump()) != before


def test_waits_for_another_process(lua: Scripts) -> None:
    """`list_shift` with a timeout and `wait` end with what somebody else writes."""
    state = lua.state

    def later() -> None:
        time.sleep(0.05)
        state.list_push("q", "item")
        time.sleep(0.05)
        state.set("x", "changed")

    thread = threading.Thread(target=later)
    thread.start()
    assert lua.run("return state.list_shift('q', nil, 30), state.wait('x', 1, 30)") == ("item", "changed")
    thread.join()


def test_watching(lua: Scripts) -> None:
    """`for key, op in state.watch(pattern, options)`; the timeout counts from the last change, a name goes on."""
    assert lua.run("""
        local told = {}
        local changes = state.watch('w*', {timeout = 0.05, name = 'watcher'})
        state.set('w1', 1) state.set('v', 1) state.list_push('w2', 1, 2) state.delete('w1')
        for key, op in changes do told[#told + 1] = key .. ' ' .. op end
        state.set('w3', 1)
        for key, op in state.watch('w*', {timeout = 0, name = 'watcher'}) do told[#told + 1] = key .. ' ' .. op end
        return table.concat(told, ', '), state.watches()[1].name, state.unwatch('watcher')
    """) == ("w1 set, w2 set, w1 delete, w3 set", "watcher", True)
    assert lua.state.watches() == []


def test_locks_with_several_holders(lua: Scripts) -> None:
    """`with_lock(name, fn, timeout, options)`: shared, slots and ttl; one that is not known is an error."""
    with lua.state.locked("job", 0, shared=True):
        pass
    told = lua.error("state.with_lock('job', function() end, 0, {slot = 2})")
    assert told.startswith("deploy.lua:1: options: there is no 'slot', only shared, slots, ttl")
    assert lua.run("""
        return state.with_lock('job', function(token)
            local held = state.locks()[1]
            return token == held.token, held.slots, held.expires ~= nil
        end, nil, {slots = 2, ttl = 60})
    """) == (True, 2, True)
    assert lua.error("state.with_lock('job', function() end, 0, {shared = true, slots = 2})").startswith(
        "deploy.lua:1: shared=True and slots=2 exclude each other"
    )


ALL = ["luajit21", "luajit20", "lua51", "lua52", "lua53", "lua54", "lua55"]
CLOSING = ["lua54", "lua55"]
"""The Luas that close what a loop is left with."""


@pytest.mark.parametrize("how", ["break", "return", "error"])
@pytest.mark.parametrize("implementation", ALL)
def test_a_loop_that_is_left_ends_its_watch(state: slothstate.State, implementation: str, how: str) -> None:
    """By `break`, `return` or an error: at once where Lua closes it, else before the next begins, or by `unwatch()`."""
    lua = Scripts(state, implementation)
    lua.run(f"""
        function left()
            for key in (function() local a, b, c, d = state.watch('k*', {{timeout = 0}}) state.set('k', 1)
                    return a, b, c, d end)() do
                if '{how}' == 'error' then error('left') elseif '{how}' == 'return' then return end
                break
            end
        end
    """)
    for _ in range(20):
        lua.run("pcall(left)")
    assert len(state.watches()) <= (0 if implementation in CLOSING else 1)
    lua.run("state.unwatch()")
    assert state.watches() == []
    assert lua.run("return state.unwatch()") is False


@pytest.mark.parametrize("implementation", ALL)
def test_a_name_is_taken_over(state: slothstate.State, implementation: str) -> None:
    """By the next loop of the same runtime, from the change that the first had not handled; the first has ended."""
    lua = Scripts(state, implementation)
    assert (
        lua.run("""
        local told = {}
        local first = state.watch('w*', {name = 'n'})
        state.set('w1', 1) state.set('w2', 2)
        told[#told + 1] = first()
        for key in state.watch('w*', {name = 'n'}) do
            told[#told + 1] = key
            if key == 'w2' then break end
        end
        told[#told + 1] = select(2, pcall(first))
        for key in state.watch('w*', {name = 'n'}) do told[#told + 1] = key break end
        return table.concat(told, ' ')
    """)
        == "w1 w1 w2 deploy.lua:10: this watch has ended: another one goes on as 'n' w2"
    )
    lua.run("state.unwatch()")
    assert [watch["owner"] for watch in state.watches()] == [None]
    assert state.unwatch("n")


def test_another_runtime_does_not_wait_for_its_own_thread(lua: Scripts) -> None:
    """For ever for a name that another runtime of the thread watches: an error."""
    other = Scripts(lua.state, lua.implementation)
    other.run("kept = state.watch('w*', {name = 'n'})")
    assert "'n' is run by thread" in lua.error("state.watch('w*', {name = 'n'})()")
    other.run("state.unwatch()")
    lua.run("state.unwatch()")
    lua.state.unwatch("n")


def test_a_watch_after_its_end(lua: Scripts) -> None:
    """The iterator goes on giving nil; options are checked at the call, and nothing is left of what was refused."""
    assert lua.run("local w = state.watch('w', {timeout = 0}) return w(), w(), w()") == (None, None, None)
    for timeout in ("'1'", "-1", "{}"):
        assert "timeout" in lua.error(f"state.watch('w', {{timeout = {timeout}}})")
    assert lua.state.watches() == []


def test_a_watch_that_is_collected_in_a_transaction(lua: Scripts) -> None:
    """What the collector ends while a transaction is open ends with it, also if that is undone."""
    lua.run("""
        local w = state.watch('w')
        pcall(state.transaction, function()
            w = nil
            collectgarbage() collectgarbage()
            error('undone')
        end)
    """)
    assert lua.state.watches() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("list_push('l', 1, 1/0)", "items[2]: NaN and infinities cannot be stored; expected a finite number"),
        ("list_push('l', '\\255')", "items[1]: bytes that are not UTF-8 cannot be stored here"),
        ("list_pop({'a', ''})", "key[2] must not be empty"),
        ("get_many({'a', true})", "keys[2] must be a string, got boolean true"),
        ("keys('[')", "pattern '[', position 1: this '[' is not closed; expected a ']' after its members"),
        ("get('a\\0')", "key 'a\\x00' must not contain NUL (at index 2)"),
        ("with_lock('l', print, 1, {shared = 1})", "shared must be true or false, got number 1"),
        ("with_lock('l', print, 1, {slots = 'x'})", "slots must be a whole number >= 1, got string 'x'"),
        ("set('k', 1, nil, {when = {}})", "when must be 'absent', 'present' or nil, got table"),
        ("watch('w', {timeout = '5'})", "timeout must be a number of seconds, got string '5'"),
        ("compare_swap('k', 1, nil, {ttl = 1})", "ttl: what nil as the new value deletes has no time to live"),
    ],
)
def test_messages_speak_lua(lua: Scripts, call: str, message: str) -> None:
    """Positions count from 1, types and values have the names of Lua."""
    assert lua.error(f"state.{call}") == f"deploy.lua:1: {message}"


@pytest.mark.parametrize(("name", "kind"), [("nil", "nil"), ("print", "function"), ("true", "boolean true")])
def test_what_is_no_name(lua: Scripts, name: str, kind: str) -> None:
    """Of a verb, read from `state`."""
    expected = f"deploy.lua:1: state has only verbs: expected the name of one, got {kind}"
    assert lua.error(f"local verb = state[{name}]") == expected


def test_a_whole_float_is_a_whole_number(lua: Scripts) -> None:
    """As in every library of Lua 5.3 and later: for positions, counts and options."""
    assert lua.run("""
        local two = 4 / 2
        state.list_set('l', two, 'B')
        local range, part = state.list_range('l', two, two), state.get_field('t', {'servers', two, 'port'})
        local keys = state.keys(nil, {limit = two})
        return range[1], part, #keys, #state.list_pop_many('l', two), state.list_remove('l', 'none', -two)
    """) == ("B", 443, 2, 2, 0)
    for number in ("1.5", "1/0", "0/0"):
        assert "must be" in lua.error(f"state.list_range('l', {number})")
    assert "limit must be an integer, got 1.5" in lua.error("state.keys(nil, {limit = 1.5})")


@pytest.mark.parametrize("name", ["closed", "path", "zadd", "sadd", "foo"])
def test_no_verb_is_meant(lua: Scripts, name: str) -> None:
    """By what only looks a little like one."""
    assert lua.error(f"state.{name}()").endswith("; rawget(state, name) asks without an error")


def test_an_item_that_this_lua_cannot_hold_has_a_place(lua: Scripts) -> None:
    """In the error of `list_claim`, too."""
    lua.state.list_push("large", 2**60)
    if lua.implementation == "luajit":
        assert lua.error("state.list_claim('large', print)").startswith("deploy.lua:1: ")
