"""A place where States open, for each engine: what a test of every engine uses in place of a path and SQL."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from helpers import postgres_server
from helpers.model import Memory, ModelEngine
from helpers.support import exactly
from slothstate import State
from slothstate.engines.protocol import Engine, Limits
from slothstate.engines.sqlite.engine import SqliteEngine

__all__ = ["PLACES", "Place", "unchanged"]


class Place(ABC):
    """One store. What is opened here is closed with it."""

    features: frozenset[str]
    limits: Limits

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._opened: list[State] = []
        self._observer: State | None = None

    @abstractmethod
    def engine(self, clock: Callable[[], float] = time.time, *, busy_timeout: float = 30.0) -> Engine:
        """Return a new engine on this store; what is not given to `open` has to be closed."""

    def open(
        self, clock: Callable[[], float] = time.time, *, kind: type[State] = State, busy_timeout: float = 30.0
    ) -> State:
        """Open another State, as another process would, whose time is told by `clock`."""
        self._opened.append(kind(self.engine(clock, busy_timeout=busy_timeout)))
        return self._opened[-1]

    def contents(self) -> tuple[list[Any], list[Any]]:
        """Return the keys with all that is said of them, those that have expired as well, and the locks."""
        if self._observer is None:
            # At the beginning of time nothing has expired.
            self._observer = self.open(lambda: 0.0)
        keys = [
            (record.key, record.kind, exactly(record.value), record.expires_at_ms) for record in self._observer.dump()
        ]
        return keys, [(lock["name"], lock["token"], lock["owner"]) for lock in self._observer.locks()]

    def close(self) -> None:
        for state in self._opened:
            state.close()


class SqlitePlace(Place):
    features = SqliteEngine.features
    limits = SqliteEngine.limits

    def engine(self, clock: Callable[[], float] = time.time, *, busy_timeout: float = 30.0) -> Engine:
        return SqliteEngine(str(self.directory / "state.db"), clock=clock, busy_timeout=busy_timeout)


class ModelPlace(Place):
    features = ModelEngine.features
    limits = ModelEngine.limits

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._memory = Memory()

    def engine(self, clock: Callable[[], float] = time.time, *, busy_timeout: float = 30.0) -> Engine:
        return ModelEngine(self._memory, clock=clock, busy_timeout=busy_timeout)


class PostgresPlace(Place):
    features: frozenset[str] = frozenset()
    limits = SqliteEngine.limits

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._url = postgres_server.take_url()

    def engine(self, clock: Callable[[], float] = time.time, *, busy_timeout: float = 30.0) -> Engine:
        from slothstate.engines.postgres.engine import PostgresEngine

        return PostgresEngine(self._url, clock=None if clock is time.time else clock, busy_timeout=busy_timeout)

    def close(self) -> None:
        super().close()
        postgres_server.give_back(self._url)


PLACES: Final[dict[str, type[Place]]] = {"sqlite": SqlitePlace, "model": ModelPlace, "postgresql": PostgresPlace}
"""By engine: one that is added here has to pass tests/conformance."""


@contextmanager
def unchanged(place: Place) -> Iterator[None]:
    """Fail if the block changes what a store holds."""
    before = place.contents()
    yield
    assert place.contents() == before
