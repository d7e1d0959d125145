"""orjson, a codec: nothing is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.peers import Peer, is_absent

DURABILITY: Final = "stores nothing"


def missing() -> str | None:
    return is_absent("orjson")


def versions() -> dict[str, str]:
    import orjson

    return {"orjson": orjson.__version__}


def open(directory: Path) -> Peer:
    import orjson

    return Peer(name="orjson", close=lambda: None, encode=orjson.dumps, decode=orjson.loads)
