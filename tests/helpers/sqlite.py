"""What a store on SQLite holds, behind its back, and the parts of a State on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

import apsw

from slothstate import State
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.engines.sqlite.parts import Parts
from slothstate.engines.sqlite.read_cache import ReadCache
from slothstate.engines.sqlite.store import Store

TABLES: Final = ("entries", "list_items", "claims", "locks", "lock_waiters", "changes", "watches")


LOOKS: Final = 10
"""Looks at /proc/locks in a row that must find nothing more."""


def state_at(path: object, clock: Callable[[], float]) -> State:
    """Open a store whose time is told by `clock`."""
    return State(SqliteEngine(str(path), clock=clock))


def store_of(state: State) -> Store:
    """Return the store below a State on SQLite."""
    assert isinstance(state._engine, SqliteEngine)
    return state._engine.store


def parts_of(state: State) -> Parts:
    """Return what of the engine below a State on SQLite is made late."""
    assert isinstance(state._engine, SqliteEngine)
    return state._engine.parts


def current_token(cache: ReadCache) -> int:
    """Return what `cache.sync()` gives, however long ago the files were looked at."""
    cache.verified(60)
    token = cache.sync()
    assert token is not None
    return token


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
