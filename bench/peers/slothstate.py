"""slothstate itself, durability "process" (`synchronous=NORMAL`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.peers import PROCESS_DEATH, Peer

if TYPE_CHECKING:
    from slothstate import State

DURABILITY: Final = f"synchronous=NORMAL: {PROCESS_DEATH}"


def missing() -> str | None:
    return None


def versions() -> dict[str, str]:
    from importlib.metadata import version

    import apsw

    import slothstate

    return {"slothstate": slothstate.__version__, "SQLite": apsw.sqlite_lib_version(), "cffi": version("cffi")}


def open(
    directory: Path, *, page_size: int | None = None, identity_interval: float | None = None, **options: Any
) -> Peer:
    """`options` go to `slothstate.open`.

    `page_size` makes a store unlike any other, with the log as long in bytes. `identity_interval` is how often this
    process looks whether the store's files are still the same, in seconds.
    """
    import slothstate
    from slothstate.engines.sqlite import connection, pool, schema
    from slothstate.engines.sqlite.locks import owner

    if identity_interval is not None:
        for module in (pool, owner):
            module.IDENTITY_CHECK_INTERVAL = identity_interval  # type: ignore[attr-defined]
    if page_size is not None:
        log_bytes = connection.WAL_CHECKPOINT_PAGES * schema.PAGE_SIZE
        schema.PAGE_SIZE = page_size  # type: ignore[misc]
        connection.WAL_CHECKPOINT_PAGES = log_bytes // page_size  # type: ignore[misc]
    state = slothstate.open(directory / "state.db", **options)
    other = directory / "other.db"

    def look(key: str) -> Any:
        with slothstate.open(other) as opened:
            return opened.get(key)

    return replace(peer_of(state), directory=directory, look=look)


def peer_of(state: State) -> Peer:
    """Return what any store of ours offers."""
    from slothstate import native

    def push_many(key: str, items: list[Any]) -> int:
        return state.list_push(key, *items)

    def claim(key: str, seconds: float) -> Any:
        claimed = state.list_claim(key, seconds)
        if claimed is None:
            return None
        claimed.done()
        return claimed.item

    def transact(key: str, counter: str, value: Any) -> None:
        with state.transaction():
            state.get(key)
            state.set(key, value)
            state.increment(counter)

    return Peer(
        name="slothstate",
        close=state.close,
        get=state.get,
        set=state.set,
        get_table=state.get,
        set_table=state.set,
        set_many=state.set_many,
        increment=state.increment,
        append=state.append,
        compare_swap=state.compare_swap,
        transact=transact,
        get_many=state.get_many,
        push=state.list_push,
        push_many=push_many,
        pop=state.list_pop,
        shift=state.list_shift,
        wait=lambda key, seconds: state.list_shift(key, timeout=seconds),
        claim=claim,
        keys=state.keys,
        lock=state.lock,
        unlock=state.unlock,
        encode=native.json_encode,
        encode_arguments=("value",),
        decode=native.json_decode,
        native=state,
    )
