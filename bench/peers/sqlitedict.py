"""sqlitedict in WAL mode, each write waited for: by default it returns before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.peers import PROCESS_DEATH, Peer, is_absent

DURABILITY: Final = f"synchronous=NORMAL, set by us (its own is OFF): {PROCESS_DEATH}"


def missing() -> str | None:
    return is_absent("sqlitedict")


def versions() -> dict[str, str]:
    import sqlitedict

    return {"sqlitedict": sqlitedict.__version__}


def open(directory: Path) -> Peer:
    import sqlitedict

    store = sqlitedict.SqliteDict(str(directory / "sqlitedict.db"), journal_mode="WAL", autocommit=False)
    store.conn.execute("pragma synchronous = normal")
    store.commit(blocking=True)
    assert list(store.conn.select("pragma synchronous")) == [(1,)]

    def set_(key: str, value: Any) -> None:
        store[key] = value
        store.commit(blocking=True)

    def set_many(mapping: dict[str, Any]) -> None:
        store.update(mapping)
        store.commit(blocking=True)

    return Peer(
        name="sqlitedict",
        is_served=True,
        close=store.close,
        get=store.__getitem__,
        set=set_,
        get_table=store.__getitem__,
        set_table=set_,
        set_many=set_many,
    )
