"""The stores and codecs we compare with. Each module exports the same functions and runs in its own process.

- `missing() -> str | None`: why this peer cannot run here, None if it can.
- `versions() -> dict[str, str]`: what to name in the caption of a chart.
- `open(directory, **options) -> Peer`: a store in that directory, made if it is not there; any number of processes
  may open the same one.

`DURABILITY` says what a write that returned survives.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

__all__ = ["NAMES", "Peer", "load", "missing"]

NAMES: Final = (
    *("slothstate", "postgresql", "apsw", "lmdb", "diskcache", "sqlitedict", "redis", "persist_queue", "huey"),
    *("filelock", "orjson", "json"),
)

PROCESS_DEATH: Final = "survives the death of any process, no sync per write"


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What one library offers, as its own functions where their signature fits; None where it has no such thing.

    `key` and `value` turn a str and a scalar into the form this library takes and gives back. They are applied before
    the clock starts, so a library that only knows bytes is not charged for the conversion.
    """

    name: str
    close: Callable[[], Any]
    directory: Path | None = None
    """Where the store is, for a topic that needs a second process there."""
    is_served: bool = False
    """Whether another process or thread does the work while the caller waits."""
    key: Callable[[str], Any] = _same
    value: Callable[[Any], Any] = _same
    get: Callable[..., Any] | None = None
    set: Callable[..., Any] | None = None
    get_table: Callable[..., Any] | None = None
    """`get` of a dict; with `json.loads` where the library itself knows no such type."""
    set_table: Callable[..., Any] | None = None
    set_many: Callable[[dict[str, Any]], Any] | None = None
    increment: Callable[..., Any] | None = None
    append: Callable[..., Any] | None = None
    compare_swap: Callable[..., Any] | None = None
    transact: Callable[[str, str, Any], Any] | None = None
    """Get a key, set it and add one to a counter, as one step."""
    get_many: Callable[[list[Any]], Any] | None = None
    push: Callable[..., Any] | None = None
    push_many: Callable[..., Any] | None = None
    pop: Callable[..., Any] | None = None
    shift: Callable[[Any], Any] | None = None
    wait: Callable[[Any, float], Any] | None = None
    """Wait up to so many seconds for the first item of a queue, which is gone then; None if there is none."""
    claim: Callable[[Any, float], Any] | None = None
    """The same with an item that is given back unless it is acknowledged, and acknowledge it."""
    tidy: Callable[[Any], Any] | None = None
    """What a queue needs now and then, outside the clock."""
    keys: Callable[[str], list[Any]] | None = None
    """Every key that matches a pattern, as one list."""
    lock: Callable[[str], Any] | None = None
    unlock: Callable[[str], Any] | None = None
    encode: Callable[..., Any] | None = None
    decode: Callable[..., Any] | None = None
    encode_arguments: tuple[Any, ...] = ()
    """What `encode` takes after the value."""
    look: Callable[[str], Any] | None = None
    """Opens another store of this process alone, gets a key from it, and closes it."""
    native: Any = None
    """The library's own handle, for a topic that is about this library alone."""


def load(name: str) -> Any:
    """Return the module of a peer."""
    if name not in NAMES:
        raise ValueError(f"no peer is called {name!r}")
    return import_module(f"bench.peers.{name}")


def missing(name: str) -> str | None:
    """Return why a peer cannot run here, or None."""
    reason: str | None = load(name).missing()
    return reason


def is_absent(module: str) -> str | None:
    """Return a sentence if a module is not installed. Helper of the peers' `missing`."""
    try:
        import_module(module)
    except ImportError:
        return f"the package {module} is not installed: pip install -e '.[bench]'"
    return None


def through_json(get: Callable[[Any], Any], set_: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """Return `get_table` and `set_table` of a store that keeps text alone."""
    loads, dumps = json.loads, json.dumps

    def get_table(key: Any) -> Any:
        return loads(get(key))

    def set_table(key: Any, table: Any) -> Any:
        return set_(key, dumps(table))

    return {"get_table": get_table, "set_table": set_table}
