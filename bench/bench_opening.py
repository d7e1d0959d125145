"""What a program pays that opens a store for one look into it: time, memory, and as a command of a shell."""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from bench.bench_imports import environment, start
from bench.compare import Lane, Series, Workers
from bench.measure import Batch, Source
from bench.peers import Peer
from bench.report import OURS, Report
from bench.under_pytest import run_lane
from bench.worker import directory_for

TOPIC: Final = "opening"

LOOK: Final = "open + get + close of an existing store"
START: Final = "start of Python alone, processor time"

COMMANDS: Final = {
    "slothstate get k": (("get", "k"), 4.0),
    "slothstate set k 1": (("set", "k", "1"), None),
    "slothstate with-lock x -- true": (("with-lock", "x", "--", "true"), 6.0),
}
"""Commands by what they are called in the table: their words, and the goal, in starts of Python alone."""

MEMORY: Final = {"an existing store": 4.0, "a new store": 5.0}
"""MiB that a process may have more than bare Python after opening one."""

_COMMAND: Final = (
    "import os, sys; sys.argv = {words!r}; sys.stdout = open(os.devnull, 'w'); "
    "from slothstate.__main__ import main; sys.exit(main())"
)

_WEIGH: Final = """
import sys
def kib():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))
before = kib()
import slothstate
state = slothstate.open(sys.argv[1])
print(kib() - before)
"""
"""What is the process's own: pages of libraries are shared with every other process that uses them."""


def look(peer: Peer) -> Source:
    """Open a store that nobody else has open, get a key, and close it."""
    function = peer.look
    assert function is not None
    return lambda operations: Batch(function, (["k"] * operations,), [None] * operations)


LANES: Final = tuple(Lane(what=LOOK, peer=peer, workload=look) for peer in (OURS, "diskcache", "apsw"))


def added_mib(path: str, compiled: str) -> float:
    """Return how much memory of its own a process has more after importing slothstate and opening a store."""
    command = [sys.executable, "-S", "-c", f"import site; {_WEIGH.strip()}", path]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(compiled))
    return int(found.stdout) / 1024


def run(report: Report) -> None:
    report.measure(TOPIC, LANES)
    report.at_least(f"{LOOK}: times faster than diskcache", 3, report.times(LOOK, "diskcache"))
    with directory_for("opening") as directory:
        compiled, path = str(directory / "compiled"), str(directory / "state.db")
        _run_commands(report, path, compiled)
        if sys.platform == "linux":
            _weigh(report, lambda number: str(directory / f"{number}.db"), compiled)


def _run_commands(report: Report, path: str, compiled: str) -> None:
    statements = {START: "pass"} | {
        what: _COMMAND.format(words=["slothstate", "--db", path, *words]) for what, (words, _) in COMMANDS.items()
    }
    found: dict[str, list[float]] = {what: [] for what in statements}
    start(_COMMAND.format(words=["slothstate", "--db", path, "set", "k", "1"]), compiled)
    for turn in range(report.scale.starts + 1):
        for what, statement in statements.items():
            took = start(statement, compiled)
            # The first of each compiles what it imports.
            if turn:
                found[what].append(took)
    series = {what: Series(times, array("d", times)) for what, times in found.items()}
    report.add(TOPIC, START, "Python", series[START])
    for what, (_, goal) in COMMANDS.items():
        report.add(TOPIC, f"{what}, processor time", OURS, series[what])
        if goal is not None:
            beside = median(took / bare for took, bare in zip(found[what], found[START], strict=True))
            report.at_most(f"{what}: processor time in starts of Python", goal, beside)


def _weigh(report: Report, store: Callable[[int], str], compiled: str) -> None:
    added_mib(store(0), compiled)
    found: dict[str, list[float]] = {"a new store": [], "an existing store": []}
    for turn in range(report.scale.starts):
        found["a new store"].append(added_mib(store(turn + 1), compiled))
        found["an existing store"].append(added_mib(store(turn + 1), compiled))
    for what, goal in MEMORY.items():
        report.at_most(f"memory over bare Python after opening {what}", goal, median(found[what]), " MiB")


PARAMETERS: Final = {"lane": LANES}


def bench_opening(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
