"""filelock: an operating system's lock on a file for each name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.peers import Peer, is_absent

DURABILITY: Final = "nothing is kept: the lock ends with its process"


def missing() -> str | None:
    return is_absent("filelock")


def versions() -> dict[str, str]:
    import filelock

    return {"filelock": filelock.__version__}


def open(directory: Path) -> Peer:
    import filelock

    locks: dict[str, Any] = {}

    def lock(name: str) -> None:
        held = locks.get(name)
        if held is None:
            held = locks[name] = filelock.FileLock(str(directory / f"{name}.lock"))
        held.acquire()

    def unlock(name: str) -> None:
        locks[name].release()

    return Peer(name="filelock", close=locks.clear, directory=directory, lock=lock, unlock=unlock)
