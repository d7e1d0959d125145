"""The built-in functions of the C layer, typed.

A cffi call costs more than encoding a small document, so the C layer hands over real built-in functions: one
cffi call at import appends them to a list (`ss_python_export` in csrc/ss_python.h), and a call of theirs
costs what one of `len` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from slothstate._native import ffi, lib
from slothstate.errors import InvalidValue, OutOfRange, PatternError

__all__ = [
    "NULL_PAGE_SEPARATOR",
    "glob_check",
    "glob_filter",
    "glob_match",
    "glob_prefix",
    "json_decode",
    "json_encode",
]

NULL_PAGE_SEPARATOR: Final = "\0"
"""What separates the keys of a page handed to `glob_filter`; no key holds it."""


def _export() -> dict[str, Callable[..., Any]]:
    errors = (InvalidValue, OutOfRange, PatternError)
    functions: list[Callable[..., Any]] = []
    if lib.ss_python_export(ffi.cast("void *", id(functions)), ffi.cast("void *", id(errors))) != 0:
        raise ImportError("slothstate._native could not export its functions")
    return {function.__name__: function for function in functions}


_functions = _export()

json_encode: Callable[[object, str], str] = _functions["json_encode"]
"""`json_encode(value, name)`: the JSON text of a value; `name` begins the path in error messages.

Raises: `InvalidValue` naming the path (`value['ports'][2]`), `OutOfRange` for an integer past 64 bits.
"""

json_decode: Callable[[str | bytes], Any] = _functions["json_decode"]
"""`json_decode(text)`: the value of a JSON text. Raises: `ValueError` naming the byte where it stopped."""

glob_check: Callable[[str], None] = _functions["glob_check"]
"""`glob_check(pattern)`: None. Raises: `PatternError` naming the pattern and the position."""

glob_match: Callable[[str, str], bool] = _functions["glob_match"]
"""`glob_match(pattern, key)`: whether the whole key matches. Raises: `PatternError`."""

glob_filter: Callable[[str, str], list[str]] = _functions["glob_filter"]
"""`glob_filter(pattern, page)`: in order the matching keys of a page joined with NUL.

Raises: `PatternError`.
"""

glob_prefix: Callable[[str], str] = _functions["glob_prefix"]
"""`glob_prefix(pattern)`: the literal characters every match begins with. Raises: `PatternError`."""
