"""A store of version 1 is brought to version 2 when it is opened: once, whole, and while nobody else has it open."""

from __future__ import annotations

import base64
import lzma
import os
import signal
import threading
import time
from pathlib import Path

import apsw
import pytest

import slothstate
from helpers import TESTS
from helpers.processes import Channel, let_go, processes
from helpers.sqlite import raw
from helpers.support import exactly
from slothstate import StateBusy, UnsafeState
from slothstate.engines.sqlite import schema

GOLDEN = TESTS / "golden" / "schema-1.txt"

PATIENCE = 30.0
"""Seconds after which what does not come will never come."""

OPENERS = 64
"""Processes that open the store at the same time."""


@pytest.fixture
def old(path: str) -> str:
    """The path of a store of version 1."""
    Path(path).write_bytes(lzma.decompress(base64.b64decode(GOLDEN.read_text(encoding="ascii"))))
    os.chmod(path, 0o600)
    return path


def contents(path: str) -> object:
    with slothstate.open(path) as state:
        assert state.check() == []
        return exactly([(record.key, record.value, record.kind) for record in state.dump()])


def version(path: str) -> int:
    found: int = raw(path, "pragma user_version")[0][0]
    return found


def hold(channel: Channel, path: str) -> None:
    """Have the store open as an earlier release would, until told to go."""
    db = apsw.Connection(path)
    db.execute("select count(*) from entries").fetchall()
    channel.send("open")
    channel.receive()
    db.close()


def open_and_count(channel: Channel, path: str) -> int:
    channel.ready()
    with slothstate.open(path) as state:
        return int(state.increment("counter"))


def die(channel: Channel, path: str, point: str) -> None:
    """Open the store and be killed before the first statement that begins so."""
    connect = schema.open_plain

    def traced(path: str) -> apsw.Connection:
        db = connect(path)
        db.trace_v2(
            apsw.SQLITE_TRACE_STMT,
            lambda event: os.kill(os.getpid(), signal.SIGKILL) if event["sql"].startswith(point) else None,
        )
        return db

    schema.open_plain = traced
    slothstate.open(path)


def test_many_processes_at_once(old: str) -> None:
    """One of them does it, all others find it done, and nothing of what was in it is lost."""
    with processes() as start:
        workers = [start(open_and_count, old) for _ in range(OPENERS)]
        let_go(workers)
        assert sorted(worker.result() for worker in workers) == list(range(44, 44 + OPENERS))
    assert version(old) == schema.SCHEMA_VERSION
    assert not os.path.exists(f"{old}-locks/create.lock")
    with slothstate.open(old) as state, state.locked("new", timeout=0) as lock:
        assert state.check() == []
        assert lock.token > 42


def test_nobody_is_pushed_aside(old: str) -> None:
    """While a process has it open nothing is migrated: the error names it; once it has gone the wait is over."""
    with processes() as start:
        holder = start(hold, old)
        assert holder.receive() == "open"
        before = time.monotonic()
        with pytest.raises(StateBusy, match=rf"process {holder.pid} \(.+\) has: end it"):
            slothstate.open(old, busy_timeout=0.3)
        assert 0.3 <= time.monotonic() - before < 3
        assert version(old) == 1
        threading.Timer(0.2, lambda: holder.send("go")).start()
        with slothstate.open(old) as state:
            assert state.increment("counter") == 44
        holder.result()


@pytest.mark.parametrize("point", ["alter table", "drop table locks", "create table claims", "pragma user_version"])
def test_killed_in_it(old: str, point: str) -> None:
    """Whoever dies half-way leaves the store as it was, for the next to do it."""

    with processes() as start:
        worker = start(die, old, point)
        worker.process.join(PATIENCE)
        assert worker.process.exitcode == -signal.SIGKILL
    with slothstate.open(old) as state:
        assert state.check() == []
        assert state.increment("counter") == 44
    assert version(old) == schema.SCHEMA_VERSION


@pytest.mark.damaged
def test_what_is_not_ours_is_refused_untouched(old: str) -> None:
    """A store of version 1 with a table, trigger or index more is refused, as one of version 2 is."""
    raw(old, "create table extra (a)")
    before = Path(old).read_bytes()
    with pytest.raises(UnsafeState, match="not a slothstate store"):
        slothstate.open(old)
    assert Path(old).read_bytes() == before


def test_a_backup_of_version_1(old: str, tmp_path: Path) -> None:
    """It is restored as it was read, and stays itself as it was."""
    target = str(tmp_path / "restored.db")
    before = Path(old).read_bytes()
    slothstate.restore(old, target)
    assert Path(old).read_bytes() == before
    assert not any(name.startswith(os.path.basename(old) + "-") for name in os.listdir(tmp_path))
    assert version(target) == schema.SCHEMA_VERSION
    assert contents(target) == contents(old)
