"""The built-in functions of the C layer, typed.

A cffi call costs more than encoding a small document, so the C layer hands over real built-in functions: one
cffi call at import hands over the function that returns them all (`ss_export` in csrc/python/module.h), and a call of
theirs costs what one of `len` does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

# Which _native needs, and imports in C: what collects the modules of a program sees only an import that is written.
import _cffi_backend  # noqa: F401

from slothstate.hints import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, overload

try:
    from slothstate import _native
except ImportError as missing:
    raise ImportError(
        "slothstate is imported from a source tree in which it was not built: run `pip install -e .` there, or leave "
        f"that directory to use what is installed ({missing})"
    ) from missing
from slothstate._native import ffi, lib
from slothstate.errors import InvalidValue, OutOfRange, PatternError
from slothstate.hints import Protocol

__all__ = [
    "KEY_SEPARATOR",
    "LIBRARY",
    "Lender",
    "Log",
    "Mutex",
    "ReadCache",
    "Scope",
    "StateBase",
    "encode_row",
    "encode_rows",
    "exit_method",
    "exit_method_with_kind",
    "glob_check",
    "glob_filter",
    "glob_match",
    "glob_prefix",
    "json_check",
    "json_decode",
    "json_encode",
    "json_encode_item",
    "json_field",
    "now_ms",
    "process_id",
    "row_getter",
    "sqlite_file",
    "take_fork",
    "thread_ident",
    "thread_serial",
    "to_the_end",
    "value_loader",
    "without_signals",
]

KEY_SEPARATOR: Final = "\0"
"""What separates the keys of a page handed to `glob_filter`; no key holds it."""

LIBRARY: Final[str] = _native.__file__
"""The file of the C layer."""

T = TypeVar("T")


def _export() -> dict[str, Any]:
    functions: list[Callable[..., dict[str, Any]]] = []
    if lib.ss_export(ffi.cast("void *", id(functions))):
        raise ImportError("slothstate._native could not export its functions")
    return functions[0](InvalidValue, OutOfRange, PatternError)


_functions: Final = _export()

json_encode: Callable[[object, str], str] = _functions["json_encode"]
"""`json_encode(value, name)`: the JSON text of a value; `name` begins the path in error messages.

Raises: `InvalidValue` naming the path (`value['ports'][2]`), `OutOfRange` for an integer past 64 bits.
"""

json_encode_item: Callable[[object, str], str] = _functions["json_encode_item"]
"""`json_encode_item(value, name)`: the same of an item of a list, which may nest one level less."""

json_check: Callable[[str], None] = _functions["json_check"]
"""`json_check(text)`: raises what `json_decode` would raise, and builds nothing."""

json_decode: Callable[[str | bytes], Any] = _functions["json_decode"]
"""`json_decode(text)`: the value of a JSON text. Raises: `ValueError` naming the byte where it stopped."""

json_field: Callable[[str, tuple[str | int, ...], str | bool | None], tuple[int, int, str | None, str]]
json_field = _functions["json_field"]
"""`json_field(text, path, change)`: find a part of a JSON text (csrc/json/field.h) and change nothing else.

Returns `(found, taken, result, kind)`: found is 0, or 1 for a name and 2 for a position that is not there, 3 for
another kind in the way; `taken` steps of the path lead to a value, which is of this kind (or "null"). `result` is the
text of the part (`change` is None), the whole without it (False), or with another JSON text in its place or added with
the tables it needs (a str); None where there is none.
Raises: `ValueError` for damaged JSON; `InvalidValue` if the result nests too deep.
"""

encode_row: Callable[[object, object, tuple[Any, ...]], tuple[Any, Any] | None] = _functions["encode_row"]
"""`encode_row(key, value, KINDS)`: `(kind, stored)` of a common key and value.

None for what `values.check_key` and `values.encode` must look at, because it is rare or cannot be stored.
"""

encode_rows: Callable[[object, tuple[Any, ...]], dict[Any, list[tuple[Any, Any]]] | None] = _functions["encode_rows"]
"""`encode_rows(mapping, KINDS)`: `{kind: [(key, stored), ...]}` of a dict, None if `encode_row` is for any of it."""

now_ms: Callable[[], int] = _functions["now_ms"]
"""`now_ms()`: the system's clock in milliseconds since the epoch, at half the cost of `int(time.time() * 1000)`."""

thread_ident: Callable[[], int] = _functions["thread_ident"]
"""`thread_ident()`: what `threading.get_ident` returns where nobody (gevent, eventlet) has replaced it."""

thread_serial: Callable[[], int] = _functions["thread_serial"]
"""`thread_serial()`: a number of the calling thread that no other thread of this process ever has."""

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

ReadCache: Callable[..., Any] = _functions["ReadCache"]
"""The type that `slothstate.engines.sqlite.read_cache` describes: `ReadCache(limit, clock, transactions)`."""

Lender: Any = _functions["Lender"]
"""The base of `slothstate.engines.sqlite.pool.Pool`, see `slothstate.engines.sqlite.lender`."""

Log: Callable[[int], Any] = _functions["Log"]
"""The type that `slothstate.engines.sqlite.wal_hook` describes: `Log(limit)`."""

process_id: Callable[[], int] = _functions["process_id"]
"""`process_id()`: `os.getpid()` without a call of the system each time, also after a fork by C code."""

take_fork: Callable[[], bool] = _functions["take_fork"]
"""`take_fork()`: whether this process was forked since it was last asked, be it by C code behind Python's back."""

without_signals: Callable[..., Any] = _functions["without_signals"]
"""`without_signals(start, *arguments)`: call what starts a thread, to which no signal then goes.

A program that waits for signals has blocked them (`sigwait`; `with-lock` does so for the end of its command). One that
a thread of a library has not blocked goes to that thread, and the program waits for ever. A thread that blocks them
itself has run for a moment by then.
"""

exit_method: Callable[[Callable[[Any], object]], Any] = _functions["exit_method"]
"""`exit_method(function)`: a method `__exit__` that calls `function(self)` as `to_the_end` does."""

exit_method_with_kind: Callable[[Callable[[Any, type[BaseException] | None], object]], Any] = _functions[
    "exit_method_with_kind"
]
"""The same with `function(self, kind)`: the type of what leaves the block or has struck, or None."""

to_the_end: Callable[[Callable[[], object]], None] = _functions["to_the_end"]
"""`to_the_end(function)`: call a function again and again until it returns; then raise what it raised first.

For what an exception of a signal handler (Ctrl-C) must not leave half done: the function goes on where it was struck,
and raises nothing of its own accord twice.
"""

Scope: Callable[[Callable[[], T], Callable[[type[BaseException] | None], object]], AbstractContextManager[T]]
Scope = _functions["Scope"]
"""`Scope(begin, end)`: a `with` block that calls `begin()`, and `end(kind)` in any case, also if `begin` failed.

`kind` is the type of the exception that ends the block, or None. `end` is called as `to_the_end` does, with the type of
what it raised itself. A context manager written in Python can be struck before its first step, and then never ends.
"""


class Holding(Protocol):
    """That a `Mutex` is held: true if so, until the `with` block that it is or the object itself ends."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...
    def __bool__(self) -> bool: ...


class MutexLike(Protocol):
    """A lock of threads, reentrant, that no exception of a signal handler leaves locked."""

    def hold(self, seconds: float = ..., /) -> Holding:
        """Wait (for ever without an argument) and return the holding."""


Mutex: Callable[[], MutexLike] = _functions["Mutex"]

row_getter: Callable[..., Any] = _functions["row_getter"]
"""`row_getter(statement, rarely)`: the function `slothstate.engines.sqlite.keys.get`.

`statement` selects the row of a key; `rarely` is called in place of it for what is not simply a sound row.
"""

value_loader: Callable[..., Any] = _functions["value_loader"]
"""`value_loader(get, check_key, decoded)`: the function `slothstate.verbs.keys.load_value`."""

if TYPE_CHECKING:
    from datetime import timedelta

    class StateBase:
        """The base of `slothstate.State`: its `get` and `set` (csrc/engine/state.h)."""

        _cache: object
        _load: Callable[[str, Any], Any]
        _table: Callable[[str], Any]
        _list: Callable[[str], Any]
        _encode: Callable[[Any, str], str] | None
        _put: Callable[..., None]
        _row_maker: tuple[Any, ...]

        def get(self, key: str, default: Any = None) -> Any: ...
        def _known_length(self, key: str, /) -> int | None: ...
        def _known_values(self, keys: list[Any], /) -> dict[str, Any] | None: ...

        # A TTL to keep and a new one exclude each other.
        @overload
        def set(
            self,
            key: str,
            value: Any,
            ttl: float | timedelta | None = None,
            *,
            when: Literal["absent", "present"] | None = None,
            keep_ttl: Literal[False] = False,
        ) -> bool: ...
        @overload
        def set(
            self,
            key: str,
            value: Any,
            ttl: None = None,
            *,
            when: Literal["absent", "present"] | None = None,
            keep_ttl: bool,
        ) -> bool: ...
        def set(self, *arguments: Any, **options: Any) -> bool: ...
else:
    StateBase = _functions["StateBase"]


def sqlite_file(control: Callable[[int], object]) -> int:
    """Return the address that `control` writes to the `void *` whose address it is given."""
    pointer = ffi.new("void **")
    control(int(ffi.cast("uintptr_t", pointer)))
    return int(ffi.cast("uintptr_t", pointer[0]))
