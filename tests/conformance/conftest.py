"""What every engine must do is tested on each of them: `place` takes the place of a path, `open_state` of SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.places import PLACES, Place
from helpers.support import Clock
from slothstate import State


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty store of each engine; what it cannot do its `features` do not name."""
    place = PLACES[request.param](tmp_path)
    yield place
    place.close()


@pytest.fixture
def open_state(place: Place, clock: Clock) -> Callable[[], State]:
    """A function that opens another handle on the same store, with the same clock."""
    return lambda: place.open(clock)


@pytest.fixture(scope="module", params=PLACES)
def shared_state(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """A store for all tests of a module: for Hypothesis, which calls a test many times within one fixture."""
    place = PLACES[request.param](tmp_path_factory.mktemp("shared"))
    state = place.open()
    yield state
    assert state.check() == []
    place.close()
