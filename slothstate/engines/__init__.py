"""The engines: where values are kept. `protocol` says what verbs may ask of one; `connect` finds that of an address."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from slothstate.engines.protocol import Engine
from slothstate.errors import NotSupported

if TYPE_CHECKING:
    from slothstate.engines.postgres.engine import PostgresEngine

__all__ = ["connect"]


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
    if isinstance(address, str) and address.partition("://")[0].lower() in ("postgresql", "postgres"):
        return _postgres()(
            address,
            durability=durability,
            busy_timeout=busy_timeout,
            sweep_interval=sweep_interval,
            is_resting=is_resting,
        )
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


def _postgres() -> type[PostgresEngine]:
    try:
        from slothstate.engines.postgres.engine import PostgresEngine
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise NotSupported("a store on PostgreSQL needs psycopg: pip install 'slothstate[postgresql]'") from error
    return PostgresEngine
