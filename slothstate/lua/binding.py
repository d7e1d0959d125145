"""The table `state` of a Lua runtime: which verbs it has, with what arguments, and the Python that each calls.

The C layer (csrc/lua/lua.h) makes a Lua function of each `Verb`: it checks the arguments, converts them, calls the
Python callable and converts the result, tables going straight between the Lua stack and JSON. No Python object is ever
visible to Lua. Where it cannot be loaded, `plain` does the same in Lua.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterable
from functools import partial

from slothstate._native import ffi, lib
from slothstate.calling_off import CalledOff
from slothstate.codec import ENCODED
from slothstate.errors import InvalidKey, InvalidValue, PatternError, SlothStateError
from slothstate.hints import Any, Final, NamedTuple
from slothstate.lua import lists
from slothstate.lua.blocks import enter_block, enter_claim, enter_lock
from slothstate.lua.exact import Exact, Whole
from slothstate.lua.other_names import refuse_name
from slothstate.lua.plain import bind_plain
from slothstate.lua.runtime import find_entry, has_integers, implementation_of, is_lua
from slothstate.lua.watching import Watching, collecting
from slothstate.lua.wording import in_lua
from slothstate.native import json_decode
from slothstate.state import State
from slothstate.values import EMPTY_TABLE, Encoded, as_python, describe, shorten

__all__ = ["Verb", "bind", "bind_verbs", "state_verbs"]


def bind(runtime: Any, state: State) -> None:
    """Put the verbs of a State into a lupa runtime, as the global `state` and for `require("state")`.

    Binding again replaces both. Any encoding of the runtime will do; Lua strings are bytes to the verbs. The runtime
    keeps the State's verbs alive, not the store open: closing it is up to you.

    A KeyboardInterrupt or SystemExit during a verb ends the script: the call of the runtime raises it. Where the script
    could catch it (`pcall`, a coroutine) it sees the error "interrupted" instead, and the exception comes again, in
    Python, at the next verb or as soon as the script has ended; in the main thread, the only one Python interrupts.

    Where this Lua cannot load the C layer, or `package.loadlib` is gone, the functions are plain Lua: slower, with the
    differences that docs/lua.md lists. SLOTHSTATE_LUA_BINDING=plain (or native) in the environment takes the choice.

    Raises: `InvalidValue` unless the runtime is lupa's, of a Lua that is supported; for a `state` that is none; where
    the plain binding lacks what it needs.
    """
    implementation_of(runtime)
    if not isinstance(state, State):
        raise InvalidValue(f"state must be a slothstate.State, got {describe(state)}")
    bind_verbs(runtime, state_verbs(runtime, state))


def bind_verbs(runtime: Any, verbs: Iterable[Verb]) -> Any:
    """Put these verbs into a runtime, as `bind` does those of a State; returns the table."""
    verbs = tuple(verbs)
    with_options = partial(_with_options, {id(verb.function): verb for verb in verbs})
    declared = tuple((verb.name.encode(), _letters(verb.arguments), verb.function, verb.is_scope) for verb in verbs)
    entry = find_entry(runtime)
    if entry is None:
        table = bind_plain(runtime, declared, _ABSENT, _explain, _is_main_thread, with_options)
    else:
        table = _bind_native(entry, declared, with_options)
    if any(verb.name == "watch" for verb in verbs):
        table[b"watch"] = collecting(runtime, table[b"watch"])
    names = runtime.globals()
    names[b"state"] = table
    package = names[b"package"]
    loaded: Any = package[b"loaded"] if is_lua(package, "table") else None
    if is_lua(loaded, "table"):
        loaded[b"state"] = table
    return table


def _bind_native(
    entry: Any, declared: tuple[tuple[bytes, bytes, Callable[..., Any], bool], ...], with_options: Callable[..., Any]
) -> Any:
    pending: list[BaseException] = []

    def raise_pending() -> None:
        if pending:
            raise pending.pop()

    token = secrets.token_bytes(16)
    _handover[token] = (Encoded, _ABSENT, _explain, pending, _is_main_thread, with_options, declared)
    try:
        return entry(token, raise_pending)
    finally:
        _handover.pop(token, None)


class Verb(NamedTuple):
    """A function of the table `state`.

    One whose name begins with two underscores goes into the metatable of the table. `arguments` names the Lua type of
    each, `?` for one that may be absent or nil; `any` stays in Lua and comes back
    where the function returns the object it was given in its place. `function` gets what was given, without absent
    ones at the end; the fields of `options`, a table behind all others, are its keyword arguments, of which `options`
    has the names.
    """

    name: str
    arguments: str
    function: Callable[..., Any]
    is_scope: bool = False
    options: tuple[str, ...] = ()


_LETTERS: Final = {
    "string": "u",
    "bytes": "s",
    "number": "n",
    "value": "v",
    "items...": "*",
    "old": "o",
    "new": "w",
    "keys": "k",
    "mapping": "m",
    "item": "i",
    "field": "d",
    "path": "p",
    "key_or_keys": "q",
    "options": "t",
    "any": "a",
    "function": "f",
}


def _letters(arguments: str) -> bytes:
    """Return the signature as csrc/lua/arguments.c reads it."""
    letters = ""
    for argument in arguments.split():
        if argument.endswith("?") and "|" not in letters:
            letters += "|"
        letters += _LETTERS[argument.removesuffix("?")]
    return letters.encode()


def _with_options(taken: dict[int, Verb], function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with a table of options, given last as JSON. Raises: `InvalidValue` for one it does not know."""
    *given, text = arguments
    options = json_decode(text)
    verb = taken[id(function)]
    if not isinstance(options, dict):
        raise InvalidValue("options must be a table of names and values, got a list")
    for name, value in options.items():
        if name in _COUNTS and isinstance(value, float):
            options[name] = lists.integer(value, name)
        if name not in verb.options:
            raise InvalidValue(f"options: there is no {shorten(name)}, only {', '.join(verb.options)}")
    required = len([argument for argument in verb.arguments.split() if not argument.endswith("?")])
    while len(given) > required and given[-1] is None:
        given.pop()
    return function(*given, **options)


def state_verbs(runtime: Any, state: State) -> tuple[Verb, ...]:
    """Return the verbs of a State, as this runtime's Lua needs them."""
    view = _view_of(state)
    watching = Watching(view)
    exact: Any = Whole(view) if has_integers(runtime) else Exact(view)
    return (
        Verb("set", "string value number? options?", view.set, options=("when", "keep_ttl")),
        Verb("get", "string any?", view.get),
        Verb("delete", "string", view.delete),
        Verb("take", "string any?", exact.take),
        Verb("rename", "string string", view.rename),
        Verb("copy", "string string", view.copy),
        Verb("exists", "string", view.exists),
        Verb("clear", "string?", lambda pattern=None: (True, view.clear(pattern))),
        Verb("keys", "string? options?", view.keys, options=_LISTING),
        Verb("scan", "string? options?", partial(_scan, view), options=_LISTING),
        Verb("set_ttl", "string number", view.set_ttl),
        Verb("get_ttl", "string", view.get_ttl),
        Verb("persist", "string", view.persist),
        Verb("increment", "string number? options?", exact.increment, options=("ttl",)),
        Verb("decrement", "string number? options?", exact.decrement, options=("ttl",)),
        Verb("append", "string bytes", view.append),
        Verb("compare_swap", "string old new options?", view.compare_swap, options=("ttl",)),
        Verb("get_field", "string path any?", partial(lists.get_field, view)),
        Verb("set_field", "string path field", partial(lists.set_field, view)),
        Verb("delete_field", "string path", partial(lists.delete_field, view)),
        Verb("increment_field", "string path number?", exact.increment_field),
        Verb("list_push", "string items...", view.list_push),
        Verb("list_unshift", "string items...", view.list_unshift),
        Verb("list_pop", "key_or_keys any? number?", exact.list_pop),
        Verb("list_shift", "key_or_keys any? number?", exact.list_shift),
        Verb("list_pop_many", "string number", exact.list_pop_many),
        Verb("list_shift_many", "string number", exact.list_shift_many),
        Verb("list_set", "string number item", partial(lists.list_set, view)),
        Verb("list_insert", "string number item", partial(lists.list_insert, view)),
        Verb("list_remove", "string item number?", partial(lists.list_remove, view)),
        Verb("list_trim", "string number? number?", partial(lists.list_trim, view)),
        Verb(
            "list_claim",
            "key_or_keys function number? options?",
            partial(enter_claim, view),
            is_scope=True,
            options=("ttl", "max_attempts", "dead"),
        ),
        Verb("claims", "string?", view.claims),
        Verb("list_length", "string", view.list_length),
        Verb("list_range", "string number? number?", partial(lists.list_range, view)),
        Verb("wait", "string value? number?", view.wait),
        Verb("watch", "string? options?", watching.watch, options=("name", "timeout")),
        Verb("unwatch", "string?", watching.unwatch),
        Verb("watches", "", view.watches),
        Verb("get_many", "keys", partial(_get_many, view)),
        Verb("set_many", "mapping number?", partial(_set_many, view)),
        Verb("transaction", "function", partial(enter_block, view.transaction), is_scope=True),
        Verb("snapshot", "function", partial(enter_block, view.snapshot), is_scope=True),
        Verb("try_lock", "string number?", view.try_lock),
        Verb("lock", "string number?", view.lock),
        Verb("unlock", "string", view.unlock),
        Verb(
            "with_lock",
            "string function number? options?",
            partial(enter_lock, view),
            is_scope=True,
            options=("shared", "slots", "ttl"),
        ),
        Verb("locks", "", view.locks),
        Verb("stats", "", view.stats),
        Verb("sweep", "", view.sweep),
        Verb("backup", "string", partial(_backup, view)),
        Verb("check", "", view.check),
        Verb("__index", "any value", refuse_name),
    )


def _view_of(state: State) -> State:
    """Return the State as Lua uses it: tables and lists stay JSON, but for verbs that are overridden.

    What a subclass or a patch has in their place gets and returns Python's values, as it does in Python.
    """
    view = state._with_codec(ENCODED)
    for name, own in _OWN.items():
        if name in vars(state) or getattr(type(state), name, None) is not own:
            setattr(view, name, partial(_call_with_python_values, getattr(state, name)))
    return view


_OWN: Final = {name: getattr(State, name) for name in dir(State) if not name.startswith("_")}
"""The verbs as they are written; State itself may have been patched since."""


def _call_with_python_values(method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return method(*map(_as_python, arguments), **options)


def _as_python(value: Any) -> Any:
    if type(value) is Encoded:
        return as_python(*value)
    # What `set_many` is given.
    return {key: _as_python(item) for key, item in value.items()} if type(value) is dict else value


_COUNTS: Final = ("limit", "slots", "max_attempts")
"""The options that are whole numbers."""

_LISTING: Final = ("reverse", "after", "limit")


def _scan(view: State, pattern: str | None = None, **options: Any) -> Callable[[], str | None]:
    return partial(next, view.scan(pattern, **options), None)


def _get_many(view: State, keys: Encoded) -> dict[str, Any]:
    if keys.kind != "list" and keys.stored != EMPTY_TABLE:
        raise InvalidValue("keys must be a list of strings")
    return view.get_many(lists.checked_keys(json_decode(keys.stored), "keys"))


def _set_many(view: State, *arguments: Any) -> bool:
    """Set key, value, key, value ..., and after the pairs perhaps a TTL."""
    pairs, ttl = (arguments[:-1], arguments[-1]) if len(arguments) % 2 else (arguments, None)
    return view.set_many(dict(zip(pairs[::2], pairs[1::2], strict=True)), ttl)


def _backup(view: State, path: str) -> bool:
    view.backup(path)
    return True


_ABSENT: Final = object()
"""What the C layer passes for a default that stays in Lua."""

_handover: Final[dict[bytes, tuple[Any, ...]]] = {}
lib.ss_lua_handover(ffi.cast("void *", id(_handover)))


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def _explain(error: Exception) -> str:
    """Return what a script is told about an exception: no traceback, no addresses."""
    if isinstance(error, SlothStateError):
        return in_lua(str(error)) if isinstance(error, InvalidValue | InvalidKey | PatternError) else str(error)
    if isinstance(error, CalledOff):
        return str(error)
    return _ADDRESS.sub("", f"{type(error).__name__}: {error}")
