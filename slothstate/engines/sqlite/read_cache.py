"""The read cache: values that are valid as long as nothing was committed to the store, by any process.

Every commit rewrites the header of the wal-index, which SQLite has mapped into each process, before COMMIT returns
(csrc/cache/walindex.h). A value is kept together with the header's checksum of the moment it was read; a hit is one
8-byte load that finds the same checksum. So a hit is never stale: after a write in any process has returned, no other
process can still load the old checksum. The table itself is csrc/cache/table.c.
"""

from __future__ import annotations

from collections.abc import Callable

from slothstate import native
from slothstate.hints import Any, Final, Protocol
from slothstate.values import Kind

__all__ = ["ABSENT", "FORMS", "LENGTH", "NO_MARK", "UNVERIFIED", "ReadCache", "make"]

FORMS: Final[dict[Kind, int]] = {"string": 0, "number": 0, "boolean": 0, "bytes": 0, "table": 1, "list": 2}
"""The form of a value, by its kind; see `ReadCache.store`."""

ABSENT: Final = 3
"""The form of a key that is known to be missing."""

LENGTH: Final = 4
"""The form of a list of which only the number of items is known."""

NO_MARK: Final = -1
"""What `mark` gives where nothing can be kept, and what a write that committed nothing passes to `settle`."""

UNVERIFIED: Final = -2
"""What `mark` gives when it is time to look at the files again."""


class ReadCache(Protocol):
    """What csrc/cache/type.c implements. Safe to share between threads.

    A thread that holds a transaction is answered nothing: it reads its own writes.
    """

    def remaining_ms(self, key: str, /) -> int | None:
        """Return what `slothstate.engines.sqlite.keys.remaining_ms` would, None where it has to be asked."""

    def sync(self) -> int | None:
        """Return a token for the present state of the store.

        None where the cache cannot be used: in a transaction, without a wal-index, or when `verified` has run out.
        """

    def store(self, token: int | None, key: str, form: int, value: object, expires_at_ms: int | None, /) -> None:
        """Keep what was read since `sync()` gave `token`, unless anything was committed meanwhile.

        `form` says what a hit does with `value`: 0 hand it out (a scalar), 1 build a table and 2 a list from its JSON
        text, `ABSENT` (with None) say that the key is missing. `LENGTH` says that only a commit, or the end of the key,
        changes the number of items, which alone answers `list_length`; what else is known of the key stays.
        """

    def mark(self) -> int:
        """Begin a write of one key and return a number for `settle`; `UNVERIFIED` when `verified` has run out."""

    def settle(self, mark: int, key: str, /) -> None:
        """Forget `key` after a write; keep the rest if the only commit since `mark` was that write's.

        `NO_MARK` for a write that committed nothing: somebody else's commit must not be taken for it.
        """

    def attach(self, file: int, owner: object, /) -> bool:
        """Use the wal-index of the connection whose `sqlite3_file` is at this address; return whether it has one.

        `owner` is that connection. It is kept until `detach`, because the mapping ends with it.
        """

    def detach(self) -> None:
        """Stop using the wal-index. Must come before its connection is closed."""

    def forked(self) -> None:
        """Forget the parent's wal-index, entries and waiting threads: for the child, straight after a fork.

        The connection is kept for ever: the child must never close it.
        """

    def verified(self, seconds: float, /) -> None:
        """Allow hits for so long, or a clock tick (10 ms) less: the files that are open were just seen in place."""

    def wait(self, token: int, seconds: float, /) -> bool:
        """Wait, without the GIL, until the store is in another state than `token` says.

        False if time ran out, or at once when there is no wal-index (any more).
        """

    def commits(self) -> int:
        """Return how many commits there were since the wal-index was made (or recovered); -1 if that is not known."""

    def figures(self) -> dict[str, int]:
        """Return hits of `get`, `get_many` and `list_length`, misses of all three, entries and bytes."""


def make(limit: int, clock: Callable[[], float] | None, transactions: dict[int, Any]) -> ReadCache:
    """Return a cache of at most `limit` bytes.

    `clock` (None: the system's) tells what has expired; the keys of `transactions` are the threads that hold one.
    """
    cache: ReadCache = native.ReadCache(limit, clock, transactions)
    return cache
