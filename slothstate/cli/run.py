"""`slothstate run`: Lua scripts with the store at hand."""

from __future__ import annotations

import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slothstate.cli.failure import Failure
from slothstate.cli.options import MISUSE, NO, db_option, file_named, lua_option, open_state
from slothstate.cli.text import escaped, quantity

if TYPE_CHECKING:
    from slothstate.lua.report import Reporter
    from slothstate.lua.workflow import Plan

__all__ = ["run", "stderr_reporter"]


class _RunCommand(click.Command):
    """A command whose arguments after `--` belong to the scripts, not to it."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if "--" in arguments:
            end = arguments.index("--")
            arguments, context.obj = arguments[:end], arguments[end + 1 :]
        return super().parse_args(context, arguments)

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(context), "[-- ARGUMENTS...]"]


@click.command("run", cls=_RunCommand)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, callback=file_named)
@db_option
@click.option(
    "--task", "tasks", metavar="NAME", multiple=True, help="Run only this task and what it depends on; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Show which tasks would run, in their order; run none.")
@lua_option
@click.pass_obj
def run(
    arguments: list[str] | None,
    files: tuple[str, ...],
    db: str | None,
    tasks: tuple[str, ...],
    dry_run: bool,
    implementation: str,
) -> int:
    """Run the Lua script FILE, then the workflows that it defines.

    \b
    Examples:
      slothstate run deploy.lua
      slothstate run deploy.lua --task check --dry-run
      slothstate run deploy.lua -- staging v1.2.3       # arg[1], arg[2]

    The script finds the store as `state`, and log, exec, data, task and workflow. It is your own program and runs with
    your rights: this is not a sandbox. Of several files each has a Lua of its own; one that fails ends the run.

    What the script prints goes to stdout, line by line as it is printed; log lines and task results go to stderr, plain
    where that is no terminal. With --dry-run the script itself runs, for that is what describes the tasks.

    Exit codes: 0 done; 1 a task failed or the script raised an error; 2 misuse (no such file, a syntax error, an
    unknown task, tasks that depend on each other in a cycle); 3 the store cannot be opened; 130 interrupted; and n for
    os.exit(n) in the script.
    """
    # Imported late: what the other commands do not need.
    from slothstate.cli.supervise import supervise
    from slothstate.lua.host import Host, ScriptError, ScriptSyntaxError
    from slothstate.lua.report import printable
    from slothstate.lua.workflow import PlanError

    if find_spec("lupa") is None:
        raise ModuleNotFoundError("no lupa", name="lupa")
    sources = [_read(file) for file in files]
    reporter = stderr_reporter()
    with open_state(db, create=True) as state:
        for file, source in zip(files, sources, strict=True):
            host = Host(state, reporter, implementation)
            script = partial(host.run, source, file, tasks, arguments or (), dry_run=_show if dry_run else None)
            try:
                code = supervise(host, state, script)
            except (ScriptSyntaxError, PlanError) as error:
                raise Failure(printable(str(error)), MISUSE) from error
            except ScriptError as error:
                raise Failure(printable(str(error)), NO) from error
            if code:
                return code
    return 0


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}", MISUSE) from error


def _show(plan: Plan) -> None:
    """Print the order of a plan's tasks."""
    heading = "tasks of no workflow" if plan.workflow is None else plan.workflow.name
    click.echo(escaped(f"{heading}: {quantity(len(plan.tasks), 'task')}"))
    for number, task in enumerate(plan.tasks, start=1):
        after = f" (after {', '.join(task.depends_on)})" if task.depends_on else ""
        description = f": {task.description}" if task.description else ""
        click.echo(escaped(f"{number:>3}. {task.name}{description}{after}"))


def stderr_reporter() -> Reporter:
    """Return what reports to stderr: for people if it is a terminal, else plain lines."""
    if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        from slothstate.cli.terminal import TerminalReporter

        return TerminalReporter()
    from slothstate.lua.report import PlainReporter

    return PlainReporter(sys.stderr)
