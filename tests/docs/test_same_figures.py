"""A figure that stands on two pages is one figure: that of docs/benchmarks.md, or of the tests."""

from __future__ import annotations

import re
from typing import Final

from helpers import ROOT
from helpers.planted import BUGS
from helpers.verbs import KINDS, VERBS

SECONDS_OF: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}

CLOSE: Final = 0.04
"""By how much a rounded figure may differ, as a part of it."""


def page(name: str) -> str:
    """The text of a page."""
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, the rules below their heads left out."""
    lines = (line for line in text.splitlines() if line.startswith("|") and set(line) - set("|:- "))
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


def seconds(cell: str) -> float:
    """How long a cell says that something takes."""
    found = re.match(r"([\d.,]+) (ns|us|ms|s)\b", cell)
    assert found is not None, cell
    return float(found[1].replace(",", "")) * SECONDS_OF[found[2]]


def measured() -> dict[tuple[str, str], float]:
    """The mean of each operation of each store, in seconds; the last one that is given."""
    lines = [row for row in rows(page("docs/benchmarks.md")) if len(row) == 8 and re.match(r"[\d.]+ \w+$", row[2])]
    return {(operation, store): seconds(mean) for operation, store, mean, *_ in lines}


def is_close(said: float, found: float) -> bool:
    return abs(said - found) <= CLOSE * found


def test_planted_bugs() -> None:
    """README and the page on reliability have as many as there are."""
    said = f"planted bugs caught: {len(BUGS)}/{len(BUGS)}"
    assert said in page("README.md")
    assert f"`{said}`" in page("docs/reliability.md")
    text = page("docs/reliability.md").partition("## The tests are tested")[2].partition("\n## ")[0]
    assert {"Twenty-five": 25, "Twenty-six": 26, "Twenty-seven": 27}[text.split()[0]] == len(BUGS)
    assert "it can have nine" in page("docs/reliability.md")
    assert sum(bug.is_simulated for bug in BUGS.values()) == 9


def test_forms_of_verbs() -> None:
    """The page on reliability says on how much the promise of P6 is tested."""
    assert f"{len(VERBS)} forms of verbs on {len(KINDS)} kinds" in page("docs/reliability.md")


def test_what_is_not_reached() -> None:
    """The page on performance explains each goal that is not reached, with the figures of the run, and no other."""
    missed = [row[:3] for row in rows(page("docs/benchmarks.md")) if row[-1] == "NOT reached"]
    table = page("docs/performance.md").partition("## Goals that are not reached")[2].partition("\n## ")[0]
    assert missed
    assert [row[:3] for row in rows(table)[1:]] == missed


def test_several_machines() -> None:
    """What a verb costs on a server, and what many clients get of it, is what was measured."""
    text = page("docs/several-machines.md")
    found = measured()
    stores = ("slothstate", "postgresql", "redis, everysec", "slothstate, full", "postgresql, full", "redis, always")
    costs, _, crowds = text.partition("## What each promise becomes")
    compared = 0
    for name, *cells in rows(costs):
        for store, cell in zip(stores, cells, strict=True):
            known = [
                value
                for (operation, whose), value in found.items()
                if re.fullmatch(rf"{re.escape(name)}, (?:from|to|by) a server(?:, each synced)?", operation)
                and re.fullmatch(rf"{re.escape(store)}(?:, streams)?", whose)
            ]
            if known and cell:
                compared += 1
                assert is_close(seconds(cell), known[0]), (name, store, cell, known[0])
    assert compared >= 40
    compared = 0
    for name, *cells in rows(crowds):
        for clients, cell in zip((8, 64, 256), cells, strict=False):
            mean = found.get((f"{name}, {clients} clients", "postgresql"))
            if mean is not None:
                compared += 1
                assert is_close(float(cell.replace(",", "")), 1 / mean), (name, clients, cell, 1 / mean)
    assert compared == 15
    for clients in (8, 64, 256):
        waiting = re.search(rf"^- {clients} clients that wait .* (\d+) % of a core$", page("docs/benchmarks.md"), re.M)
        assert waiting is not None
        assert f" {waiting[1]} %" in next(line for line in text.splitlines() if "wait for an item take" in line)
