"""The benches run: every topic at a size that measures nothing, in the process it would be run from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_topic_runs_and_the_page_and_the_chart_are_written(tmp_path: Path) -> None:
    """`python -m bench` ends well, and every target and topic is on the page it writes."""
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--tiny", "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    chart = (tmp_path / "benchmarks.svg").read_text(encoding="utf-8")
    for topic in ("Reads", "Writes", "Keys", "Contention", "Growth", "Page size"):
        assert f"### {topic}\n" in page
    assert "import slothstate: beyond the start of Python" in page
    assert chart.startswith("<svg ")
    assert chart.endswith("</svg>\n")
