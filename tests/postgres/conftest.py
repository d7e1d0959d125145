"""Servers for the tests of what a server and the way to it can do to a store."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import slothstate
from helpers import postgres_server
from helpers.postgres_server import Server


@pytest.fixture(autouse=True)
def _has_server() -> None:
    reason = postgres_server.reason_to_skip()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def url() -> Iterator[str]:
    """An empty store in the server of the run."""
    found = postgres_server.take_url()
    slothstate.open(found).close()
    yield found
    with slothstate.open(found) as state:
        assert state.check() == []
    postgres_server.give_back(found)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the test's own, to be stopped and killed; its settings are the parameter, if there is one."""
    if os.environ.get("SLOTHSTATE_TEST_POSTGRES"):
        pytest.skip("another's server is not killed")
    with tempfile.TemporaryDirectory(prefix="slothpg") as directory:
        own = Server(Path(directory), **getattr(request, "param", {}))
        own.initialize()
        own.start()
        yield own
        own.stop(signal.SIGQUIT)
