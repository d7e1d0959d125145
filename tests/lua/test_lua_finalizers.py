"""Finalizers of a script that run inside a verb: nothing they do to tables, verbs or stack crashes or corrupts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.lua import Scripts
from slothstate.lua import bind, runtime

# Defined in every runtime: `armed(action)` leaves garbage whose finalizers do `action` at the next allocations, which
# `sprung(...)`, called last, makes those of a verb. `fired` counts them. With what they do not know they are undone.
TRAP = """
    fired = 0
    collectgarbage('restart')
    unpack = unpack or table.unpack
    local function pace(pause, stepmul, param)
        pcall(collectgarbage, 'incremental')
        pcall(collectgarbage, 'setpause', pause)
        pcall(collectgarbage, 'setstepmul', stepmul)
        pcall(collectgarbage, 'param', 'stepmul', param)
    end
    function armed(action)
        collectgarbage()
        collectgarbage('stop')
        pace(1, 100000, 0)
        local function finalize()
            if is_armed then
                fired = fired + 1
                action()
            end
        end
        is_armed = true
        for _ = 1, 40 do
            if newproxy then
                getmetatable(newproxy(true)).__gc = finalize
            else
                setmetatable({}, {__gc = finalize})
            end
        end
    end
    function sprung(verb, ...)
        collectgarbage('restart')
        return pcall(verb, ...)
    end
    function disarm()
        is_armed = false
        pace(200, 200, 200)
        collectgarbage('restart')
        collectgarbage()
    end
    function fresh()
        local victim = {}
        for i = 1, 12 do victim['k' .. i] = 'value ' .. i end
        return victim
    end
    function items()
        local list = {}
        for i = 1, 30 do list[i] = i % 3 == 0 and {'item', i} or 'item ' .. i end
        return list
    end
"""

ACTIONS = {
    "grows": "for i = 1, 200 do victim['new' .. i] = i end for i = 1, 200 do list[#list + 1] = i end",
    "shrinks": "victim.k1, victim.k5, victim.k9 = nil, nil, nil list[#list] = nil",
    "empties": """
        for key in pairs(victim) do victim[key] = nil end
        for i = #list, 1, -1 do list[i] = nil end
        collectgarbage('step')
    """,
    "nests": "victim.k1 = {victim} list[1] = {list}",
    "collects": "collectgarbage() collectgarbage()",
    "recurses": """
        if not busy then
            busy = true
            state.set_many(fresh())
            state.list_push('other', unpack(items()))
            assert(#state.get('t').list == 30 and #state.keys() > 0)
            pcall(state.set, 'k', print)
            state.transaction(function() state.set('other', items()) end)
            busy = false
        end
    """,
    "raises": "error('from a finalizer')",
    "unbinds": """
        for _, fn in pairs(verbs) do
            for i = 1, 3 do debug.setupvalue(fn, i, nil) end
        end
        collectgarbage() collectgarbage()
    """,
    "unbinds by hand": """
        for _, fn in pairs(verbs) do
            for i = 1, 2 do
                local _, part = debug.getupvalue(fn, i)
                if type(part) == 'userdata' then debug.getmetatable(part).__gc(part) end
            end
        end
        collectgarbage() collectgarbage()
    """,
}

CALLS = {
    "set": "verbs.set, 'k', {victim, list}",
    "set_many": "verbs.set_many, victim",
    "list_push": "verbs.list_push, 'l', unpack(list)",
    "get_many": "verbs.get_many, {'k', 't', 's', 'n'}",
    "compare_swap": "verbs.compare_swap, 'n', 1, victim",
    "get": "verbs.get, 't'",
    "get a string": "verbs.get, 's'",
    "append": "verbs.append, 's', ('x'):rep(2000)",
    "keys": "verbs.keys",
    "stats": "verbs.stats",
    "list_range": "verbs.list_range, 'queue'",
    "list_pop": "verbs.list_pop, 'queue'",
    "scan": "function() local n = 0 for key in verbs.scan() do n = n + 1 end return n end",
    "a refused value": "verbs.set, 'k', {deep = {print}}",
    "a refused type": "verbs.increment, 's'",
    "an absent name": "function() return state.has('k') end",
    "transaction": "verbs.transaction, function() armed(act) collectgarbage('restart') return 'x' .. fired, list end",
    "with_lock": "verbs.with_lock, 'L', function(token) armed(act) collectgarbage('restart') return 'x' .. token end",
}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[slothstate.State]:
    """A store of its own for each test, with values for all the calls."""
    with slothstate.open(tmp_path / "state.db") as state:
        state.set_many(
            {
                "t": {"list": [["x" * 50, {"n": i}] for i in range(30)], "empty": [], "null": None},
                "s": "text" * 400,
                "n": 1,
                "queue": [{"job": f"job {i}"} for i in range(50)],
            }
        )
        yield state


WAYS = [*(("native", name) for name in runtime.IMPLEMENTATIONS), ("plain", "luajit21"), ("plain", "lua54")]


@pytest.mark.usefixtures("binding")
@pytest.mark.parametrize(("binding", "implementation"), WAYS, indirect=["binding"])
@pytest.mark.parametrize("action", ACTIONS)
def test_finalizers_inside_verbs_do_no_harm(state: slothstate.State, implementation: str, action: str) -> None:
    """Whatever they do, each verb ends with its result or an error, and every binding made afterwards works."""
    lua, ran = Scripts(state, implementation), 0
    for source in CALLS.values():
        bind(lua.runtime, state)
        lua.run(TRAP)
        # Before Lua 5.4 what a finalizer raises comes out of whatever allocates next, which may be the script itself.
        lua.run(f"""
            verbs, busy = {{}}, false
            for name, value in pairs(state) do
                verbs[name] = type(value) == 'function' and value or nil
            end
            victim, list = fresh(), items()
            act = function() {ACTIONS[action]} end
            inside = 0
            pcall(function()
                armed(act)
                ok, result = sprung({source})
                inside = fired
            end)
            is_armed = false -- Lua 5.2 runs finalizers already as it enters a function
            disarm()
        """)
        ran += lua.run("return inside > 0")
    assert ran > len(CALLS) / 2
    bind(lua.runtime, state)
    assert lua.run("return state.set('k', {1, {2}}), #state.get('k'), #state.get('t').list") == (True, 2, 30)


# Lua 5.2 runs finalizers before the verb has looked at anything.
@pytest.mark.parametrize("implementation", [name for name in runtime.IMPLEMENTATIONS if name != "lua52"])
@pytest.mark.parametrize("action", ["grows", "shrinks", "empties", "nests", "collects", "recurses"])
def test_what_was_passed_is_what_is_stored(state: slothstate.State, implementation: str, action: str) -> None:
    """A table is taken as it is when the verb is called; what a finalizer makes of it meanwhile comes too late."""
    lua = Scripts(state, implementation)
    lua.run(TRAP + f"busy, act = false, function() {ACTIONS[action]} end")
    expected: dict[str, Any] = {f"k{i}": f"value {i}" for i in range(1, 13)}
    listed = [["item", i] if i % 3 == 0 else f"item {i}" for i in range(1, 31)]
    for _ in range(5):
        state.delete("l")
        lua.run("""
            victim, list = fresh(), items()
            armed(act)
            assert(sprung(state.set_many, victim, 600))
            victim, list = fresh(), items()
            armed(act)
            assert(sprung(state.set, 'table', {victim = victim}))
            victim, list = fresh(), items()
            armed(act)
            assert(sprung(state.set, 'list', {list}))
            victim, list = fresh(), items()
            armed(act)
            assert(sprung(state.list_push, 'l', unpack(list)))
            disarm()
        """)
        assert state.get_many(expected) == expected
        assert (state.get("table"), state.get("list"), state.get("l")) == ({"victim": expected}, [listed], listed)


@pytest.mark.parametrize("implementation", runtime.IMPLEMENTATIONS)
def test_a_result_that_changes_in_python_is_built_whole(
    state: slothstate.State, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dict and a list that a finalizer changes, through Python, while they become tables arrive as they were once."""
    shared: dict[str, Any] = {}

    def refill() -> dict[str, Any]:
        shared.clear()
        shared.update({f"field {i}": [f"item {i}.{j}" for j in range(20)] for i in range(40)})
        return shared

    def spoil() -> None:
        for value in shared.values():
            value.clear()
        shared.clear()

    lua = Scripts(state, implementation)
    monkeypatch.setattr(slothstate.State, "stats", lambda _self: refill())
    bind(lua.runtime, state)
    lua.run(TRAP + "spoil = ...", spoil)
    for _ in range(5):
        lua.run("""
            armed(spoil)
            ok, result = sprung(state.stats)
            disarm()
        """)
        assert lua.run("return ok, type(result)") == (True, "table"), lua.run("return tostring(result)")
        fields, ran = lua.run("local n = 0 for _ in pairs(result) do n = n + 1 end return n, fired > 0")
        assert ran
        assert fields in (0, 40)  # Lua 5.2 runs finalizers also just before the first look at the result


@pytest.mark.parametrize("implementation", runtime.IMPLEMENTATIONS)
def test_finalizers_during_a_bind_do_no_harm(state: slothstate.State, implementation: str) -> None:
    """A bind makes a hundred objects: what a finalizer takes from it meanwhile is an error, or the bind holds."""
    lua = Scripts(state, implementation)
    lua.run(TRAP)
    for action in (
        "for i = 1, 12 do local ok, name = pcall(debug.getlocal, 2, i) end",
        "local part = select(2, debug.getlocal(2, 3)) if type(part) == 'userdata' then gc(part) end",
    ):
        lua.run(f"""
            local _, verb = debug.getupvalue(state.get, 1)
            gc = verb and debug.getmetatable(verb).__gc or print -- Lua 5.1 shows no upvalues of C functions
            armed(function() {action} end)
            collectgarbage('restart')
        """)
        problem = "the script took a part of the state away"
        try:
            bind(lua.runtime, state)
        except Exception as error:  # of this Lua's own kind
            problem = str(error)
        assert "the script took a part of the state away" in problem
        lua.run("disarm()")
        bind(lua.runtime, state)
        assert lua.run("return state.set('k', 1), state.get('k')") == (True, 1)
