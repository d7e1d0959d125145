"""What a store tells about itself: keys, use, locks, processes, findings. The same for every engine."""

from __future__ import annotations

from slothstate.hints import Literal, NamedTuple, TypeAlias, TypedDict
from slothstate.values import Kind

__all__ = [
    "Activity",
    "ClaimDescription",
    "Entry",
    "Finding",
    "Health",
    "LockDescription",
    "Owner",
    "Severity",
    "Usage",
    "User",
    "Waiter",
    "WatchDescription",
]


class Entry(NamedTuple):
    """A key as `State.entry` describes it.

    `size` is that of the value in bytes, as text or JSON; `length` the number of items of a list, else None; `ttl` the
    seconds left, None without a TTL; `preview` the beginning of the value: of a text, of bytes, or of JSON.
    `claimed` is how many items are out of the list, claimed or delayed; their bytes are in `size`.
    """

    key: str
    kind: Kind
    size: int
    length: int | None
    ttl: float | None
    preview: str | bytes
    claimed: int = 0


class Usage(NamedTuple):
    """What the keys with one prefix take: how many they are, and the bytes of keys and values."""

    prefix: str
    keys: int
    size: int


class Owner(TypedDict):
    """Who holds a lock; for people, ownership is never decided by it."""

    host: str
    pid: int


class Waiter(Owner):
    """Who waits for a lock, and since when, in seconds since the epoch."""

    since: float


class WatchDescription(TypedDict):
    """A watch. `since` is in seconds since the epoch; `owner` and `alive` are None while nobody runs the `name`.

    All changes up to `revision` are known to be handled. At most `behind` are kept that are not, since `behind_since`;
    those of keys that it is not about are among them.
    """

    name: str | None
    pattern: str | None
    owner: Owner | None
    since: float
    revision: int
    alive: bool | None
    behind: int
    behind_since: float | None


class LockDescription(TypedDict):
    """A lock that somebody holds. Times are seconds since the epoch; `expires` is None without a TTL.

    `alive` is False for one that its dead owner left, None where that cannot be told: a file of the owner's cannot be
    opened.
    A lock that is `shared` or has several `slots` is there once for each holder; `slots` is None for a shared one.
    `waiting` names those who live and have waited for more than a moment, whoever has waited for longest first.
    """

    name: str
    owner: Owner
    token: int
    shared: bool
    slots: int | None
    since: float
    expires: float | None
    alive: bool | None
    waiting: list[Waiter]


class ClaimDescription(TypedDict):
    """An item that is out of its list. Times are seconds since the epoch; `attempt` counts this claim.

    `owner` and `alive` are None while it is delayed, `due` is when it comes back then, else None. `alive` is False for
    one that its dead owner left, and None where that cannot be told.
    """

    key: str
    owner: Owner | None
    since: float
    attempt: int
    alive: bool | None
    due: float | None


class User(NamedTuple):
    """A process that has the store open; `is_reading`: it is in the middle of a read transaction or a write."""

    pid: int
    is_reading: bool


class Health(TypedDict):
    """What `State.health` returns. `wal_pages_copied` of `wal_pages` are in the database already.

    `commits` counts the commits of all processes since one of them began to have the store open; -1: unknown.
    `users` is None where the system does not tell.
    """

    settings: dict[str, int | str]
    file_system: str | None
    wal_pages: int
    wal_pages_copied: int
    commits: int
    users: list[User] | None


class Activity(NamedTuple):
    """What one State of a process did within some nanoseconds: operations, gets among them, cache hits among those."""

    pid: int
    elapsed_ns: int
    operations: int
    gets: int
    hits: int


Severity: TypeAlias = Literal["ok", "note", "warning", "error"]


class Finding(NamedTuple):
    """What an examination of a store found about one thing, and what to do about it ("": nothing)."""

    severity: Severity
    subject: str
    text: str
    advice: str = ""
