"""`open` and `State`, which puts the families of verbs (slothstate/verbs) on one engine."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from contextlib import suppress
from types import TracebackType

from slothstate import native
from slothstate.codec import PYTHON
from slothstate.engines import connect
from slothstate.engines.protocol import DURABILITIES, Codec, Engine
from slothstate.errors import InvalidValue
from slothstate.hints import TYPE_CHECKING, Any, Final
from slothstate.locks import Locks
from slothstate.values import KINDS, Encoded, Seconds, check_flag, check_key, check_seconds, decoded, describe, encode
from slothstate.verbs.base import NotSetUp, milliseconds
from slothstate.verbs.claims import ClaimVerbs
from slothstate.verbs.counters import CounterVerbs
from slothstate.verbs.fields import FieldVerbs
from slothstate.verbs.inspection import InspectionVerbs
from slothstate.verbs.lists import ListVerbs
from slothstate.verbs.maintenance import MaintenanceVerbs
from slothstate.verbs.mapping import MappingVerbs
from slothstate.verbs.transfer import TransferVerbs
from slothstate.verbs.waiting import WaitingVerbs
from slothstate.verbs.watching import WatchingVerbs

__all__ = ["State", "open"]

SHORTEST_SWEEP: Final = 0.01
"""Seconds: sweeping all the time would keep everybody else from writing."""


def open(
    path: str | os.PathLike[str] | None = None,
    *,
    durability: str = "process",
    read_cache: bool = True,
    cache_size: int = 64 * 2**20,
    sweep_interval: Seconds = 300.0,
    busy_timeout: Seconds = 30.0,
    allow_remote: bool = False,
) -> State:
    """Open a store, creating it if it is not there; any number of processes may have it open at once.

    - `path`: the file, or the URL of a store on a server (`postgresql://user@host/database?schema=name`); default is
      `$SLOTHSTATE_DB`, else `~/.sloth-runner/state.db`. Directories are made 0700, files 0600.
    - `durability`: `"process"`, an acknowledged write survives the death of any process; a power cut may cost the last
      moments but leaves a consistent earlier state. `"full"`, it survives a power cut too, at the price of a sync to
      disk for every write. What others wrote can be read up to one sync before it is durable.
    - `read_cache`: whether values that were read are kept in memory; they are valid as long as nothing is written.
    - `cache_size`: how many bytes of them at most.
    - `sweep_interval`: seconds between two removals of expired keys, which no verb sees meanwhile; at least 0.01.
    - `busy_timeout`: seconds that a writer waits for another before it gives up with `StateBusy`.
    - `allow_remote`: open a store on a network file system, or on one that is not known to be local, at your own risk.

    >>> import slothstate
    >>> state = slothstate.open(path)
    >>> state.set("greeting", "hello")
    True

    Raises: `UnsafeState` for a path that is not a store of ours (a link, a directory, another database, a newer
    version's file, a file mounted alone, a network file system) or none at all (an address, a `~` without a home), and
    for a server or schema that is not to be trusted; `NotSupported` for a URL without psycopg;
    `StateCorrupt`; `StateFull`, `StateReadOnly`, `StateIOError`, which say why; `InvalidValue` for the other arguments.
    """
    if not isinstance(durability, str) or durability not in DURABILITIES:
        raise InvalidValue(f"durability must be 'process' or 'full', got {describe(durability)}")
    if isinstance(cache_size, bool) or not isinstance(cache_size, int) or not 0 <= cache_size <= sys.maxsize:
        raise InvalidValue(f"cache_size must be a number of bytes >= 0, got {describe(cache_size)}")
    check_flag(read_cache, "read_cache")
    check_flag(allow_remote, "allow_remote")
    sweep_interval = check_seconds(sweep_interval, "sweep_interval")
    if sweep_interval < SHORTEST_SWEEP:
        raise InvalidValue(f"sweep_interval must be at least {SHORTEST_SWEEP} s, got {sweep_interval}")
    busy_timeout = check_seconds(busy_timeout, "busy_timeout", zero=True)
    state = State(
        connect(
            path,
            durability=durability,
            busy_timeout=busy_timeout,
            sweep_interval=sweep_interval,
            cache_size=cache_size if read_cache else 0,
            allow_remote=allow_remote,
            is_resting=_is_ending,
        )
    )
    if _is_ending:
        state._rest()
    return state


class State(  # type: ignore[misc]
    MappingVerbs,
    CounterVerbs,
    ListVerbs,
    ClaimVerbs,
    FieldVerbs,
    WaitingVerbs,
    WatchingVerbs,
    InspectionVerbs,
    TransferVerbs,
    MaintenanceVerbs,
):
    """Keys, counters, lists and locks that programs running side by side share. Made by `slothstate.open`.

    A State is safe to share between threads, works on both sides of a fork, and is a context manager that closes
    itself. It is also a mapping: `state["k"]`, `in`, `len` and iteration work as for a dict.

    Raises, from every verb: `InvalidKey` for a key that is not a non-empty str of at most 4096 bytes of UTF-8 without
    NUL; `StateBusy` when another writer keeps the store for `busy_timeout`; `StateClosed`; `UnsafeState` when the file
    was moved or replaced; `StateCorrupt`, `StateFull`, `StateReadOnly`, `StateIOError` as their names say. After an
    error the store is as it was and the State goes on working, unless it is closed or refuses the file; only after
    `OutcomeUnknown` a write may be kept or not.
    """

    def __init__(self, engine: Engine, codec: Codec = PYTHON) -> None:
        if not hasattr(engine, "entries"):
            raise InvalidValue(f"engine must be one of slothstate.engines, got {describe(engine)}: use slothstate.open")
        self._engine = engine
        self._locks = Locks(engine)
        self._use(codec)
        _open_states.add(self)

    def _use(self, codec: Codec) -> None:
        """Give values out as `codec` builds them."""
        self._codec = codec
        engine = self._engine
        fast = engine.fast(codec)
        # What StateBase does `get` and `set` with. None of it may refer to the State: that would be a cycle.
        self._cache = None if fast is None else fast.cache
        self._load = _Loader(engine, codec) if fast is None else fast.load
        self._table, self._list, self._encode = codec.table, codec.list, codec.encode
        self._put = engine.entries.put
        self._row_maker = _ROW_MAKER

    def _set(self, key: str, value: Any, ttl: Seconds | None) -> bool:
        """Do what `set` does, for a TTL, and for keys and values that are rare or wrong."""
        check_key(key)
        kind, stored = encode(value)
        self._put(key, kind, stored, None if ttl is None else milliseconds(ttl, "ttl"))
        return True

    def _set_when(self, key: str, value: Any, ttl: Seconds | None, when: Any, keep_ttl: Any) -> bool:
        """Do what `set` does with options."""
        check_key(key)
        kind, stored = encode(value)
        if when not in (None, "absent", "present"):
            raise InvalidValue(f"when must be 'absent', 'present' or None, got {describe(when)}")
        if check_flag(keep_ttl, "keep_ttl") and ttl is not None:
            raise InvalidValue("ttl and keep_ttl exclude each other")
        ttl_ms = None if ttl is None else milliseconds(ttl, "ttl")
        return self._engine.entries.put_when(key, kind, stored, ttl_ms, when, keep_ttl)

    def close(self) -> None:
        """Release the locks this State holds and close the store; closing twice does nothing."""
        native.to_the_end(self._close)

    def _close(self) -> None:
        self._engine.claims.end()
        self._engine.watches.close()
        self._locks.release_all()
        self._engine.close()

    def _rest(self) -> None:
        self._locks.rest()
        self._engine.rest()

    def _with_codec(self, codec: Codec) -> State:
        """Return this State, sharing everything, for a binding that builds another language's values itself."""
        view = object.__new__(State)
        view._engine, view._locks = self._engine, self._locks
        view._use(codec)
        return view

    def __enter__(self) -> State:
        return self

    def _leave(self) -> None:
        self.close()

    if TYPE_CHECKING:

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None: ...
    else:
        # A method written in Python can be struck before its first step, and would close nothing.
        __exit__ = native.exit_method(_leave)

    def __reduce__(self) -> Any:
        raise TypeError("a State cannot be pickled: open the store by its path in the other process")

    def __repr__(self) -> str:
        name = "slothstate.State" if type(self) is State else type(self).__qualname__
        if isinstance(self._engine, NotSetUp):
            return f"<{name} (not set up)>"
        return f"<{name} {self._engine.address!r}{' (closed)' if self._engine.refusal else ''}>"


class _Loader:
    """`get` on an engine without a fast path."""

    def __init__(self, engine: Engine, codec: Codec) -> None:
        self._entries = engine.entries
        self._decode = codec.decode

    def __call__(self, key: str, default: Any) -> Any:
        row = self._entries.get(check_key(key))
        return default if row is None else decoded(self._decode, key, row[0], row[1])


_ROW_MAKER: Final = (native.encode_row, KINDS, Encoded)

_open_states: weakref.WeakSet[State] = weakref.WeakSet()

_is_ending = False


def _rest_all() -> None:
    global _is_ending
    _is_ending = True
    # The last one to leave folds the log into the database and removes it; killed processes leave that to the next.
    # Not `close`: what was registered before us comes after us, and daemon threads go on.
    states: list[State] | None = None
    while states is None:
        # A daemon thread can open or drop one just then.
        with suppress(RuntimeError):
            states = list(_open_states)
    for state in states:
        state._rest()


atexit.register(native.to_the_end, _rest_all)
