"""The engines: where values are kept. `protocol` says what verbs may ask of one; `connect` finds that of an address."""

from __future__ import annotations

import os

from slothstate.engines.protocol import Engine
from slothstate.errors import NotSupported, importing
from slothstate.hints import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slothstate.engines.postgres.engine import PostgresEngine

__all__ = ["connect", "display_address", "has_store", "is_server", "restore"]

SCHEMES: Final = ("postgresql", "postgres")
"""What the URLs of servers begin with, as libpq's do."""


def is_server(address: str | os.PathLike[str] | None = None) -> bool:
    """Return whether an address (None: the default, `$SLOTHSTATE_DB`) is the URL of a server, not a path.

    >>> slothstate.is_server("postgresql://host/database"), slothstate.is_server("state.db")
    (True, False)
    """
    text = os.environ.get("SLOTHSTATE_DB") if address is None else address
    return isinstance(text, str) and ":" in text and text.partition(":")[0].lower() in SCHEMES


def _text(address: str | os.PathLike[str] | None) -> str:
    return os.environ["SLOTHSTATE_DB"] if address is None else str(address)


def display_address(address: str | os.PathLike[str] | None = None) -> str:
    """Return where a store is, as `stats()["path"]` says: an absolute path, or a URL without its password.

    Raises: `InvalidValue` for a malformed URL; as `absolute_path`.

    >>> slothstate.display_address("postgresql://me:secret@host/database")
    'postgresql://me@host/database'
    """
    if is_server(address):
        with importing():
            from slothstate.engines.postgres.address import parse

        return parse(_text(address)).shown
    with importing():
        from slothstate.engines.sqlite.naming import absolute_path

    return absolute_path(address)


def has_store(address: str | os.PathLike[str] | None = None) -> bool:
    """Return whether there is a store, or something in its place that opening it will tell of. Nothing is made.

    Raises: for a URL as `slothstate.open`.
    """
    if is_server(address):
        return _postgres().exists(_text(address))
    with importing():
        from slothstate.engines.sqlite.location import has_store

    return has_store(display_address(address))


def connect(
    address: str | os.PathLike[str] | None,
    *,
    durability: str,
    busy_timeout: float,
    sweep_interval: float,
    cache_size: int,
    allow_remote: bool,
    is_resting: bool,
) -> Engine:
    """Return the engine of an address, with the arguments of `slothstate.open`; `cache_size` 0: no read cache.

    `is_resting` is for one that is made while the process ends; see `protocol.Engine.rest`.
    """
    if is_server(address):
        return _postgres()(
            _text(address),
            durability=durability,
            busy_timeout=busy_timeout,
            sweep_interval=sweep_interval,
            is_resting=is_resting,
        )
    with importing():
        from slothstate.engines.sqlite.engine import SqliteEngine

    return SqliteEngine.open(
        address,
        durability=durability,
        busy_timeout=busy_timeout,
        sweep_interval=sweep_interval,
        cache_size=cache_size,
        allow_remote=allow_remote,
        is_resting=is_resting,
    )


def restore(
    source: str | os.PathLike[str], path: str | os.PathLike[str] | None = None, *, allow_remote: bool = False
) -> None:
    """Replace the contents of the store at `path` by those of the backup `source`.

    `path` and `allow_remote` are those of `open`.

    The store is created if it is missing; what it held is gone. Locks are not restored: nobody holds any afterwards.
    What was claimed is in its list again.
    Fencing numbers never go back: the next is above all that the backup knows of and all that the replaced store gave;
    where no store is left to tell, they go ahead by a million million. The backup is only read.

    Raises: `InvalidValue` for an argument of another type; `StateBusy` while anybody has the store open; `UnsafeState`
    for a `source` or `path` that is not a store; `StateCorrupt` for a damaged `source`. The store is then as it was.
    `NotSupported` for a store on a server.
    """
    if is_server(path):
        raise NotSupported(
            "a store on PostgreSQL is not restored from a file: pg_restore brings back what pg_dump saved, and load() "
            "stores what dump() tells"
        )
    with importing():
        from slothstate.engines.sqlite import restore as of_files

    of_files.restore(source, path, allow_remote=allow_remote)


def _postgres() -> type[PostgresEngine]:
    try:
        with importing():
            from slothstate.engines.postgres.engine import PostgresEngine
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise NotSupported("a store on PostgreSQL needs psycopg: pip install 'slothstate[postgresql]'") from error
    return PostgresEngine
