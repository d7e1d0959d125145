"""`State` is a class: it can be subclassed, patched and wrapped, in Python and for Lua, whatever engine is below."""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import re
import sys
import timeit
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final
from unittest import mock

import pytest

from helpers.lua import IMPLEMENTATIONS, Scripts
from helpers.places import Place
from helpers.support import in_time
from slothstate import InvalidValue, State
from slothstate.native import StateBase
from slothstate.values import Seconds

VERBS: Final = sorted(name for name in dir(State) if not name.startswith("_") and callable(getattr(State, name)))
"""Every public method, those of a mapping as well."""

each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


class Noting(State):
    """Notes each call of a verb that goes through it, and passes it on."""

    def __init__(self, *arguments: Any) -> None:
        self.calls: list[tuple[object, ...]] = []
        super().__init__(*arguments)


def _noting(name: str) -> Callable[..., Any]:
    inherited = getattr(State, name)

    @functools.wraps(inherited)
    def verb(self: Noting, *arguments: Any, **named: Any) -> Any:
        self.calls.append((name, *arguments))
        return getattr(super(Noting, self), name)(*arguments, **named)

    return verb


for _name in VERBS:
    setattr(Noting, _name, _noting(_name))


@pytest.fixture
def noting(place: Place) -> Noting:
    state = place.open(kind=Noting)
    assert isinstance(state, Noting)
    return state


def test_a_state_is_made_by_open() -> None:
    """Whoever makes one of a path is told so."""
    for wrong in ("state.db", None, 7):
        with pytest.raises(InvalidValue, match=r"use slothstate\.open"):
            State(wrong)  # type: ignore[arg-type]


def test_a_subclass_is_a_state_and_a_mapping(place: Place) -> None:
    """Also with a mixin before it, and with slots."""

    class Mixin:
        def get(self, key: str, default: Any = None) -> Any:
            return "mixed", super().get(key, default)  # type: ignore[misc]

    class Sub(Mixin, State):  # type: ignore[misc]
        __slots__ = ("extra",)

    state = place.open(kind=Sub)
    state.set("k", 1)
    assert (state.get("k"), state["k"]) == (("mixed", 1), ("mixed", 1))
    for each in (State, StateBase, MutableMapping, Mapping, Sub):
        assert isinstance(state, each)
    assert weakref.ref(state)() is state
    assert re.fullmatch(r"<.*\.Sub '.*'>", repr(state))


MAPPING: Final[dict[str, tuple[Callable[[State], object], set[str]]]] = {
    "[]": (lambda s: s["k"], {"get"}),
    "[]=": (lambda s: s.__setitem__("k", 1), {"set"}),
    "del": (lambda s: s.__delitem__("k"), {"delete"}),
    "in": (lambda s: "k" in s, {"exists"}),
    "iter": (lambda s: list(s), {"scan"}),
    "pop": (lambda s: s.pop("k"), {"take"}),
    "popitem": (lambda s: s.popitem(), {"transaction", "items", "scan", "get", "delete"}),
    "setdefault": (lambda s: s.setdefault("new", 1), {"transaction", "get", "set"}),
    "update": (lambda s: s.update(a=1), {"set_many"}),
    "items": (lambda s: list(s.items()), {"scan", "get"}),
    "values": (lambda s: list(s.values()), {"items", "scan", "get"}),
    "dict": (lambda s: dict(s), {"keys", "get"}),
    "decrement": (lambda s: s.decrement("n"), {"increment"}),
    "decrement by the smallest": (lambda s: s.decrement("negative", -(2**63)), {"increment"}),
    "entries": (lambda s: list(s.entries()), {"entries"}),
    "compact": (lambda s: s.compact(), {"sweep"}),
}


@pytest.mark.parametrize("way", MAPPING)
def test_what_is_made_of_verbs_calls_the_overrides(noting: Noting, place: Place, way: str) -> None:
    """What a dict does, and each verb that is made of others, goes through a subclass's own verbs."""
    if way not in place.features | MAPPING.keys() - {"compact"}:
        pytest.skip(f"{way} is not a feature of this engine")
    noting.set_many({"k": 1, "n": 1, "negative": -5})
    noting.calls.clear()
    call, uses = MAPPING[way]
    call(noting)
    assert {name for name, *_ in noting.calls} >= uses


def test_super_reaches_the_read_cache(place: Place) -> None:
    """`super().get()` is a hit as any other."""

    class Sub(State):
        def get(self, key: str, default: Any = None) -> Any:
            return super().get(key, default)

    if "read cache" not in place.features:
        pytest.skip("this engine has no read cache")
    state = place.open(kind=Sub)
    state.set("k", [1])
    state.get("k")
    before = state.stats()["cache_hits"]
    assert [state.get("k") for _ in range(10)] == [[1]] * 10
    assert state.stats()["cache_hits"] == before + 10


class Plain(State):
    """Overrides nothing."""


def python_calls(call: Callable[[], object]) -> list[str]:
    """The functions written in Python that a call runs."""
    seen: list[str] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            seen.append(frame.f_code.co_qualname)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


def test_get_of_a_subclass_runs_no_python_of_ours(place: Place) -> None:
    """A hit is answered in C, for a subclass as for State, and takes about as long."""
    if "read cache" not in place.features:
        pytest.skip("this engine has no read cache")
    state, sub = place.open(), place.open(kind=Plain)
    for each in (state, sub):
        each.set("k", "value")
    for each in (state, sub):
        each.get("k")
        assert python_calls(functools.partial(each.get, "k")) == []

    def share() -> float:
        times = [min(timeit.repeat(functools.partial(each.get, "k"), number=2000, repeat=5)) for each in (sub, state)]
        return times[0] / times[1]

    assert in_time(share, 1.3)


@pytest.mark.parametrize("name", VERBS)
def test_patched(place: Place, name: str) -> None:
    """`mock.patch.object` works on the class, on a subclass and on an instance, and leaves nothing behind."""
    state, sub = place.open(), place.open(kind=Plain)
    for target, patched in ((State, (state, sub)), (Plain, (sub,)), (state, (state,)), (sub, (sub,))):
        before = dict(vars(target))
        with mock.patch.object(target, name, return_value="patched"):
            assert [getattr(each, name)() for each in patched] == ["patched"] * len(patched)
        assert dict(vars(target)) == before
    assert state.set("k", 1)
    assert sub.get("k") == 1


def test_spied_on(place: Place) -> None:
    """With `autospec` and `wraps` the signature is checked and the verb itself runs."""
    state = place.open()
    with mock.patch.object(State, "increment", autospec=True, side_effect=State.increment) as spied:
        assert (state.increment("k"), state.decrement("k", 2)) == (1, -1)
        with pytest.raises(TypeError):
            state.increment()  # type: ignore[call-arg]
    assert spied.call_args_list == [mock.call(state, "k"), mock.call(state, "k", -2)]
    # A method written in C is given no self, as with `dict.get`.
    with mock.patch.object(State, "set", autospec=True) as spied:
        state.set("k", 1, ttl=5)
        state["k"] = 2
    assert spied.call_args_list == [mock.call("k", 1, ttl=5), mock.call("k", 2)]
    state.set("k", 2)
    with mock.patch.object(state, "get", wraps=state.get) as spied:
        assert (state.get("k"), state["k"]) == (2, 2)
    assert spied.call_count == 2
    double = mock.create_autospec(State, instance=True)
    double.get.return_value = 7
    assert (double.get("k"), isinstance(double, State)) == (7, True)


def test_signatures_and_documentation() -> None:
    """`get` and `set` say what they take, as functions written in Python do; so they can be wrapped."""
    assert str(inspect.signature(State.get)) == "(self, /, key, default=None)"
    assert str(inspect.signature(State.set)) == "(self, /, key, value, ttl=None, *, when=None, keep_ttl=False)"
    for name in VERBS:
        method = getattr(State, name)
        assert functools.wraps(method)(lambda: None).__name__ == name
        assert inspect.getdoc(method)


def test_wrapped(place: Place) -> None:
    """Partials, caches and descriptors of functools take a verb, of the class and of an instance."""
    state = place.open()

    class Sub(State):
        first = functools.partialmethod(State.get, "first", default="none")
        alias = State.get

        @functools.cached_property
        def once(self) -> Any:
            return self.increment("asked")

    sub = place.open(kind=Sub)
    assert isinstance(sub, Sub)
    assert (sub.first(), sub.alias("first", 1), sub.once, sub.once) == ("none", 1, 1, 1)
    state.set("first", "f")
    assert functools.partial(State.get, state)("first") == "f" == sub.first()
    remembered = functools.lru_cache(state.get)
    assert (remembered("first"), state.delete("first"), remembered("first")) == ("f", True, "f")


class Proxy:
    """A transparent wrapper, as wrapt makes them."""

    def __init__(self, wrapped: State) -> None:
        object.__setattr__(self, "_wrapped", wrapped)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._wrapped)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._wrapped)

    def increment(self, key: str, delta: float = 1) -> Any:
        return self._wrapped.increment(key, 2 * delta)


@each_implementation
def test_a_transparent_wrapper(place: Place, implementation: str) -> None:
    """What looks like a State is one, for Lua too, with what it does itself."""
    proxy: Any = Proxy(place.open())
    assert isinstance(proxy, State)
    assert (proxy.set("k", [1]), proxy.get("k"), list(proxy), proxy.increment("n")) == (True, [1], ["k"], 2)
    lua = Scripts(proxy, implementation)
    assert lua.run("return state.get('k')[1], state.increment('n', 2), state.exists('n')") == (1, 6, True)


IN_LUA: Final = {
    "set": "state.set('k', {1, {a = 'b'}}, 60)",
    "get": "state.get('k', 'default')",
    "delete": "state.delete('k')",
    "take": "state.take('k', 'default')",
    "rename": "state.rename('k', 'to')",
    "copy": "state.copy('k', 'to')",
    "exists": "state.exists('k')",
    "clear": "state.clear('k*')",
    "keys": "state.keys('k*')",
    "scan": "for key in state.scan('k*') do end",
    "set_ttl": "state.set_ttl('k', 60)",
    "get_ttl": "state.get_ttl('k')",
    "persist": "state.persist('k')",
    "increment": "state.increment('n', 2)",
    "decrement": "state.decrement('n', 2)",
    "append": "state.append('text', 'more')",
    "compare_swap": "state.compare_swap('k', {1}, {a = {2}})",
    "get_field": "state.get_field('k', {1, 'a'}, 'default')",
    "set_field": "state.set_field('made', {'a', 'b'}, {{c = 1}})",
    "delete_field": "state.delete_field('k', {-1})",
    "increment_field": "state.increment_field('made', 'n', 2)",
    "list_push": "state.list_push('list', {1}, 'two', {a = {}})",
    "list_unshift": "state.list_unshift('list', {1}, 'two')",
    "list_pop_many": "state.list_pop_many('list', 2)",
    "list_shift_many": "state.list_shift_many('list', 2)",
    "list_set": "state.list_set('list', 1, {2})",
    "list_insert": "state.list_insert('list', 2, {2})",
    "list_remove": "state.list_remove('list', {2}, -1)",
    "list_trim": "state.list_trim('list', 1, 2)",
    "list_pop": "state.list_pop('list', 'default')",
    "list_shift": "state.list_shift('list', 'default')",
    "list_length": "state.list_length('list')",
    "list_range": "state.list_range('list', 1, 2)",
    "get_many": "state.get_many({'k', 'n'})",
    "set_many": "state.set_many({a = {1}, b = {c = 'd'}}, 60)",
    "wait": "state.wait('k', {2}, 0)",
    "transaction": "state.transaction(function() end)",
    "snapshot": "state.snapshot(function() end)",
    "try_lock": "state.try_lock('lock', 60)",
    "lock": "state.lock('lock', 1)",
    "unlock": "state.unlock('lock')",
    "locks": "state.locks()",
    "stats": "state.stats()",
    "sweep": "state.sweep()",
    "check": "state.check()",
}
"""A call of each verb, of those whose arguments have one with tables; `with_lock` is `locked`, see below."""

PASSED: Final[dict[str, tuple[object, ...]]] = {
    "set": ("k", [1, {"a": "b"}], 60),
    "compare_swap": ("k", [1], {"a": [2]}),
    "get_field": ("k", [0, "a"], mock.ANY),
    "set_field": ("made", ["a", "b"], [{"c": 1}]),
    "delete_field": ("k", [-1]),
    "increment_field": ("made", ("n",), 2),
    "list_push": ("list", [1], "two", {"a": {}}),
    "list_unshift": ("list", [1], "two"),
    "list_set": ("list", 0, [2]),
    "list_insert": ("list", 1, [2]),
    "list_remove": ("list", [2], -1),
    "list_trim": ("list", 0, 1),
    "wait": ("k", [2], 0),
    "list_range": ("list", 0, 1),
    "get_many": (["k", "n"],),
    "set_many": ({"a": [1], "b": {"c": "d"}}, 60),
    "append": ("text", "more"),
    "decrement": ("n", 2),
    "lock": ("lock", 1),
}
"""What arrives at the override, where the table is not the whole of it."""


@each_implementation
@pytest.mark.parametrize("name", IN_LUA)
def test_lua_calls_the_overrides(noting: Noting, implementation: str, name: str) -> None:
    """Each verb of Lua's is the subclass's own, which gets Python's values and may return them."""
    noting.set_many({"k": [1], "n": 1, "text": "t", "list": [1]})
    lua = Scripts(noting, implementation)
    noting.calls.clear()
    lua.run(IN_LUA[name])
    calls = [call for call in noting.calls if call[0] == name]
    assert len(calls) == 1, noting.calls
    if name in PASSED:
        assert calls[0][1:] == PASSED[name]


@each_implementation
def test_options_of_lua_reach_the_overrides(place: Place, implementation: str) -> None:
    """As keyword arguments, and only those that were given: an override may know no others."""

    class Sub(State):
        def increment(self, key: str, delta: float = 1, *, ttl: Seconds | None = None) -> Any:
            return super().increment(key, 10 * delta, ttl=ttl)

        def keys(self, pattern: str | None = None, *, limit: int = 9) -> Any:  # type: ignore[override]
            return super().keys(pattern, limit=limit)

        def list_pop(self, key: str, default: Any = None) -> Any:  # type: ignore[override]
            return super().list_pop(f"prefix:{key}", default)

    state = place.open(kind=Sub)
    state.list_push("prefix:l", "item")
    lua = Scripts(state, implementation)
    assert lua.run("""return state.increment('n', nil, {ttl = 60}), state.get_ttl('n'), #state.keys(nil, {limit = 1}),
        state.list_pop('l'), state.list_pop('l', 'none')""") == (10, 60, 1, "item", "none")


@each_implementation
@pytest.mark.parametrize("name", ["get", "keys", "list_pop", "list_range", "get_many", "scan"])
@pytest.mark.parametrize("where", ["class", "instance", "subclass"])
def test_lua_gets_what_a_patch_returns(place: Place, implementation: str, name: str, where: str) -> None:
    """A patch that was there when the State was bound holds until it is bound again."""
    state = place.open(kind=Plain)
    returned: Any = iter(["one"]) if name == "scan" else {"b": [1]} if name == "get_many" else ["one", "two"]
    target = {"class": State, "instance": state, "subclass": Plain}[where]
    with mock.patch.object(target, name, return_value=returned) as patched:
        lua = Scripts(state, implementation)
    source = {"get_many": "return state.get_many({'a'}).b[1]", "scan": "return state.scan()()"}
    assert lua.run(source.get(name, f"return state.{name}('k')[1]")) == (1 if name == "get_many" else "one")
    assert patched.call_count == 1
    assert Scripts(state, implementation).run("return state.get('k', 'unpatched')") == "unpatched"


@each_implementation
def test_with_lock_in_lua_is_locked(place: Place, implementation: str) -> None:
    """A Lua function under a lock is held by the State's `locked`: that is what to override."""
    state = place.open(kind=Noting)
    assert isinstance(state, Noting)
    lua = Scripts(state, implementation)
    assert lua.run("return state.with_lock('job', function() return 7 end, 1)") == 7
    assert ("locked", "job", 1) in state.calls


@each_implementation
def test_a_namespace_of_keys(place: Place, implementation: str) -> None:
    """What a subclass is good for: keys with a prefix, seen alike from Python and from Lua."""

    class Tenant(State):
        def get(self, key: str, default: Any = None) -> Any:
            return super().get(f"tenant:{key}", default)

        def set(self, key: str, value: Any, ttl: Seconds | None = None, **options: Any) -> bool:
            return super().set(f"tenant:{key}", value, ttl, **options)

        def scan(self, pattern: str | None = None, **options: Any) -> Iterator[str]:
            return (key.removeprefix("tenant:") for key in super().scan(f"tenant:{pattern or '*'}", **options))

    state, other = place.open(kind=Tenant), place.open()
    other.set("foreign", 1)
    state["a"] = {"x": [1]}
    lua = Scripts(state, implementation)
    lua.run("local a = state.get('a') a.x[2] = 2 state.set('b', a)")
    assert state.get("b") == state["b"] == other.get("tenant:b") == {"x": [1, 2]}
    assert lua.run("local s = '' for key in state.scan() do s = s .. key end return s") == "ab"
    assert list(state.items()) == [("a", {"x": [1]}), ("b", {"x": [1, 2]})]


class Forgetful(State):
    """Has its own beginning, and forgot the one it inherited."""

    def __init__(self) -> None:
        self.ready = True


def arguments_of(name: str) -> list[Any]:
    """As many arguments as a verb needs at least."""
    parameters = list(inspect.signature(getattr(State, name)).parameters.values())[1:]
    needed = [
        each for each in parameters if each.default is inspect.Parameter.empty and each.kind != each.VAR_POSITIONAL
    ]
    return [{"fn": len, "records": [], "mapping": {"k": 1}, "seconds": 1}.get(each.name, "k") for each in needed]


FORGOTTEN: Final[dict[str, Callable[[State], object]]] = {
    **{name: functools.partial(lambda name, s: getattr(s, name)(*arguments_of(name)), name) for name in VERBS},
    "scan": lambda s: next(s.scan()),
    "entries": lambda s: next(s.entries()),
    "dump": lambda s: next(s.dump()),
    "items": lambda s: next(iter(s.items())),
    "values": lambda s: next(iter(s.values())),
    "locked": lambda s: s.locked("k").__enter__(),
    "get a wrong key": lambda s: s.get(7),  # type: ignore[arg-type]
    "set with a ttl": lambda s: s.set("k", 1, 5),
    "update": lambda s: s.update(k=1),
    "[]": lambda s: s["k"],
    "in": lambda s: "k" in s,
    "len": len,
    "iter": lambda s: next(iter(s)),
    "with": lambda s: s.__exit__(None, None, None),
    "lua": lambda s: Scripts(s, "lua54"),
}


@pytest.mark.parametrize("way", FORGOTTEN)
def test_an_initializer_that_forgets_the_inherited_one(way: str) -> None:
    """Whatever is done first says what is missing, by the name of the class."""
    with pytest.raises(TypeError, match=r"Forgetful is not set up: its __init__ must call super\(\).__init__"):
        FORGOTTEN[way](Forgetful())
    assert "Forgetful" in repr(Forgetful())


@pytest.mark.parametrize("kind", [State, Plain])
def test_neither_pickled_nor_copied(place: Place, kind: type[State]) -> None:
    """A State stands for an open store: another process opens it by its path."""
    state = place.open(kind=kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="a State cannot be pickled: open the store by its path"):
            pickle.dumps(state, protocol)
    for copying in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="a State cannot be pickled"):
            copying(state)
