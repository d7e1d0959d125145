"""The group of all commands, and its help."""

from __future__ import annotations

import click

from slothstate.cli.command_group import CommandGroup
from slothstate.cli.exits import printing
from slothstate.cli.options import db_option

__all__ = ["FAMILIES", "commands"]

FAMILIES = {
    "Keys": {
        "get": "keys",
        "set": "keys",
        "take": "keys",
        "delete": "keys",
        "exists": "keys",
        "keys": "listing",
        "scan": "listing",
        "clear": "keys",
        "compare-swap": "keys",
        "rename": "keys",
        "copy": "keys",
        "edit": "edit",
        "ttl": "expiry",
        "set-ttl": "expiry",
        "persist": "expiry",
    },
    "Numbers and text": {
        "increment": "counters",
        "decrement": "counters",
        "append": "counters",
    },
    "Lists": {
        "push": "lists",
        "unshift": "lists",
        "pop": "lists",
        "shift": "lists",
        "insert": "lists",
        "remove-item": "lists",
        "trim": "lists",
        "length": "lists",
        "range": "lists",
        "claim": "claim",
        "claims": "claims",
    },
    "Waiting": {
        "wait": "watch",
        "watch": "watch",
        "watches": "watch",
        "unwatch": "watch",
    },
    "Locks": {
        "with-lock": "with_lock",
        "lock": "locks",
        "unlock": "locks",
        "locks": "locks",
    },
    "Scripts": {
        "run": "run",
        "runs": "runs",
        "shell": "shell",
        "batch": "batch",
    },
    "Looking": {
        "stats": "inspect",
        "inspect": "inspect",
        "du": "inspect",
        "top": "top",
        "doctor": "doctor",
    },
    "Moving data": {
        "dump": "dump",
        "load": "dump",
        "copy-store": "copy_store",
        "import": "imports",
        "backup": "backup",
        "restore": "backup",
        "compact": "backup",
    },
    "The store": {
        "path": "store",
        "sweep": "store",
    },
}
"""Every command's module in this package, by family: the order of the help."""


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        import slothstate

        click.echo(f"slothstate {slothstate.__version__}")
        context.exit()


@click.group(
    cls=CommandGroup,
    families=FAMILIES,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@db_option
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
@click.pass_context
def commands(context: click.Context, db: str | None) -> None:
    """A persistent state store for Python and Lua programs that run side by side.

    \b
    Examples:
      slothstate set deploy:version v1.2.3 --ttl 1h
      slothstate get deploy:version
      slothstate keys 'deploy:*'
      slothstate help keys

    Exit codes: 0 done; 1 the answer is no (absent, not swapped, not locked); 2 misuse; 3 the store cannot be used;
    130 interrupted.
    """
    if context.invoked_subcommand is None:
        with printing():
            click.echo(context.get_help())
    if db is not None:
        # What is given before the command's name is the default of the command's own option.
        context.default_map = {name: {"db": db} for name in commands.list_commands(context)}
