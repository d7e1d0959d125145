"""Power loss: every image of the files that a power cut can leave opens as a sound store, and as the promised one."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from faulty_disk import RecordingDisk

import slothstate
from slothstate.sqlite import Engine, connection
from slothstate.state import State

IMAGES = 150
IMAGES_LONG = 3000
WRITES = 120
CHECKPOINT_PAGES = 60
"""Small, so that checkpoints and the reuse of the log are among what is cut short."""


def write_number(state: State, number: int) -> None:
    """One acknowledged write, of a kind that depends on its number."""
    if number % 3 == 0:
        with state.transaction():
            state.set("a", number)
            state.list_push("log", {"number": number, "padding": "x" * (number % 7) * 300})
            state.set("b", number)
            state.set("last", number)
    elif number % 3 == 1:
        state.set_many({"a": number, "b": number, "last": number})
    else:
        with state.transaction():
            state.delete("a")
            state.delete("b")
            state.list_shift("log")
            state.set("last", number)
            state.set("big", "y" * 5000)


def state_after(numbers: int) -> dict[str, Any]:
    """Return what a store holds after that many writes."""
    expected: dict[str, Any] = {}
    log: list[int] = []
    for number in range(1, numbers + 1):
        if number % 3 == 2:
            expected.pop("a", None)
            expected.pop("b", None)
            del log[:1]
            expected["big"] = "y" * 5000
        else:
            expected["a"] = expected["b"] = number
            if number % 3 == 0:
                log.append(number)
        expected["last"] = number
    return {**expected, "log": log} if log else expected


def contents(state: State) -> dict[str, Any]:
    found = {key: state.get(key) for key in state}
    if "log" in found:
        found["log"] = [item["number"] for item in found["log"]]
    return found


def read_files(path: str) -> dict[str, bytes]:
    """Read the files of a closed store."""
    with open(path, "rb") as file:
        return {os.path.basename(path): file.read()}


def record(path: str, durability: str, monkeypatch: pytest.MonkeyPatch) -> tuple[RecordingDisk, dict[str, bytes]]:
    monkeypatch.setattr(connection, "WAL_CHECKPOINT_PAGES", CHECKPOINT_PAGES)
    slothstate.open(path).close()
    start = read_files(path)
    disk = RecordingDisk()
    state = State(Engine(path, durability=durability, vfs=disk.name))
    for number in range(1, WRITES + 1):
        write_number(state, number)
        disk.acknowledge(number)
    state.close()
    assert sum(event.kind == "write" and event.file == "state.db" for event in disk.events) > 0, "no checkpoint"
    return disk, start


def examine(disk: RecordingDisk, start: dict[str, bytes], directory: str, cut: int, seed: int) -> tuple[int, int]:
    """Lay out one image, open it; return the number of the last write found and that of the last acknowledged one."""
    os.makedirs(directory)
    for name, content in disk.image(start, cut, Random(seed)).items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)
    acknowledged = max((event.place for event in disk.events[:cut] if event.kind == "ack"), default=0)
    with slothstate.open(os.path.join(directory, "state.db")) as state:
        assert state.check() == [], f"seed {seed}, cut {cut}"
        found = contents(state)
        assert found == state_after(found.get("last", 0)), f"seed {seed}, cut {cut}: no earlier state"
        assert state.increment("goes on") == 1
    return found.get("last", 0), acknowledged


def examine_images(
    path: str, durability: str, images: int, monkeypatch: pytest.MonkeyPatch, promised: Callable[[int, int], bool]
) -> None:
    disk, start = record(path, durability, monkeypatch)
    monkeypatch.undo()
    lost = 0
    for seed in range(images):
        cut = Random(seed + 1_000_000).randrange(1, len(disk.events) + 1)
        found, acknowledged = examine(disk, start, f"{os.path.dirname(path)}/image{seed}", cut, seed)
        assert promised(found, acknowledged), f"seed {seed}, cut {cut}: {found} of {acknowledged} acknowledged writes"
        lost = max(lost, acknowledged - found)
    print(f"{durability}: {images} images, 0 damaged, at most {max(0, lost)} acknowledged writes lost")


def kept_all(found: int, acknowledged: int) -> bool:
    return acknowledged <= found <= acknowledged + 1


def kept_a_prefix(found: int, acknowledged: int) -> bool:
    return found <= acknowledged + 1


@pytest.mark.parametrize(("durability", "promised"), [("full", kept_all), ("process", kept_a_prefix)])
def test_power_loss(
    path: str, durability: str, promised: Callable[[int, int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut "full" has every acknowledged write, "process" an earlier state; neither is ever damaged."""
    examine_images(path, durability, IMAGES, monkeypatch, promised)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("durability", "promised"), [("full", kept_all), ("process", kept_a_prefix)])
def test_power_loss_at_length(
    path: str, durability: str, promised: Callable[[int, int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for twenty times as many images."""
    examine_images(path, durability, IMAGES_LONG, monkeypatch, promised)
