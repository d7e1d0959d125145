"""What the tests of the Lua binding share: a runtime with a bound store, and ways to run a script in it."""

from __future__ import annotations

from typing import Any

import pytest

import slothstate
from slothstate.lua import bind, new_runtime

IMPLEMENTATIONS = ["luajit", "lua54"]

BOTH_BINDINGS = pytest.mark.usefixtures("binding")
"""For a module of tests: each runs on the native and on the plain binding."""

NATIVE_ONLY = pytest.mark.parametrize("binding", ["native"], indirect=True)
"""For what the plain binding cannot promise: docs/lua.md says what, and why."""


class Scripts:
    """Runs sources as deploy.lua in one runtime; strings come back as str where they are UTF-8."""

    def __init__(self, state: slothstate.State, implementation: str, **options: Any) -> None:
        self.state = state
        self.implementation = implementation
        self.runtime = new_runtime(implementation, **options)
        bind(self.runtime, state)

    def run(self, source: str | bytes, *arguments: Any) -> Any:
        """What the source returns."""
        encoded = source.encode() if isinstance(source, str) else source
        return _decoded(self.runtime.execute(encoded, *arguments, name=b"@deploy.lua"))

    def error(self, source: str) -> str:
        """The error that `pcall` shows for the source, which must be a string."""
        ok, kind, message = self.run(f"local ok, e = pcall(function() {source} end) return ok, type(e), tostring(e)")
        assert not ok, f"no error: {source}"
        assert kind == "string", f"an error of type {kind}: {source}"
        return str(message)


def _decoded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_decoded(item) for item in value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value
