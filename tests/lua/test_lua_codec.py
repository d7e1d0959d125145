"""Values between Lua and the store: what converts, exactly how, and what is refused naming the path."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.lua import BOTH_BINDINGS, Scripts

pytestmark = BOTH_BINDINGS

WITH_INTEGERS = ("lua54",)


@pytest.fixture(params=["luajit", "lua51", "lua54"])
def implementation(request: pytest.FixtureRequest) -> str:
    """One of each number model and table implementation; test_lua_binding.py binds all that there are."""
    return str(request.param)


SCALARS = [
    ("true", True),
    ("false", False),
    ("0", 0),
    ("-1", -1),
    ("2^53", {"whole": 2**53, "integer": 2.0**53}),
    ("-2^53", {"whole": -(2**53), "integer": -(2.0**53)}),
    ("9007199254740992 * 2", {"whole": 2.0**54, "integer": 2**54}),
    ("1e300", 1e300),
    ("0.1", 0.1),
    ("-1.5", -1.5),
    ("5e-324", 5e-324),
    ("1.0", {"whole": 1, "integer": 1.0}),
    ("''", ""),
    ("'text'", "text"),
    ("'a\\0b'", "a\0b"),
    ("'gr\\195\\188n \\240\\159\\166\\165'", "grün 🦥"),
    ("'\\255'", b"\xff"),
    ("'\\237\\160\\128'", b"\xed\xa0\x80"),
    ("'\\192\\128'", b"\xc0\x80"),
    ("('x'):rep(5000)", "x" * 5000),
    ("('\\255'):rep(5000)", b"\xff" * 5000),
]


@pytest.mark.parametrize(("source", "expected"), SCALARS)
def test_scalars_keep_their_type_in_both_directions(lua: Scripts, source: str, expected: Any) -> None:
    """A scalar is stored as the Python type that means the same, and comes back equal to what Lua passed."""
    if isinstance(expected, dict):
        # Without an integer type every whole number up to 2^53 is an integer; with one, only what is of that type.
        expected = expected["integer" if lua.implementation in WITH_INTEGERS else "whole"]
    assert lua.run(f"state.set('k', {source}) return state.get('k') == ({source})") is True
    stored = lua.state.get("k")
    assert (type(stored), stored) == (type(expected), expected)
    if not isinstance(expected, bytes):
        lua.run(f"state.set('k', {{{source}}})")
        [item] = lua.state.get("k")
        assert (type(item), item) == (type(expected), expected)


def test_negative_zero_keeps_its_sign(lua: Scripts) -> None:
    """-0.0 is a float everywhere, alone and in a table, and its sign survives."""
    lua.run("local z = -(0.0) * 1 state.set('k', 0.0 * -1) state.set('t', {0.0 * -1})")
    assert math.copysign(1, lua.state.get("k")) == -1
    assert math.copysign(1, lua.state.get("t")[0]) == -1
    assert lua.run("return 1 / state.get('k') < 0, 1 / state.get('t')[1] < 0") == (True, True)


def test_integers_stay_integers_in_text(lua: Scripts) -> None:
    """An integer concatenates without a fraction on every Lua, however it went in."""
    lua.state.set("n", 41)
    lua.state.set("t", {"n": 7})
    assert lua.run("return 'n=' .. state.increment('n') .. ' ' .. state.get('t').n") == "n=42 7"


TABLES = [
    ("{}", {}),
    ("{1, 2, 3}", [1, 2, 3]),
    ("{a = 1}", {"a": 1}),
    ("{[''] = 1}", {"": 1}),
    ("{['1'] = 1}", {"1": 1}),
    ("{a = {b = {{c = 'd'}}}}", {"a": {"b": [{"c": "d"}]}}),
    ("{state.null, state.null}", [None, None]),
    ("{x = state.null}", {"x": None}),
    ("{true, false, 'x', 1.5, -7}", [True, False, "x", 1.5, -7]),
    ("{['k\\0\"\\\\\\n'] = '\\1'}", {'k\0"\\\n': "\1"}),
    ("{[3] = 'c', [1] = 'a', [2] = 'b'}", ["a", "b", "c"]),
    ("{'a', 'b', [3] = 'c', [4] = 'd'}", ["a", "b", "c", "d"]),
    ("{[1] = 'a'}", ["a"]),
    ("(function() local t = {} for i = 300, 1, -1 do t[i] = i end return t end)()", list(range(1, 301))),
    ("(function() local t = {1, 2, 3, 4} t[4] = nil t[3] = nil return t end)()", [1, 2]),
    ("(function() local t = {a = 1} t.a = nil return t end)()", {}),
    ("(function() local t = {x = 1} return {t, t} end)()", [{"x": 1}, {"x": 1}]),
]


@pytest.mark.parametrize(("source", "expected"), TABLES)
def test_tables_become_what_they_are(lua: Scripts, source: str, expected: Any) -> None:
    """A sequence is a list, string keys are a table, an empty table is a table; a copy made by Lua is the same."""
    lua.run(f"state.set('k', {source}) state.set('copy', state.get('k'))")
    assert lua.state.get("k") == expected
    assert lua.state.get("copy") == expected


def test_an_empty_list_stays_a_list(lua: Scripts) -> None:
    """An empty table that came from a stored list goes back as a list, one that Lua made as a table."""
    lua.state.set("k", {"list": [], "table": {}, "nested": [[]]})
    lua.run("local t = state.get('k') t.mine = {} state.set('copy', t)")
    assert lua.state.get("copy") == {"list": [], "table": {}, "nested": [[]], "mine": {}}
    lua.state.set("empty", [])
    lua.run("state.set('copy', state.get('empty'))")
    assert lua.state.get("copy") == []
    lua.run("local t = state.get('empty') t[1] = 'x' state.set('filled', t) t[1] = nil t.a = 1 state.set('named', t)")
    assert (lua.state.get("filled"), lua.state.get("named")) == (["x"], {"a": 1})
    assert lua.run("return getmetatable(setmetatable(state.get('empty'), {__index = table})).__index == table")


EMPTIED = [
    "local t = state.get('list') emptied(t)",
    "local t = state.get('outer').list emptied(t)",
    "local t = state.get('outer').list[1] emptied(t)",
    "local t = state.get('list')[1] emptied(t)",
    "local t = state.get_many({'outer'}).outer.list emptied(t)",
    "local t = state.list_range('list') emptied(t)",
    "local t = state.list_pop('list') emptied(t)",
    "local t = state.keys() emptied(t)",
    "local t = state.locks() emptied(t)",
    "local t = {1, 2} state.set('mine', t) emptied(t)",
    "local t = {1, 2} state.set('mine', {deep = {t}}) emptied(t)",
    "local t = {[2] = 2, [1] = 1} state.list_push('mine', t) emptied(t)",
    "local t = {1} assert(state.compare_swap('mine', nil, t)) emptied(t)",
    "local t = {1} state.set_many({mine = t}) emptied(t)",
]


@pytest.mark.parametrize("source", EMPTIED)
def test_a_list_that_a_script_emptied_stays_a_list(lua: Scripts, source: str) -> None:
    """Whatever the store gave as a list, or took as one, goes back as a list when nothing is in it any more."""
    lua.state.set_many({"list": [[1], [2, 3]], "outer": {"list": [[1]]}})
    lua.run(
        "function emptied(t) while #t > 0 do table.remove(t) end collectgarbage() "
        "state.set('alone', t) state.set('inside', {list = t, lists = {t}, new = {}}) end " + source
    )
    assert (lua.state.get("alone"), lua.state.get("inside")) == ([], {"list": [], "lists": [[]], "new": {}})


def test_a_table_that_is_no_list_stays_a_table(lua: Scripts) -> None:
    """What had names is a table when it is empty, and what a list became counts, not what it was."""
    lua.state.set_many({"t": {"a": 1}, "l": [1]})
    lua.run("local t = state.get('t') t.a = nil state.set('t', t)")
    lua.run("local l = state.get('l') l[1] = nil l.name = 'x' state.set('l', l)")
    lua.run("state.set('copy', (function(list) local new = {} return new end)(state.get('l')))")
    assert lua.state.get_many(["t", "l", "copy"]) == {"t": {}, "l": {"name": "x"}, "copy": {}}


def test_nothing_marks_a_list_for_scripts_to_see(lua: Scripts) -> None:
    """A list has no metatable, not even for the debug library; one that a script gives it is of that list alone."""
    lua.state.set_many({"empty": [], "list": [[], [1]]})
    assert lua.run("""
        local none = true
        for _, list in ipairs({state.get('empty'), state.get('list'), state.get('list')[1], state.keys()}) do
            none = none and getmetatable(list) == nil and debug.getmetatable(list) == nil
            local poisoned = getmetatable(list) or {}
            poisoned.__index = function() error('poisoned') end
            setmetatable(list, poisoned)
        end
        local fresh = state.get('empty')
        return none, fresh[1], getmetatable(fresh), #state.get('list'), state.set('copy', fresh)
    """) == (True, None, None, 2, True)
    assert lua.state.get("copy") == []


def test_lists_are_not_kept_alive(lua: Scripts) -> None:
    """A list that a script forgets is collected, however many came."""
    lua.state.set("l", [[1], [2]])
    assert (
        lua.run("""
        local alive = setmetatable({}, {__mode = 'k'})
        for i = 1, 100 do
            local list = state.get('l')
            state.set('k', {list})
            alive[list], alive[list[1]] = true, true
        end
        collectgarbage() collectgarbage()
        return next(alive)
    """)
        is None
    )


def test_null_cannot_be_poisoned(lua: Scripts) -> None:
    """A metatable given to null, which only the debug library can, changes neither what is stored nor what is read."""
    assert lua.run("return getmetatable(state.null), pcall(setmetatable, state.null, {})")[:2] == (None, False)
    lua.state.set("k", [None, {"x": None}])
    try:
        lua.run("""
            local trap = function() error('a metamethod ran') end
            debug.setmetatable(state.null, {__index = trap, __eq = trap, __tostring = trap, __len = trap})
            state.set('copy', state.get('k'))
            state.set('own', {state.null, x = nil})
        """)
    finally:
        lua.run("debug.setmetatable(state.null, nil)")
    assert (lua.state.get("copy"), lua.state.get("own")) == ([None, {"x": None}], [None])


def test_null_is_a_value_inside_tables(lua: Scripts) -> None:
    """JSON null reads as state.null, equal to itself and no nil, so a list keeps its length."""
    lua.state.set("k", [None, 1, None])
    assert lua.run("local t = state.get('k') return #t, t[1] == state.null, t[3] == state.null") == (3, True, True)


DEEP = "(function() local t = {} for _ = 2, %d do t = {x = t} end return t end)()"


def test_depth_ends_at_500(lua: Scripts) -> None:
    """500 nested tables are stored and read back; the 501st is refused."""
    lua.run(f"state.set('k', {DEEP % 500}) state.set('copy', state.get('k'))")
    assert lua.state.get("copy") == lua.state.get("k")
    assert "tables nest deeper than 500 levels" in lua.error(f"state.set('k', {DEEP % 501})")


def test_an_item_nests_a_level_less(lua: Scripts) -> None:
    """An item of 499 levels makes a list of 500, which every reading verb gives back; one more is refused."""
    told = lua.error(f"state.list_push('l', 'x', {DEEP % 500})")
    assert told.startswith("deploy.lua:1: bad argument #3 to 'list_push' (item.x.x")
    assert told.endswith("tables nest deeper than 499 levels)")
    assert not lua.state.exists("l")
    assert lua.run(f"return state.list_push('l', {DEEP % 499}), #state.get('l'), #state.list_range('l')") == (1, 1, 1)
    assert lua.run("return type(state.list_pop('l'))") == "table"


REFUSED = [
    ("print", "value: a function cannot be stored"),
    ("coroutine.create(function() end)", "value: a thread cannot be stored"),
    ("state.null", "value: state.null can only be inside a table"),
    ("{print}", "value[1]: a function cannot be stored"),
    ("{a = {b = {1, 2, print}}}", "value.a.b[3]: a function cannot be stored"),
    ("{['two words'] = {print}}", 'value["two words"][1]: a function cannot be stored'),
    ("{[('k'):rep(100)] = print}", f'value["{"k" * 48}.."]: a function cannot be stored'),
    ("{['\\1\\n'] = print}", 'value["??"]: a function cannot be stored'),
    ("{['gr\\195\\188n'] = print}", 'value["grün"]: a function cannot be stored'),
    ("{x = coroutine.create(function() end)}", "value.x: a thread cannot be stored"),
    ("{x = io.stdout}", "value.x: a userdata cannot be stored"),
    ("{1, nil, 3}", "value[2]: a list must have no holes"),
    ("{a = {nil, 2}}", "value.a[1]: a list must have no holes"),
    ("{[2] = 1}", "value[1]: a list must have no holes"),
    ("{[2^40] = 1}", "value[1]: a list must have no holes"),
    ("{1, 2, x = 3}", "value: a table must have only string keys, or be a list with the keys 1 to n"),
    ("{x = 3, 1}", "value: a table must have only string keys, or be a list with the keys 1 to n"),
    ("{t = {[0] = 1}}", "value.t: a table must have only string keys, or be a list with the keys 1 to n"),
    ("{[-1] = 1}", "value: a table must have only string keys, or be a list with the keys 1 to n"),
    ("{[1.5] = 1}", "value: a table must have only string keys, or be a list with the keys 1 to n"),
    ("{1, 2, [2.5] = 1}", "value: a table must have only string keys, or be a list with the keys 1 to n"),
    ("{[true] = 1}", "value: a boolean cannot be a key; expected strings, or the numbers 1 to n"),
    ("{1, [{}] = 1}", "value: a table cannot be a key; expected strings, or the numbers 1 to n"),
    ("{[print] = 1}", "value: a function cannot be a key; expected strings, or the numbers 1 to n"),
    ("{x = 0/0}", "value.x: nan and inf cannot be stored; expected a finite number"),
    ("{1, 2, 1/0}", "value[3]: nan and inf cannot be stored; expected a finite number"),
    ("{-1/0}", "value[1]: nan and inf cannot be stored; expected a finite number"),
    ("{a = '\\255'}", "value.a: a string inside a table must be valid UTF-8"),
    ("{'ok', '\\237\\160\\128'}", "value[2]: a string inside a table must be valid UTF-8"),
    ("{a = {['\\255'] = 1}}", "value.a: a key must be valid UTF-8"),
    ("(function() local t = {} t.x = t return t end)()", "value.x: the table contains itself"),
    ("(function() local t = {} t.x = {1, {y = t}} return t end)()", "value.x[2].y: the table contains itself"),
]


@pytest.mark.parametrize(("source", "message"), REFUSED)
def test_refusals_name_the_path(lua: Scripts, source: str, message: str) -> None:
    """What JSON cannot hold is an error that names the place and the script's line; nothing is stored."""
    assert lua.error(f"state.set('k', {source})") == f"deploy.lua:1: bad argument #2 to 'set' ({message})"
    assert not lua.state.exists("k")


def test_cdata_is_refused(lua: Scripts) -> None:
    """LuaJIT's boxed 64-bit integers are no numbers to the store."""
    if lua.implementation == "luajit":
        told = lua.error("state.set('k', {n = 1LL})")
        assert told == "deploy.lua:1: bad argument #2 to 'set' (value.n: a cdata cannot be stored)"


def test_a_long_path_is_cut(lua: Scripts) -> None:
    """The path to a fault 500 levels deep stays readable: it is cut, the reason is not."""
    message = lua.error("local t = {x = print} for _ = 2, 500 do t = {level = t} end state.set('k', t)")
    assert message.endswith("...: a function cannot be stored)")
    assert len(message) < 500


def test_metatables_are_not_consulted(lua: Scripts) -> None:
    """No metamethod runs while a table is stored: only its raw contents count."""
    lua.run("""
        local trap = function() error("a metamethod ran") end
        local mt = {__index = trap, __len = trap, __pairs = trap, __ipairs = trap, __eq = trap, __tostring = trap}
        state.set('table', setmetatable({a = setmetatable({}, mt)}, mt))
        state.set('list', setmetatable({1, 2}, mt))
    """)
    assert (lua.state.get("table"), lua.state.get("list")) == ({"a": {}}, [1, 2])


BIG = 2**53 + 1


def test_integers_past_2_53(lua: Scripts) -> None:
    """An integer that this Lua cannot hold is an error that leaves the store as it was; with integers it is exact."""
    state = lua.state
    for value in (BIG, -BIG, 2**63 - 1, -(2**63)):
        state.set("n", value)
        state.set("t", {"deep": [value]})
        state.set("l", [1, value])
        if lua.implementation in WITH_INTEGERS:
            assert lua.run("return state.get('n'), state.get('t').deep[1], state.list_pop('l')") == (value,) * 3
            lua.run("state.set('copy', state.get('t'))")
            assert state.get("copy") == {"deep": [value]}
            continue
        told = f"deploy.lua:1: the integer {value} is past 2^53: this Lua cannot hold it exactly"
        for source in (
            "state.get('n')",
            "state.get('t')",
            "state.list_range('l')",
            "state.get_many({'n'})",
            "state.list_pop('l')",
        ):
            assert lua.error(source).startswith(told), source
        assert (state.get("n"), state.get("t"), state.get("l")) == (value, {"deep": [value]}, [1, value])


def test_a_counter_stops_where_this_lua_cannot_count(lua: Scripts) -> None:
    """A sum past what this Lua holds is refused with the counter untouched, not returned as another number."""
    lua.state.set("n", 2**53, ttl=100)
    if lua.implementation in WITH_INTEGERS:
        assert lua.run("return state.increment('n', 1)") == BIG
        lua.state.set("n", 2**63 - 1)
        assert "out of range" in lua.error("state.increment('n', 1)")
        return
    assert "is past 2^53" in lua.error("state.increment('n', 1)")
    assert (lua.state.get("n"), lua.state.get_ttl("n")) == (2**53, 100)
    lua.state.set("n", -(2**53))
    assert "is past 2^53" in lua.error("state.decrement('n', 1)")
    assert lua.run("return state.increment('n', 0.5)") == -(2.0**53) + 0.5


def _as_lua_sees_it(value: Any, implementation: str) -> Any:
    """The value after Lua read and wrote it: without an integer type a whole float becomes an integer."""
    if isinstance(value, list):
        return [_as_lua_sees_it(item, implementation) for item in value]
    if isinstance(value, dict):
        return {key: _as_lua_sees_it(item, implementation) for key, item in value.items()}
    whole = isinstance(value, float) and value.is_integer() and abs(value) <= 2**53
    if whole and implementation not in WITH_INTEGERS and math.copysign(1, value) == (1 if value >= 0 else -1):
        return value if value == 0 and math.copysign(1, value) == -1 else int(value)
    return value


def _typed(value: Any) -> Any:
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    return (type(value).__name__, repr(value))


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda children: st.lists(children, max_size=5) | st.dictionaries(_text, children, max_size=5),
    max_leaves=20,
).filter(lambda value: isinstance(value, dict | list))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=_documents)
def test_documents_survive_a_visit_to_lua(lua: Scripts, document: Any) -> None:
    """Whatever Python stores, Lua reads and stores again without changing a value, a type or a key."""
    lua.state.set("k", document)
    lua.run("state.set('copy', state.get('k'))")
    assert _typed(lua.state.get("copy")) == _typed(_as_lua_sees_it(document, lua.implementation))


def test_bytes_are_exact_both_ways(lua: Scripts) -> None:
    """All 256 bytes go through the store unchanged, whether or not they happen to be UTF-8."""
    lua.run("local t = {} for i = 0, 255 do t[#t + 1] = string.char(i) end state.set('all', table.concat(t))")
    assert lua.state.get("all") == bytes(range(256))
    assert lua.run("return #state.get('all'), state.get('all'):byte(256)") == (256, 255)
