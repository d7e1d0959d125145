"""persist-queue's SQLiteAckQueue, which like a claim gives an item back that nobody acknowledged.

Only when it is opened anew, and nobody but its own process is woken by a put: what is measured is one process.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from bench.peers import PROCESS_DEATH, Peer, is_absent

DURABILITY: Final = f"synchronous=NORMAL, which it has no option for: {PROCESS_DEATH}"


def missing() -> str | None:
    return is_absent("persistqueue")


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"persist-queue": version("persist-queue")}


def open(directory: Path) -> Peer:
    import persistqueue

    @cache
    def queue(name: str) -> Any:
        opened: Any = persistqueue.SQLiteAckQueue(str(directory), name=name, multithreading=True)
        for connection in (opened._getter, opened._putter):
            connection.execute("pragma synchronous = normal")
        return opened

    def claim(name: str, seconds: float) -> Any:
        item = queue(name).get(timeout=seconds, raw=True)
        queue(name).ack(id=item["pqid"])
        return item["data"]

    def tidy(name: str) -> None:
        # Else what is done stays, and each get passes over it.
        queue(name).clear_acked_data(max_delete=1_000_000, keep_latest=0)

    return Peer(
        name="persist_queue",
        close=lambda: None,
        # It becomes part of a table's name.
        key=lambda name: re.sub(r"\W", "_", name),
        push=lambda name, item: queue(name).put(item),
        claim=claim,
        tidy=tidy,
    )
