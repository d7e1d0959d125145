"""What the tests of Lua share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import slothstate
from helpers.host import Runner
from helpers.lua import IMPLEMENTATIONS, Scripts


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    """One Lua of each kind: without integers and with them."""
    return str(request.param)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[slothstate.State]:
    """A store of the test's own."""
    with slothstate.open(tmp_path / "state.db") as state:
        yield state


@pytest.fixture
def lua(implementation: str, state: slothstate.State) -> Scripts:
    """A runtime bound to the store."""
    return Scripts(state, implementation)


@pytest.fixture
def scripts(implementation: str, state: slothstate.State) -> Runner:
    """A way to run scripts of `slothstate run` on the store."""
    return Runner(state, implementation)
