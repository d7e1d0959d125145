"""What several test modules share: a clock to move, raw access to a store's rows, and the table of verbs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import apsw

from slothstate import State
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.engines.sqlite.read_cache import ReadCache
from slothstate.engines.sqlite.store import Store

TABLES: Final = ("entries", "list_items", "locks", "lock_waiters")

SANITIZED: Final = "asan" in os.environ.get("LD_PRELOAD", "")
"""Whether AddressSanitizer is loaded, which holds back freed memory and may hang in a child forked beside threads."""

LOOKS: Final = 10
"""Looks at /proc/locks in a row that must find nothing more."""

PATIENCE: Final = 60.0
"""Seconds after which what does not come will never come."""

ABSENT: Final = object()
"""What `Verb.leaves` says when the key does not exist afterwards."""


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def __call__(self) -> float:
        # Half a millisecond more, so that no rounding of the product with 1000 changes the reading.
        return (self.ms + 0.5) / 1000

    def advance(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def state_at(path: object, clock: Callable[[], float]) -> State:
    """Open a store whose time is told by `clock`."""
    return State(SqliteEngine(str(path), clock=clock))


def store_of(state: State) -> Store:
    """Return the store below a State on SQLite."""
    assert isinstance(state._engine, SqliteEngine)
    return state._engine.store


def current_token(cache: ReadCache) -> int:
    """Return what `cache.sync()` gives, however long ago the files were looked at."""
    cache.verified(60)
    token = cache.sync()
    assert token is not None
    return token


def in_time(attempt: Callable[[], float], bound: float, attempts: int = 10) -> bool:
    """Whether one of some attempts takes at most `bound` seconds: a busy machine may pause a process in the others."""
    return any(attempt() <= bound for _ in range(attempts))


def processor_time(call: Callable[[], object]) -> float:
    """Return how many seconds this thread computes in a call; what else the machine does hardly counts."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def until(condition: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> None:
    """Do something again and again until the condition holds; fail when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        meanwhile()
        time.sleep(0.001)


def raw(path: object, *statements: str, bindings: Sequence[object] = ()) -> list[Any]:
    """Run SQL on a store behind its back, through the same SQLite library, and return the last result."""
    with closing(apsw.Connection(str(path))) as db:
        rows: list[Any] = []
        for statement in statements:
            rows = db.execute(statement, bindings).fetchall()
        return rows


def dump(path: object) -> dict[str, list[Any]]:
    """Return every row of a store."""
    return {table: raw(path, f"select * from {table} order by 1, 2") for table in TABLES}


def bits(path: object) -> dict[str, list[Any]]:
    """Return every row of a store bit by bit, whatever it holds: also text that is not UTF-8."""
    columns = {table: [row[1] for row in raw(path, f"pragma table_info({table})")] for table in TABLES}
    return {
        table: raw(path, f"select {', '.join(f'typeof({c}), hex(cast({c} as blob))' for c in names)} from {table}")
        for table, names in columns.items()
    }


def locks_of(path: str) -> list[str]:
    """Return the kernel's locks of this process on a store's files, as /proc/locks shows them."""
    files = {str(os.stat(path + suffix).st_ino): suffix for suffix in ("", "-shm") if os.path.exists(path + suffix)}

    def look() -> set[str]:
        with open("/proc/locks", encoding="ascii") as table:
            lines = [line.split() for line in table]
        return {
            " ".join((files[inode], *fields[1:4], *fields[6:]))
            for fields in lines
            if len(fields) == 8 and fields[4] == str(os.getpid()) and (inode := fields[5].rsplit(":", 1)[1]) in files
        }

    # The kernel gives the table out a page at a time. While other processes lock and unlock, a look can miss lines or
    # see them twice, but never sees one that is not there: so look until some looks in a row find nothing more.
    found: set[str] = set()
    idle = 0
    while idle < LOOKS:
        more = look() - found
        found |= more
        idle = 0 if more else idle + 1
    return sorted(found)


@contextmanager
def unchanged(path: object) -> Iterator[None]:
    """Fail if the block changes any row of a store."""
    before = bits(path)
    yield
    assert bits(path) == before


def exactly(value: Any) -> Any:
    """Return something that is equal only for values of the same types, order of keys and sign of zero included."""
    if isinstance(value, dict):
        return "dict", [(key, exactly(item)) for key, item in value.items()]
    if isinstance(value, list):
        return "list", [exactly(item) for item in value]
    return type(value), repr(value)


def run_python(code: str, *arguments: object, options: Sequence[str] = ()) -> str:
    """Run a script in a fresh interpreter and return what it printed; fail on a non-zero exit or on stderr output."""
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


VALUES: Final[dict[str, object]] = {
    "string": "text",
    "number": 7,
    "boolean": True,
    "table": {"a": [1, {"b": None}]},
    "list": [1, "two", [3]],
    "bytes": b"\x00\xff",
}
"""A value of every kind."""


def put(state: State, key: str, kind: str, ttl: float | None = None) -> object:
    """Store the value of a kind and return it; the kind "rows" is a list that was pushed and not set."""
    if kind != "rows":
        state.set(key, VALUES[kind], ttl)
        return VALUES[kind]
    state.list_push(key, *VALUES["list"])  # type: ignore[misc]
    if ttl is not None:
        state.set_ttl(key, ttl)
    return VALUES["list"]


KINDS: Final = (*VALUES, "rows")


@dataclass(frozen=True)
class Verb:
    """One way to call a verb on a key, and what it does to a key that is missing or expired."""

    name: str
    call: Callable[[State, Any], object]
    missing: object
    leaves: object = ABSENT
    works_on: tuple[str, ...] = KINDS
    ttl: str = "kept"
    """What becomes of a live key's TTL: kept, cleared, gone (with the key), or set."""

    def __str__(self) -> str:
        return self.name


LISTS: Final = ("list", "rows")

VERBS: Final = (
    Verb("get", lambda s, k: s.get(k), None),
    Verb("get-default", lambda s, k: s.get(k, "d"), "d"),
    Verb("get_many", lambda s, k: s.get_many([k]), {}),
    Verb("exists", lambda s, k: s.exists(k), False),
    Verb("in", lambda s, k: k in s, False),
    Verb("get_ttl", lambda s, k: s.get_ttl(k), -2),
    Verb("list_length", lambda s, k: s.list_length(k), 0, works_on=LISTS),
    Verb("list_range", lambda s, k: s.list_range(k), [], works_on=LISTS),
    Verb("set", lambda s, k: s.set(k, "new"), True, "new", ttl="cleared"),
    Verb("set-list", lambda s, k: s.set(k, [8, 9]), True, [8, 9], ttl="cleared"),
    Verb("setitem", lambda s, k: s.__setitem__(k, "new"), None, "new", ttl="cleared"),
    Verb("set_many", lambda s, k: s.set_many({k: "new"}), True, "new", ttl="cleared"),
    Verb("delete", lambda s, k: s.delete(k), False, ttl="gone"),
    Verb("pop", lambda s, k: s.pop(k, "d"), "d", ttl="gone"),
    Verb("set_ttl", lambda s, k: s.set_ttl(k, 5), False, ttl="set"),
    Verb("persist", lambda s, k: s.persist(k), False, ttl="cleared"),
    Verb("increment", lambda s, k: s.increment(k, 5), 5, 5, works_on=("number",)),
    Verb("increment-float", lambda s, k: s.increment(k, 0.5), 0.5, 0.5, works_on=("number",)),
    Verb("decrement", lambda s, k: s.decrement(k, 5), -5, -5, works_on=("number",)),
    Verb("append", lambda s, k: s.append(k, "ab"), 2, "ab", works_on=("string",)),
    Verb("append-nothing", lambda s, k: s.append(k, ""), 0, "", works_on=("string",)),
    Verb("append-bytes", lambda s, k: s.append(k, b"ab"), 2, b"ab", works_on=("bytes",)),
    Verb("compare_swap-absent", lambda s, k: s.compare_swap(k, None, "new"), True, "new"),
    Verb("compare_swap-scalar", lambda s, k: s.compare_swap(k, 7, "new"), False),
    Verb("compare_swap-list", lambda s, k: s.compare_swap(k, [1, "two", [3]], "new"), False),
    Verb("setdefault", lambda s, k: s.setdefault(k, "new"), "new", "new"),
    Verb("list_push", lambda s, k: s.list_push(k, 1, 2), 2, [1, 2], works_on=LISTS),
    Verb("list_push-nothing", lambda s, k: s.list_push(k), 0, works_on=LISTS),
    Verb("list_pop", lambda s, k: s.list_pop(k), None, works_on=LISTS),
    Verb("list_pop-default", lambda s, k: s.list_pop(k, "d"), "d", works_on=LISTS),
    Verb("list_shift", lambda s, k: s.list_shift(k), None, works_on=LISTS),
)
"""Every verb that takes a key, in each of its forms."""
