"""py-lmdb, one transaction an operation, `sync=False` to be no slower than a store that does not sync."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from bench.peers import Peer, is_absent, through_json

DURABILITY: Final = "sync=False: survives the death of any process; a power cut may cost the whole file"

MAP_SIZE: Final = 4 * 2**30


def missing() -> str | None:
    return is_absent("lmdb")


def versions() -> dict[str, str]:
    import lmdb

    return {"py-lmdb": lmdb.__version__, "LMDB": ".".join(map(str, lmdb.version()))}


def open(directory: Path) -> Peer:
    import lmdb

    environment = lmdb.open(str(directory / "lmdb"), map_size=MAP_SIZE, sync=False, metasync=False)
    begin = environment.begin

    def get(key: bytes) -> bytes | None:
        # A transaction of its own for each read: one that stays open would not see what others write.
        with begin() as transaction:
            found: bytes | None = transaction.get(key)
            return found

    def set_(key: bytes, value: bytes) -> None:
        with begin(write=True) as transaction:
            transaction.put(key, value)

    def set_text(key: bytes, text: str) -> None:
        set_(key, text.encode())

    def set_many(mapping: dict[str, Any]) -> None:
        with begin(write=True) as transaction:
            transaction.cursor().putmulti((key.encode(), str(value).encode()) for key, value in mapping.items())

    return Peer(
        name="lmdb",
        close=environment.close,
        key=str.encode,
        value=lambda value: str(value).encode(),
        get=get,
        set=set_,
        set_many=set_many,
        **through_json(get, set_text),
    )
