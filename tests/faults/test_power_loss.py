"""Power loss: every image of the files that a power cut can leave opens as a sound store, and as the promised one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from random import Random

import pytest

import slothstate
from helpers.faulty_disk import RecordingDisk
from helpers.files import lay_out, read_files
from helpers.numbered import PROMISES, contents, state_after, write_number
from helpers.support import quick_and_long
from slothstate.engines.sqlite import connection
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.state import State

IMAGES = 150
IMAGES_LONG = 3000
WRITES = 120
RECOVERED = 3
RECOVERED_LONG = 60
CRASHES_IN_A_ROW = 3
WRITES_AFTER_RECOVERY = 3
CHECKPOINT_PAGES = 60
"""Small, so that checkpoints and the reuse of the log are among what is cut short."""


def record(path: str, durability: str, monkeypatch: pytest.MonkeyPatch) -> tuple[RecordingDisk, dict[str, bytes]]:
    monkeypatch.setattr(connection, "WAL_CHECKPOINT_PAGES", CHECKPOINT_PAGES)
    slothstate.open(path).close()
    start = read_files(path)
    disk = RecordingDisk()
    state = State(SqliteEngine(path, durability=durability, vfs=disk.name))
    for number in range(1, WRITES + 1):
        write_number(state, number)
        disk.acknowledge(number)
    state.close()
    assert sum(event.kind == "write" and event.file == "state.db" for event in disk.events) > 0, "no checkpoint"
    return disk, start


def examine(disk: RecordingDisk, start: dict[str, bytes], directory: str, cut: int, seed: int) -> tuple[int, int]:
    """Lay out one image, open it; return the number of the last write found and that of the last acknowledged one."""
    path = lay_out(disk.image(start, cut, Random(seed)), directory)
    acknowledged = max((event.place for event in disk.events[:cut] if event.kind == "ack"), default=0)
    with slothstate.open(path) as state:
        assert state.check() == [], f"seed {seed}, cut {cut}"
        found = contents(state)
        assert found == state_after(found.get("last", 0)), f"seed {seed}, cut {cut}: no earlier state"
        assert state.increment("goes on") == 1
    return found.get("last", 0), acknowledged


def examine_images(path: str, durability: str, images: int, monkeypatch: pytest.MonkeyPatch) -> str:
    disk, start = record(path, durability, monkeypatch)
    monkeypatch.undo()
    lost = 0
    for seed in range(images):
        cut = Random(seed + 1_000_000).randrange(1, len(disk.events) + 1)
        found, acknowledged = examine(disk, start, f"{os.path.dirname(path)}/image{seed}", cut, seed)
        kept = PROMISES[durability](found, acknowledged)
        assert kept, f"seed {seed}, cut {cut}: {found} of {acknowledged} acknowledged writes"
        lost = max(lost, acknowledged - found)
    return f"power loss, {durability}: {images} images, 0 damaged, at most {lost} acknowledged writes lost"


@quick_and_long("images", (IMAGES,), (IMAGES_LONG,), timeout=1200)
@pytest.mark.parametrize("durability", PROMISES)
def test_power_loss(
    path: str, durability: str, monkeypatch: pytest.MonkeyPatch, images: int, figure: Callable[[str], None]
) -> None:
    """After a power cut "full" has every acknowledged write, "process" an earlier state; neither is ever damaged."""
    figure(examine_images(path, durability, images, monkeypatch))


def recover(files: dict[str, bytes], directory: str, durability: str) -> tuple[RecordingDisk, int]:
    """Open an image on a recording disk, write a little, close; return the recording and the last write found."""
    path = lay_out(files, directory)
    disk = RecordingDisk()
    with State(SqliteEngine(path, durability=durability, vfs=disk.name)) as state:
        assert state.check() == []
        found = contents(state)
        last = found.get("last", 0)
        assert found == state_after(last), "no earlier state"
        for number in range(last + 1, last + 1 + WRITES_AFTER_RECOVERY):
            write_number(state, number)
            disk.acknowledge(number)
    shutil.rmtree(directory)
    return disk, last


def crash_again(files: dict[str, bytes], directory: str, durability: str, levels: int) -> tuple[int, int]:
    """Recover an image, crash at each sync of that, recover again, and so on; return what was found, and recoveries."""
    disk, found = recover(files, directory, durability)
    recoveries = 1
    if levels:
        for cut in (index for index, event in enumerate(disk.events) if event.kind == "sync"):
            acknowledged = max((event.place for event in disk.events[:cut] if event.kind == "ack"), default=found)
            again, more = crash_again(disk.image(files, cut, Random(cut)), directory, durability, levels - 1)
            recoveries += more
            # What was recovered was on the disk: neither durability may lose it.
            assert again >= found, f"cut {cut}, level {levels}: {found} writes were there, {again} are"
            assert PROMISES[durability](again, acknowledged), f"cut {cut}, level {levels}: {again} of {acknowledged}"
    return found, recoveries


def crash_during_recovery(path: str, durability: str, images: int, monkeypatch: pytest.MonkeyPatch) -> str:
    disk, start = record(path, durability, monkeypatch)
    recoveries = 0
    for seed in range(images):
        cut = Random(seed + 2_000_000).randrange(1, len(disk.events) + 1)
        image = disk.image(start, cut, Random(seed))
        recoveries += crash_again(image, f"{os.path.dirname(path)}/again", durability, CRASHES_IN_A_ROW)[1]
    return f"crash during recovery, {durability}: {images} images, {recoveries} recoveries, 0 damaged, 0 lost"


@quick_and_long("images", (RECOVERED,), (RECOVERED_LONG,), timeout=1200)
@pytest.mark.parametrize("durability", PROMISES)
def test_crash_during_recovery(
    path: str, durability: str, monkeypatch: pytest.MonkeyPatch, images: int, figure: Callable[[str], None]
) -> None:
    """Power that fails again at any sync of a recovery, three times in a row, takes nothing that was recovered."""
    figure(crash_during_recovery(path, durability, images, monkeypatch))
