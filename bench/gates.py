"""The gates on speed: no operation may execute more instructions than were written down in bench/instructions.json.

`python -m bench gates` counts and compares, `python -m bench gates --record` writes down. Another Python, apsw or
compiler executes others, so the gates hold only with those that were recorded; with others the figures are shown.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from bench import callgrind
from bench.report import OURS

__all__ = ["TABLE", "TOLERANCE", "check", "comparison", "record"]

TABLE: Final = Path(__file__).with_name("instructions.json")

TOLERANCE: Final = 0.01
"""By how much a count may grow: two builds of one source differ by less."""

RECOUNTS: Final = 4
"""How often an operation is counted again whose count is not what was recorded."""


def record() -> int:
    """Count, and write the table; return the exit code."""
    if reason := callgrind.missing():
        print(f"nothing is recorded: {reason}", file=sys.stderr)
        return 1
    table = {"made with": made_with(), "instructions": _counted()}
    TABLE.write_text(json.dumps(table, indent=4) + "\n", encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"), end="")
    return 0


def check() -> int:
    """Count, compare with the table and print both; return the exit code."""
    if reason := callgrind.missing():
        print(f"skipped: {reason}")
        return 0
    if not TABLE.exists():
        print(f"{TABLE} is not there: write it with python -m bench gates --record", file=sys.stderr)
        return 1
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    counted = _counted()
    for operation, now in counted.items():
        recorded: float = table["instructions"].get(operation, now)
        for _ in range(RECOUNTS):
            if abs(counted[operation] - recorded) <= TOLERANCE * recorded:
                break
            # What a thread does once, in one of the two loops alone, is in their difference: more than the operation
            # takes, or less. What the operation itself does is in each count.
            again = round(callgrind.instructions(OURS, operation))
            counted[operation] = min(counted[operation], again, key=lambda count: abs(count - recorded))
    text, holds = comparison(table, made_with(), counted)
    print(text)
    return 0 if holds else 1


def comparison(table: dict[str, Any], made: dict[str, str], counted: dict[str, float]) -> tuple[str, bool]:
    """Return what is to be printed, and whether the gates hold: a table as recorded, and what was counted now."""
    lines = [f"{'instructions an operation':32}{'recorded':>12}{'now':>12}"]
    holds = True
    for operation, now in counted.items():
        recorded = table["instructions"].get(operation)
        if recorded is None:
            holds = False
            lines.append(f"{operation:32}{'none':>12}{now:12,.0f}  record it")
            continue
        verdict = ""
        if now > recorded * (1 + TOLERANCE):
            holds = False
            verdict = f"  more than {TOLERANCE:.0%} above what was recorded"
        elif now < recorded * (1 - TOLERANCE):
            verdict = "  fewer: record it"
        lines.append(f"{operation:32}{recorded:12,.0f}{now:12,.0f}{now / recorded - 1:+8.1%}{verdict}")
    then = table["made with"]
    others = [f"{what} is {now}, recorded was {then[what]}" for what, now in made.items() if now != then[what]]
    if others:
        return "\n".join([*lines, "The gates are not enforced:", *others]), True
    return "\n".join(lines), holds


def made_with() -> dict[str, str]:
    """Return what besides our source decides how many instructions are executed."""
    import apsw

    compiler = subprocess.run(
        [*shlex.split(os.environ.get("CC", "cc")), "--version"], capture_output=True, text=True, check=True
    )
    return {
        # With the compiler and the day it was built.
        "Python": sys.version.replace("\n", " "),
        "apsw": apsw.apsw_version(),
        # Without the name it was called by: cc and gcc are one.
        "compiler": compiler.stdout.partition("\n")[0].partition(" ")[2],
    }


def _counted() -> dict[str, float]:
    return {operation: round(callgrind.instructions(OURS, operation)) for operation in callgrind.OPERATIONS}
