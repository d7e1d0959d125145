"""How much a run measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["FULL", "QUICK", "TINY", "Scale"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    name: str
    rounds: int
    """Turns that every lane of a topic takes, one after the other, before ratios are taken and their median."""
    few_rounds: int
    """The same where one operation takes milliseconds."""
    budget: float
    """Seconds a turn may take."""
    many_keys: int
    many_items: int
    bulk: int
    """Keys of one `set_many`."""
    contention_seconds: float
    processes: tuple[int, ...]
    foreign_seconds: float
    """How long hot reads go on beside a writer."""
    handovers: int
    takeovers: int
    waiters: int
    """Processes that wait for the items of one list."""
    crowds: tuple[int, ...]
    """Clients of one server."""
    crowd_processes: int
    """How many processes these are the threads of."""
    starts: int
    """Interpreters started to time an import."""


FULL: Final = Scale(
    name="full",
    rounds=15,
    few_rounds=7,
    budget=0.05,
    many_keys=1_000_000,
    many_items=1_000_000,
    bulk=10_000,
    contention_seconds=3.0,
    processes=(1, 2, 4, 8),
    foreign_seconds=0.5,
    handovers=100,
    takeovers=15,
    waiters=16,
    crowds=(8, 64, 256),
    crowd_processes=8,
    starts=15,
)

QUICK: Final = Scale(
    name="quick",
    rounds=5,
    few_rounds=3,
    budget=0.01,
    many_keys=50_000,
    many_items=50_000,
    bulk=10_000,
    contention_seconds=0.4,
    processes=(1, 2, 4),
    foreign_seconds=0.2,
    handovers=10,
    takeovers=2,
    waiters=4,
    crowds=(8, 32),
    crowd_processes=8,
    starts=5,
)

TINY: Final = Scale(
    name="tiny",
    rounds=1,
    few_rounds=1,
    budget=0.001,
    many_keys=2_000,
    many_items=500,
    bulk=100,
    contention_seconds=0.05,
    processes=(1, 2),
    foreign_seconds=0.02,
    handovers=2,
    takeovers=1,
    waiters=2,
    crowds=(4,),
    crowd_processes=2,
    starts=1,
)
"""Only shows that the benches run."""
