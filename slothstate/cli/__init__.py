"""The command line: one module for each family of commands, imported when one of its commands is used.

What every command shares: one line on stderr for an error, and the exit codes 0 (done), 1 (the answer is no, or what
was asked failed), 2 (misuse), 3 (the store) and 128 + n (ended by signal n, so 130 for Ctrl-C). See
`slothstate.cli.options` and docs/command-line.md.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from slothstate.cli.exits import drop_unread, exit_code
from slothstate.cli.quick import plain_call
from slothstate.hints import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slothstate.cli.program import FAMILIES, commands

__all__ = ["FAMILIES", "commands", "run_command_line"]


def __getattr__(name: str) -> Any:
    if name in ("FAMILIES", "commands"):
        from slothstate.cli import program

        return getattr(program, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run one command (by default that of `sys.argv`); returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        plain = plain_call(sys.argv[1:] if arguments is None else arguments)
        if plain is not None:
            return exit_code(plain)
        from slothstate.cli.program import commands

        if "_SLOTHSTATE_COMPLETE" in os.environ:
            import slothstate.cli.completion  # noqa: F401 - registers the shells
        code: int = commands.main(arguments, prog_name="slothstate", standalone_mode=False)
        return code
    finally:
        for stream in (sys.stdout, sys.stderr):
            drop_unread(stream)
