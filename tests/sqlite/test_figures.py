"""What `stats` and `health` say of a store in a file."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import slothstate
from helpers.sqlite import store_of
from helpers.support import Clock
from slothstate import State
from slothstate.engines.sqlite.connection import Snapshot


def test_stats(state: State, clock: Clock, path: str) -> None:
    """`stats` counts live keys by kind, what is expired, sizes, and this process's operations by verb."""
    state.set_many({"s": "x", "n": 1, "b": True, "t": {}, "l": [1], "y": b"x", "gone": 1})
    state.set_ttl("gone", 1)
    state.list_push("rows", 1)
    clock.advance(1)
    for _ in range(3):
        state.get("s")
    stats = state.stats()
    assert stats["keys_by_kind"] == {"boolean": 1, "bytes": 1, "list": 2, "number": 1, "string": 1, "table": 1}
    assert (stats["total_keys"], stats["expired_pending"], stats["locks_held"]) == (7, 1, 0)
    assert (stats["path"], stats["backend"]) == (path, "sqlite")
    assert stats["total_size"] > 4096
    assert stats["wal_size"] > 0
    assert stats["operations"]["get"] == 3
    assert (stats["operations"]["set_many"], stats["operations"]["list_push"]) == (1, 1)
    assert stats["busy_waits"] == 0
    assert stats["schema_version"] == 2
    assert tuple(map(int, stats["sqlite_version"].split("."))) >= (3, 44, 6)


def test_health_reads_the_settings_back(state: State, path: str) -> None:
    """What the engine asked of SQLite is what SQLite says it does."""
    state.set("a", 1)
    settings = state.health()["settings"]
    wanted = {"journal_mode": "wal", "synchronous": 1, "mmap_size": 0, "defensive": 1, "trusted_schema": 0}
    assert {name: settings[name] for name in wanted} == wanted
    assert settings["durability"] == "process"
    with slothstate.open(path, durability="full") as full:
        assert full.health()["settings"] == settings | {"durability": "full"}


def test_health_counts_the_commits_of_all(state: State, open_state: Callable[[], State]) -> None:
    """The number of commits rises by one for each write, of this handle or another one."""
    before = state.health()["commits"]
    state.set("a", 1)
    with open_state() as other:
        other.set("a", 2)
        with other.transaction():
            other.set("a", 3)
            other.set("b", 4)
    assert state.health()["commits"] == before + 3


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="only Linux lists its locks")
def test_health_knows_who_has_the_store_open(state: State, path: str) -> None:
    """Each process that has the store open is a user; one that is in a read transaction is seen to read."""
    found = state.health()["users"]
    assert found is not None
    assert [user.pid for user in found] == [os.getpid()]
    engine = store_of(state)
    connection = engine._borrow()
    with Snapshot(connection):
        connection.execute("select key from entries").fetchall()
        found = state.health()["users"]
        assert found is not None
        assert [(user.pid, user.is_reading) for user in found] == [(os.getpid(), True)]
    engine._give_back(connection)
