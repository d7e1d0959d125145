"""What the processes that have a store open do: counted by each for itself, published while somebody watches.

A watcher touches a file in the lock directory, whose modification time says until when it wants to know. Whoever uses
the store looks at that time when it looks at the store's files anyway, and writes to a small file beside it what it has
done since the time before. A process that does nothing publishes nothing, so a file that gets old counts no more and is
removed, whether its process idles or is dead.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

from slothstate.engines.sqlite import location
from slothstate.engines.sqlite.beside import write
from slothstate.engines.sqlite.operations import by_verb
from slothstate.hints import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from slothstate.engines.sqlite.read_cache import ReadCache

__all__ = ["ACTIVITY_FILE", "WATCH_FILE", "Publisher", "operations"]

PUBLISH_INTERVAL: Final = 0.4
"""Seconds that a publication tells of, or more; whoever looks twice within a second wants one."""

LONGEST: Final = 10.0
"""Seconds that a publication tells of at most: what was done before anybody watched is no news."""

WATCH_FILE: Final = "watch"
ACTIVITY_FILE: Final = "activity-"


class Counted(Protocol):
    """A store that counts its operations, and its cache's hits."""

    operations: defaultdict[Callable[..., object], int]
    cache: ReadCache


def operations(store: Counted) -> dict[str, int]:
    """Return how often this process used the store, by verb."""
    counted = by_verb(store.operations)
    cache = store.cache.figures()
    counted["get"] = counted.get("get", 0) + cache["hits"]
    for verb, hits in (("get_many", cache["many_hits"]), ("list_length", cache["length_hits"])):
        if hits:
            counted[verb] = counted.get(verb, 0) + hits
    return counted


class Publisher:
    """What publishes the activity of one engine."""

    def __init__(self, path: str) -> None:
        self._path = path
        directory = location.lock_directory(path)
        self._watch = os.path.join(directory, WATCH_FILE)
        self._file = os.path.join(directory, ACTIVITY_FILE + os.urandom(8).hex())
        self._published = False
        self._due = 0.0
        self._before_ns = 0
        self._before: list[int] = []

    def publish(self, store: Counted) -> None:
        """Publish if somebody watches and it is time to. Fails never: who cannot write is not seen."""
        clock = time.monotonic()
        if clock < self._due:
            return
        try:
            if os.stat(self._watch).st_mtime < time.time():
                return
        except OSError:
            return
        self._due = clock + PUBLISH_INTERVAL
        counted, now_ns = operations(store), time.monotonic_ns()
        counts = [sum(counted.values()), counted["get"], store.cache.figures()["hits"]]
        before, elapsed_ns = self._before, now_ns - self._before_ns
        self._before, self._before_ns = counts, now_ns
        if not before or elapsed_ns > LONGEST * 1e9:
            return
        changes = [now - then for now, then in zip(counts, before, strict=True)]
        with suppress(OSError):
            self._published = True
            write(self._path, self._file, " ".join(map(str, (os.getpid(), elapsed_ns, *changes))))

    def withdraw(self) -> None:
        """Remove what was published."""
        if self._published:
            with suppress(OSError):
                os.unlink(self._file)
