"""What verbs, Lua and the command line may ask of an engine; it imports none.

The seam stands at the verb, not at SQL: one call is atomic, and over a network one round trip. Across it go rows
`(kind, stored, expires_at_ms)`, JSON text for the items of lists, times to live in milliseconds; never a reading of a
clock, which every engine owns, and never a Python value that is not stored as it is.

**Above** the seam are the checks of arguments, the codec, deep equality, paging, nonces, and which thread or task holds
what. **Below** it are SQL, waiting, whether an owner lives, retries, settings and counting. Arguments that arrive here
were checked: keys and lock names can be stored, patterns are patterns, numbers are in range.

What every member promises: it happens whole or not at all; inside a `transaction` of the calling thread and task it
sees that transaction's own writes and is part of it. Every member may raise `StateClosed`, `StateBusy` (another writer
kept the store for too long, or another task of the thread holds a transaction), `UnsafeState`, `StateCorrupt`,
`StateFull`, `StateReadOnly` and `StateIOError`; a write `OutcomeUnknown`; and what this engine cannot do at all is
`NotSupported`, told by its `features`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from slothstate.errors import SlothStateError
from slothstate.hints import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias
from slothstate.values import Kind, Stored

if TYPE_CHECKING:
    from slothstate.descriptions import Activity, Entry, Finding, Health, Usage
    from slothstate.engines.claiming import Claims
    from slothstate.engines.listing import Lists
    from slothstate.engines.locking import LockTable
    from slothstate.engines.watching import Changes, Watches
    from slothstate.fields import Path

__all__ = [
    "DURABILITIES",
    "NO_KEY",
    "NO_TTL",
    "Codec",
    "Counters",
    "Engine",
    "Entries",
    "FastPath",
    "Fields",
    "Limits",
    "Row",
    "StoredRecord",
    "Transfer",
    "Unit",
    "Upkeep",
    "When",
]

Row: TypeAlias = tuple[Kind, Stored, int | None]
"""A live key as it is stored: kind, value, `expires_at_ms` (since the epoch). A list's value is its JSON text.

A plain tuple, as it comes from SQLite: naming its parts would cost a tenth of reading them.
"""

StoredRecord: TypeAlias = tuple[str, Kind, Stored, int | None]
"""A key with everything that is stored of it: key, kind, value, `expires_at_ms`."""

When: TypeAlias = Literal["absent", "present"]
"""Which keys a write is for: those that are missing or expired, or those that are live."""

Unit: TypeAlias = Literal["characters", "octets"]
"""What counts in the length of a text: code points, or bytes of UTF-8."""

DURABILITIES: Final = ("process", "full")
"""What a write survives: the death of any process, a power cut too."""

NO_TTL: Final = -1
NO_KEY: Final = -2


class Limits(NamedTuple):
    """What an engine can hold, in bytes: of a key or lock name as UTF-8, and of a value as it is stored."""

    key: int
    value: int


class Codec(NamedTuple):
    """How a stored value becomes one of the calling language.

    `decode(kind, stored)` builds any value and raises `ValueError` for damaged JSON; `table` and `list` build one of
    these kinds from its JSON text. `encode(value, name)` gives the text back of a value that a read cache keeps as
    Python's; None if the values are Python's, so that copies will do. `unit` is what the language counts in a text.
    """

    decode: Callable[[Kind, Stored], Any]
    table: Callable[[str], Any]
    list: Callable[[str], Any]
    encode: Callable[[Any, str], str] | None
    unit: Unit


class FastPath(NamedTuple):
    """What answers `get` of a State without Python code of ours, where an engine can do so (csrc/engine/state.h).

    `cache` is a `slothstate.native.ReadCache`, or None; `load(key, default)` reads what it does not answer.
    """

    cache: Any
    load: Callable[[str, Any], Any]


class Entries(Protocol):
    """Keys of every kind."""

    def get(self, key: str, /) -> Row | None:
        """Return the live row of a key, None if it is missing or expired."""

    def get_many(self, keys: Sequence[str], /) -> dict[str, Row]:
        """Return the live rows of the keys that have one, all of one moment."""

    def put(self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, /) -> None:
        """Set value, kind and time to live (None: none) of a key, whatever it held."""

    def put_many(self, rows: Mapping[Kind, Sequence[tuple[str, Stored]]], ttl_ms: int | None, /) -> None:
        """Set many keys, given by kind."""

    def put_when(
        self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, when: When | None, keep_ttl: bool, /
    ) -> bool:
        """`put` if the key is missing or expired, or if it is live, as `when` says; return whether it was set.

        With `keep_ttl` (then `ttl_ms` is None) the time to live of a live key stays.
        """

    def insert(self, key: str, kind: Kind, stored: Stored, ttl_ms: int | None, /) -> bool:
        """Set a key that is missing or expired; return whether it was."""

    def swap_scalar(self, key: str, old: tuple[Kind, Stored], new: tuple[Kind, Stored], ttl_ms: int | None, /) -> bool:
        """Replace a live value that equals `old`, which is neither table nor list; return whether it did.

        1 equals 1.0. Without `ttl_ms` the time to live stays.
        """

    def swap_text(self, key: str, old: str, new: tuple[Kind, Stored], ttl_ms: int | None, /) -> bool:
        """Replace a live table or list whose JSON text is `old` to the byte; return whether it did.

        Without `ttl_ms` the time to live stays. A list is compared by the text that `get` gives.
        """

    def delete_scalar(self, key: str, old: tuple[Kind, Stored], /) -> bool:
        """Delete a live value that `swap_scalar` would replace; return whether it did."""

    def delete_text(self, key: str, old: str, /) -> bool:
        """Delete a live table or list that `swap_text` would replace; return whether it did."""

    def delete(self, key: str, /) -> bool:
        """Delete a key; return whether it was live, or a list of which all is claimed."""

    def take(self, key: str, /) -> Row | None:
        """Delete a key and return the live row that it had, None if it was missing or expired."""

    def rename(self, key: str, to: str, /) -> bool:
        """Give a live key another name, in place of what that one held; return whether there is such a key.

        Value and time to live stay. A list is not written anew. Onto itself nothing changes.
        """

    def copy(self, key: str, to: str, /) -> bool:
        """Put value and time to live of a live key into another, in place of what that held; return whether it is."""

    def exists(self, key: str, /) -> bool:
        """Return whether a key is live."""

    def remaining_ms(self, key: str, /) -> int:
        """Return the milliseconds a key has left, `NO_TTL` or `NO_KEY`."""

    def set_expiry(self, key: str, ttl_ms: int, /) -> bool:
        """Give a live key a new time to live; return whether there is such a key."""

    def persist(self, key: str, /) -> bool:
        """Take the time to live of a live key away; return whether it had one."""

    def count(self) -> int:
        """Return how many live keys there are."""

    def clear(self, pattern: str | None, /) -> int:
        """Delete the keys that match (None: all); return how many were live, or lists of which all is claimed."""

    def keys(self, pattern: str | None, after: str, limit: int | None, reverse: bool, /) -> list[str]:
        """Return the live keys that match (None: all) in the order of code points, all of one moment.

        Only those past `after` ("": all) in the direction of travel, and of them the first `limit`. `reverse`: from the
        last key to the first.
        """

    def page(self, pattern: str | None, after: str, limit: int, reverse: bool, /) -> tuple[list[str], str | None]:
        """Return those of the next `limit` live keys past `after` ("": all) that match, and where to go on, or None."""

    def describe(self, key: str, preview: int, /) -> Entry | None:
        """Return what there is to say about a key, None if it is missing; at most `preview` characters of its value."""

    def page_of_descriptions(
        self, pattern: str | None, after: str, limit: int, preview: int, /
    ) -> tuple[list[Entry], str | None]:
        """`describe` for a `page`."""

    def usage(self, prefix: str, delimiter: str, /) -> list[Usage]:
        """Return the sums of the keys that begin with `prefix`, by the part up to the next delimiter, largest first."""


class Counters(Protocol):
    """Numbers and texts that grow in place. A missing or expired key counts as 0 or empty; the time to live stays."""

    def increment(self, key: str, delta: int | float, ttl_ms: int | None = None, /) -> int | float:
        """Add `delta` to a number and return the sum. `ttl_ms` is for the number that this call creates.

        Raises: `WrongType`; `OutOfRange` past 64 bits or the largest float, the value is then as it was.
        """

    def append(self, key: str, kind: Kind, text: str | bytes, unit: Unit, /) -> int:
        """Append to a text or to bytes and return the new length. Raises: `WrongType` unless the kind is `kind`."""


class Fields(Protocol):
    """Parts of tables and lists, which a path leads to (`slothstate.fields`). The time to live stays."""

    def get(self, key: str, path: Path, /) -> str | None:
        """Return the JSON text of a part, None if there is none, or the path does not lead there."""

    def put(self, key: str, path: Path, value: str, /) -> None:
        """Replace a part by a JSON text, or add it with the tables, and the key, that the path needs.

        Raises: `WrongType` for another kind in the way; `InvalidValue` for a position outside its list, or if the whole
        nests too deep. Nothing else of the value is changed: order, types and digits.
        """

    def delete(self, key: str, path: Path, /) -> bool:
        """Delete a part, an item moves up those behind it; return whether there was one. Raises: `WrongType`.

        A list that the key itself holds disappears when it is emptied.
        """

    def increment(self, key: str, path: Path, delta: int | float, /) -> int | float:
        """Add to a number, a missing one is 0, and return the sum. Raises: as `put`; `WrongType`, `OutOfRange`."""


class Transfer(Protocol):
    """Whole keys, out of one store and into another."""

    def records(self, pattern: str | None, /) -> Iterator[StoredRecord]:
        """Yield the live keys that match (None: all) in order, all as they were at one moment.

        The moment lasts until the iterator is exhausted or closed.
        """

    def load(self, records: Sequence[StoredRecord], /) -> int:
        """Store keys, each replacing what is there; return how many, without those that have expired."""


class Upkeep(Protocol):
    """Looking into a store and after it."""

    def sweep(self) -> int:
        """Remove the keys that have expired; return how many."""

    def check(self) -> list[str]:
        """Return a sentence for everything that is wrong with the store; an empty list when it is sound."""

    def stats(self) -> dict[str, Any]:
        """Return the figures of the store, and of this process's use of it, that docs/verbs.md lists."""

    def health(self) -> Health:
        """Return how the store is doing."""

    def examine(self) -> Iterator[Finding]:
        """Yield what an administrator should know about this store, its files or its server."""

    def activity(self, seconds: float, /) -> list[Activity]:
        """Return what the processes that use the store have just done; have them tell it for so many seconds more."""

    def backup(self, path: str | os.PathLike[str], /) -> None:
        """Write a consistent copy of the store to a new file. May be `NotSupported`."""

    def compact(self) -> None:
        """Give the space that deleted keys left back to the system. May be `NotSupported`."""


class Engine(Protocol):
    """A store as one process uses it. Safe to share between threads."""

    @property
    def name(self) -> str:
        """What `stats()["backend"]` says."""

    @property
    def address(self) -> str:
        """What was opened: a path, or a URL without its password."""

    @property
    def limits(self) -> Limits: ...

    @property
    def features(self) -> frozenset[str]:
        """What it can do that not every engine can: "backup", "compact", "read cache"."""

    @property
    def in_transaction(self) -> bool:
        """Whether there is a transaction or a snapshot in the calling thread."""

    @property
    def refusal(self) -> SlothStateError | None:
        """Why this engine takes no more operations, or None."""

    @property
    def entries(self) -> Entries: ...

    @property
    def counters(self) -> Counters: ...

    @property
    def lists(self) -> Lists: ...

    @property
    def fields(self) -> Fields: ...

    @property
    def locks(self) -> LockTable: ...

    @property
    def claims(self) -> Claims: ...

    @property
    def changes(self) -> Changes: ...

    @property
    def watches(self) -> Watches: ...

    @property
    def transfer(self) -> Transfer: ...

    @property
    def upkeep(self) -> Upkeep: ...

    def require_usable(self) -> None:
        """Raise the error of an engine that takes no more operations, or none from the caller now."""

    def require_writable(self) -> None:
        """As `require_usable`, and refuse to write inside a `snapshot`, for what may have nothing to write."""

    def transaction(self, first: Callable[[], object] | None = None, /) -> AbstractContextManager[None]:
        """Hold a write transaction for the calling thread and task while the block runs; a savepoint inside one.

        What others committed before it began is seen, and nobody else writes until it ends. `first` is called inside
        it, before the block.
        """

    def snapshot(self) -> AbstractContextManager[None]:
        """Let the calling thread and task read the store as it was at one moment while the block runs.

        The clock stands still for it, too. Others go on writing; what writes in the block is refused at once, and so is
        a `transaction`. Inside a transaction, or another snapshot, it costs nothing.
        """

    def after_transaction(self, callback: Callable[[], object], /) -> None:
        """Call `callback` when the transaction of the calling thread has ended, whichever way."""

    def fast(self, codec: Codec, /) -> FastPath | None:
        """Return what answers `get` in C; None: it is plain Python on `entries.get`."""

    def rest(self) -> None:
        """Let go of everything because the process ends; whoever comes later opens it again and closes it."""

    def close(self) -> None:
        """Let go of everything for good; closing twice does nothing."""
