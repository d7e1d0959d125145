"""Bare SQLite through apsw: one prepared statement an operation, autocommit, the log as long as slothstate's.

The table is the fastest that was found, for small values and for GLOB: `WITHOUT ROWID`, the key its primary key,
nothing else in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.peers import PROCESS_DEATH, Peer, is_absent, through_json

DURABILITY: Final = f"synchronous=NORMAL: {PROCESS_DEATH}"

_SELECT: Final = "select value from entries where key = ?"
_UPSERT: Final = "insert into entries values (?, ?) on conflict (key) do update set value = excluded.value"
_INCREMENT: Final = (
    "insert into entries values (?, ?) on conflict (key) do update set value = value + excluded.value returning value"
)
_KEYS: Final = "select key from entries where key glob ? order by key"


def missing() -> str | None:
    return is_absent("apsw")


def versions() -> dict[str, str]:
    import apsw

    return {"apsw": apsw.apsw_version()}


def open(directory: Path, *, page_size: int | None = None, synchronous: str = "normal") -> Peer:
    """`page_size`: as slothstate's unless given. `synchronous`: SQLite's pragma; "full" syncs each commit."""
    import apsw

    from slothstate.engines.sqlite.connection import WAL_CHECKPOINT_PAGES
    from slothstate.engines.sqlite.schema import PAGE_SIZE

    size = page_size or PAGE_SIZE
    db = apsw.Connection(str(directory / "bare.db"))
    db.set_busy_timeout(30_000)
    db.execute(f"pragma page_size = {size}")
    db.execute("pragma journal_mode = wal").fetchall()
    db.execute(f"pragma synchronous = {synchronous}")
    db.execute(f"pragma wal_autocheckpoint = {WAL_CHECKPOINT_PAGES * PAGE_SIZE // size}").fetchall()
    db.execute("create table if not exists entries (key text not null primary key, value any) strict, without rowid")
    assert db.pragma("page_size") == size
    cursor = db.cursor()
    execute = cursor.execute

    def get(key: str) -> Any:
        return execute(_SELECT, (key,)).get

    def set_(key: str, value: Any) -> None:
        execute(_UPSERT, (key, value))

    def increment(key: str) -> Any:
        return execute(_INCREMENT, (key, 1)).get

    def set_many(mapping: dict[str, Any]) -> None:
        execute("begin immediate")
        cursor.executemany(_UPSERT, mapping.items())
        execute("commit")

    def keys(pattern: str) -> list[Any]:
        return [key for (key,) in execute(_KEYS, (pattern,)).fetchall()]

    other = str(directory / "other.db")

    def look(key: str) -> Any:
        opened = apsw.Connection(other)
        opened.execute("pragma journal_mode = wal").fetchall()
        opened.execute("create table if not exists entries (key text primary key, value any) strict")
        found = opened.execute(_SELECT, (key,)).get
        opened.close()
        return found

    return Peer(
        name="apsw",
        close=db.close,
        directory=directory,
        get=get,
        set=set_,
        set_many=set_many,
        increment=increment,
        keys=keys,
        look=look,
        native=execute,
        **through_json(get, set_),
    )
