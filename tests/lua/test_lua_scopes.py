"""`state.transaction` and `state.with_lock`, interruptions, and what a script must not get at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import slothstate
from helpers.lua import BOTH_BINDINGS, NATIVE_ONLY, Scripts
from helpers.sqlite import store_of

pytestmark = BOTH_BINDINGS


@pytest.fixture
def state(tmp_path: Path) -> Iterator[slothstate.State]:
    """A store of its own for each test, without held locks or transactions at the end."""
    with slothstate.open(tmp_path / "state.db") as state:
        yield state
        assert state.locks() == []
        assert not store_of(state).in_transaction


SCOPES = ["state.transaction(%s)", "state.with_lock('L', %s, 5)"]


@pytest.mark.parametrize("scope", SCOPES)
def test_all_results_pass_through(lua: Scripts, scope: str) -> None:
    """Every result comes out, nils in the middle and at the end counted, tables as the same objects."""
    assert lua.run(f"return select('#', {scope % 'function() end'})") == 0
    assert lua.run(f"return select('#', {scope % 'function() return nil end'})") == 1
    assert lua.run(f"return select('#', {scope % 'function() return 1, nil, 3, nil end'})") == 4
    assert lua.run(f"return {scope % 'function() return 1, nil, state.null, false end'} ")[:2] == (1, None)
    assert lua.run(f"local t = {{}} return {scope % 'function() return t end'} == t") is True
    assert lua.run(f"return select('#', {scope % 'function() return (unpack or table.unpack)({}, 1, 200) end'})") == 200


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("value", ["{}", "'text'", "nil", "42", "state.null", "setmetatable({}, {__tostring = error})"])
def test_the_functions_own_error_is_rethrown_untouched(lua: Scripts, scope: str, value: str) -> None:
    """An error object stays the object it was, without a position added; what it left is undone."""
    body = "function() state.set('k', 1) error(value, 0) end"
    assert lua.run(
        f"local value = {value} local ok, e = pcall(function() {scope % body} end) return ok, e == value"
    ) == (False, True)
    assert lua.state.exists("k") is ("with_lock" in scope)


def test_a_transaction_keeps_all_or_nothing(lua: Scripts) -> None:
    """A function that ends keeps its writes; one that fails, in whatever way, undoes them."""
    assert (
        lua.run("return state.transaction(function() state.set('a', 1) state.set('b', 2) return 'done' end)") == "done"
    )
    assert lua.state.keys() == ["a", "b"]
    for failure in ("error('x')", "error()", "state.set(nil)", "state.increment('text')", "local x = nil + 1"):
        lua.state.set("text", "x")
        lua.error(f"state.transaction(function() state.set('c', 3) state.delete('a') {failure} end)") if (
            failure != "error()"
        ) else lua.run("pcall(state.transaction, function() state.set('c', 3) state.delete('a') error() end)")
        assert lua.state.keys() == ["a", "b", "text"]


def test_transactions_nest(lua: Scripts) -> None:
    """An inner transaction that fails takes back only its own writes, if the outer one catches the error."""
    lua.run("""
        state.transaction(function()
            state.set('outer', 1)
            pcall(state.transaction, function() state.set('inner', 1) error('no') end)
            state.transaction(function() state.set('second', state.get('outer') + 1) end)
        end)
    """)
    assert lua.state.get_many(lua.state.keys()) == {"outer": 1, "second": 2}


def test_a_lock_is_held_inside_and_only_there(lua: Scripts, tmp_path: Path) -> None:
    """Inside with_lock nobody else has the lock; the function gets a token that rises every time."""
    with slothstate.open(tmp_path / "state.db") as other:
        lua.runtime.globals()[b"try"] = lambda: other.try_lock("L")
        assert lua.run("""
            local first, second
            state.with_lock('L', function(token) first = token assert(not try()) end)
            state.with_lock('L', function(token) second = token assert(not try()) end, 0)
            return second > first, first > 0
        """) == (True, True)
        assert other.try_lock("L")
        assert other.unlock("L")


def test_a_lock_not_acquired_is_nil_and_a_message(lua: Scripts, tmp_path: Path) -> None:
    """When the timeout passes the function is not called."""
    with slothstate.open(tmp_path / "state.db") as other:
        other.lock("L")
        found = lua.run("return state.with_lock('L', function() called = true end, 0.05)")
        assert found[0] is None
        assert "'L' was not acquired within 0.05" in found[1]
        assert lua.run("return called, select('#', state.with_lock('L', print, 0))") == (None, 2)
        other.unlock("L")


def test_a_lock_that_was_lost_is_an_error(lua: Scripts) -> None:
    """Its ttl was over, or somebody took it away, before the function returned; its own error counts more."""
    wait = "state.wait('none', nil, 0.05)"
    assert "was lost before its block ended" in lua.error(
        f"return state.with_lock('L', function() {wait} return 'late' end, 1, {{ttl = 0.01}})"
    )
    assert "mine" in lua.error(f"state.with_lock('L', function() {wait} error('mine') end, 1, {{ttl = 0.01}})")
    lua.runtime.globals()[b"take_away"] = lambda: lua.state.break_lock("L", alive=True)
    assert "was lost" in lua.error("state.with_lock('L', function() take_away() end)")
    assert lua.state.locks() == []


def test_a_function_may_unlock_itself(lua: Scripts) -> None:
    """Leaving with_lock after an unlock, or after a ttl lock of the same name was freed, is fine."""
    assert lua.run("return state.with_lock('L', function() return state.unlock('L') end)") is True
    assert lua.run("state.with_lock('L', function() state.unlock('L') state.try_lock('L', 30) end)") is None
    assert lua.state.unlock("L") is True


def test_a_lock_held_already_is_an_error(lua: Scripts) -> None:
    """Waiting for one's own lock would never end: it is an error with the line, and the outer lock stays."""
    assert "already held" in lua.error("state.with_lock('L', function() state.with_lock('L', print, 1) end)")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_coroutine_cannot_yield_across(lua: Scripts, scope: str) -> None:
    """A yield inside is an error that undoes the transaction and frees the lock; a coroutine of its own may yield."""
    told = lua.run(f"""
        local co = coroutine.create(function() {scope % "function() state.set('k', 1) coroutine.yield(1) end"} end)
        local ok, e = coroutine.resume(co)
        return ok, tostring(e)
    """)
    assert told[0] is False
    assert "yield" in told[1]
    assert lua.state.exists("k") is ("with_lock" in scope)
    inner = "function() local co = coroutine.wrap(function() coroutine.yield(1) return 2 end) return co(), co() end"
    assert lua.run(f"return {scope % inner}") == (1, 2)
    assert lua.run(f"return coroutine.wrap(function() return {scope % inner} end)()") == (1, 2)


def test_depth_ends_in_an_error_not_in_a_crash(lua: Scripts) -> None:
    """Scopes in each other without end and tables 500 deep are safe even on a thread's small stack."""
    found: list[object] = []

    def work() -> None:
        for scope in SCOPES:
            nested = scope.replace("'L'", "'L' .. n") % "function() return f(n + 1) end"
            found.append(lua.run(f"local function f(n) return {nested} end return select(2, pcall(f, 1))"))
        found.append(
            lua.run("""
                local t = {}
                for _ = 2, 500 do t = {x = t} end
                return state.transaction(function() return state.set('k', t) and type(state.get('k').x) == 'table' end)
            """)
        )

    size = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
    finally:
        threading.stack_size(size)
    assert found == ["deploy.lua:1: transactions and locks nest too deeply"] * 2 + [True]


@NATIVE_ONLY
def test_memory_that_runs_out_is_an_error(state: slothstate.State) -> None:
    """A result that does not fit Lua's memory is an error; the interpreter and the runtime go on."""
    state.set_many({"s": "x" * 10_000_000, "t": ["x" * 1000] * 10_000, "many": ["x"] * 1_000_000})
    lua = Scripts(state, "lua54", max_memory=4_000_000)
    for verb in ("get('s')", "get('t')", "get('many')", "get_many({'s', 't'})"):
        assert "not enough memory" in lua.error(f"state.{verb}")
        assert lua.run("return state.set('k', {1}), state.get('k')[1]") == (True, 1)


INTERRUPTED = [
    "state.lock('taken')",
    "state.with_lock('M', function() state.transaction(function() while true do state.exists('x') end end) end)",
    "pcall(state.lock, 'taken')",
    "xpcall(state.lock, function() end, 'taken') pcall(state.lock, 'taken') pcall(state.lock, 'taken')",
    "pcall(state.transaction, function() state.set('x', 1) while true do state.exists('x') end end)",
    "pcall(coroutine.wrap(function() state.lock('taken') end))",
    "while true do if not pcall(state.exists, 'x') then break end end",
]


def in_thread(fn: Callable[..., object], *args: object) -> None:
    """Call a function in a thread of its own: a lock of this thread would not be waited for."""
    thread = threading.Thread(target=fn, args=args)
    thread.start()
    thread.join()


@pytest.mark.parametrize("source", INTERRUPTED)
def test_an_interruption_reaches_the_caller(lua: Scripts, tmp_path: Path, source: str) -> None:
    """Ctrl-C during a verb is KeyboardInterrupt for whoever called the runtime, whatever the script catches."""
    with slothstate.open(tmp_path / "state.db") as other:
        in_thread(other.lock, "taken")
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            lua.run(source)
        timer.join()
        other.unlock("taken")
    assert not lua.state.exists("x")
    assert lua.run("return state.set('after', 1)") is True


def test_an_interruption_under_a_tracer(lua: Scripts, tmp_path: Path) -> None:
    """The same while a debugger or coverage.py traces: the block is left once, and Ctrl-C waits until it is."""
    tracer = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        for source in (source for source in INTERRUPTED if "state.transaction" in source):
            test_an_interruption_reaches_the_caller(lua, tmp_path, source)
    finally:
        sys.settrace(tracer)


@pytest.mark.parametrize(("code", "source"), [(3, "state.lock('taken')"), (3, "pcall(state.lock, 'taken')")])
def test_an_exit_keeps_its_code(tmp_path: Path, code: int, source: str) -> None:
    """sys.exit in a signal handler ends the process with its code, also from under a script's pcall."""
    program = f"""
import signal, sys, threading, os, slothstate
from slothstate.lua import bind, new_runtime
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
path = sys.argv[1]
state, other = slothstate.open(path), slothstate.open(path)
holder = threading.Thread(target=other.lock, args=("taken",))
holder.start()
holder.join()
runtime = new_runtime()
bind(runtime, state)
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
runtime.execute({source!r}.encode())
print("went on")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state.db")], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")


def test_a_caught_interruption_is_a_string(lua: Scripts) -> None:
    """A script that catches an interruption sees no Python object, only the string "interrupted"."""
    seen: list[tuple[bytes, bytes]] = []
    lua.runtime.globals()[b"seen"] = lambda kind, text: seen.append((kind, text))
    raised: Callable[..., object] = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # noqa: E731
    lua.state.stats = raised  # type: ignore[method-assign, assignment]
    try:
        from slothstate.lua import bind

        bind(lua.runtime, lua.state)
    finally:
        del lua.state.stats
    with pytest.raises(KeyboardInterrupt):
        lua.run("ok, e = pcall(state.stats)")
    assert lua.run("return type(e), e") == ("string", "deploy.lua:1: interrupted")


def test_verbs_are_plain_functions(lua: Scripts, figure: Callable[[str], None]) -> None:
    """Everything in `state` is a Lua function, but for null: no Python object, no attribute, no metatable to see."""
    count, *metatables = lua.run("""
        local count = 0
        for name, value in pairs(state) do
            count = count + 1
            if name ~= 'null' then
                assert(type(value) == 'function', name)
                assert(getmetatable(value) == nil, name)
                for _, attribute in ipairs({'__class__', '__self__', '__globals__', '__call__', 'x'}) do
                    assert(not pcall(function() return value[attribute] end))
                    assert(not pcall(function() value[attribute] = 1 end))
                end
            end
        end
        return count, getmetatable(state), getmetatable(state.null)
    """)
    assert metatables == [False, None]
    assert count > 30
    figure(f"what a script finds in `state`: {count} values examined, ways into Python 0")


@NATIVE_ONLY
def test_upvalues_are_shut(lua: Scripts) -> None:
    """What debug.getupvalue finds is opaque: no attribute, no call, no usable metatable."""
    lua.run("""
        for i = 1, 3 do
            local _, value = debug.getupvalue(state.get, i)
            if type(value) == 'userdata' then
                assert(getmetatable(value) == false)
                assert(not pcall(setmetatable, value, {}))
                assert(not pcall(function() return value.x end))
                assert(not pcall(function() value.x = 1 end))
                assert(not pcall(function() return value() end))
                assert(not pcall(function() return #value end))
                assert(not pcall(next, value))
            else
                assert(type(value) == 'function')
                assert(value() == nil and value(1, {}, state.null) == nil)
            end
        end
    """)


@NATIVE_ONLY
def test_finalizers_by_hand_do_no_harm(lua: Scripts) -> None:
    """__gc called with anything, twice, leaves a verb that says it is gone; the others go on."""
    lua.run("""
        local _, verb = debug.getupvalue(state.get, 1)
        local _, binding = debug.getupvalue(state.keys, 2)
        gc = debug.getmetatable(verb).__gc
        for _, value in ipairs({1, 'x', {}, print, io.stdout, state.null}) do gc(value) end
        gc() gc(nil)
        gc(verb) gc(verb)
    """)
    assert "no longer belongs to a state" in lua.error("state.get('k')")
    assert lua.run("return state.set('k', 1), state.exists('k')") == (True, True)
    lua.run("local _, binding = debug.getupvalue(state.keys, 2) gc(binding) gc(binding)")
    for verb in ("set('k', 1)", "keys()", "get('k')", "transaction(print)", "scan()"):
        assert "no longer belongs to a state" in lua.error(f"state.{verb}")


@NATIVE_ONLY
def test_swapped_upvalues_are_noticed(lua: Scripts) -> None:
    """A verb whose upvalues a script replaced, by anything or crosswise, is an error, not a crash."""
    lua.run("""
        local get = state.get
        local _, verb = debug.getupvalue(get, 1)
        local _, binding = debug.getupvalue(get, 2)
        for _, i in ipairs({1, 2}) do
            local _, kept = debug.getupvalue(get, i)
            for _, value in ipairs({1, 'x', {}, print, io.stdout, state.null, verb, binding}) do
                if value ~= kept then
                    debug.setupvalue(get, i, value)
                    local ok, e = pcall(get, 'k')
                    assert(not ok and e:find('no longer belongs'), tostring(e))
                end
            end
            debug.setupvalue(get, i, kept)
        end
        assert(get('k', 7) == 7)
        local _, builder = debug.getupvalue(state.keys, 3)
        for _, value in ipairs({1, state.null, print, error}) do
            debug.setupvalue(state.keys, 3, value)
            pcall(state.keys)
        end
        debug.setupvalue(state.keys, 3, builder)
        assert(#state.keys() == 0)
    """)


def test_a_binding_outlives_its_last_reference_in_a_scope(lua: Scripts) -> None:
    """A function that takes everything away that keeps the binding alive still ends its transaction."""
    lua.run("""
        local transaction = state.transaction
        transaction(function()
            state.set('k', 1)
            state, package.loaded.state = nil, nil
            for i = 1, 3 do debug.setupvalue(transaction, i, nil) end
            collectgarbage() collectgarbage()
        end)
    """)
    assert lua.state.get("k") == 1


def test_a_verb_can_be_called_from_a_hook_and_a_finalizer(lua: Scripts) -> None:
    """Verbs that a debug hook or a script's own __gc calls in the middle of another verb do not disturb it."""
    lua.state.set("t", {"list": ["x" * 50] * 20, "n": 1})
    assert (
        lua.run("""
        local busy, calls = false, 0
        local function meddle()
            if busy then return end
            busy = true
            calls = calls + 1
            state.set('other', {calls, {'y'}})
            assert(state.get('other')[2][1] == 'y')
            busy = false
        end
        local function garbage()
            if newproxy then
                getmetatable(newproxy(true)).__gc = meddle
            else
                setmetatable({}, {__gc = meddle})
            end
        end
        debug.sethook(meddle, 'cr')
        for i = 1, 40 do
            garbage()
            local t = state.get('t')
            assert(#t.list == 20 and t.list[20] == ('x'):rep(50) and t.n == 1)
            state.set('copy', t)
        end
        debug.sethook()
        collectgarbage()
        return calls > 40
    """)
        is True
    )
    assert lua.state.get("copy") == lua.state.get("t")


def test_new_runtime_shows_nothing_of_python(lua: Scripts) -> None:
    """There is no `python` table, and a Python function in a global has no attributes and no items."""
    lua.runtime.globals()[b"f"] = print
    assert lua.run("""
        return python, package.loaded.python, pcall(require, 'python') == false,
            pcall(function() return f.__class__ end), pcall(function() return f['__self__'] end),
            pcall(function() f.x = 1 end)
    """)[:3] == (None, None, True)
    assert "Python objects have no attributes here" in str(
        lua.run("local ok, e = pcall(function() return f.__class__ end) return tostring(e)")
    )
