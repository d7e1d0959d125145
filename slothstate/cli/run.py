"""`slothstate run`: a Lua script with the store at hand."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

import slothstate
from slothstate.cli.failure import Failure
from slothstate.errors import SlothStateError

if TYPE_CHECKING:
    from slothstate.lua.report import Reporter

__all__ = ["run"]


@click.command()
@click.argument("file")
@click.option("--db", metavar="PATH", help="The store.  [default: $SLOTHSTATE_DB, else ~/.sloth-runner/state.db]")
@click.option(
    "--task", "tasks", metavar="NAME", multiple=True, help="Run only this task and what it depends on; repeatable."
)
@click.option(
    "--lua",
    "implementation",
    type=click.Choice(["luajit", "lua54"]),
    default="luajit",
    show_default=True,
    help="Which Lua runs the script.",
)
def run(file: str, db: str | None, tasks: tuple[str, ...], implementation: str) -> int:
    """Run the Lua script FILE, then the workflows that it defines.

    The script finds the store as `state`, and log, exec, data, task and workflow. It is your own program and runs with
    your rights: this is not a sandbox.

    What the script prints goes to stdout; log lines and task results go to stderr, plain where that is no terminal.

    Exit codes: 0 done; 1 a task failed or the script raised an error; 2 misuse (no such file, a syntax error, an
    unknown task, tasks that depend on each other in a cycle, a store that cannot be opened); 130 interrupted; and n
    for os.exit(n) in the script.
    """
    # Imported late: what the other commands do not need.
    from slothstate.cli.supervise import supervise
    from slothstate.lua.host import Host, ScriptError, ScriptSyntaxError
    from slothstate.lua.report import printable
    from slothstate.lua.workflow import PlanError

    if find_spec("lupa") is None:
        raise ModuleNotFoundError("no lupa", name="lupa")
    try:
        source = Path(file).read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}", 2) from error
    try:
        state = slothstate.open(db)
    except SlothStateError as error:
        raise Failure(str(error), 2) from error
    with state:
        try:
            host = Host(state, _reporter(), implementation)
        except SlothStateError as error:  # a lupa without this Lua
            raise Failure(str(error), 2) from error
        try:
            return supervise(host, state, lambda: host.run(source, file, tasks))
        except (ScriptSyntaxError, PlanError) as error:
            raise Failure(printable(str(error)), 2) from error
        except ScriptError as error:
            raise Failure(printable(str(error)), 1) from error


def _reporter() -> Reporter:
    """Return what reports to stderr: for people if it is a terminal, else plain lines."""
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        from slothstate.cli.terminal import TerminalReporter

        return TerminalReporter()
    from slothstate.lua.report import PlainReporter

    return PlainReporter(sys.stderr)
