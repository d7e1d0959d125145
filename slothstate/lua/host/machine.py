"""What a script can ask about the machine: the load of its processors, its memory, its file systems."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["cpu_percent", "disk", "memory"]

_SAMPLE = 0.2
"""Seconds over which the processors are watched."""


def cpu_percent(pause: Callable[[float], None]) -> float:
    """Return the percentage of time in which the processors were not idle, watched for a moment.

    Raises: `OSError` where the system does not tell it, as all but Linux.
    """
    idle, total = _processor_times()
    pause(_SAMPLE)
    later_idle, later_total = _processor_times()
    # Two readings within one tick of the clock are alike.
    spent = max(1, later_total - total)
    return 100.0 * max(0, spent - (later_idle - idle)) / spent


def memory() -> dict[str, float]:
    """Return total, used and available memory in MiB, and the percentage that is used.

    Raises: `OSError` where the system does not tell it, as all but Linux.
    """
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kibibytes = {words[0]: int(words[1]) for words in lines}
    total, available = kibibytes["MemTotal:"], kibibytes["MemAvailable:"]
    return {
        "total_mb": total / 1024,
        "used_mb": (total - available) / 1024,
        "available_mb": available / 1024,
        "percent": 100.0 * (total - available) / total,
    }


def disk(path: str) -> dict[str, float]:
    """Return total, used and free space in GiB, and the percentage that is used, of that for anybody, as df does.

    Raises: `OSError`.
    """
    usage = shutil.disk_usage(path)
    return {
        "total_gb": usage.total / 2**30,
        "used_gb": usage.used / 2**30,
        "free_gb": usage.free / 2**30,
        "percent": 100.0 * usage.used / max(1, usage.used + usage.free),
    }


def _processor_times() -> tuple[int, int]:
    """Return the ticks that all processors were idle, waiting for a disk included, and those that there were."""
    with Path("/proc/stat").open() as lines:
        # user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user
        ticks = [int(word) for word in lines.readline().split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)
