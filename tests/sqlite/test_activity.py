"""What processes publish of their activity: on request, for a while, beside the store and never in anybody's way."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

import slothstate
from helpers.processes import Channel, Worker, processes
from helpers.support import until
from slothstate import Activity
from slothstate.engines.sqlite import activity_publisher as activity_module
from slothstate.engines.sqlite import activity_reader
from slothstate.state import State

WATCH = 60.0


def published(path: str) -> list[Path]:
    """The files that the processes publish by, drafts included."""
    return list(Path(path + "-locks").glob("activity-*"))


def work(channel: Channel, path: str) -> None:
    """Set one key, get it three times, and so on, until told to end."""
    with slothstate.open(path) as state:
        channel.send("ready")
        while not channel._pipe.poll(0):
            state.set("n", 1)
            for _ in range(3):
                state.get("n")
            time.sleep(0.001)
        channel.receive()


def of_others(state: State) -> list[Activity]:
    """What is published by processes other than this one."""
    return [activity for activity in state.activity(WATCH) if activity.pid != os.getpid()]


def test_nothing_is_published_unasked(path: str, state: State) -> None:
    """Without a request no file appears, however long and much the store is used."""
    end = time.monotonic() + 0.2
    until(lambda: time.monotonic() > end, lambda: state.set("n", 1))
    assert published(path) == []
    assert not os.path.exists(path + "-locks/watch")


def test_two_processes_publish_what_they_do(path: str, state: State) -> None:
    """Operations, gets and hits are told of each process by itself; its file goes when it closes."""
    with processes() as start:
        workers = [start(work, path) for _ in range(2)]
        for worker in workers:
            worker.receive()
        until(lambda: len(of_others(state)) == 2)
        found = of_others(state)
        assert {activity.pid for activity in found} == {worker.pid for worker in workers}
        for activity in found:
            assert activity.elapsed_ns >= activity_module.PUBLISH_INTERVAL * 1e9
            assert 0 < activity.hits < activity.gets < activity.operations
            # One set for three gets, but for what was under way.
            assert abs(activity.gets - 3 * (activity.operations - activity.gets)) <= 3
        assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in published(path))
        for worker in workers:
            end(worker)
    assert of_others(state) == []
    assert len(published(path)) <= 1, "at most this process's own"


def end(worker: Worker) -> None:
    """Let a worker close its State and end."""
    worker.send("end")
    worker.result()


def test_request_ends(path: str, state: State) -> None:
    """When the time of a request is over, or it was withdrawn, nobody publishes any more."""
    for seconds in (0.05, 0):
        state.activity(WATCH)
        state.activity(seconds)
        time.sleep(0.1)
        for file in published(path):
            file.unlink()
        finish = time.monotonic() + activity_module.PUBLISH_INTERVAL + 0.1
        until(lambda: time.monotonic() > finish, lambda: state.set("n", 1))  # noqa: B023
        assert published(path) == []


def test_what_the_dead_left_is_old_and_removed(path: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a killed process, and a draft, count for two seconds at most and then go."""
    monkeypatch.setattr(activity_reader, "OLD", 0.3)
    with processes() as start:
        worker = start(work, path)
        worker.receive()
        until(lambda: of_others(state))
        worker.kill()
    draft = Path(path + "-locks/activity-0123456789abcdef.1")
    draft.touch()
    time.sleep(0.35)
    assert of_others(state) == []
    assert published(path) == []


@pytest.mark.parametrize("text", ["", "1 2 3", "a b c d e", "1 0 0 0 0", "1 2 3 4 5 6"])
def test_damaged_file_is_passed_over(path: str, state: State, text: str) -> None:
    """A file that is not of ours keeps nobody from the others."""
    Path(path + "-locks/activity-0123456789abcdef").write_text(text)
    assert state.activity(0) == []


def test_directory_that_cannot_be_written(path: str, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever cannot publish goes on as ever."""

    def fail(*args: object) -> None:
        tried.append(1)
        raise OSError(28, "full")

    tried: list[int] = []
    state.activity(WATCH)
    monkeypatch.setattr(activity_module, "write", fail)
    until(lambda: tried, lambda: state.set("n", 1))
    assert state.get("n") == 1
    assert published(path) == []


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None])
def test_bad_seconds(state: State, seconds: object) -> None:
    """The time of a request is a finite number >= 0."""
    with pytest.raises(slothstate.InvalidValue, match="seconds"):
        state.activity(seconds)  # type: ignore[arg-type]


def test_activity_of_a_closed_state(path: str) -> None:
    """A closed State asks for nothing."""
    state = slothstate.open(path)
    state.close()
    with pytest.raises(slothstate.StateClosed):
        state.activity()
