"""What the processes that have a store open do: counted by each for itself, published while somebody watches.

A watcher touches a file in the lock directory, whose modification time says until when it wants to know. Whoever uses
the store looks at that time when it looks at the store's files anyway, and writes to a small file beside it what it has
done since the time before. A process that does nothing publishes nothing, so a file that gets old counts no more and is
removed, whether its process idles or is dead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from slothstate.engines.sqlite import counters, keys, lists, location
from slothstate.engines.sqlite.beside import write

if TYPE_CHECKING:
    from slothstate.engines.sqlite.store import Store

__all__ = ["ACTIVITY_FILE", "WATCH_FILE", "Publisher", "operations"]

PUBLISH_INTERVAL: Final = 0.4
"""Seconds that a publication tells of, or more; whoever looks twice within a second wants one."""

LONGEST: Final = 10.0
"""Seconds that a publication tells of at most: what was done before anybody watched is no news."""

WATCH_FILE: Final = "watch"
ACTIVITY_FILE: Final = "activity-"

_VERBS: Final[dict[Callable[..., object], str]] = {
    keys.get: "get",
    keys.get_many: "get_many",
    keys.put: "set",
    keys.put_many: "set_many",
    keys.delete: "delete",
    keys.exists: "exists",
    keys.clear: "clear",
    keys.keys: "keys",
    keys.page_of_keys: "scan",
    keys.set_expiry: "set_ttl",
    keys.remaining_ms: "get_ttl",
    keys.persist: "persist",
    keys.compare_swap: "compare_swap",
    keys.insert_absent: "compare_swap",
    counters.increment: "increment",
    counters.append: "append",
    lists.push: "list_push",
    lists.pop: "list_pop",
    lists.shift: "list_shift",
    lists.length: "list_length",
    lists.section: "list_range",
}


def operations(engine: Store) -> dict[str, int]:
    """Return how often this process used the engine, by verb."""
    counted: dict[str, int] = {}
    for operation, count in list(engine.operations.items()):
        verb = _VERBS.get(operation)
        if verb is not None:
            counted[verb] = counted.get(verb, 0) + count
    counted["get"] = counted.get("get", 0) + engine.cache.figures()["hits"]
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

    def publish(self, engine: Store) -> None:
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
        counted, now_ns = operations(engine), time.monotonic_ns()
        counts = [sum(counted.values()), counted["get"], engine.cache.figures()["hits"]]
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
