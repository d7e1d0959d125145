"""`durability="full"`: each write is synced after its commit, outside the write lock, before it is acknowledged."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

import slothstate
from helpers import ROOT
from helpers.faulty_disk import Event, RecordingDisk
from helpers.files import lay_out, read_files
from helpers.processes import Channel, processes
from helpers.sqlite import store_of
from helpers.support import until
from slothstate import OutcomeUnknown, native
from slothstate.engines.sqlite import connection
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.state import State

LOG = "state.db-wal"
WRITERS = 6
WRITES = 40
IMAGES = 200
CHECKPOINT_PAGES = 60
SYNC = 0.15
"""Seconds that a sync lasts into which Ctrl-C strikes."""


class SyncedDisk(RecordingDisk):
    """A recording disk whose syncs of the log can be held up, or fail as the kernel's do: the writes count as made."""

    def __init__(self, name: str = "synced") -> None:
        super().__init__(name)
        self.failing = 0
        self.syncing = 0
        self.goes_on = threading.Event()
        self.goes_on.set()

    def before(self, call: str, file: str, place: int, data: bytes) -> int:
        began = super().before(call, file, place, data)
        if call == "xSync" and file == LOG:
            self.syncing += 1
            self.goes_on.wait()
            if self.failing:
                self.failing -= 1
                self.after("failed", file, began, b"")
                error: Any = apsw.IOError("injected into xSync")
                error.result, error.extendedresult = apsw.SQLITE_IOERR, apsw.SQLITE_IOERR_FSYNC
                raise error
        return began

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold syncs up in the block."""
        self.goes_on.clear()
        try:
            yield
        finally:
            self.goes_on.set()


@pytest.fixture
def disk() -> SyncedDisk:
    return SyncedDisk()


@pytest.fixture
def full(path: str, disk: SyncedDisk) -> Iterator[State]:
    """A State with `durability="full"` on that disk."""
    slothstate.open(path).close()
    with State(SqliteEngine(path, durability="full", vfs=disk.name)) as state:
        yield state


def in_a_transaction(state: State) -> None:
    with state.transaction():
        state.set("a", 1)
        with state.transaction():
            state.set("b", 1)


def in_numbered_transaction(state: State, number: int) -> None:
    with state.transaction():
        state.set("a", number)
        state.list_push("list", number)


def in_a_lock(state: State) -> None:
    with state.locked("job") as lock, lock.transaction():
        state.set("done", 1)


WRITE_VERBS: dict[str, Callable[[State], object]] = {
    "set": lambda state: state.set("k", "another"),
    "set_many": lambda state: state.set_many({"a": 1, "b": 2}),
    "set in a table": lambda state: state.set_field("table", "name", 2),
    "delete": lambda state: state.delete("k"),
    "clear": lambda state: state.clear(),
    "set_ttl": lambda state: state.set_ttl("k", 5),
    "increment": lambda state: state.increment("n"),
    "append": lambda state: state.append("k", "x"),
    "compare_swap": lambda state: state.compare_swap("k", "old", "new"),
    "list_push": lambda state: state.list_push("list", 1),
    "list_pop": lambda state: state.list_pop("list"),
    "transaction": in_a_transaction,
    "try_lock": lambda state: state.try_lock("job"),
    "lock": lambda state: state.lock("job"),
    "locked": in_a_lock,
    "compact": lambda state: state.compact(),
}


FAILING_VERBS: dict[str, Callable[[State, int], object]] = {
    "set": lambda state, number: state.set("s", number),
    "transaction": in_numbered_transaction,
    "try_lock": lambda state, number: state.try_lock(f"job {number}"),
    "increment": lambda state, number: state.increment("n"),
}
"""Each of them writes something else each time."""


@pytest.mark.parametrize("verb", WRITE_VERBS)
def test_each_write_is_synced_before_it_is_acknowledged(full: State, disk: SyncedDisk, verb: str) -> None:
    """When a write returns, the log was synced after the last byte that was written to it."""
    full.set_many({"k": "old", "n": 1, "table": {"name": 1}, "list": [1, 2]})
    del disk.events[:]
    WRITE_VERBS[verb](full)
    of_the_log = [event for event in disk.events if event.file == LOG]
    writes = [index for index, event in enumerate(of_the_log) if event.kind == "write"]
    assert writes
    assert "sync" in [event.kind for event in of_the_log[writes[-1] :]], of_the_log


def test_another_process_writes_while_a_sync_lasts(full: State, disk: SyncedDisk, path: str) -> None:
    """Others read and write during a sync; the write is not acknowledged before its end."""
    with slothstate.open(path, busy_timeout=0) as other, ThreadPoolExecutor(2) as threads:
        full.set("k", 0)
        before = disk.syncing
        with disk.held():
            single = threads.submit(full.set, "k", 1)
            several = threads.submit(in_a_transaction, full)
            until(lambda: disk.syncing == before + 2)
            assert other.get("k") == other.get("a") == 1
            assert other.set("k", 2)
            assert full.get("k") == 2
            time.sleep(0.02)
            assert not single.done()
            assert not several.done()
        assert single.result()
        several.result()


def test_reading_syncs_nothing(full: State, disk: SyncedDisk, path: str) -> None:
    """Neither reads sync, nor writes that change nothing as long as all that is committed is known to be synced."""
    full.set("k", 1)
    before = disk.syncing
    assert full.get("k") == 1
    assert full.keys() == ["k"]
    assert not full.delete("missing")
    with full.transaction():
        assert full.get("k") == 1
    with full.snapshot():
        assert full.get("k") == 1
    assert disk.syncing == before
    with slothstate.open(path) as other:
        other.set("k", 2)
        assert full.get("k") == 2
        assert disk.syncing == before


@pytest.mark.parametrize(
    "repeat",
    [
        lambda state: state.set("k", "value"),
        lambda state: state.set_many({"k": "value"}),
        lambda state: state.compare_swap("k", "value", "value"),
        lambda state: state.set("k", "value", when="absent"),
        in_a_transaction,
    ],
)
def test_a_write_that_changes_nothing(path: str, disk: SyncedDisk, repeat: Callable[[State], object]) -> None:
    """What is acknowledged is on the disk, also if it was there already and another had not synced it."""
    slothstate.open(path).close()
    with (
        State(SqliteEngine(path, vfs=disk.name)) as other,
        State(SqliteEngine(path, durability="full", vfs=disk.name)) as full,
    ):
        full.set("earlier", 1)
        other.set("k", "value")
        in_a_transaction(other)
        written = len(disk.events)
        repeat(full)
        safe = disk._safe(len(disk.events))
        assert safe.issuperset(i for i, event in enumerate(disk.events[:written]) if event.kind == "write"), "in danger"


def write_in_threads(state: State, disk: RecordingDisk) -> None:
    """Let several threads write what each decides by what it sees of the next one."""

    def write(writer: int) -> None:
        for number in range(1, WRITES + 1):
            seen = state.get(f"writer:{(writer + 1) % WRITERS}", 0)
            if number % 2:
                state.set_many({f"writer:{writer}": number, f"seen:{writer}": seen})
            else:
                with state.transaction():
                    state.set(f"writer:{writer}", number)
                    state.set(f"seen:{writer}", seen)
                    state.increment("total")
            disk.acknowledge(number, b"%d" % writer)

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(write, range(WRITERS)))


def test_power_loss_with_several_writers(
    path: str, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    """No image lacks an acknowledged write of any writer, nor one that a write in it was decided on."""
    monkeypatch.setattr(connection, "WAL_CHECKPOINT_PAGES", CHECKPOINT_PAGES)
    slothstate.open(path).close()
    start = read_files(path)
    disk = RecordingDisk()
    with State(SqliteEngine(path, durability="full", vfs=disk.name)) as state:
        write_in_threads(state, disk)
    monkeypatch.undo()
    kinds = Counter((event.kind, event.file) for event in disk.events)
    assert kinds["write", "state.db"], "no checkpoint"
    for seed in range(IMAGES):
        random = Random(seed)
        cut = random.randrange(1, len(disk.events) + 1)
        examine(disk.image(start, cut, random), f"{os.path.dirname(path)}/image{seed}", disk.events[:cut])
    figure(f"power loss, full, {WRITERS} writers: {IMAGES} images, 0 damaged, 0 lost")


def examine(files: dict[str, bytes], directory: str, events: list[Event]) -> None:
    with slothstate.open(lay_out(files, directory)) as state:
        assert state.check() == []
        for writer in range(WRITERS):
            acknowledged = max((e.place for e in events if e.kind == "ack" and e.data == b"%d" % writer), default=0)
            found = state.get(f"writer:{writer}", 0)
            assert acknowledged <= found <= acknowledged + 1
            assert state.get(f"seen:{writer}", 0) <= state.get(f"writer:{(writer + 1) % WRITERS}", 0)
        assert state.get("total", 0) == sum(state.get(f"writer:{writer}", 0) // 2 for writer in range(WRITERS))


@pytest.mark.parametrize("failures", [1, 2, 5])
@pytest.mark.parametrize("verb", FAILING_VERBS)
def test_a_sync_that_fails(path: str, full: State, disk: SyncedDisk, verb: str, failures: int) -> None:
    """It is OutcomeUnknown; the State goes on, and what it acknowledges next rests on nothing that was not synced."""
    start = read_files(path)
    full.set("n", 1)
    disk.failing = failures
    while disk.failing:
        with pytest.raises(OutcomeUnknown, match=r"sync to disk failed.*state\.db"):
            FAILING_VERBS[verb](full, disk.failing)
    assert full.set("k", "after")
    assert full.check() == []
    found = {key: full.get(key) for key in full}
    for seed in range(20):
        image = disk.image(start, len(disk.events), Random(seed))
        with slothstate.open(lay_out(image, f"{os.path.dirname(path)}/image{seed}")) as state:
            assert {key: state.get(key) for key in state} == found
            assert state.check() == []


def test_a_sync_that_fails_is_not_mended_while_another_writes(path: str, full: State, disk: SyncedDisk) -> None:
    """While somebody else holds the write lock the error comes all the same, in time, and later writes mend the log."""
    with slothstate.open(path) as other:
        full.set("k", 0)
        store_of(full).busy.timeout = 0.05
        with ThreadPoolExecutor(1) as threads, disk.held():
            disk.failing = 1
            before = disk.syncing
            written = threads.submit(full.set, "k", 1)
            until(lambda: disk.syncing > before)
            with other.transaction():
                disk.goes_on.set()
                with pytest.raises(OutcomeUnknown):
                    written.result()
        assert full.set("k", 2)
        assert not any(c.is_log_doubtful for c in store_of(full)._idle)


def strike_during_syncs(channel: Channel, path: str) -> int:
    """Press Ctrl-C in the middle of syncs; return how many it met, and no write was acknowledged."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    met = 0
    with slothstate.open(path, durability="full") as state:
        state.set("k", 0)
        for write in FAILING_VERBS.values():
            striker = threading.Timer(SYNC / 3, os.kill, (os.getpid(), signal.SIGINT))
            striker.start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                write(state, 1)
                raise AssertionError("acknowledged")
            met += time.monotonic() - began >= SYNC
            striker.join()
            state.increment("went on")
        assert state.get("went on") == len(FAILING_VERBS)
        assert state.check() == []
    return met


def test_ctrl_c_during_a_sync(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is answered when the sync has ended, and never with an acknowledgement; the State goes on."""
    monkeypatch.syspath_prepend(str(ROOT))
    from bench import slow_sync

    if slow_sync.compiler() is None:
        pytest.skip("syncs cannot be made slower here")
    with slow_sync.slowed(tmp_path, round(SYNC * 1e6)), processes(get_context("spawn")) as start:
        assert start(strike_during_syncs, path).result() > 0


def test_fork_during_a_sync(path: str, full: State, disk: SyncedDisk) -> None:
    """A fork waits for the sync of another thread; both processes go on and both writes are there."""
    full.set("k", 0)
    before = disk.syncing
    with ThreadPoolExecutor(1) as threads, disk.held():
        written = threads.submit(full.set, "parent", 1)
        until(lambda: disk.syncing > before)
        threading.Timer(0.05, disk.goes_on.set).start()
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                os._exit(0 if full.get("parent") == 1 and full.set("child", 1) else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert written.result()
    assert full.get_many(["parent", "child"]) == {"parent": 1, "child": 1}


def test_only_full_syncs(path: str, disk: SyncedDisk) -> None:
    """With `durability="process"` no write syncs the log but the first in it, whose header it is."""
    slothstate.open(path).close()
    with State(SqliteEngine(path, vfs=disk.name)) as state:
        state.set("k", 1)
        before = disk.syncing
        for verb, write in WRITE_VERBS.items():
            if verb != "compact":
                write(state)
                state.unlock("job")
        assert disk.syncing == before


def test_a_log_that_no_file_was_named_for() -> None:
    """Without files to sync there is nothing to do; what is no address of one is refused."""
    log = native.Log(10)
    assert (log.sync(), log.write_again()) == (0, 0)
    with pytest.raises(ValueError, match="open files"):
        log.sync_commits(0, 0)
    with pytest.raises(TypeError):
        log.sync_commits(1)
    with pytest.raises(TypeError):
        log.sync_commits("x", 1)
    assert log.sync() == 0
