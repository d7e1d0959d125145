"""The verbs of a State for Lua: `bind(runtime, state)` puts the table `state` into a lupa runtime."""

from __future__ import annotations

from slothstate.lua.binding import bind
from slothstate.lua.runtime import new_runtime

__all__ = ["bind", "new_runtime"]
