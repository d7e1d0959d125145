"""What `import slothstate` adds to the start of Python, and what it does not load."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from array import array
from typing import Any, Final

from bench import peers
from bench.compare import Series
from bench.measure import Round
from bench.report import OURS, Report
from bench.under_pytest import require, run_measured
from bench.worker import directory_for

TOPIC: Final = "imports"

MODULES: Final = ("slothstate", "apsw", "diskcache", "redis")
LATE: Final = ("filelock", "lupa", "click", "rich")
"""What must not be loaded before it is needed."""

START: Final = "start of Python, processor time"
IMPORT: Final = "import, beyond the start of Python, processor time"

_LOADED: Final = f"import sys, slothstate; print(*(name for name in {LATE!r} if name in sys.modules))"


def start(statement: str, compiled: str) -> float:
    """Return the nanoseconds of processor time a new interpreter takes to run a statement and end.

    `site` is loaded but reads no .pth files: those of an editable install load half of the standard library. Bytecode
    is kept in the directory `compiled`: elsewhere PYTHONDONTWRITEBYTECODE would make a checkout compile every time what
    installed packages bring compiled. The first start of each statement fills it.
    """
    before = _children()
    subprocess.run([sys.executable, "-S", "-c", f"import site; {statement}"], check=True, env=environment(compiled))
    return _children() - before


def environment(compiled: str) -> dict[str, str]:
    """Return the environment of an interpreter that finds what we do and keeps bytecode in this directory."""
    variables = {**_environment(), "PYTHONPYCACHEPREFIX": compiled}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e9


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def loaded_too_early() -> list[str]:
    """Return which of the late modules `import slothstate` has loaded."""
    command = [sys.executable, "-S", "-c", _LOADED]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=_environment())
    return found.stdout.split()


def run(report: Report) -> None:
    modules = [name for name in MODULES if peers.missing(name) is None]
    statements = {"": "pass", **{name: f"import {name}" for name in modules}}
    found: dict[str, list[float]] = {name: [] for name in statements}
    with directory_for("imports") as compiled:
        for statement in statements.values():
            start(statement, str(compiled))
        for _ in range(report.scale.starts):
            for name, statement in statements.items():
                found[name].append(start(statement, str(compiled)))
    report.add(TOPIC, START, "Python", Series(found[""], array("d", found[""])))
    series = {}
    for name in modules:
        # A difference of two starts, so noise can make one of them nothing; never less.
        added = [max(1.0, took - bare) for took, bare in zip(found[name], found[""], strict=True)]
        series[name] = Series(added, array("d", added))
    for name in modules:
        report.add(TOPIC, IMPORT, name, series[name], series[OURS])
    report.at_most("import slothstate: beyond the start of Python", 25, series[OURS].mean / 1e6, " ms")
    early = loaded_too_early()
    report.holds(f"import slothstate: none of {', '.join(LATE)} loaded", not early, ", ".join(early) or "none")


PARAMETERS: Final = {"name": MODULES}


def bench_imports(benchmark: Any, name: str) -> None:
    require(name)

    with directory_for("imports") as compiled:
        start(f"import {name}", str(compiled))

        def measure() -> Round:
            took = start(f"import {name}", str(compiled))
            return Round(took, array("d", [took]))

        run_measured(benchmark, measure, "start of Python and import")
