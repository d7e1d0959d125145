"""The command line: one module for each family of commands, each a click command added to the group here.

What every command shares: one line on stderr for an error, and the exit codes 0 (done), 1 (what was asked failed),
2 (misuse) and 128 + n (ended by signal n, so 130 for Ctrl-C).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from slothstate.cli.failure import Failure
from slothstate.cli.run import run
from slothstate.errors import SlothStateError

__all__ = ["run_command_line"]


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="slothstate", message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """A persistent state store for Python and Lua programs that run side by side."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


commands.add_command(run)


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run one command (by default that of `sys.argv`); returns the exit code."""
    try:
        return _run(arguments)
    except BrokenPipeError:
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            _drop_unread(stream)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = commands.main(arguments, prog_name="slothstate", standalone_mode=False)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except Failure as error:
        return _fail(str(error), error.exit_code)
    except SlothStateError as error:
        return _fail(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        click.echo(f"slothstate: {message}", err=True)
    return code


def _drop_unread(stream: TextIO) -> None:
    """Flush; into nothing where nobody reads any more, so that Python does not stumble over it on its way out."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
