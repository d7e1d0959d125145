"""diskcache, without eviction (a cache that throws keys away would be doing less)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.peers import PROCESS_DEATH, Peer, is_absent

DURABILITY: Final = f"synchronous=NORMAL: {PROCESS_DEATH}"


def missing() -> str | None:
    return is_absent("diskcache")


def versions() -> dict[str, str]:
    import diskcache

    return {"diskcache": diskcache.__version__}


def open(directory: Path) -> Peer:
    import diskcache

    cache = diskcache.Cache(str(directory / "diskcache"), eviction_policy="none", sqlite_synchronous=1)
    locks: dict[str, Any] = {}

    def set_many(mapping: dict[str, Any]) -> None:
        with cache.transact():
            for key, value in mapping.items():
                cache.set(key, value)

    def push(key: str, item: Any) -> Any:
        return cache.push(item, prefix=key)

    def pop(key: str) -> Any:
        return cache.pull(prefix=key, side="back")[1]

    other = str(directory / "other")

    def look(key: str) -> Any:
        with diskcache.Cache(other) as opened:
            return opened.get(key)

    def lock(name: str) -> None:
        locks[name] = diskcache.Lock(cache, name)
        locks[name].acquire()

    def unlock(name: str) -> None:
        locks.pop(name).release()

    return Peer(
        name="diskcache",
        close=cache.close,
        get=cache.get,
        set=cache.set,
        get_table=cache.get,
        set_table=cache.set,
        set_many=set_many,
        increment=cache.incr,
        push=push,
        pop=pop,
        look=look,
        lock=lock,
        unlock=unlock,
    )
