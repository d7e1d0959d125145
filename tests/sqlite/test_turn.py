"""A turn that one process of all has."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.processes import Channel, processes
from helpers.support import run_python
from slothstate import State
from slothstate.engines.sqlite import turn

SYSTEMS = pytest.mark.parametrize("system", [sys.platform, "win32"])


@SYSTEMS
def test_one_has_it(path: str, state: State, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    """Nobody else has a turn while a block runs, not this process either; then it is free, however the block ends."""
    monkeypatch.setattr(turn, "sys", SimpleNamespace(platform=system))
    with pytest.raises(KeyError), turn.hold(path, "a.lock") as first:
        with turn.hold(path, "a.lock") as second, turn.hold(path, "b.lock") as other:
            assert (first, second, other) == (True, False, True)
        raise KeyError
    with turn.hold(path, "a.lock") as again:
        assert again is True


def have_it(channel: Channel, path: str) -> None:
    with turn.hold(path, "a.lock") as is_had:
        channel.send(is_had)
        channel.receive()


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed")
def test_of_a_process_that_died(path: str, state: State) -> None:
    """A turn ends with its process; one whose file was removed meanwhile is nobody's."""
    with processes() as start:
        worker = start(have_it, path)
        assert worker.receive() is True
        with turn.hold(path, "a.lock") as is_had:
            assert is_had is False
        worker.kill()
        with turn.hold(path, "a.lock") as is_had:
            assert is_had is True
            os.unlink(turn.file(path, "a.lock"))
            with turn.hold(path, "a.lock") as anew:
                assert anew is True


def test_link_in_its_place(path: str, state: State, tmp_path: Path) -> None:
    """A link in the place of the file is not followed."""
    Path(path + "-locks").mkdir(exist_ok=True)
    Path(turn.file(path, "a.lock")).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), turn.hold(path, "a.lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_sweep_in_the_background_imports_no_filelock(path: str) -> None:
    """What filelock does around a fork cannot come in the middle of one: nothing in the background imports it."""
    code = """
import sys, time
import slothstate
state = slothstate.open(sys.argv[1], sweep_interval=0.01)
state.set("gone", 1, ttl=0.001)
while state.stats()["expired_pending"]:
    time.sleep(0.01)
print("filelock" in sys.modules)
"""
    assert run_python(code, path) == "False\n"
