"""json of the standard library, a codec: nothing is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.peers import Peer

DURABILITY: Final = "stores nothing"


def missing() -> str | None:
    return None


def versions() -> dict[str, str]:
    return {}


def open(directory: Path) -> Peer:
    import json

    return Peer(name="json", close=lambda: None, encode=json.dumps, decode=json.loads)
