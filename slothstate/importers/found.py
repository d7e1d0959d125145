"""What an importer is asked and what it finds."""

from __future__ import annotations

from pathlib import Path

from slothstate.hints import NamedTuple, TypeAlias
from slothstate.record import Record

__all__ = ["Found", "NotReadable", "Options", "Skipped"]


class Options(NamedTuple):
    """`path` of the store; `table` and `json` (values are JSON) are sqlitedict's, `guess_types` sloth-runner's."""

    path: Path
    table: str
    guess_types: bool
    json: bool


class Skipped(NamedTuple):
    """A key that stays behind, and why."""

    key: str
    reason: str


Found: TypeAlias = Record | Skipped


class NotReadable(Exception):
    """The other store cannot be read, or no further: the text says why."""
