"""Instructions an operation executes, counted by callgrind: the figure that does not wobble.

Two interpreters run loops of different lengths under valgrind; the difference of their counts, start-up cancelled out,
is that of so many operations. The kernel's work is not in it, so a write counts what the process itself does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final

from bench import peers
from bench.bench_locks import pair
from bench.measure import Workload
from bench.report import OURS
from bench.workloads import get, get_table, increment, push_pop, set_scalar, set_table, take_items

__all__ = ["OPERATIONS", "instructions", "missing", "table"]

SHORT: Final = 1_000
LONG: Final = 4_000
LONG_OF_CHEAP: Final = 50_000
"""Two runs differ by some thousand instructions, which must not be seen in an operation of a few hundred."""

TIMEOUT: Final = 600.0

SELDOM: Final = 1e6
"""Seconds between two looks at the store's files: the busier the machine, the more of them a loop would hold."""

CHEAP: Final = "get, hot int"
UNCACHED: Final = "get, uncached int"

OPERATIONS: Final[dict[str, tuple[Workload, dict[str, Any]]]] = {
    CHEAP: (get, {"kind": "int"}),
    UNCACHED: (get, {"kind": "int"}),
    "get, hot table of five fields": (get_table, {}),
    "set, int": (set_scalar, {}),
    "set, table of five fields": (set_table, {}),
    "increment": (increment, {}),
    "list_push + list_pop": (push_pop, {"length": 10}),
    "lock + unlock": (pair, {}),
    "list_shift": (take_items, {"claims": False}),
    "list_claim + done": (take_items, {"claims": True}),
}

ONLY_OURS: Final = ("list_push + list_pop", "lock + unlock", "list_shift", "list_claim + done")

STORES: Final = (OURS, "apsw")


def missing() -> str | None:
    """Return why nothing can be counted here, or None."""
    return None if shutil.which("valgrind") else "valgrind is not installed"


def instructions(peer: str, operation: str) -> float:
    """Return the instructions one operation of a peer executes."""
    with ThreadPoolExecutor(2) as two:
        few, many = two.map(lambda operations: _total(peer, operation, operations), (SHORT, _long(operation)))
    return (many - few) / (_long(operation) - SHORT)


def table() -> str:
    """Count every operation of every store, and return a table; or the reason why not."""
    if reason := missing():
        return f"skipped: {reason}"
    lines = [f"{'instructions an operation':32}" + "".join(f"{store:>14}" for store in STORES)]
    for operation in OPERATIONS:
        stores = (OURS,) if operation in ONLY_OURS else STORES
        counts = [f"{instructions(store, operation):14,.0f}" for store in stores]
        lines.append(f"{operation:32}" + "".join(counts))
    return "\n".join(lines)


def _long(operation: str) -> int:
    return LONG_OF_CHEAP if operation == CHEAP else LONG


def _total(peer: str, operation: str, operations: int) -> int:
    with tempfile.TemporaryDirectory(prefix="bench-callgrind-") as directory:
        finished = subprocess.run(
            [
                "valgrind",
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
                sys.executable,
                "-m",
                "bench.callgrind",
                peer,
                operation,
                str(operations),
                directory,
            ],
            capture_output=True,
            text=True,
            # The order of sets and dicts must not differ between two runs.
            env={**os.environ, "PYTHONHASHSEED": "0"},
            timeout=TIMEOUT,
        )
    counted = re.search(r"Collected : (\d+)", finished.stderr)
    if finished.returncode or counted is None:
        raise RuntimeError(f"callgrind failed on {operation} of {peer}:\n{finished.stderr}")
    return int(counted[1])


def _loop(peer: str, operation: str, operations: int, directory: Path) -> None:
    workload, options = OPERATIONS[operation]
    ours = {"identity_interval": SELDOM, "read_cache": operation != UNCACHED}
    store = peers.load(peer).open(directory, **(ours if peer == OURS else {}))
    # As much is prepared for the short loop as for the long one, so that it cancels out too.
    batch = workload(store, **options)(_long(operation))
    deque(islice(map(batch.function, *batch.columns), operations), maxlen=0)
    store.close()


if __name__ == "__main__":
    _loop(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
