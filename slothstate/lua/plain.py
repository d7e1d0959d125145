"""The binding for a Lua whose C functions cannot be reached: a codec in Lua, and text across lupa's border.

Windows' wheels of lupa do not export the Lua API, and a lupa built from source may lack `dlopen`. There the functions
of `state` are written in Lua (plain.lua) and call one Python function, which takes the text of a call and returns that
of its results (plain_values.lua says how). Slower than the C layer, the same to a script but for what docs/lua.md says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from slothstate._native import ffi, lib
from slothstate.errors import InvalidValue, OutOfRange
from slothstate.hints import Any, Final
from slothstate.lua.runtime import EXACT_MAX, has_integers
from slothstate.native import json_decode, json_encode
from slothstate.values import Encoded

__all__ = ["bind_plain"]


def bind_plain(
    runtime: Any,
    declared: Iterable[tuple[bytes, bytes, Callable[..., Any], bool]],
    absent: object,
    explain: Callable[[Exception], str],
    is_main_thread: Callable[[], bool],
    with_options: Callable[..., Any],
) -> Any:
    """Make the table of these functions (name, letters, function, whether it is a scope) in a runtime, and return it.

    `absent` is passed for, and returned as, a default that stays in Lua; `explain` gives the message of an exception;
    `with_options(function, *arguments, options)` calls with what a table of options, as JSON, says.

    Raises: `InvalidValue` for a runtime with `max_memory`, or without the library `debug`.
    """
    # lupa makes the strings that Python returns outside of any protected call: one too many would end the process.
    if runtime.get_max_memory():
        raise InvalidValue(
            "runtime: the plain binding does not work with max_memory: what does not fit is no error there"
        )
    if not runtime.eval(b"type(debug) == 'table' and debug.getinfo and debug.getregistry and true"):
        raise InvalidValue(
            "runtime: debug is missing from its globals, and without it the verbs cannot be loaded; "
            "bind the state first, then take away what scripts must not have"
        )
    functions = tuple(declared)
    names = b"".join(b"%s %s %d\n" % (name, letters, scope) for name, letters, _, scope in functions)
    border = _Border(functions, absent, explain, with_options, has_integers(runtime))
    values = _load(runtime, "plain_values")
    return _load(runtime, "plain", values, runtime.table_from(border.parts(runtime, is_main_thread)))(names)


def _load(runtime: Any, name: str, *arguments: Any) -> Any:
    source = Path(__file__).with_name(f"{name}.lua").read_bytes()
    return runtime.execute(source, *arguments, name=b"=slothstate:plain")


class _Border:
    """What the Lua side calls: text in; text out, or a function of the same kind."""

    def __init__(
        self,
        declared: Iterable[tuple[bytes, bytes, Callable[..., Any], bool]],
        absent: object,
        explain: Callable[[Exception], str],
        with_options: Callable[..., Any],
        holds_integers: bool,
    ) -> None:
        # A function is no argument of Python's.
        self._functions = [(function, len(letters.translate(None, b"|f"))) for _, letters, function, _ in declared]
        # By how many arguments there are when the last of them is a table of options.
        self._takes_options = [letters.endswith(b"t") for _, letters, _, _ in declared]
        self._with_options = with_options
        self._absent = absent
        self._explain = explain
        self._holds_integers = holds_integers

    def parts(self, runtime: Any, is_main_thread: Callable[[], bool]) -> dict[bytes, Any]:
        """Return what the Lua side is given; but for `call` built-in functions, in which no interruption can come."""
        pending: list[BaseException] = []
        redeliver = partial(lib.ss_lua_redeliver, _pointer(pending), _pointer(is_main_thread))
        redeliver.kept = pending, is_main_thread  # type: ignore[attr-defined]  # as long as the pointers to them
        return {
            b"call": self._guarded(self._call),
            b"keep": pending.append,
            b"redeliver": redeliver,
            b"shield": partial(lib.ss_lua_shield, 1),
            b"unshield": partial(lib.ss_lua_shield, -1),
            # A runtime with an encoding decodes what Python gets: only ASCII passes through every one.
            b"escapes": not isinstance(runtime.eval(b"''"), bytes),
        }

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def answering(*arguments: Any) -> Any:
            try:
                return self._answer(function(*arguments))
            except Exception as error:
                return b"!" + self._explain(error).encode("utf-8", "backslashreplace")

        return answering

    def _call(self, text: bytes | str) -> Any:
        index, *arguments = self._read(_unescaped(text) if isinstance(text, str) else text)
        function, most = self._functions[index]
        if self._takes_options[index] and len(arguments) == most:
            return self._with_options(function, *arguments[:-1], arguments[-1].stored)
        return function(*arguments)

    def _answer(self, result: Any) -> Any:
        if callable(result):
            return self._guarded(_until_closed(result))
        if not isinstance(result, tuple) or type(result) is Encoded:
            return b"=" + self._written(result)
        if result and callable(result[0]):
            leave, token = result

            def step(failed: bool | None = None) -> Any:
                if failed is None:
                    return () if token is None else token
                return leave(failed)

            return self._guarded(step)
        return b"=" + b"".join(map(self._written, result))

    def _read(self, text: bytes) -> list[Any]:
        """Return the values of a text; a table as JSON."""
        values: list[Any] = []
        inner: list[list[Any]] = [values]
        position = 0
        while position < len(text):
            if (token := _TOKEN.match(text, position)) is None:
                raise InvalidValue("this function no longer belongs to a state")
            position = token.end()
            letter, digits = token[1], token[2]
            if letter in b"[{":
                inner.append([])
            elif letter in b"]}":
                items = inner.pop()
                table = items if letter == b"]" else dict(zip(items[::2], items[1::2], strict=True))
                inner[-1].append(table if len(inner) > 1 else _encoded(table))
            elif letter == b"s":
                position += int(digits)
                inner[-1].append(_text(text[token.end() : position]))
            elif letter == b"a":
                inner[-1].append(self._absent)
            else:
                inner[-1].append(_SCALARS[letter](digits))
        return values

    def _written(self, value: Any) -> bytes:
        """Return the text of a value."""
        written: list[bytes] = []
        inner: list[tuple[Iterator[Any], bytes, bytes]] = [(iter((value,)), b"z", b"")]
        while inner:
            items, none, end = inner[-1]
            for item in items:
                if type(item) is Encoded:
                    opened = _opened(json_decode(item.stored), b"0")
                elif isinstance(item, list | tuple | dict):
                    opened = _opened(item, none)
                else:
                    written.append(none if item is None else self._scalar(item))
                    continue
                written.append(b"[" if opened[2] == b"]" else b"{")
                inner.append(opened)
                break
            else:
                written.append(end)
                inner.pop()
        return b"".join(written)

    def _scalar(self, value: Any) -> bytes:
        if isinstance(value, bool):
            return b"t" if value else b"f"
        if isinstance(value, int):
            if not -(2**63) <= value < 2**63:
                raise OutOfRange("the result is an integer past 64 bits")
            if not self._holds_integers and abs(value) > EXACT_MAX:
                raise OutOfRange(f"the integer {value} is past 2^53: this Lua cannot hold it exactly")
            return b"i%d;" % value
        if isinstance(value, float):
            return b"n%s;" % repr(value).encode()
        if isinstance(value, str):
            try:
                value = value.encode()
            except UnicodeEncodeError:
                raise InvalidValue("no Lua value stands for a Python str with a lone surrogate") from None
        if isinstance(value, bytes):
            return b"s%d:%s" % (len(value), value)
        if value is self._absent:
            return b"a"
        raise InvalidValue(f"no Lua value stands for a Python {type(value).__name__}")


def _until_closed(iterator: Callable[[], Any]) -> Callable[..., Any]:
    """Return a function that calls an iterator, until it is called with True: that lets go of it."""
    held = [iterator]

    def step(is_left: bool = False) -> Any:
        if is_left:
            held.clear()
            return None
        if not held:
            raise InvalidValue("this function no longer belongs to a state")
        return held[0]()

    return step


_TOKEN: Final = re.compile(rb"([]ztfa0[{}]|[ins](?=([^;:]*)[;:]))(?:(?<=[ins])[^;:]*[;:])?")

_SCALARS: Final[dict[bytes, Callable[[bytes], Any]]] = {
    b"z": lambda _: None,
    b"0": lambda _: None,
    b"t": lambda _: True,
    b"f": lambda _: False,
    b"i": int,
    b"n": float,
}

_ESCAPE: Final = re.compile(rb"%([0-9a-f]{2})")


def _unescaped(text: str) -> bytes:
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode())


def _pointer(value: object) -> Any:
    return ffi.cast("void *", id(value))


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _encoded(value: list[Any] | dict[str, Any]) -> Encoded:
    return Encoded("list" if isinstance(value, list) else "table", json_encode(value, "value"))


def _opened(value: Any, none: bytes) -> tuple[Iterator[Any], bytes, bytes]:
    """Return what a list or dict holds now, what None in it is to Lua, and how its text ends."""
    if isinstance(value, dict):
        return chain.from_iterable(list(value.items())), none, b"}"
    return iter(tuple(value)), none, b"]"
