"""Writes that survive a power cut: several processes, a sync each, beside SQLite's own `synchronous=FULL`.

On the disk of the temporary directory, and with 2 ms added to each sync: what a disk needs for one decides everything,
and no two disks need the same.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

from bench.bench_contention import contend
from bench.measure import Round
from bench.report import OURS, Report
from bench.scale import QUICK
from bench.slow_sync import compiler, slowed
from bench.under_pytest import run_measured
from bench.worker import directory_for

TOPIC: Final = "full durability"

ADDED_US: Final = 2000

_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    OURS: {"durability": "full"},
    "apsw": {"synchronous": "full"},
}


def what(processes: int, added_us: int) -> str:
    syncs = f"each {added_us / 1000:g} ms longer" if added_us else "of this disk"
    return f"increment, syncs {syncs}, {processes} process{'es' if processes > 1 else ''}"


def run(report: Report) -> None:
    scale = report.scale
    for added_us in (0, ADDED_US) if compiler() else (0,):
        with directory_for("slow") as directory, slowed(directory, added_us) if added_us else nullcontext():
            for processes in scale.processes:
                _compare(report, processes, added_us)


def _compare(report: Report, processes: int, added_us: int) -> None:
    name = what(processes, added_us)
    found = {
        peer: contend(peer, processes, report.scale.contention_seconds, **options) for peer, options in _OPTIONS.items()
    }
    for peer, outcome in found.items():
        report.add(TOPIC, name, peer, outcome.series(), found[OURS].series())
        report.note(
            f"{name}, {peer}: {outcome.per_second:,.0f}/s in all, slowest/fastest {outcome.share:.2f}, "
            f"longest wait {outcome.longest_ms:.1f} ms"
        )
    ours, sqlite = found[OURS], found["apsw"]
    times = ours.per_second / sqlite.per_second
    if processes == 1 and not added_us:
        report.at_least(f"{name}: beside SQLite FULL", 0.9, times, "x")
    if processes == 8:
        report.at_least(f"{name}: beside SQLite FULL", 5.5 if added_us else 1.0, times, "x")
        report.at_least(f"{name}: share of the slowest beside the fastest", 0.6, ours.share, "")
        report.at_most(f"{name}: longest wait", 50 if added_us else 250, ours.longest_ms, " ms")


PARAMETERS: Final = {"name": tuple(_OPTIONS), "processes": QUICK.processes}


def bench_durability(benchmark: Any, name: str, processes: int) -> None:
    def measure() -> Round:
        series = contend(name, processes, QUICK.contention_seconds, **_OPTIONS[name]).series()
        return Round(series.means[0], series.samples)

    run_measured(benchmark, measure, what(processes, 0), rounds=1)
