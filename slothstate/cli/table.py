"""Tables for a terminal: columns as wide as they need be, cells cut where they are too long for that."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import chain, islice

import click

from slothstate.cli.formatting import styled
from slothstate.hints import Final

__all__ = ["cut", "print_table", "terminal_width", "width"]

GAP: Final = "  "

SAMPLE: Final = 1_000
"""Rows that column widths are taken from: those behind them are printed as they come."""

WIDEST: Final = 1 / 2
"""A column's share of the terminal at most: a UUID fits into 80 columns. A longer cell is cut in the middle."""

NARROWEST: Final = 8


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
    mark = _mark()
    return _beginning(text, columns - len(mark)) + mark


def _cut_in_the_middle(text: str, columns: int) -> str:
    """Return the text, or its two ends and a mark between them: what tells long names apart is often their end."""
    if width(text) <= columns:
        return text
    mark = _mark()
    left = columns - len(mark)
    end = _beginning(text[::-1], left // 2)[::-1]
    return _beginning(text, left - width(end)) + mark + end


def _mark() -> str:
    encoding = "" if sys.stdout is None else sys.stdout.encoding
    return "…" if encoding.lower().startswith("utf") else "..."


def _beginning(text: str, columns: int) -> str:
    end = 0
    while end < len(text) and (columns := columns - width(text[end])) >= 0:
        end += 1
    return text[:end]


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> int:
    """Print rows of cells under their headings; return how many rows. Columns named in `right` are set right.

    The last cell of a row that has fewer cells than there are headings goes on to the end of the line.
    """
    rest = iter(rows)
    sample = list(islice(rest, SAMPLE))
    if not sample:
        return 0
    total = terminal_width()
    limit = max(12, int(total * WIDEST))
    widths = [
        max(width(heading), min(limit, max(width(row[column]) for row in sample if len(row) == len(headings))))
        for column, heading in enumerate(headings)
    ]
    excess = sum(columns + len(GAP) for columns in widths[:-1]) - total
    if excess > 0:
        longest = max(range(len(widths) - 1), key=widths.__getitem__)
        widths[longest] = max(NARROWEST, widths[longest] - excess)
    is_right = [heading in right for heading in headings]
    count = 0
    print(styled(_line(headings, widths, is_right, total), bold=True))
    for row in chain(sample, rest):
        print(_line(row, widths, is_right, total))
        count += 1
    return count


def _line(row: Sequence[str], widths: list[int], right: list[bool], total: int) -> str:
    cells = []
    for cell, columns, is_right in zip(row[:-1], widths, right, strict=False):
        # Half a number would be another one.
        shown = cell if is_right else _cut_in_the_middle(cell, columns)
        padding = " " * (columns - width(shown))
        cells.append(padding + shown if is_right else shown + padding)
    head = "".join(cell + GAP for cell in cells)
    left = total - width(head)
    last = row[-1]
    if right[-1] and len(row) == len(right):
        last = " " * (widths[-1] - width(last)) + last
    # What has no room is left out; a single column is never cut.
    return (head + (cut(last, left) if left > len(GAP) else "") if cells else last).rstrip()
