"""lupa runtimes: making one for scripts, and finding the Lua inside any of them for the C layer.

Each module of lupa (`lupa.luajit21`, `lupa.lua54`, ...) links a Lua of its own. The C layer works on a runtime through
that very Lua's functions: it finds them in the module, and gets into the runtime as a Lua C module, which
`package.loadlib` loads from the file of our extension.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading

from slothstate._native import ffi, lib
from slothstate.errors import InvalidValue
from slothstate.hints import Any, Final
from slothstate.native import LIBRARY
from slothstate.values import describe

__all__ = [
    "BINDING_VARIABLE",
    "EXACT_MAX",
    "IMPLEMENTATIONS",
    "binding_of",
    "find_entry",
    "has_integers",
    "implementation_of",
    "is_lua",
    "new_runtime",
]

IMPLEMENTATIONS: Final = ("luajit21", "luajit20", "lua51", "lua52", "lua53", "lua54", "lua55")

EXACT_MAX: Final = 2**53
"""Past this, a Lua without an integer type cannot hold every integer."""

BINDING_VARIABLE: Final = "SLOTHSTATE_LUA_BINDING"
"""The environment variable that says which binding to take: native, or plain."""

_WITH_INTEGERS: Final = ("lua53", "lua54", "lua55")

_SHORT_NAMES: Final = {"luajit": "luajit21"}

_attached: Final[set[str]] = set()
_attaching: Final = threading.Lock()


def new_runtime(implementation: str = "luajit", **options: Any) -> Any:
    """Return a lupa runtime from which no Lua code reaches Python: no `python` table, no attributes, no builtins.

    `implementation` is "luajit" or any module of lupa that `bind` supports ("lua54", ...). Strings are bytes on both
    sides (`encoding=None`), and a tuple that a Python function returns becomes several results. `options` go to
    `lupa.LuaRuntime`, before these defaults. Nothing else is taken away from Lua: this is no sandbox.

    Raises: `InvalidValue` for an implementation that lupa or slothstate does not have.
    """
    name = _SHORT_NAMES.get(implementation, implementation) if isinstance(implementation, str) else None
    if name not in IMPLEMENTATIONS:
        choices = ", ".join([*_SHORT_NAMES, *IMPLEMENTATIONS])
        raise InvalidValue(f"implementation must be one of {choices}, got {describe(implementation)}")
    try:
        module = importlib.import_module(f"lupa.{name}")
    except ImportError as error:
        raise InvalidValue(
            f"implementation {implementation!r} is not there ({error}): pip install slothstate[lua]"
        ) from error
    defaults = {
        "encoding": None,
        "unpack_returned_tuples": True,
        "register_eval": False,
        "register_builtins": False,
        "attribute_filter": _deny,
    }
    runtime = module.LuaRuntime(**(defaults | options))
    names = runtime.globals()
    names[b"python"] = None
    names[b"package"][b"loaded"][b"python"] = None
    return runtime


def _deny(_object: object, _name: object, _is_setting: bool) -> object:
    raise AttributeError("Python objects have no attributes here")


def implementation_of(runtime: object) -> str:
    """Return the name of the lupa module that a runtime belongs to. Raises: `InvalidValue` unless it is supported."""
    for kind in type(runtime).__mro__:
        package, _, name = kind.__module__.rpartition(".")
        if kind.__name__ == "LuaRuntime" and package == "lupa":
            if name in IMPLEMENTATIONS:
                return name
            raise InvalidValue(
                f"runtime: the Lua of lupa.{name} is not supported; expected one of {', '.join(IMPLEMENTATIONS)}"
            )
    raise InvalidValue(f"runtime must be a lupa.LuaRuntime, got {describe(runtime)}")


def has_integers(runtime: object) -> bool:
    """Return whether the Lua of a runtime has an integer type."""
    return implementation_of(runtime) in _WITH_INTEGERS


class _NoEntryError(InvalidValue):
    """The C layer cannot be loaded into a runtime."""


def find_entry(runtime: Any) -> Any:
    """Return the C layer's entry point as a Lua function of this runtime; None where the plain binding is to be used.

    That is where the C layer cannot be loaded: lupa does not export its Lua, this Lua cannot load C modules, or its
    globals lack `package.loadlib`; and where the environment says so (SLOTHSTATE_LUA_BINDING: native or plain).

    Raises: `InvalidValue` for a runtime that is not supported, where the variable is something else, or says native and
    that cannot be had.
    """
    implementation = implementation_of(runtime)
    wanted = os.environ.get(BINDING_VARIABLE, "")
    if wanted not in ("", "native", "plain"):
        raise InvalidValue(f"{BINDING_VARIABLE} must be native or plain, got {describe(wanted)}")
    if wanted == "plain":
        return None
    try:
        return _load_entry(runtime, implementation)
    except _NoEntryError:
        if wanted == "native":
            raise
        return None


def binding_of(implementation: str) -> str:
    """Return which binding a new runtime gets: "native" or "plain". Raises: as `new_runtime` and `find_entry` do."""
    return "plain" if find_entry(new_runtime(implementation)) is None else "native"


def _load_entry(runtime: Any, implementation: str) -> Any:
    _attach(implementation)
    package = runtime.globals()[b"package"]
    loadlib: Any = package[b"loadlib"] if is_lua(package, "table") else None
    if not is_lua(loadlib, "function"):
        raise _NoEntryError("runtime: package.loadlib is missing from its globals, and without it C cannot be loaded")
    extension = os.fsencode(os.path.abspath(LIBRARY))
    found = loadlib(extension, f"ss_lua_open_{implementation}".encode())
    if not is_lua(found, "function"):
        reason = found[1] if isinstance(found, tuple) else "package.loadlib is not its own"
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise _NoEntryError(f"runtime: this Lua cannot load C modules: {text}")
    return found


def is_lua(value: Any, kind: str) -> bool:
    """Return whether what lupa gave is a Lua table, a Lua function; strings and numbers it converts."""
    module = sys.modules[type(value).__module__]
    return hasattr(module, "lua_type") and module.lua_type(value) == kind


def _attach(implementation: str) -> None:
    """Let the C layer find this implementation's functions, once in a process."""
    with _attaching:
        if implementation in _attached:
            return
        path = sys.modules[f"lupa.{implementation}"].__file__ or ""
        problem = lib.ss_lua_attach(implementation.encode(), os.fsencode(path))
        if problem != ffi.NULL:
            reason = ffi.string(problem).decode()
            raise _NoEntryError(f"runtime: lupa.{implementation} cannot be used: {reason}")
        _attached.add(implementation)
