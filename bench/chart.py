"""The chart of a report: bars on a logarithmic scale, written by hand as SVG.

It brings its own background in both schemes of colours, so that it is readable wherever it is shown.
"""

from __future__ import annotations

from math import ceil, floor, log10
from typing import Final
from xml.sax.saxutils import escape

from bench import (
    bench_bulk,
    bench_contention,
    bench_counters,
    bench_foreign,
    bench_keys,
    bench_lists,
    bench_locks,
    bench_reads,
    bench_writes,
    machine,
)
from bench.report import OURS, Report, Row
from bench.scale import Scale
from bench.tables import COMMAND, duration, multiple

__all__ = ["svg"]

WIDTH: Final = 860
LABELS: Final = 150
BARS: Final = 560
BAR: Final = 16
GAP: Final = 4
TITLE: Final = 30
LINE: Final = 16
MARGIN: Final = 24
CAPTION_CHARACTERS: Final = 126
SHORTEST: Final = 1.0

_STYLE: Final = """
.page { fill: #ffffff; stroke: #d0d7de; } text { font: 12px system-ui, sans-serif; fill: #1f2328; }
.head { font-weight: 600; font-size: 13px; } .title { font-weight: 600; font-size: 16px; }
.quiet { fill: #59636e; font-size: 11px; } .grid { stroke: #d1d9e0; } .bar { fill: #8c959f; } .ours { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; stroke: #3d444d; } text { fill: #f0f6fc; } .quiet { fill: #9198a1; }
  .grid { stroke: #3d444d; } .bar { fill: #656c76; } .ours { fill: #4493f8; }
}
"""


def svg(report: Report) -> str | None:
    """Return the chart as the text of an SVG file; None if the topics that were run have nothing for it."""
    groups = _groups(report)
    if not groups:
        return None
    times = [_nanoseconds(row) for rows in groups.values() for row in rows]
    low, high = floor(log10(min(times))), ceil(log10(max(times)))
    bars_left = MARGIN + LABELS
    top = MARGIN + 48
    parts: list[str] = []
    for what, rows in groups.items():
        parts.append(_text(MARGIN, top + 16, what, "head"))
        top += TITLE
        for row in rows:
            length = max(2.0, (log10(_nanoseconds(row)) - low) / (high - low) * BARS)
            ours = row.label == OURS
            beside = "" if ours or row.ratio is None else f"  ({multiple(row.ratio)})"
            parts += [
                _text(bars_left - 8, top + 12, row.label, anchor="end"),
                f'<rect class="{"ours" if ours else "bar"}" x="{bars_left}" y="{top}" '
                f'width="{length:.1f}" height="{BAR}" rx="2"/>',
                _text(bars_left + length + 6, top + 12, duration(row.series.mean) + beside),
            ]
            top += BAR + GAP
        top += GAP
    grid = [_grid(bars_left + (power - low) / (high - low) * BARS, top, power) for power in range(low, high + 1)]
    caption = _caption()
    height = top + 34 + LINE * len(caption) + MARGIN // 2
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'role="img" aria-labelledby="title">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
            f'<text id="title" class="title" x="{MARGIN}" y="{MARGIN + 12}">What one operation takes</text>',
            _text(MARGIN, MARGIN + 30, "less is better; every step of the scale is ten times the one before", "quiet"),
            *grid,
            *parts,
            *(_text(MARGIN, top + 34 + LINE * index, line, "quiet") for index, line in enumerate(caption)),
            "</svg>\n",
        )
    )


def _shown(scale: Scale) -> tuple[tuple[str, str], ...]:
    """Return topic and operation of what is shown, in this order."""
    return (
        (bench_reads.TOPIC, bench_reads.INT),
        (bench_reads.TOPIC, bench_reads.TABLE),
        (bench_foreign.TOPIC, bench_foreign.BESIDE),
        (bench_writes.TOPIC, bench_writes.INT),
        (bench_writes.TOPIC, bench_writes.TABLE),
        (bench_counters.TOPIC, bench_counters.INCREMENT),
        (bench_contention.TOPIC, bench_contention.what(scale.processes[-1])),
        (bench_lists.TOPIC, bench_lists.SHORT),
        (bench_bulk.TOPIC, bench_bulk.what(scale)),
        (bench_keys.TOPIC, bench_keys.what("prefix", scale)),
        (bench_keys.TOPIC, bench_keys.what("all", scale)),
        (bench_locks.TOPIC, bench_locks.UNCONTENDED),
        (bench_locks.TOPIC, bench_locks.HANDOVER),
    )


def _groups(report: Report) -> dict[str, list[Row]]:
    """Return the rows that are shown, each operation's fastest first; a topic that was not run is not shown."""
    groups = {
        what: sorted(
            (row for row in report.rows if (row.topic, row.what) == (topic, what)), key=lambda row: row.series.mean
        )
        for topic, what in _shown(report.scale)
    }
    return {what: rows for what, rows in groups.items() if rows}


def _nanoseconds(row: Row) -> float:
    """What a row takes; the time of other programs, which was taken off, can be all of a tiny run on a busy machine."""
    return max(row.series.mean, SHORTEST)


def _grid(x: float, bottom: float, power: int) -> str:
    line = f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN + 44}" y2="{bottom}"/>'
    return line + _text(x, bottom + 14, duration(10**power).replace(".00", "").replace(".0", ""), "quiet", "middle")


def _text(x: float, y: float, content: str, style: str = "", anchor: str = "") -> str:
    attributes = f' class="{style}"' if style else ""
    attributes += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(content)}</text>'


def _caption() -> list[str]:
    durable = "; ".join(f"{name}: {what.split(':')[0]}" for name, what in machine.durability().items())
    sentences = (
        f"Made by `{COMMAND}` on {machine.environment()}.",
        ", ".join(f"{name} {version}" for name, version in machine.versions().items()) + ".",
        f"No store syncs to the disk at a write, all but filelock's survive a killed process. {durable}.",
        "The time is the median of the rounds' means; the ratio the median of the rounds' ratios to slothstate.",
    )
    return [line for sentence in sentences for line in _wrapped(sentence)]


def _wrapped(sentence: str) -> list[str]:
    lines = [""]
    for word in sentence.split():
        if len(lines[-1]) + len(word) >= CAPTION_CHARACTERS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
