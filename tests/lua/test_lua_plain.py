"""The plain binding: where it is chosen, who says so, and what its Lua side leaves a script to find."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slothstate._native import ffi

import slothstate
from helpers.host import slothstate_run
from helpers.lua import IMPLEMENTATIONS, Scripts
from slothstate.cli import examination
from slothstate.errors import InvalidValue
from slothstate.lua import bind, new_runtime, plain, runtime
from slothstate.values import Encoded

# On the native binding a script sees these as C functions.
IS_PLAIN = b"return debug.getinfo(state.get, 'S').what == 'Lua'"


@pytest.fixture(autouse=True)
def _free_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice of the binding is left to the package."""
    monkeypatch.delenv(runtime.BINDING_VARIABLE, raising=False)


@pytest.fixture
def lua(implementation: str, state: slothstate.State, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    """A runtime on the plain binding."""
    monkeypatch.setenv(runtime.BINDING_VARIABLE, "plain")
    return Scripts(state, implementation)


WITHOUT_C = ["package = nil", "package = 5", "package.loadlib = nil", "package.loadlib = {}"]


@pytest.mark.parametrize("taken", [*WITHOUT_C, "package.loadlib = function() return nil, 'no dlopen', 'absent' end"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_lua_that_cannot_load_c_is_bound_all_the_same(
    state: slothstate.State, monkeypatch: pytest.MonkeyPatch, implementation: str, taken: str
) -> None:
    """Without `package.loadlib`, or with one that cannot, the verbs are there; who insists on C is told why not."""
    lua = new_runtime(implementation)
    lua.execute(taken.encode())
    bind(lua, state)
    assert lua.execute(IS_PLAIN)
    assert lua.execute(b"state.set('k', {1, {a = 2}}) return state.get('k')[2].a") == 2
    monkeypatch.setenv(runtime.BINDING_VARIABLE, "native")
    with pytest.raises(InvalidValue, match=r"package\.loadlib is missing|cannot load C modules: no dlopen"):
        bind(lua, state)


def test_a_lupa_that_hides_its_lua_is_bound_all_the_same(
    state: slothstate.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the Lua API is not exported, as by lupa's wheels for Windows, the plain binding is taken, and named."""
    problem = ffi.new("char[]", b"the lupa module does not export lua_next")
    monkeypatch.setattr(runtime, "lib", SimpleNamespace(ss_lua_attach=lambda *_: problem))
    monkeypatch.setattr(runtime, "_attached", set())
    lua = new_runtime()
    bind(lua, state)
    assert lua.execute(IS_PLAIN)
    assert runtime.binding_of("luajit") == "plain"
    found = [finding for finding in examination._lua() if finding.subject == "Lua"]
    assert [(finding.severity, finding.text.endswith("plain binding")) for finding in found] == [("ok", True)]
    monkeypatch.setenv(runtime.BINDING_VARIABLE, "native")
    with pytest.raises(InvalidValue, match=r"lupa\.luajit21 cannot be used: the lupa module does not export lua_next"):
        bind(lua, state)


def test_the_environment_chooses(state: slothstate.State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Native where it can be had, plain where that is asked for; anything else is an error, in doctor a finding."""
    for wanted, is_plain in (("", False), ("native", False), ("plain", True)):
        monkeypatch.setenv(runtime.BINDING_VARIABLE, wanted)
        lua = new_runtime()
        bind(lua, state)
        assert lua.execute(IS_PLAIN) is is_plain
        [finding] = examination._lua()
        assert finding.text.endswith(f"{'plain' if is_plain else 'native'} binding")
    monkeypatch.setenv(runtime.BINDING_VARIABLE, "C")
    with pytest.raises(InvalidValue, match=r"^SLOTHSTATE_LUA_BINDING must be native or plain, got str 'C'"):
        bind(new_runtime(), state)
    [finding] = examination._lua()
    assert (finding.severity, "must be native or plain" in finding.text) == ("error", True)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_the_plain_binding_needs_is_named(
    state: slothstate.State, monkeypatch: pytest.MonkeyPatch, implementation: str
) -> None:
    """A runtime of limited memory, or without `debug`, is refused in words."""
    monkeypatch.setenv(runtime.BINDING_VARIABLE, "plain")
    with pytest.raises(InvalidValue, match="does not work with max_memory"):
        bind(new_runtime(implementation, max_memory=10_000_000), state)
    for taken in (b"debug = nil", b"debug = {}", b"debug.getregistry = nil"):
        lua = new_runtime(implementation)
        lua.execute(taken)
        with pytest.raises(InvalidValue, match=r"debug is missing from its globals.*bind the state first"):
            bind(lua, state)


def test_a_workflow_runs_on_it(state: slothstate.State, tmp_path: Path) -> None:
    """`slothstate run` needs nothing else: tasks, tables, data and locks work."""
    (tmp_path / "w.lua").write_text("""
        local t = task("t"):command(function()
            state.set("seen", data.parse_json('{"a": [1, null]}'))
            return state.with_lock("L", function(token) return token > 0 end, 1)
        end):build()
        workflow.define("w"):tasks({ t })
        print(data.to_json({ list = state.keys() }))
    """)
    arguments = ("w.lua", "--db", tmp_path / "state.db")
    ran = slothstate_run(*arguments, cwd=tmp_path, env={runtime.BINDING_VARIABLE: "plain"})
    assert (ran.returncode, ran.stdout) == (0, '{"list":[]}\n'), ran.stderr
    assert state.get("seen") == {"a": [1, None]}
    wrong = slothstate_run(*arguments, cwd=tmp_path, env={runtime.BINDING_VARIABLE: "fast"})
    assert (wrong.returncode != 0, "Traceback" in wrong.stderr) == (True, False)
    assert "SLOTHSTATE_LUA_BINDING must be native or plain" in wrong.stderr


def test_the_debug_library_finds_functions_without_attributes(lua: Scripts) -> None:
    """Of Python there is nothing behind the verbs but functions, which only text goes into and comes out of."""
    assert (
        lua.run("""
        local seen, found = {}, 0
        local visit
        local function userdata(value)
            found = found + 1
            for _, name in ipairs({'__class__', '__self__', '__globals__', '__code__', 'func', 'x', 1}) do
                assert(not pcall(function() return value[name] end))
                assert(not pcall(function() value[name] = 1 end))
            end
            for _, given in ipairs({'', 'x', 'i-1;', 'i99;', 's', 's5:x', '[', ']', 'i0;]', 'i1;{i1;}', 'nx;', 'a'}) do
                local _, answer = pcall(value, given)
                assert(type(answer) ~= 'table' and type(answer) ~= 'function')
            end
        end
        function visit(value)
            if seen[value] then return end
            seen[value] = true
            if type(value) == 'function' and debug.getinfo(value, 'S').source == '=slothstate:plain' then
                for i = 1, 60 do
                    local name, inner = debug.getupvalue(value, i)
                    if not name then break end
                    if inner ~= nil then visit(inner) end
                end
            elseif type(value) == 'table' and value ~= _G then
                for _, inner in next, value do visit(inner) end
            elseif type(value) == 'userdata' and value ~= state.null then
                userdata(value)
            end
        end
        for name, verb in next, state do
            assert(getmetatable(verb) == nil)
            visit(verb)
        end
        return found
    """)
        >= 5
    )
    assert lua.run("return state.set('k', {1}), state.get('k')[1]") == (True, 1)


def test_a_part_that_was_collected_is_an_error(lua: Scripts) -> None:
    """A verb whose way into Python a script ended by hand says so."""
    lua.run("""
        for i = 1, 60 do
            local name, ask = debug.getupvalue(state.get, i)
            if name == 'call' then debug.getmetatable(ask).__gc(ask) end
        end
    """)
    told = "deploy.lua:1: this function no longer belongs to a state"
    assert lua.error("state.get('k')") == told
    assert lua.error("state.transaction(print)") == told


def test_replaced_libraries_change_nothing(lua: Scripts) -> None:
    """The verbs use what was there when they were bound, not what a script makes of the libraries."""
    assert lua.run("""
        local trap = function() _G.trapped = true end
        for _, library in ipairs({string, table, math, debug, coroutine}) do
            for name in next, library do
                if name ~= 'getinfo' and name ~= 'traceback' then library[name] = trap end
            end
        end
        local kept = pcall
        for _, name in ipairs({'pcall', 'error', 'next', 'type', 'select', 'tonumber', 'rawget', 'rawequal'}) do
            _G[name] = trap
        end
        state.set('k', {'a', {b = 1.5}, state.null})
        local back = state.get('k')
        local ok, told = kept(state.get, 5)
        state.transaction(function() state.increment('n') end)
        return trapped, back[2].b, back[3] == state.null, ok, told
    """) == (None, 1.5, True, False, "deploy.lua:14: bad argument #1 to 'get' (string expected, got number)")
    assert lua.state.get("n") == 1


@pytest.mark.parametrize("encoding", [None, "latin-1", "UTF-8", "ascii"])
def test_every_encoding_passes_bytes(
    state: slothstate.State, monkeypatch: pytest.MonkeyPatch, encoding: str | None
) -> None:
    """What a runtime makes of strings is not in the way of keys, text and bytes."""
    monkeypatch.setenv(runtime.BINDING_VARIABLE, "plain")
    lua = new_runtime("lua54", encoding=encoding)
    bind(lua, state)
    lua.execute(b"state.set('gr\\195\\188n %41', {'\\195\\188%'}) state.set('b', '\\255\\0%ff')")
    assert state.get_many(state.keys()) == {"grün %41": ["ü%"], "b": b"\xff\0%ff"}
    assert lua.execute(b"return #state.get('b'), #state.get('gr\\195\\188n %41')[1]") == (5, 3)


def test_a_decimal_comma_is_read_and_written(lua: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers do not depend on the locale of the process."""
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE"):
        if lua.run(f"return os.setlocale('{name}', 'numeric')"):
            break
    try:
        assert lua.run(
            "state.set('n', 1.5) state.set('t', {2.25}) return state.get('n') * 2, state.get('t')[1] * 4"
        ) == ((3, 9))
        assert lua.state.get_many(["n", "t"]) == {"n": 1.5, "t": [2.25]}
    finally:
        lua.run("os.setlocale('C', 'numeric')")


RESULTS: list[tuple[Any, bytes]] = [
    (None, b"=z"),
    ((), b"="),
    ((True, 7), b"=ti7;"),
    (-0.0, b"=n-0.0;"),
    ("ü", b"=s2:\xc3\xbc"),
    ({"a": None, "b": [None]}, b"={s1:azs1:b[z]}"),
    (Encoded("table", '{"a":[null,{}]}'), b"={s1:a[0{}]}"),
    (2**63, b"!the result is an integer past 64 bits"),
    ("\ud800", b"!no Lua value stands for a Python str with a lone surrogate"),
    ([object], b"!no Lua value stands for a Python type"),
    ({1j: 1}, b"!no Lua value stands for a Python complex"),
]


@pytest.mark.parametrize(("result", "text"), RESULTS)
def test_results_are_written(result: Any, text: bytes) -> None:
    """Whatever a Python function returns becomes text, or the message of an error."""
    border = plain._Border([(b"f", b"", lambda: result, False)], object(), str, print, True)
    assert border._guarded(border._call)(b"i0;") == text


def test_arguments_are_read() -> None:
    """Every letter gives the value it stands for; a table comes as JSON."""
    border = plain._Border([], absent := object(), str, print, True)
    text = b"ztfai-5;n-0;n1e+300;s3:a\0bs1:\xff{s1:k[i1;0{}]}[]{}"
    *scalars, table, none, empty = border._read(text)
    assert scalars[:5] == [None, True, False, absent, -5]
    assert (math.copysign(1, scalars[5]), scalars[6:]) == (-1, [1e300, "a\0b", b"\xff"])
    assert (table, none, empty) == (
        Encoded("table", '{"k":[1,null,{}]}'),
        Encoded("list", "[]"),
        Encoded("table", "{}"),
    )
