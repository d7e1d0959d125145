"""The benches run: every topic at a size that measures nothing, in the process it would be run from; and the gates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers import ROOT, postgres_server
from helpers.support import run_program


def test_every_topic_runs_and_the_page_and_the_chart_are_written(tmp_path: Path) -> None:
    """`python -m bench` ends well, and every target and topic is on the page it writes."""
    postgres_server.share_pattern()
    run = run_program([sys.executable, "-m", "bench", "--tiny", "--output", str(tmp_path)], cwd=ROOT, timeout=280)
    assert run.returncode == 0, run.stderr
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    chart = (tmp_path / "benchmarks.svg").read_text(encoding="utf-8")
    for topic in ("Reads", "Writes", "Keys", "Contention", "Growth", "Queues", "Page size"):
        assert f"### {topic}\n" in page
    assert "import slothstate: beyond the start of Python" in page
    assert chart.startswith("<svg ")
    assert chart.endswith("</svg>\n")


def test_the_gates_on_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """One percent more than recorded is too much, fewer is told; other versions are shown and enforce nothing."""
    monkeypatch.syspath_prepend(str(ROOT))
    from bench.gates import comparison

    made = {"Python": "3.11.7", "apsw": "3.54.1.0"}
    table = {"made with": made, "instructions": {"get": 1000, "set": 20_000}}
    assert comparison(table, made, {"get": 1010, "set": 19_900})[1]
    text, holds = comparison(table, made, {"get": 1000, "set": 20_201})
    assert not holds
    assert "more than 1% above what was recorded" in text.splitlines()[-1]
    assert "fewer: record it" in comparison(table, made, {"get": 900, "set": 20_000})[0]
    assert not comparison(table, made, {"get": 1000, "set": 20_000, "push": 1})[1]
    text, holds = comparison(table, {**made, "apsw": "3.55.0.0"}, {"get": 5000, "set": 20_000})
    assert holds
    assert "apsw is 3.55.0.0, recorded was 3.54.1.0" in text
