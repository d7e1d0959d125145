"""`python -m bench`: run the benches, print the tables, write the page and the chart."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from bench import (
    bench_bulk,
    bench_contention,
    bench_counters,
    bench_crowds,
    bench_durability,
    bench_fields,
    bench_foreign,
    bench_growth,
    bench_imports,
    bench_keys,
    bench_lists,
    bench_locks,
    bench_lua,
    bench_opening,
    bench_page_size,
    bench_queues,
    bench_reads,
    bench_servers,
    bench_tables_codec,
    bench_values,
    bench_writes,
    callgrind,
    gates,
    tables,
)
from bench.chart import svg
from bench.report import Report
from bench.scale import FULL, QUICK, TINY
from bench.worker import share_imports

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"

# The order of the page, and of the targets on it.
TOPICS: Final = {
    module.TOPIC.replace(" ", "_"): module
    for module in (
        bench_reads,
        bench_foreign,
        bench_writes,
        bench_counters,
        bench_lists,
        bench_bulk,
        bench_tables_codec,
        bench_keys,
        bench_contention,
        bench_durability,
        bench_lua,
        bench_growth,
        bench_imports,
        bench_opening,
        bench_locks,
        bench_queues,
        bench_servers,
        bench_crowds,
        bench_values,
        bench_fields,
        bench_page_size,
    )
}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"callgrind, gates, or some of: {', '.join(TOPICS)}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="less than a minute; nothing is written but to --output")
    size.add_argument("--tiny", action="store_true", help="only shows that the benches run; its figures mean nothing")
    parser.add_argument("--output", type=Path, help="directory for benchmarks.md and benchmarks.svg (a full run: docs)")
    parser.add_argument("--record", action="store_true", help="gates: write down what is counted now")
    given = parser.parse_args(arguments)
    if given.topics == ["callgrind"]:
        print(callgrind.table())
        return 0
    if given.topics == ["gates"]:
        return gates.record() if given.record else gates.check()
    if given.record:
        parser.error("--record goes with gates")
    if unknown := [topic for topic in given.topics if topic not in TOPICS]:
        parser.error(f"no topic is called {', '.join(unknown)}")

    report = Report(QUICK if given.quick else TINY if given.tiny else FULL)
    for name in given.topics or TOPICS:
        began = time.monotonic()
        TOPICS[name].run(report)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        if report.scale is TINY:
            # After the first topic, whose workers have begun as those of a real run do.
            share_imports([module.__name__ for module in TOPICS.values()])
    print(tables.text(report))
    output = given.output
    if output is None and not given.topics and report.scale is FULL:
        output = DOCS
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "benchmarks.md").write_text(tables.page(report), encoding="utf-8")
        if (chart := svg(report)) is not None:
            (output / "benchmarks.svg").write_text(chart, encoding="utf-8")
    return 0
