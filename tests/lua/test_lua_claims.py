"""`state.list_claim` and `state.claims` on every Lua and in both bindings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.lua import BOTH_BINDINGS, Scripts

pytestmark = BOTH_BINDINGS


@pytest.fixture
def lua(lua: Scripts) -> Iterator[Scripts]:
    """A runtime bound to a store without a claim in it at the end."""
    yield lua
    assert lua.state.claims() == []


def test_item_and_attempt(lua: Scripts) -> None:
    """The function gets the item, of whatever kind, and the attempt; its results pass through, and it is done."""
    lua.state.list_push("q", {"app": "web", "n": [1, None]}, "text", None, 2.5, False)
    assert lua.run("return state.list_claim('q', function(item, n) return item.app, #item.n, n, nil end)")[:3] == (
        "web",
        2,
        1,
    )
    assert lua.run("return state.list_claim('q', function(...) return select('#', ...), ... end)") == (2, "text", 1)
    assert lua.run("return state.list_claim('q', function(item) return item == nil end)") is True
    assert lua.run("return state.list_claim({'none', 'q'}, function(item) return item end)") == 2.5
    assert lua.run("return state.list_claim('q', function(item) return item, #state.claims('q') end)") == (False, 1)
    assert not lua.state.exists("q")


def test_error_gives_the_item_back(lua: Scripts) -> None:
    """An error of the function is rethrown as it is, and the item is back; so it is when a script ends in it."""
    lua.state.list_push("q", "a", "b")
    body = "state.list_claim('q', function() state.set('k', 1) error(value, 0) end)"
    assert lua.run(f"local value = {{}} local ok, e = pcall(function() {body} end) return ok, e == value") == (
        False,
        True,
    )
    assert lua.state.get("q") == ["a", "b"]
    assert lua.state.get("k") == 1
    assert lua.error("state.list_claim('q', function() local x = nil + 1 end)").startswith("deploy.lua:1: attempt to")
    assert lua.state.get("q") == ["a", "b"]


def test_nothing(lua: Scripts) -> None:
    """Without an item, at once or within the timeout: nil and why; the function is not called."""
    assert lua.run("return state.list_claim('q', error)") == (None, "timeout")
    assert lua.run("return state.list_claim({'q', 'r'}, error, 0.01, {ttl = 5})") == (None, "timeout")


def test_options(lua: Scripts) -> None:
    """`ttl`, `max_attempts` and `dead`, with earlier arguments nil; any other is an error."""
    lua.state.list_push("q", "a")
    lua.run("pcall(state.list_claim, 'q', error, nil, {max_attempts = 1})")
    assert lua.run("return state.list_claim('q', error, nil, {max_attempts = 1, dead = 'd'})") == (None, "timeout")
    assert lua.state.get("d") == ["a"]
    lua.state.list_push("q", "b")
    # Past its time the claim is lost when the function ends.
    body = "local t = os.clock() while os.clock() - t < 0.05 do end"
    told = lua.error(f"state.list_claim('q', function() {body} end, 0, {{ttl = 0.01}})")
    assert told == "deploy.lua:1: the claim on an item of 'q' was lost before its block ended"
    assert lua.state.list_length("q") == 1
    assert "there is no 'tll'" in lua.error("state.list_claim('q', error, 0, {tll = 1})")
    assert "max_attempts" in lua.error("state.list_claim('q', error, 0, {dead = 'x'})")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "bad argument #1 to 'list_claim' (string or table expected, got no value)"),
        ("'q'", "bad argument #2 to 'list_claim' (function expected, got no value)"),
        ("'q', {}", "bad argument #2 to 'list_claim' (function expected, got table)"),
        ("'q', error, '1'", "bad argument #3 to 'list_claim' (number expected, got string)"),
        ("'q', error, 0, 1", "bad argument #4 to 'list_claim' (table expected, got number)"),
    ],
)
def test_arguments(lua: Scripts, arguments: str, told: str) -> None:
    """What is wrong is named, and nothing is claimed."""
    assert lua.error(f"state.list_claim({arguments})") == f"deploy.lua:1: {told}"


def test_item_that_this_lua_cannot_hold(lua: Scripts) -> None:
    """An integer past 2^53 is an error on a Lua without integers, and the item is back."""
    lua.state.list_push("q", 2**60)
    if lua.run("return math.type ~= nil"):
        assert lua.run("return state.list_claim('q', function(item) return item end)") == 2**60
        return
    assert "past 2^53" in lua.error("state.list_claim('q', function(item) return item end)")
    assert lua.state.get("q") == [2**60]


def test_in_a_transaction(lua: Scripts) -> None:
    """A claim in a transaction is undone with it; in the function of a claim there may be one."""
    lua.state.list_push("q", "a", "b")
    lua.run("pcall(state.transaction, function() state.list_claim('q', function() end) error('no') end)")
    assert lua.state.get("q") == ["a", "b"]
    lua.run("state.list_claim('q', function(i) state.transaction(function() state.set('done', i) end) end)")
    assert dict(lua.state.items()) == {"done": "a", "q": ["b"]}
