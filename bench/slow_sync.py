"""A disk whose syncs last as long as wanted: for what depends on that and on nothing else of a disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["compiler", "slowed"]

_SOURCE: Final = Path(__file__).with_name("slow_sync.c")


def compiler() -> str | None:
    """Return what to compile with; None where syncs cannot be made slower."""
    return shutil.which(os.environ.get("CC", "cc").split()[-1]) if sys.platform == "linux" else None


@contextmanager
def slowed(directory: Path, microseconds: int) -> Iterator[None]:
    """Let each sync of the processes that are started in the block last that much longer."""
    library = directory / "slow_sync.so"
    command = compiler()
    assert command is not None
    subprocess.run([command, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, _SOURCE], check=True)
    before = {name: os.environ.get(name) for name in ("LD_PRELOAD", "SLOW_SYNC_US")}
    os.environ["LD_PRELOAD"] = f"{before['LD_PRELOAD'] or ''} {library}".strip()
    os.environ["SLOW_SYNC_US"] = str(microseconds)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
