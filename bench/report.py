"""What a run found: rows of the table, and the targets with what was reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench import peers
from bench.compare import Lane, Series, interleave, ratio
from bench.scale import Scale

__all__ = ["Report", "Row", "Target"]

OURS = "slothstate"


@dataclass(frozen=True, slots=True)
class Row:
    topic: str
    what: str
    label: str
    series: Series
    ratio: float | None
    """How much longer this one took than slothstate at the same operation; None where there is no such pair."""


@dataclass(frozen=True, slots=True)
class Target:
    what: str
    goal: str
    value: str
    reached: bool


@dataclass(slots=True)
class Report:
    """Filled by the topics, one after the other."""

    scale: Scale
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Figures that are not times of one operation."""
    skipped: dict[str, str] = field(default_factory=dict)
    """What could not be measured here, and why."""

    def measure(self, topic: str, lanes: Sequence[Lane], rounds: int | None = None) -> None:
        """Run lanes interleaved and add a row for each."""
        for name in sorted({lane.peer for lane in lanes}):
            if reason := peers.missing(name):
                self.skip(name, reason)
        lanes = [lane for lane in lanes if lane.peer not in self.skipped]
        found = interleave(lanes, rounds or self.scale.rounds, self.scale.budget)
        for lane, series in zip(lanes, found, strict=True):
            ours = next((s for o, s in zip(lanes, found, strict=True) if (o.what, o.label) == (lane.what, OURS)), None)
            self.add(topic, lane.what, lane.label, series, ours)

    def add(self, topic: str, what: str, label: str, series: Series, ours: Series | None = None) -> None:
        """Add a row; `ours` is slothstate's series of the same operation."""
        self.rows.append(Row(topic, what, label, series, None if ours is None else ratio(series, ours)))

    def find(self, what: str, label: str = OURS) -> Series | None:
        """Return a series by operation and peer, None if that was not measured (the peer is not installed)."""
        return next((row.series for row in self.rows if (row.what, row.label) == (what, label)), None)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def skip(self, name: str, reason: str) -> None:
        self.skipped[name] = reason

    def holds(self, what: str, reached: bool, value: str) -> None:
        """Add a target that is a fact and not a figure."""
        self.targets.append(Target(what, "holds", value, reached))

    def at_least(self, what: str, goal: float, value: float | None, unit: str = "x") -> None:
        """Add a target that is reached from `goal` up; without a value it could not be measured, and is left out."""
        if value is not None:
            self.targets.append(Target(what, f">= {goal:g}{unit}", _figure(value, unit), value >= goal))

    def at_most(self, what: str, goal: float, value: float | None, unit: str = "x") -> None:
        """Add a target that is reached up to `goal`."""
        if value is not None:
            self.targets.append(Target(what, f"<= {goal:g}{unit}", _figure(value, unit), value <= goal))

    def times(self, what: str, label: str, than: str = OURS, its: str | None = None) -> float | None:
        """Return how many times longer `label` took at `what` than `than` did at `its` (at `what` unless given)."""
        above, below = self.find(what, label), self.find(its or what, than)
        return None if above is None or below is None else ratio(above, below)


def _figure(value: float, unit: str) -> str:
    # Three digits, and never "1.4e+03".
    return f"{value:.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
