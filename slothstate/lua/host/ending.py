"""How a script ends that does not come to its end by itself."""

from __future__ import annotations

__all__ = ["Exited", "Interrupted", "ScriptError", "ScriptSyntaxError", "end_of"]


class ScriptError(Exception):
    """The script raised an error while it ran; the message has file and line."""


class ScriptSyntaxError(ScriptError):
    """The script is not Lua; the message has file and line."""


class Interrupted(Exception):
    """The run ended because of `Host.interrupt`."""


class Exited(Exception):
    """The script called os.exit."""


def end_of(status: str) -> Exception:
    """Return what a call into Lua ended with that did not come back: "exit" or "interrupt"."""
    return Exited() if status == "exit" else Interrupted()
