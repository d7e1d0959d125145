"""Servers for the tests of what a server and the way to it can do to a store."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import slothstate
from helpers import postgres_server
from helpers.postgres_server import Server, started


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


@pytest.fixture(scope="module")
def _server_of_the_module() -> Iterator[Server]:
    if os.environ.get("SLOTHSTATE_TEST_POSTGRES"):
        pytest.skip("another's server is not killed")
    with started() as server:
        yield server


@pytest.fixture
def server(_server_of_the_module: Server) -> Iterator[Server]:
    """A server to be stopped and killed, with no store in it."""
    server = _server_of_the_module
    yield server
    if not server.is_running:
        server.start()
    postgres_server.drop(server.url())
