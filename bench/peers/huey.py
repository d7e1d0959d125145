"""The queue under huey's SqliteHuey. What it gives out is gone: a worker that dies loses it. Its consumers poll."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from bench.peers import PROCESS_DEATH, Peer, is_absent

DURABILITY: Final = f"synchronous=OFF, what it offers besides FULL: {PROCESS_DEATH}"


def missing() -> str | None:
    return is_absent("huey")


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"huey": version("huey")}


def open(directory: Path) -> Peer:
    from huey.storage import SqliteStorage

    @cache
    def queue(name: str) -> Any:
        return SqliteStorage(name, str(directory / "huey.db"), fsync=False)

    return Peer(
        name="huey",
        close=lambda: None,
        value=lambda value: str(value).encode(),
        push=lambda name, item: queue(name).enqueue(item),
        shift=lambda name: queue(name).dequeue(),
    )
