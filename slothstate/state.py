"""`open` and `State`: the verbs. They check arguments and delegate; the engine does the rest."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, MutableMapping, ValuesView
from contextlib import AbstractContextManager
from functools import partial
from math import ceil
from types import TracebackType
from typing import Any, Final, TypeVar

from slothstate.errors import InvalidKey, InvalidValue, SlothStateError
from slothstate.lock import Lock, LockDescription, Locks, holding
from slothstate.native import encode_row, encode_rows, glob_check, json_decode
from slothstate.read_cache import ABSENT, FORMS
from slothstate.sqlite import (
    Engine,
    audit,
    backup,
    compact,
    counters,
    entries,
    health,
    keys,
    lists,
    location,
    moving,
    sweep,
)
from slothstate.sqlite.engine import SYNCHRONOUS
from slothstate.sqlite.entries import Entry, Usage
from slothstate.sqlite.health import Health
from slothstate.sqlite.schema import check_library
from slothstate.sqlite.sweeper import sweep_all
from slothstate.values import (
    INTEGER_MIN,
    KINDS,
    Encoded,
    Kind,
    Record,
    Stored,
    as_encoded,
    as_python,
    check_key,
    check_number,
    check_seconds,
    damaged,
    describe,
    encode,
    encode_item,
    encode_mapping,
    encode_record,
    kind_of,
)

__all__ = ["State", "open"]

T = TypeVar("T")

SCAN_PAGE: Final = 1000

_VERBS: Final[dict[Callable[..., object], str]] = {
    keys.get: "get",
    keys.get_many: "get_many",
    keys.put: "set",
    keys.put_many: "set_many",
    keys.delete: "delete",
    keys.exists: "exists",
    keys.clear: "clear",
    keys.keys: "keys",
    keys.page_of_keys: "scan",
    keys.set_expiry: "set_ttl",
    keys.remaining_ms: "get_ttl",
    keys.persist: "persist",
    keys.compare_swap: "compare_swap",
    keys.insert_absent: "compare_swap",
    counters.increment: "increment",
    counters.append: "append",
    lists.push: "list_push",
    lists.pop: "list_pop",
    lists.shift: "list_shift",
    lists.length: "list_length",
    lists.section: "list_range",
}


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    durability: str = "process",
    read_cache: bool = True,
    cache_size: int = 64 * 2**20,
    sweep_interval: float = 300.0,
    busy_timeout: float = 30.0,
    allow_remote: bool = False,
) -> State:
    """Open a store, creating it if it is not there; any number of processes may have it open at once.

    `path` defaults to `$SLOTHSTATE_DB`, else `~/.sloth-runner/state.db`. Directories are made 0700, files 0600.
    `durability="process"`: an acknowledged write survives the death of any process; a power cut may cost the last
    moments but leaves a consistent earlier state. `"full"`: it survives a power cut too, at the price of a sync to
    disk for every write. `read_cache` keeps up to `cache_size` bytes of values that are valid as long as nothing was
    written. `sweep_interval` and `busy_timeout` are seconds: how often expired keys are removed, and how long a
    writer waits for another. `allow_remote` opens a store on a network file system, at your own risk.

    >>> import slothstate
    >>> state = slothstate.open(path)
    >>> state.set("greeting", "hello")
    True

    Raises: `UnsafeState` for a path that is not a store of ours (a link, a directory, another database, a newer
    version's file, a network file system); `StateCorrupt`; `StateIOError`; `InvalidValue` for the other arguments.
    """
    if not isinstance(durability, str) or durability not in SYNCHRONOUS:
        raise InvalidValue(f"durability must be 'process' or 'full', got {durability!r}")
    if isinstance(cache_size, bool) or not isinstance(cache_size, int) or cache_size < 0:
        raise InvalidValue(f"cache_size must be a number of bytes >= 0, got {cache_size!r}")
    check_library()
    check_seconds(sweep_interval, "sweep_interval")
    check_seconds(busy_timeout, "busy_timeout", zero=True)
    return State(
        Engine(
            location.resolve(path, allow_remote=allow_remote),
            durability=durability,
            busy_timeout=busy_timeout,
            sweep_interval=sweep_interval,
            cache_size=cache_size if read_cache else 0,
        ),
        read_cache=read_cache,
    )


class State(MutableMapping[str, Any]):
    """Keys, counters, lists and locks that programs running side by side share. Made by `slothstate.open`.

    A State is safe to share between threads, works on both sides of a fork, and is a context manager that closes
    itself. It is also a mapping: `state["k"]`, `in`, `len` and iteration work as for a dict.

    Raises, from every verb: `InvalidKey` for a key that is not a non-empty str of at most 4096 bytes of UTF-8 without
    NUL; `StateBusy` when another writer keeps the store for `busy_timeout`; `StateClosed`; `UnsafeState` when the file
    was moved or replaced; `StateCorrupt`, `StateFull`, `StateReadOnly`, `StateIOError` as their names say. After an
    error the store is as it was and the State goes on working, unless it is closed or refuses the file.
    """

    __hash__ = object.__hash__

    def __init__(self, engine: Engine, *, read_cache: bool = True) -> None:
        self._engine = engine
        self._locks = Locks(engine)
        self._decode: Callable[[Kind, Stored], Any] = as_python
        self._length_unit: counters.Unit = "characters"
        self._read_cache = read_cache
        if read_cache and type(self) is State:
            # A hit costs what a dictionary costs only if no Python function stands before it: the built-in reader
            # takes the place of the method on this object. It must not refer to the State: that would be a cycle.
            self.__dict__["get"] = engine.cache.reader(partial(_load, engine, as_python), json_decode, json_decode)
        _open_states.add(self)

    # Keys and values

    def set(self, key: str, value: Any, ttl: float | None = None) -> bool:
        """Set a key to a value, replacing value, kind and TTL: without `ttl` (seconds) the key does not expire.

        Returns True. Raises: `InvalidValue`, `OutOfRange` for a value or TTL that cannot be stored.

        >>> state.set("session", {"user": 7}, ttl=3600)
        True
        """
        row = encode_row(key, value, KINDS)
        if row is None:
            check_key(key)
            row = encode(value)
        kind, stored = row
        self._engine.write_key(keys.put, key, kind, stored, None if ttl is None else _milliseconds(ttl, "ttl"))
        return True

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, `default` if it is missing or expired. Tables and lists are fresh copies.

        >>> state.get("missing", "fallback")
        'fallback'
        """
        return _load(self._engine, self._decode, key, default)

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there.

        >>> state.delete("missing")
        False
        """
        return self._engine.write_key(keys.delete, check_key(key))

    def exists(self, key: str) -> bool:
        """Return whether a key is there.

        >>> state.exists("missing")
        False
        """
        return self._engine.read(keys.exists, check_key(key))

    def clear(self, pattern: str | None = None) -> int:  # type: ignore[override]
        """Delete the keys that match a pattern, all of them without one; return how many. Locks are never touched.

        Raises: `PatternError`.

        >>> state.set_many({"user:1": "a", "user:2": "b", "site": "c"})
        True
        >>> state.clear("user:*")
        2
        """
        return self._engine.write(keys.clear, _check_pattern(pattern))

    def keys(self, pattern: str | None = None) -> list[str]:  # type: ignore[override]
        """Return the keys that match a pattern, all of them without one, sorted by code point.

        `*` matches any run, `?` one character, `[a-z]` `[^a]` `[!a]` one of a class, `\\x` the character x.
        Raises: `PatternError`.

        >>> state.set_many({"user:1": "a", "user:2": "b", "site": "c"})
        True
        >>> state.keys("user:?")
        ['user:1', 'user:2']
        """
        return self._engine.read(keys.keys, _check_pattern(pattern))

    def scan(self, pattern: str | None = None) -> Iterator[str]:
        """Iterate over the keys `keys(pattern)` would return, in the same order, a page at a time.

        No transaction is open between two keys. A key that is there all the time comes exactly once.
        Raises: `PatternError`.

        >>> state.set("site", "c")
        True
        >>> next(state.scan("s*"))
        'site'
        """
        _check_pattern(pattern)
        return self._scan(pattern)

    def _scan(self, pattern: str | None) -> Iterator[str]:
        after: str | None = ""
        while after is not None:
            page, after = self._engine.read(keys.page_of_keys, pattern, after, SCAN_PAGE)
            yield from page

    def get_many(self, keys_: Iterable[str]) -> dict[str, Any]:
        """Return the values of several keys as they were at one moment, without the missing ones.

        >>> state.set_many({"a": 1, "b": 2})
        True
        >>> state.get_many(["a", "b", "c"])
        {'a': 1, 'b': 2}
        """
        rows = self._engine.read(keys.get_many, [check_key(key) for key in _check_keys(keys_)])
        return {key: _decoded(self._decode, key, kind, stored) for key, (kind, stored, _) in rows.items()}

    def set_many(self, mapping: Mapping[str, Any], ttl: float | None = None) -> bool:
        """Set several keys in one transaction, all with the same TTL in seconds or none. Returns True.

        >>> state.set_many({"a": 1, "b": [1, 2]}, ttl=60)
        True
        """
        if not isinstance(mapping, Mapping):
            raise InvalidValue(f"mapping must be a mapping of keys to values, got {describe(mapping)}")
        ttl_ms = None if ttl is None else _milliseconds(ttl, "ttl")
        rows = encode_rows(mapping, KINDS) or encode_mapping(mapping)
        if rows:
            self._engine.write(keys.put_many, rows, ttl_ms)
        return True

    def compare_swap(self, key: str, old: Any, new: Any) -> bool:
        """Set a key to `new` if its value is deeply equal to `old` (None: if it is missing); return whether it was.

        1 equals 1.0, but True is not 1. The TTL stays.
        Raises: `InvalidValue`, `OutOfRange` for values that cannot be stored.

        >>> state.compare_swap("version", None, 1)
        True
        >>> state.compare_swap("version", 7, 8)
        False
        """
        check_key(key)
        kind, stored = encode(new, "new")
        if old is None:
            return self._engine.write_key(keys.insert_absent, key, kind, stored)
        expected = encode(old, "old")
        if expected[0] in ("table", "list"):
            # As it would come back: a tuple as a list, a subclass as its base.
            old = as_python(*expected)
        return self._engine.write_key(keys.compare_swap, key, old, expected, kind, stored)

    # Time to live

    def set_ttl(self, key: str, seconds: float) -> bool:
        """Let a key expire `seconds` (> 0, fractions allowed) from now; return whether there is such a key.

        Raises: `InvalidValue`.

        >>> state.set("session", "abc")
        True
        >>> state.set_ttl("session", 300)
        True
        """
        return self._engine.write_key(keys.set_expiry, check_key(key), _milliseconds(seconds, "seconds"))

    def get_ttl(self, key: str) -> int:
        """Return the whole seconds a key has left, rounded up; -1 without a TTL, -2 if there is no such key.

        >>> state.get_ttl("missing")
        -2
        """
        left_ms = self._engine.read(keys.remaining_ms, check_key(key))
        return left_ms if left_ms < 0 else ceil(left_ms / 1000)

    def persist(self, key: str) -> bool:
        """Take the TTL of a key away; return whether it had one.

        >>> state.persist("missing")
        False
        """
        return self._engine.write_key(keys.persist, check_key(key))

    # Numbers and texts

    def increment(self, key: str, delta: float = 1) -> int | float:
        """Add `delta` to a number and return the sum; a missing key counts as 0. The TTL stays.

        int + int stays int; a float makes a float.
        Raises: `WrongType` unless the key holds a number; `OutOfRange` past 64 bits (or the largest float), and the
        value is then as it was; `InvalidValue` for a delta that is no finite number.

        >>> state.increment("page_views")
        1
        >>> state.increment("page_views", 10)
        11
        """
        return self._engine.write_key(counters.increment, check_key(key), check_number(delta, "delta"))

    def decrement(self, key: str, delta: float = 1) -> int | float:
        """Subtract `delta` from a number and return the difference: `increment` with the opposite sign.

        >>> state.decrement("stock", 5)
        -5
        """
        delta = check_number(delta, "delta")
        if delta != INTEGER_MIN or isinstance(delta, float):
            return self.increment(key, -delta)
        # 2^63 itself does not fit; in two steps every difference that fits is reached without leaving the range.
        with self.transaction():
            self.increment(key, -(delta + 1))
            return self.increment(key, 1)

    def append(self, key: str, text: str | bytes) -> int:
        """Append to a text (or to bytes) and return its new length in code points (or bytes).

        A missing key counts as empty, and exists afterwards. The TTL stays.
        Raises: `WrongType` when str meets bytes or another kind; `InvalidValue` unless `text` is str or bytes.

        >>> state.append("log", "started")
        7
        """
        check_key(key)
        if kind_of(text) not in ("string", "bytes"):
            raise InvalidValue(f"text must be str or bytes, got {describe(text)}")
        kind, stored = encode(text, "text")
        return self._engine.write_key(counters.append, key, kind, stored, self._length_unit)  # type: ignore[arg-type]

    # Lists

    def list_push(self, key: str, *items: Any) -> int:
        """Add items to the end of a list and return its new length; without items nothing is written.

        A missing key and an empty table count as an empty list. The TTL stays. O(1) whatever the length.
        Raises: `WrongType` unless the key holds a list; `InvalidValue`, `OutOfRange` naming the item.

        >>> state.list_push("queue", {"app": "web"}, {"app": "api"})
        2
        """
        check_key(key)
        if len(items) == 1:
            texts = [encode_item(items[0], "items[0]")]
        else:
            texts = [encode_item(item, f"items[{index}]") for index, item in enumerate(items)]
        return self._engine.write_key(lists.push, key, texts)

    def list_pop(self, key: str, default: Any = None) -> Any:
        """Remove and return the last item of a list, `default` if there is none. An emptied list disappears.

        Raises: `WrongType`.

        >>> state.list_push("queue", 1, 2)
        2
        >>> state.list_pop("queue")
        2
        """
        return self._item(key, self._engine.write_key(lists.pop, check_key(key)), default)

    def list_shift(self, key: str, default: Any = None) -> Any:
        """Remove and return the first item of a list, `default` if there is none. An emptied list disappears.

        Raises: `WrongType`.

        >>> state.list_push("queue", 1, 2)
        2
        >>> state.list_shift("queue")
        1
        """
        return self._item(key, self._engine.write_key(lists.shift, check_key(key)), default)

    def _item(self, key: str, text: str | None, default: Any) -> Any:
        if text is None:
            return default
        if text.startswith(("{", "[")):
            return _decoded(self._decode, key, "table" if text.startswith("{") else "list", text)
        return json_decode(text)

    def list_length(self, key: str) -> int:
        """Return the number of items of a list, 0 if the key is missing. Raises: `WrongType`.

        >>> state.list_length("missing")
        0
        """
        return self._engine.read(lists.length, check_key(key))

    def list_range(self, key: str, start: int = 0, stop: int = -1) -> Any:
        """Return the items from `start` to `stop`, both inclusive, from 0; negative ones count from the end.

        Raises: `WrongType`; `InvalidValue` for bounds that are no int.

        >>> state.list_push("queue", "a", "b", "c")
        3
        >>> state.list_range("queue", 1, -1)
        ['b', 'c']
        """
        check_key(key)
        for name, bound in (("start", start), ("stop", stop)):
            if isinstance(bound, bool) or not isinstance(bound, int):
                raise InvalidValue(f"{name} must be an int, got {describe(bound)}")
        return _decoded(self._decode, key, "list", self._engine.read(lists.section, key, start, stop))

    # Transactions and locks

    def transaction(self) -> AbstractContextManager[None]:
        """Hold a write transaction for the calling thread while the block runs: all of it is kept, or nothing.

        Reads inside see its own writes. Inside another it is a savepoint. An exception undoes it and passes through.
        Other processes and threads cannot write meanwhile: keep it short.
        Raises: `StateBusy` on entering; `OutcomeUnknown` when COMMIT itself failed.

        >>> with state.transaction():
        ...     balance = state.get("balance", 0)
        ...     _ = state.set("balance", balance + 10)
        """
        return self._engine.transaction()

    def try_lock(self, name: str, ttl: float = 30.0) -> bool:
        """Acquire a lock without waiting; False if anybody holds it, this State included.

        It is freed by `unlock`, after `ttl` seconds even if the owner lives, or when the owner dies.

        >>> state.try_lock("deploy", 30)
        True
        >>> state.try_lock("deploy", 30)
        False
        """
        return self._locks.try_acquire(check_key(name, "name"), check_seconds(ttl, "ttl"))

    def lock(self, name: str, timeout: float | None = None) -> bool:
        """Acquire a lock, waiting up to `timeout` seconds (None: for ever, 0: not at all); return whether it was.

        It is held until `unlock`, or until this process dies.
        Raises: `AlreadyHeld` at once if this State holds it in this thread.

        >>> state.lock("migration", timeout=60)
        True
        """
        return self._locks.acquire(check_key(name, "name"), _check_timeout(timeout), None) is not None

    def unlock(self, name: str) -> bool:
        """Release a lock from any thread; False when this State does not hold it (any more).

        >>> state.unlock("never-locked")
        False
        """
        return self._locks.release(check_key(name, "name"))

    def with_lock(self, name: str, fn: Callable[[], T], timeout: float | None = None) -> T:
        """Return what `fn()` returns, run under a lock that is released afterwards in any case.

        Raises: `LockTimeout` if the lock was not acquired within `timeout` seconds; `AlreadyHeld`.

        >>> state.with_lock("report", lambda: "done", timeout=15)
        'done'
        """
        check_key(name, "name")
        with holding(self._locks, self._engine, name, _check_timeout(timeout), to_the_end=False):
            return fn()

    def locked(self, name: str, timeout: float | None = None, ttl: float | None = None) -> AbstractContextManager[Lock]:
        """Hold a lock while the block runs, as a `Lock` with a fencing token. A `ttl` in seconds is not renewed.

        Raises: `LockTimeout`, `AlreadyHeld` on entering; `LockLost` on leaving after a loss, unless the body raised.

        >>> with state.locked("deploy", timeout=5) as lock:
        ...     lock.lost
        False
        """
        check_key(name, "name")
        if ttl is not None:
            check_seconds(ttl, "ttl")
        return holding(self._locks, self._engine, name, _check_timeout(timeout), ttl, to_the_end=True)

    def break_lock(self, name: str, *, alive: bool = False) -> bool:
        """Take a lock away that its dead owner left; with `alive`, one whose owner lives, too. Return whether it was.

        For an administrator: an owner that lives finds its lock lost (`Lock.lost`), and its fenced writes are refused,
        but what else it does goes on. Nobody can be kept from acquiring a dead owner's lock; this only tidies up.

        >>> state.break_lock("never-locked")
        False
        """
        return self._locks.break_open(check_key(name, "name"), alive)

    def locks(self) -> list[LockDescription]:
        """Return the locks that are held by anybody: name, owner, token, since, expires, alive.

        >>> state.locks()
        []
        """
        return self._locks.describe()

    # Looking after the store

    def stats(self) -> dict[str, Any]:
        """Return figures of the store and of this process's use of it; sizes in bytes, waits in seconds.

        >>> state.stats()["total_keys"]
        0
        """
        engine = self._engine
        cache = engine.cache.figures()
        operations: dict[str, int] = {}
        for operation, count in list(engine.operations.items()):
            verb = _VERBS.get(operation)
            if verb is not None:
                operations[verb] = operations.get(verb, 0) + count
        operations["get"] = operations.get("get", 0) + cache["hits"]
        return {
            **engine.read(audit.figures),
            "wal_size": location.size(engine.path + "-wal"),
            "expired_pending": engine.read(sweep.pending),
            "locks_held": len(self.locks()),
            "path": engine.path,
            "backend": engine.name,
            "operations": operations,
            "cache_hits": cache["hits"],
            "cache_misses": cache["misses"],
            "cache_size": cache["bytes"],
            "busy_waits": engine.busy.count,
            "longest_busy_wait": engine.busy.longest,
        }

    def entry(self, key: str, preview: int = 0) -> Entry | None:
        """Return kind, size, length and TTL of a key, and the first `preview` characters of its value; None if missing.

        The value itself is neither built nor, where it is large, all read.

        >>> state.set("site", "example.org")
        True
        >>> state.entry("site", preview=3)
        Entry(key='site', kind='string', size=11, length=None, ttl=None, preview='exa')
        """
        return self._engine.read(entries.describe, check_key(key), preview)

    def entries(self, pattern: str | None = None, preview: int = 0) -> Iterator[Entry]:
        """Iterate over what `entry` says of the keys that match, in the order and in the manner of `scan`.

        Raises: `PatternError`.

        >>> state.set("site", "example.org")
        True
        >>> [(entry.key, entry.kind) for entry in state.entries("s*")]
        [('site', 'string')]
        """
        _check_pattern(pattern)
        return self._entries(pattern, preview)

    def _entries(self, pattern: str | None, preview: int) -> Iterator[Entry]:
        after: str | None = ""
        while after is not None:
            page, after = self._engine.read(entries.page, pattern, after, SCAN_PAGE, preview)
            yield from page

    def usage(self, prefix: str = "", delimiter: str = ":") -> list[Usage]:
        """Return how many keys begin with `prefix`, and their bytes, by the part up to the next delimiter.

        Keys without a delimiter behind `prefix` are counted under `prefix` itself. The largest come first.
        Raises: `InvalidValue` unless both are str, and the delimiter is not empty.

        >>> state.set_many({"user:1": "ab", "user:2": "cd", "site": "e"})
        True
        >>> state.usage()
        [Usage(prefix='user:', keys=2, size=16), Usage(prefix='', keys=1, size=5)]
        """
        for name, text in (("prefix", prefix), ("delimiter", delimiter)):
            if not isinstance(text, str):
                raise InvalidValue(f"{name} must be a str, got {describe(text)}")
        if not delimiter:
            raise InvalidValue("delimiter must not be empty")
        return self._engine.read(entries.usage, prefix, delimiter)

    def health(self) -> Health:
        """Return how the store is doing: settings as read back, file system, log, the processes that have it open.

        >>> state.health()["settings"]["journal_mode"]
        'wal'
        """
        engine = self._engine
        engine.ensure_identity()
        pages, copied = engine.read(health.wal)
        return {
            "settings": engine.read(health.settings),
            "file_system": location.file_system(engine.path),
            "wal_pages": pages,
            "wal_pages_copied": copied,
            "commits": engine.cache.commits(),
            "users": health.users(engine.path),
        }

    def sweep(self) -> int:
        """Remove now what has expired, keys and locks; return how many keys went.

        >>> state.sweep()
        0
        """
        self._locks.sweep()
        return sweep_all(self._engine)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a consistent copy of the store to a new file (0600) while others go on using it.

        Raises: `UnsafeState` when `path` exists; `StateIOError` when it cannot be written.
        """
        self._engine.read(backup.copy, self._engine.path, location.check_path(path))

    def dump(self, pattern: str | None = None) -> Iterator[Record]:
        """Iterate over the keys that match as `Record`s, sorted, all as they were at one moment.

        Until the iterator is exhausted or closed the log of the store grows with every write: be quick.
        Raises: `PatternError`.

        >>> state.set("answer", 42)
        True
        >>> list(state.dump())
        [Record(key='answer', kind='number', value=42, expires_at_ms=None)]
        """
        return self._dump(_check_pattern(pattern))

    def _dump(self, pattern: str | None) -> Iterator[Record]:
        with self._engine.snapshot() as (connection, now):
            for key, row in moving.rows(connection, now, pattern):
                kind, stored, expires_at_ms = row
                yield Record(key, kind, self._decode(kind, stored), expires_at_ms)

    def load(self, records: Iterable[Record]) -> int:
        """Store records in one transaction, each replacing its key; return how many, without those already expired.

        Raises: `InvalidValue` for a value that is not of the record's kind, or cannot be stored; `InvalidKey`;
        `OutOfRange`. Nothing is then stored.

        >>> from slothstate import Record
        >>> state.load([Record("answer", "number", 42), Record("gone", "string", "x", expires_at_ms=1)])
        1
        """
        return self._engine.write(moving.load, [encode_record(record) for record in records])

    def compact(self) -> None:
        """Remove what has expired and rewrite the file without the space that deleted keys left in it.

        Others can read meanwhile, and write once it is done. It needs the size of the store in free disk space.
        Raises: `SlothStateError` inside a transaction; `StateFull`.
        """
        if self._engine.in_transaction:
            raise SlothStateError("a store cannot be compacted inside a transaction")
        self.sweep()
        self._engine.write(compact.compact)

    def check(self) -> list[str]:
        """Return a sentence for everything that is wrong with the store; an empty list when it is sound.

        >>> state.check()
        []
        """
        return self._engine.read(audit.problems)

    def close(self) -> None:
        """Release the locks this State holds and close the store; closing twice does nothing."""
        self._locks.release_all()
        self._engine.close()

    def _encoded_view(self) -> State:
        """Return this State for a binding that builds another language's values itself.

        Its reads return a table or list as `Encoded`, and `append` returns bytes of UTF-8. All else is shared.
        """
        view = object.__new__(State)
        view.__dict__.update(self.__dict__)
        view._decode = as_encoded
        if self._read_cache:
            engine = self._engine
            view.__dict__["get"] = engine.cache.reader(
                partial(_load, engine, as_encoded), partial(Encoded, "table"), partial(Encoded, "list")
            )
        view._length_unit = "octets"
        return view

    def __enter__(self) -> State:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a State cannot be pickled: open the store by its path in the other process")

    def __repr__(self) -> str:
        return f"<slothstate.State {self._engine.path!r}{' (closed)' if self._engine.refusal else ''}>"

    # The mapping protocol

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set(key, value)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self.exists(key)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[str]:
        return self.scan()

    def __len__(self) -> int:
        return self._engine.read(keys.count)

    def items(self) -> ItemsView[str, Any]:
        """Return a view that iterates over keys and values; a key that goes away meanwhile is left out."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Return a view that iterates over values, in the order of their keys; see `items`."""
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        # Mapping would compare the contents of two whole stores.
        return self is other

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a key and return its value, or the default; atomic. Raises: `KeyError` without a default."""
        with self.transaction():
            return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Remove the first key and return it with its value; atomic. Raises: `KeyError` when there is none."""
        with self.transaction():
            return super().popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, after setting it to `default` if it is missing; atomic."""
        with self.transaction():
            return super().setdefault(key, default)


class _Items(ItemsView[str, Any]):
    __slots__ = ()
    _mapping: State

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        # The inherited method would raise KeyError for a key that another process deletes, or that expires.
        for key in self._mapping:
            value = self._mapping.get(key, _MISSING)
            if value is not _MISSING:
                yield key, value


class _Values(ValuesView[Any]):
    __slots__ = ()
    _mapping: State

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.items())

    def __contains__(self, value: object) -> bool:
        return any(found == value for found in self)


def _decoded(decode: Callable[[Kind, Stored], Any], key: str, kind: Kind, stored: Stored) -> Any:
    try:
        return decode(kind, stored)
    except ValueError as error:
        raise damaged(key, error) from error


def _load(engine: Engine, decode: Callable[[Kind, Stored], Any], key: str, default: Any) -> Any:
    """Return the value of a key from the store, `default` if it is missing, and keep it in the read cache."""
    engine.ensure_identity()
    cache = engine.cache
    # The token is taken before the row is read and compared after it, so nothing that was overwritten in between is
    # kept; what a transaction reads is its own and never kept.
    token = None if engine.in_transaction else cache.sync()
    row = engine.read(keys.get, check_key(key))
    if row is None:
        cache.store(token, key, ABSENT, None, None)
        return default
    kind, stored, expires_at_ms = row
    form = FORMS[kind]
    if form:
        value = _decoded(decode, key, kind, stored)
        cache.store(token, key, form, stored, expires_at_ms)
    else:
        value = stored == 1 if kind == "boolean" else stored
        cache.store(token, key, form, value, expires_at_ms)
    return value


_MISSING: Final = object()

_open_states: weakref.WeakSet[State] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # The last one to leave folds the log into the database and removes it; killed processes leave that to the next.
    for state in list(_open_states):
        state.close()


def _milliseconds(seconds: float, name: str) -> int:
    return max(1, round(check_seconds(seconds, name) * 1000))


def _check_timeout(timeout: float | None) -> float | None:
    return None if timeout is None else check_seconds(timeout, "timeout", zero=True)


def _check_pattern(pattern: str | None) -> str | None:
    if pattern is not None:
        glob_check(pattern)
    return pattern


def _check_keys(keys_: Iterable[str]) -> Iterable[str]:
    if isinstance(keys_, str | bytes) or not isinstance(keys_, Iterable):
        raise InvalidKey(f"keys must be an iterable of keys, got {describe(keys_)}")
    return keys_
