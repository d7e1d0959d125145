"""The tiers of tests, by the modules that belong to each."""

from __future__ import annotations

from typing import Final

__all__ = ["TIERS"]

QUICK: Final = (
    *("asyncio", "audit", "backup", "cache_table", "cli_documented", "cli_moving", "codec", "counters", "doctests"),
    *("entries", "errors", "fork", "identity", "kernel_locks", "keys", "lending", "lists", "lock", "lock_arguments"),
    *("lua_binding", "lua_scopes", "lua_verbs", "mapping", "operations", "package", "schema", "sweep", "threads"),
    *("transactions", "workflow"),
)
"""The modules of tests that are the quick tier: something of everything, in less than a minute. `pytest -m quick`."""

NATIVE: Final = (
    *("cache_table", "codec", "codec_containers", "corpus", "lending", "lua_binding", "lua_codec", "lua_scopes"),
    *("lua_verbs", "numbers", "operations", "patterns", "read_cache", "read_cache_life", "walindex"),
)
"""The modules of tests that lead through all of the C layer: `pytest -m native`, for sanitizers and for coverage."""

TIERS: Final = {"quick": QUICK, "native": NATIVE}
