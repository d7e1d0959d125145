"""A report as text: on the terminal, and as docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Sequence

from bench import machine
from bench.report import Report, Row

__all__ = ["duration", "multiple", "page", "targets_table", "text"]

HEADINGS = ("operation", "store", "mean", "p50", "p95", "p99", "max", "ratio")
RIGHT = range(2, 8)

COMMAND = "python -m bench"


def duration(nanoseconds: float) -> str:
    """Return a time with its unit, at three digits.

    >>> duration(140), duration(9_432), duration(3_000_000_000)
    ('140 ns', '9.43 us', '3.00 s')
    """
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        # From 999.5 of the smaller unit on, three digits are not enough for it.
        if nanoseconds >= size * 0.9995:
            return f"{_three_digits(nanoseconds / size)} {unit}"
    return f"{nanoseconds:.0f} ns"


def multiple(ratio: float) -> str:
    """Return a ratio at three digits or so: 0.77x, 14.8x, 1403x."""
    return f"{_three_digits(ratio)}x"


def _three_digits(number: float) -> str:
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def text(report: Report) -> str:
    """Return all tables for a terminal."""
    parts = []
    for topic, rows in _by_topic(report).items():
        parts += [f"\n{topic}", *_aligned([HEADINGS, *map(_cells, rows)])]
    if report.notes:
        parts += ["", *report.notes]
    parts += ["", *_aligned([("target", "goal", "found", ""), *_target_cells(report)], right=range(1, 3))]
    parts += [f"skipped: {name}: {reason}" for name, reason in report.skipped.items()]
    parts += ["", machine.environment(), _versions()]
    return "\n".join(parts)


def page(report: Report) -> str:
    """Return docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        "",
        f"Made by `{COMMAND}`, which writes this page and its chart anew; nothing here was typed by hand.",
        "",
        "![What one operation takes, by store](benchmarks.svg)",
        "",
        f"Measured on {machine.environment()}. {_versions()}",
        "",
        "## How it is measured",
        "",
        *_METHOD,
        "",
        "What a write that returned survives:",
        "",
        *(f"- {name}: {what}." for name, what in machine.durability().items()),
        *(f"- {name} was not measured: {reason}." for name, reason in report.skipped.items()),
        "",
        "## Targets",
        "",
        targets_table(report),
        "",
        "## All figures",
        "",
        "`mean` is the median of the rounds' means; p50 to max are of single operations, all rounds and processes",
        "pooled. `ratio` says how many times longer than slothstate it took: the median of the rounds' ratios.",
    ]
    for topic, rows in _by_topic(report).items():
        parts += ["", f"### {topic.capitalize()}", "", *_markdown([HEADINGS, *map(_cells, rows)])]
    if report.notes:
        parts += ["", "### Contention and rates", "", *(f"- {note}" for note in report.notes)]
    return "\n".join(parts) + "\n"


_METHOD = (
    "Every store runs in a process and a directory of its own and is asked for one short round after the other, all",
    "stores in turn, so that whatever else the machine does hits all of them; ratios are taken within a round. A round",
    "is a loop (its mean, without the time the scheduler gave to other programs; for Redis and sqlitedict with it,",
    "because another process or thread does their work) and a pass that times call by call (the percentiles, with that",
    "time, but without the cost of reading the clock) and compares every result. Values change with every write.",
    "Python's garbage collector is off while the clock runs. A library that knows only bytes gets its keys and values",
    "converted beforehand.",
)


def targets_table(report: Report) -> str:
    """Return the targets and what was found, as Markdown."""
    return "\n".join(_markdown([("target", "goal", "found", ""), *_target_cells(report)], right=range(1, 3)))


def _target_cells(report: Report) -> list[tuple[str, ...]]:
    return [
        (target.what, target.goal, target.value, "reached" if target.reached else "NOT reached")
        for target in report.targets
    ]


def _by_topic(report: Report) -> dict[str, list[Row]]:
    topics: dict[str, list[Row]] = {}
    for row in report.rows:
        topics.setdefault(row.topic, []).append(row)
    return topics


def _cells(row: Row) -> tuple[str, ...]:
    times = (row.series.mean, *row.series.percentiles(50, 95, 99, 100))
    ratio = "" if row.ratio is None else multiple(row.ratio)
    return (row.what, row.label, *map(duration, times), ratio)


def _versions() -> str:
    return ", ".join(f"{name} {version}" for name, version in machine.versions().items()) + "."


def _aligned(rows: Sequence[Sequence[str]], right: range = RIGHT) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _markdown(rows: Sequence[Sequence[str]], right: range = RIGHT) -> list[str]:
    rule = ["--:" if index in right else "---" for index in range(len(rows[0]))]
    return [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
