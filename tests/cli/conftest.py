"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.lua import IMPLEMENTATIONS
from slothstate import State
from slothstate import open as open_state


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The directory in which a command runs, and of its store state.db."""
    return tmp_path


@pytest.fixture
def state(home: Path) -> State:
    """The store, open in this process while commands work on it."""
    return open_state(home / "state.db")


@pytest.fixture(params=IMPLEMENTATIONS)
def lua(request: pytest.FixtureRequest) -> str:
    """Each Lua that `--lua` names."""
    return str(request.param)
