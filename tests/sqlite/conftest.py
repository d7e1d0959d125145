"""Fixtures of what only a store in a file can be asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import slothstate
from slothstate import State


@pytest.fixture
def shared_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory that any user can reach."""
    # They stay open: the tests of another process may be in them.
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and not directory.stat().st_mode & 0o001:
            directory.chmod(directory.stat().st_mode | 0o011)
    (tmp_path / "shared").mkdir()
    yield tmp_path / "shared"
    (tmp_path / "shared").chmod(0o700)


@pytest.fixture
def other(path: str, state: State) -> Iterator[State]:
    """A second State on the same file: another owner."""
    with slothstate.open(path) as opened:
        yield opened


@pytest.fixture
def long_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the files for a minute: where 50 ms run out on a slow machine, the cache is not asked at all."""
    monkeypatch.setattr("slothstate.engines.sqlite.pool.IDENTITY_CHECK_INTERVAL", 60.0)
