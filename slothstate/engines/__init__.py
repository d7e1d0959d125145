"""The engines: where values are kept. `protocol` says what verbs may ask of one; `connect` finds that of an address."""

from __future__ import annotations

import os

from slothstate.engines.protocol import Engine

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
