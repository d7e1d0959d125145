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
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple

from slothstate._native import ffi, lib
from slothstate.codec import ENCODED
from slothstate.errors import InvalidValue, LockLost, LockTimeout, OutOfRange, SlothStateError
from slothstate.lua.other_names import refuse_name
from slothstate.lua.plain import bind_plain
from slothstate.lua.runtime import EXACT_MAX, find_entry, has_integers, implementation_of, is_lua
from slothstate.native import json_decode
from slothstate.state import State
from slothstate.values import EMPTY_LIST, EMPTY_TABLE, Encoded, as_python, describe

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
    declared = tuple((verb.name.encode(), _letters(verb.arguments), verb.function, verb.is_scope) for verb in verbs)
    entry = find_entry(runtime)
    if entry is None:
        table = bind_plain(runtime, declared, _ABSENT, _explain, _is_main_thread)
    else:
        table = _bind_native(entry, declared)
    names = runtime.globals()
    names[b"state"] = table
    package = names[b"package"]
    loaded: Any = package[b"loaded"] if is_lua(package, "table") else None
    if is_lua(loaded, "table"):
        loaded[b"state"] = table
    return table


def _bind_native(entry: Any, declared: tuple[tuple[bytes, bytes, Callable[..., Any], bool], ...]) -> Any:
    pending: list[BaseException] = []

    def raise_pending() -> None:
        if pending:
            raise pending.pop()

    token = secrets.token_bytes(16)
    _handover[token] = (Encoded, _ABSENT, _explain, pending, _is_main_thread, declared)
    try:
        return entry(token, raise_pending)
    finally:
        _handover.pop(token, None)


class Verb(NamedTuple):
    """A function of the table `state`.

    One whose name begins with two underscores goes into the metatable of the table. `arguments` names the Lua type of
    each, `?` for one that may be absent or nil; `any` stays in Lua and comes back
    where the function returns the object it was given in its place. `function` gets what was given, without absent
    ones at the end.
    """

    name: str
    arguments: str
    function: Callable[..., Any]
    is_scope: bool = False


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


def state_verbs(runtime: Any, state: State) -> tuple[Verb, ...]:
    """Return the verbs of a State, as this runtime's Lua needs them."""
    view = _view_of(state)
    whole = _Exact(view)
    exact = view if has_integers(runtime) else whole
    return (
        Verb("set", "string value number?", view.set),
        Verb("get", "string any?", view.get),
        Verb("delete", "string", view.delete),
        Verb("exists", "string", view.exists),
        Verb("clear", "string?", lambda pattern=None: (True, view.clear(pattern))),
        Verb("keys", "string?", view.keys),
        Verb("scan", "string?", lambda pattern=None: partial(next, view.scan(pattern), None)),
        Verb("set_ttl", "string number", view.set_ttl),
        Verb("get_ttl", "string", view.get_ttl),
        Verb("persist", "string", view.persist),
        Verb("increment", "string number?", exact.increment),
        Verb("decrement", "string number?", exact.decrement),
        Verb("append", "string bytes", view.append),
        Verb("compare_swap", "string old new", view.compare_swap),
        Verb("list_push", "string items...", view.list_push),
        Verb("list_pop", "string any?", exact.list_pop),
        Verb("list_shift", "string any?", exact.list_shift),
        Verb("list_length", "string", view.list_length),
        Verb("list_range", "string number? number?", partial(_list_range, view)),
        Verb("get_many", "keys", partial(_get_many, view)),
        Verb("set_many", "mapping number?", partial(_set_many, view)),
        Verb("transaction", "function", partial(_enter_transaction, view), is_scope=True),
        Verb("try_lock", "string number?", view.try_lock),
        Verb("lock", "string number?", view.lock),
        Verb("unlock", "string", view.unlock),
        Verb("with_lock", "string function number?", partial(_enter_lock, view), is_scope=True),
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


def _call_with_python_values(method: Callable[..., Any], *arguments: Any) -> Any:
    return method(*map(_as_python, arguments))


def _as_python(value: Any) -> Any:
    if type(value) is Encoded:
        return as_python(*value)
    # What `set_many` is given.
    return {key: _as_python(item) for key, item in value.items()} if type(value) is dict else value


class _Exact:
    """The verbs that change the store and return what this Lua may not be able to hold, known only afterwards.

    They undo what must not have happened then. A pop is a transaction. A counter is not, which would double its cost
    for everybody: it is counted back, so for a moment others can read a number past 2^53.
    """

    def __init__(self, view: State) -> None:
        self._view = view

    def increment(self, key: str, delta: float = 1) -> Any:
        return self._checked(self._view.increment(key, delta), key, delta)

    def decrement(self, key: str, delta: float = 1) -> Any:
        return self._checked(self._view.decrement(key, delta), key, -delta)

    def _checked(self, total: Any, key: str, delta: float) -> Any:
        """Return a counter to which `delta` was added."""
        if isinstance(total, int) and abs(total) > EXACT_MAX:
            with self._view.transaction():
                # It was there before, as a number: this Lua's deltas do not get past 2^53 by themselves.
                if type(self._view.get(key)) is int:
                    self._view.decrement(key, delta)
            _check_exact(total)
        return total

    def list_pop(self, key: str, absent: object) -> Any:
        with self._view.transaction():
            return _check_exact(self._view.list_pop(key, absent))

    def list_shift(self, key: str, absent: object) -> Any:
        with self._view.transaction():
            return _check_exact(self._view.list_shift(key, absent))


_MANY_DIGITS: Final = re.compile(r"\d{16}")


def _check_exact(value: Any) -> Any:
    """Return `value`. Raises: `OutOfRange` if it is, or holds, an integer past 2^53."""
    if type(value) is Encoded:
        if _MANY_DIGITS.search(value.stored):
            _check_exact(json_decode(value.stored))
    elif isinstance(value, int):
        if abs(value) > EXACT_MAX:
            raise OutOfRange(f"the integer {value} is past 2^53: this Lua cannot hold it exactly; nothing was changed")
    elif isinstance(value, list):
        for item in value:
            _check_exact(item)
    elif isinstance(value, dict):
        for item in value.values():
            _check_exact(item)
    return value


def _list_range(view: State, key: str, start: float | None = None, stop: float | None = None) -> Any:
    """Return the items from `start` to `stop`, counted from 1 as Lua does: 0 lies before the first."""
    for name, bound in (("start", start), ("stop", stop)):
        if bound is not None and not isinstance(bound, int):
            raise InvalidValue(f"{name} must be an integer, got {bound}")
    first = 1 if start is None else int(start)
    last = -1 if stop is None else int(stop)
    items = view.list_range(key, max(first - 1, 0) if first >= 0 else first, last - 1 if last > 0 else last)
    return Encoded("list", EMPTY_LIST) if last == 0 else items


def _get_many(view: State, keys: Encoded) -> dict[str, Any]:
    if keys.kind != "list" and keys.stored != EMPTY_TABLE:
        raise InvalidValue("keys must be a list of strings")
    return view.get_many(json_decode(keys.stored))


def _set_many(view: State, *arguments: Any) -> bool:
    """Set key, value, key, value ..., and after the pairs perhaps a TTL."""
    pairs, ttl = (arguments[:-1], arguments[-1]) if len(arguments) % 2 else (arguments, None)
    return view.set_many(dict(zip(pairs[::2], pairs[1::2], strict=True)), ttl)


def _backup(view: State, path: str) -> bool:
    view.backup(path)
    return True


class _Failed(Exception):
    """Tells a transaction that the Lua function in it failed."""


def _enter_transaction(view: State) -> tuple[Callable[[bool], None], None]:
    manager = view.transaction()
    manager.__enter__()

    def leave(failed: bool) -> None:
        if not failed:
            manager.__exit__(None, None, None)
            return
        with suppress(_Failed):
            failure = _Failed()
            manager.__exit__(_Failed, failure, None)

    return leave, None


def _enter_lock(view: State, name: str, timeout: float | None = None) -> tuple[Callable[[bool], None] | None, Any]:
    manager = view.locked(name, timeout)
    try:
        lock = manager.__enter__()
    except LockTimeout as error:
        return None, str(error)

    def leave(_failed: bool) -> None:
        # The function may have unlocked it itself.
        with suppress(LockLost):
            manager.__exit__(None, None, None)

    return leave, lock.token


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
        return str(error)
    return _ADDRESS.sub("", f"{type(error).__name__}: {error}")
