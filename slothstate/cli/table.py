"""Tables for a terminal: columns as wide as they need be, the last one cut to the terminal's width."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

import click

from slothstate.cli.text import styled

__all__ = ["cut", "print_table", "terminal_width", "width"]

GAP: Final = "  "

SAMPLE: Final = 1_000
"""Rows that column widths are taken from: those behind them are printed as they come."""

WIDEST: Final = 1 / 3
"""A column's share of the terminal at most; a longer cell is shown whole and moves what is behind it."""


def terminal_width() -> int:
    """Return the columns of the terminal."""
    return shutil.get_terminal_size().columns


def width(text: str) -> int:
    """Return the columns a text takes: two for wide characters, none for combining ones and for our own styles."""
    if "\x1b" in text:
        text = click.unstyle(text)
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(character) in "WF" else 0 if unicodedata.combining(character) else 1
        for character in text
    )


def cut(text: str, columns: int) -> str:
    """Return the text, or as much of it as fits the columns and a mark that it goes on."""
    if width(text) <= columns:
        return text
    mark = "…" if sys.stdout.encoding.lower().startswith("utf") else "..."
    left = columns - len(mark)
    end = 0
    while end < len(text) and (left := left - width(text[end])) >= 0:
        end += 1
    return text[:end] + mark


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> int:
    """Print rows of cells under their headings; return how many rows. Columns named in `right` are set right."""
    rest = iter(rows)
    sample = list(islice(rest, SAMPLE))
    if not sample:
        return 0
    total = terminal_width()
    limit = max(12, int(total * WIDEST))
    widths = [
        max(width(heading), *(columns for row in sample if (columns := width(row[column])) <= limit), 0)
        for column, heading in enumerate(headings)
    ]
    is_right = [heading in right for heading in headings]
    count = 0
    print(styled(_line(headings, widths, is_right, total), bold=True))
    for line in _lines(chain(sample, rest), widths, is_right, total):
        print(line)
        count += 1
    return count


def _lines(rows: Iterable[Sequence[str]], widths: list[int], right: list[bool], total: int) -> Iterator[str]:
    for row in rows:
        yield _line(row, widths, right, total)


def _line(row: Sequence[str], widths: list[int], right: list[bool], total: int) -> str:
    cells = []
    for cell, columns, is_right in zip(row[:-1], widths, right, strict=False):
        padding = " " * (columns - width(cell))
        cells.append(padding + cell if is_right else cell + padding)
    head = "".join(cell + GAP for cell in cells)
    left = total - width(head)
    last = row[-1]
    if right[-1]:
        last = " " * (widths[-1] - width(last)) + last
    # What has no room is left out; a single column is never cut.
    return (head + (cut(last, left) if left > len(GAP) else "") if cells else last).rstrip()
