"""What a run was made on: the caption of its chart."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

from bench import peers

__all__ = ["durability", "environment", "versions"]


def environment() -> str:
    """Return machine, CPU, kernel, Python and date, in one line."""
    return ", ".join(
        (
            f"{os.cpu_count()} cores of {_processor()}",
            f"{platform.system()} {platform.release()}",
            f"Python {platform.python_version()}",
            time.strftime("%Y-%m-%d"),
        )
    )


def versions() -> dict[str, str]:
    """Return the versions of everything that was measured."""
    found: dict[str, str] = {}
    for name in peers.NAMES:
        if peers.missing(name) is None:
            found |= peers.load(name).versions()
    return found


def durability() -> dict[str, str]:
    """Return what a write of each store that can run here survives."""
    return {
        name: peers.load(name).DURABILITY
        for name in peers.NAMES
        if name not in ("orjson", "json") and peers.missing(name) is None
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
