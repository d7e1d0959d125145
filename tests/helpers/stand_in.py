"""Stand-ins for the read cache of a store. C answers `get` from the cache behind one; all else goes through it."""

from __future__ import annotations

from typing import Any

from slothstate.engines.protocol import Codec, FastPath
from slothstate.engines.sqlite.engine import SqliteEngine
from slothstate.engines.sqlite.read_cache import ReadCache

__all__ = ["StandIn", "through"]


class StandIn:
    """A read cache that does what the one behind it does, but for what a class that inherits this does itself."""

    def __init__(self, cache: ReadCache) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def behind(cache: Any) -> Any:
    return behind(cache._cache) if isinstance(cache, StandIn) else cache


_fast = SqliteEngine.fast


def through(self: SqliteEngine, codec: Codec, /) -> FastPath | None:
    """Do what `SqliteEngine.fast` does, for which it is to be put in place: C knows nothing of stand-ins."""
    path = _fast(self, codec)
    return None if path is None else path._replace(cache=behind(path.cache))
