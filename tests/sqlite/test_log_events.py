"""What wakes those who wait: the kernel tells of writes to the log; where it does not, the wal-index is looked at."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import slothstate
from helpers.support import in_time, processor_time
from slothstate import State
from slothstate.engines.sqlite import log_events
from slothstate.engines.sqlite.log_events import LogEvents


@pytest.fixture
def state(path: str) -> Iterator[State]:
    with slothstate.open(path) as opened:
        yield opened


@pytest.fixture(params=["inotify", "none left", "no ctypes", "other system"])
def events(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the kernel tells, and if not, why."""

    class Library:
        inotify_init1 = staticmethod(lambda flags: -1)

    if request.param == "none left":
        monkeypatch.setattr("ctypes.CDLL", lambda name: Library)
    elif request.param == "no ctypes":
        monkeypatch.setitem(__import__("sys").modules, "ctypes", None)
    elif request.param == "other system":
        monkeypatch.setattr(log_events, "sys", type("System", (), {"platform": "darwin"}))
    how: str = request.param
    return how


def test_answers_within_a_millisecond(state: State, path: str, events: str) -> None:
    """From a push to the item in another thread and State, whether or not the kernel tells."""
    with slothstate.open(path) as other:

        def late() -> float:
            arrived: list[float] = []
            thread = threading.Thread(
                target=lambda: arrived.append((other.list_shift("q", timeout=10), time.monotonic())[1])
            )
            thread.start()
            time.sleep(0.02)
            state.list_push("q", 1)
            pushed = time.monotonic()
            thread.join()
            return arrived[0] - pushed

        assert in_time(late, 0.002, 30)


@pytest.mark.skipif(not os.path.exists("/proc/self/timens_offsets"), reason="inotify is Linux's")
def test_costs_nothing_while_nothing_happens(state: State) -> None:
    """Where the kernel tells, a waiter hardly computes."""
    assert in_time(lambda: processor_time(lambda: state.wait("k", timeout=1)), 0.01)


def test_only_its_own_file(tmp_path: Path) -> None:
    """Writes to other files are no events, and those before the last wait are told once."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.write_bytes(b"")
    events = LogEvents(str(mine))
    assert events.wait(0) is False
    other.write_bytes(b"1")
    assert events.wait(0) is False
    for _ in range(3):
        with mine.open("ab") as file:
            file.write(b"1")
    assert events.wait(1) is True
    assert events.wait(0) is False
    mine.unlink()
    assert events.wait(0) is None
    mine.write_bytes(b"")
    assert events.wait(0) is False
    with mine.open("ab") as file:
        file.write(b"1")
    assert events.wait(1) is True
    events.close()


def test_nothing_is_left_open(path: str) -> None:
    """Neither by `close` nor by a State that nobody closed."""
    before: list[Any] = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    for closes in (True, False):
        state = slothstate.open(path)
        state.wait("k", timeout=0.01)
        if closes:
            state.close()
        del state
    if before:
        assert len(os.listdir("/proc/self/fd")) == len(before)
