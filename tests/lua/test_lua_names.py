"""What `state` refuses by the count of arguments and by name, and whom it says was meant."""

from __future__ import annotations

import pytest

from helpers.lua import BOTH_BINDINGS, Scripts
from slothstate.lua import other_names

pytestmark = BOTH_BINDINGS


ENOUGH = {
    **dict.fromkeys(["locks", "stats", "sweep", "check", "watches"], ""),
    **dict.fromkeys(["clear", "delete", "exists", "get_ttl", "persist", "list_length", "unlock", "unwatch"], "'k'"),
    **dict.fromkeys(["keys", "scan", "watch"], "'k', {}"),
    **dict.fromkeys(["get", "take", "set_ttl", "try_lock", "list_pop_many", "list_shift_many"], "'k', 1"),
    **dict.fromkeys(["list_pop", "list_shift", "wait"], "'k', 1, 0"),
    **dict.fromkeys(["increment", "decrement"], "'k', 1, {}"),
    **dict.fromkeys(["rename", "copy", "delete_field"], "'k', 'l'"),
    **dict.fromkeys(["get_field", "set_field", "increment_field"], "'k', 'l', 1"),
    **dict.fromkeys(["list_set", "list_insert", "list_trim"], "'k', 1, 1"),
    "list_remove": "'k', 1, 1",
    "lock": "'k', 0",
    "append": "'k', 'x'",
    "set": "'k', 1, nil, {}",
    "compare_swap": "'k', nil, 1, {}",
    "list_range": "'k', 1, 2",
    "get_many": "{'k'}",
    "set_many": "{k = 1}, 60",
    "transaction": "error",
    "snapshot": "error",
    "with_lock": "'k', error, 0, {}",
    "list_claim": "'k', error, 0, {}",
    "claims": "'k'",
    "backup": "'never'",
}


def test_arguments_too_many_are_an_error(lua: Scripts) -> None:
    """A verb given more than it takes, if only nil, names the first that is too many; nothing was done."""
    verbs = set(lua.run("local n = {} for k in pairs(state) do n[#n + 1] = k end return n").values())
    assert {name.decode() for name in verbs} - {"null", "list_push", "list_unshift"} == set(ENOUGH)
    for verb, given in ENOUGH.items():
        place = len([argument for argument in given.split(", ") if argument]) + 1
        for extra, found in (("nil", "nil"), ("'holder'", "string"), ("{}", "table"), ("nil, 1", "nil")):
            told = lua.error(f"state.{verb}({', '.join(filter(None, (given, extra)))})")
            expected = f"bad argument #{place} to '{verb}' (no value expected, got {found})"
            assert told == f"deploy.lua:1: {expected}"
    assert (lua.state.keys(), lua.state.locks()) == ([], [])


def test_nil_stands_for_an_optional_argument(lua: Scripts) -> None:
    """An explicit nil in the place of an optional argument is as if it were not there."""
    assert lua.run("""
        return state.set('k', 1, nil), state.increment('k', nil), state.get('k', nil), #state.keys(nil),
            #state.list_range('l', nil, nil), state.try_lock('L', nil), state.set_many({x = 1}, nil)
    """) == (True, 2, 2, 1, 0, True, True)


NAMES = [
    ("is_locked", "; use state.locks()"),
    ("atomic_increment", "; use state.increment(key, delta)"),
    ("has", "; use state.exists(key)"),
    ("HasKey", "; did you mean state.exists(key)?"),
    ("changed", "; use state.compare_swap(key, old, new)"),
    ("compare_and_swap", "; use state.compare_swap(key, old, new)"),
    ("get_all", "; use state.get_many(state.keys())"),
    ("set_with_ttl", "; use state.set(key, value, ttl)"),
    ("incr", "; use state.increment(key, delta)"),
    ("del", "; use state.delete(key)"),
    ("push", "; use state.list_push(key, item)"),
    ("expire", "; use state.set_ttl(key, seconds)"),
    ("ttl", "; use state.get_ttl(key)"),
    ("acquire", "; use state.lock(name, timeout)"),
    ("incremnt", "; did you mean state.increment(key, delta)?"),
    ("lenght", "; did you mean state.list_length(key)?"),
    ("bakup", "; did you mean state.backup(path)?"),
    ("break_lock", " in Lua, only in Python"),
    ("zzz", "; rawget(state, name) asks without an error"),
    ("_private", ""),
    ("x" * 49, "; rawget(state, name) asks without an error"),
]


@pytest.mark.parametrize(("name", "hint"), NAMES)
def test_a_name_that_does_not_exist_says_which_is_meant(lua: Scripts, name: str, hint: str) -> None:
    """The error has the script's line and the verb as it is called, whether the name is called or only looked at."""
    for source in (f"state.{name}('k', 1)", f"local found = state.{name}", f"if state['{name}'] then print() end"):
        assert lua.error(source) == f"deploy.lua:1: state.{name} does not exist{hint}"
    assert lua.run(f"return rawget(state, '{name}'), rawget(state, 'get') == state.get") == (None, True)


@pytest.mark.parametrize("key", ["1", "1.5", "true", "{}", "'\\255'", "print", "state.null"])
def test_what_is_no_name_is_an_error_too(lua: Scripts, key: str) -> None:
    """Indexing `state` by anything but a name is an error with the script's line."""
    assert lua.error(f"return state[{key}]").startswith("deploy.lua:1: ")


def test_every_hint_is_a_verb(lua: Scripts) -> None:
    """No name is explained by one that does not exist either, and none that exists is explained."""
    there = lua.run("return state")
    for call, names in other_names._MEANT.items():
        assert there[call.partition("(")[0].encode()] is not None
        for name in names.split():
            assert lua.run(f"return rawget(state, '{name}')") is None, name


def test_a_long_name_is_cut(lua: Scripts) -> None:
    """A name of any length makes an error that can be read."""
    assert len(lua.error("local f = state[('x'):rep(1000000)]")) < 200
