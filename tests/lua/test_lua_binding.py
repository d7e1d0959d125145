"""Binding a State to a runtime, how its errors read, how long things live, and threads."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.lua import BOTH_BINDINGS, IMPLEMENTATIONS, NATIVE_ONLY, Scripts
from helpers.sqlite import store_of
from helpers.support import in_threads
from slothstate.errors import InvalidValue
from slothstate.lua import bind, new_runtime, runtime

pytestmark = BOTH_BINDINGS


@pytest.mark.parametrize("implementation", runtime.IMPLEMENTATIONS)
@pytest.mark.parametrize("encoding", [None, "latin-1", "UTF-8"])
def test_any_lupa_runtime_can_be_bound(state: slothstate.State, implementation: str, encoding: str | None) -> None:
    """Every implementation and encoding gets the same table, also through `require`."""
    import importlib

    bare = importlib.import_module(f"lupa.{implementation}").LuaRuntime(encoding=encoding)
    bind(bare, state)
    assert bare.execute(b"state.set('k', {a = {1, 2}}) return require('state') == state and state.get('k').a[2]") == 2
    assert state.get("k") == {"a": [1, 2]}


def test_binding_again_replaces(lua: Scripts, tmp_path: Path) -> None:
    """A second bind puts the other store in place of the first, for the global and for `require`."""
    with slothstate.open(tmp_path / "other.db") as other:
        lua.run("first = state")
        bind(lua.runtime, other)
        lua.run("state.set('k', 1) require('state').set('l', 2) first.set('k', 'first')")
        assert (other.keys(), lua.state.get("k")) == (["k", "l"], "first")


def test_lists_of_one_binding_are_lists_of_the_other(lua: Scripts, tmp_path: Path) -> None:
    """What one store gave as a list is a list to the other one, also when a script emptied it."""
    lua.state.set("l", [1])
    lua.run("first = state list = first.get('l')")
    with slothstate.open(tmp_path / "other.db") as other:
        bind(lua.runtime, other)
        lua.run("list[1] = nil state.set('l', list) first.set('l', list)")
        assert (other.get("l"), lua.state.get("l")) == ([], [])


@pytest.mark.parametrize("again", ["same", "other"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("source", ["%s.stats()", "%s.transaction(function() %s.stats() end)", "pcall(%s.stats)"])
def test_exceptions_of_every_binding_arrive(
    lua: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str, kind: type[BaseException], source: str
) -> None:
    """What ends a verb of the first `state`, or of a later one, is what the caller of the runtime gets."""

    def stats(_self: slothstate.State) -> None:
        raise kind("from Python")

    monkeypatch.setattr(slothstate.State, "stats", stats)
    bind(lua.runtime, lua.state)
    lua.run("first = state")
    with slothstate.open(tmp_path / "other.db") as other:
        for _ in range(2):
            bind(lua.runtime, lua.state if again == "same" else other)
        for name in ("first", "state", "first"):
            with pytest.raises(kind, match="from Python"):
                lua.run(source.replace("%s", name))
        assert lua.run("return first.set('k', 1), state.set('k', 2)") == (True, True)
        monkeypatch.setattr(slothstate.State, "stats", lambda _self: (_ for _ in ()).throw(ValueError("odd")))
        for name in ("first", "state"):
            bind(lua.runtime, other)
            assert "belongs" not in lua.error(f"{name}.get(nil)")


@pytest.mark.parametrize("other", [{}, None, "state.db", 1, slothstate.State, slothstate])
def test_only_a_state_can_be_bound(other: object) -> None:
    """Anything else is named in the error, and what was expected."""
    with pytest.raises(InvalidValue, match=r"^state must be a slothstate\.State, got \w+"):
        bind(new_runtime(), other)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [None, "lua", 1, object(), print])
def test_only_a_lupa_runtime_can_be_bound(state: slothstate.State, other: object) -> None:
    """Anything else is named in the error."""
    with pytest.raises(InvalidValue, match=r"runtime must be a lupa\.LuaRuntime, got"):
        bind(other, state)


def test_an_unknown_implementation_is_named(state: slothstate.State) -> None:
    """A lupa module that is not known yet is refused by name, and new_runtime lists what there is."""
    unknown = type("LuaRuntime", (), {"__module__": "lupa.lua60"})
    with pytest.raises(InvalidValue, match=r"lupa\.lua60 is not supported; expected one of luajit21"):
        bind(unknown(), state)
    for name, shown in (("lua60", "str 'lua60'"), (None, "None"), ([], "list"), (b"lua54", "bytes b'lua54'")):
        with pytest.raises(InvalidValue, match=f"implementation must be one of luajit, .*got {shown}"):
            new_runtime(name)  # type: ignore[arg-type]


@NATIVE_ONLY
def test_the_entry_point_is_for_bind_alone(lua: Scripts) -> None:
    """A script that loads the extension itself gets nothing: bindings are handed over under a secret, once."""
    found = runtime.find_entry(lua.runtime)
    lua.runtime.globals()[b"entry"] = found
    for arguments in ("", "'x'", "'x', print", "('0'):rep(16), print", "1, 2, 3"):
        assert "use slothstate.lua.bind" in lua.error(f"entry({arguments})")


def test_python_errors_read_like_lua_errors(lua: Scripts) -> None:
    """An error of the store is its message with the script's line: no class, no traceback, no address."""
    lua.state.set("s", "text")
    told = lua.error("state.increment('s')")
    assert told.startswith("deploy.lua:1: ")
    assert "'s'" in told
    assert not any(word in told for word in ("Traceback", "WrongType", "0x", ".py"))


POSITIONS = [
    ("\n\nstate.set(nil)", 3),
    ("\nlocal function f() state.set(nil)\nend\n f()", 2),
    ("\nerror(select(2, pcall(state.set, nil)), 0)", 2),
    ("\n\nlocal co = coroutine.create(function()\n state.set(nil) end)\n error(select(2, coroutine.resume(co)), 0)", 4),
    ("\n\n\nstate.increment('text')", 4),
    ("\nstate.transaction(function()\n state.set(nil)\n end)", 3),
    ("\ntable.foreach = nil\nstate.get_many({\n print})", 3),
]


@pytest.mark.parametrize(("source", "line"), POSITIONS)
def test_errors_carry_the_position_of_the_script(lua: Scripts, source: str, line: int) -> None:
    """The line is that of the innermost Lua code, also through pcall, coroutines and scopes."""
    lua.state.set("text", "x")
    assert lua.run(
        "local ok, e = pcall((loadstring or load)(..., '@deploy.lua')) return tostring(e)", source.encode()
    ).startswith(f"deploy.lua:{line}: ")


def test_a_closed_state_says_so(lua: Scripts, tmp_path: Path) -> None:
    """Verbs of a closed store are Lua errors, the runtime goes on."""
    other = slothstate.open(tmp_path / "other.db")
    bind(lua.runtime, other)
    other.close()
    assert "closed" in lua.error("state.get('k')")
    assert lua.run("return 1 + 1") == 2


def test_unexpected_python_errors_are_named_without_addresses(lua: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that is none of ours keeps its type and message, but no memory address."""

    class Odd(slothstate.State):
        def stats(self) -> dict[str, Any]:
            raise RuntimeError(f"odd {object()!r}")

    monkeypatch.setattr(slothstate.State, "stats", Odd.stats)
    bind(lua.runtime, lua.state)
    assert lua.error("state.stats()") == "deploy.lua:1: RuntimeError: odd <object object>"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_dropped_runtime_frees_what_it_held(tmp_path: Path, implementation: str) -> None:
    """Nothing in Lua keeps a store alive longer than its runtime, or than the binding that was replaced."""
    one, two = slothstate.open(tmp_path / "one.db"), slothstate.open(tmp_path / "two.db")
    engines = [weakref.ref(store_of(one)), weakref.ref(store_of(two))]
    lua = Scripts(one, implementation)
    lua.run("held = state.scan() state.set('k', 1)")
    bind(lua.runtime, two)
    lua.run("held = nil collectgarbage() collectgarbage()")
    one.close()
    two.close()
    lua.state = two
    del one
    gc.collect()
    assert (engines[0](), engines[1]() is store_of(two)) == (None, True)
    del lua, two
    gc.collect()
    assert engines[1]() is None


def test_each_thread_with_its_runtime(tmp_path: Path) -> None:
    """Runtimes of different threads and implementations work on one store at the same time; a counter is exact."""
    results: list[Any] = []

    def work(implementation: str) -> None:
        results.append(
            Scripts(opened, implementation).run("""
                for i = 1, 100 do
                    state.increment('n')
                    state.set('t', {i = i, text = ('x'):rep(i), list = {1, 2, {}}})
                    local t = state.get('t')
                    assert(#t.text == t.i and #t.list == 3)
                end
                return 'done'
            """)
        )

    with slothstate.open(tmp_path / "state.db") as opened:
        in_threads(partial(work, name) for name in ("luajit", "luajit", "lua54", "lua51"))
        assert results == ["done"] * 4
        assert opened.get("n") == 400


def test_python_runs_while_a_verb_waits(lua: Scripts, tmp_path: Path) -> None:
    """A verb that waits for a lock holds neither the interpreter nor the other threads."""
    with slothstate.open(tmp_path / "state.db") as other:
        other.lock("L")
        ticks = []
        thread = threading.Thread(target=lambda: ticks.append(lua.run("return state.lock('L', 30)")))
        thread.start()
        deadline = time.monotonic() + 30
        while lua.state.stats()["operations"].get("list_length", 0) < 3 and time.monotonic() < deadline:
            lua.state.list_length("missing")
        assert other.unlock("L")
        thread.join(30)
        assert ticks == [True]
