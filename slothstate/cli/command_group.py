"""The group of all commands: each is imported when it is used, and every error ends as one line and an exit code."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping

import click

from slothstate.cli import exits
from slothstate.cli.exits import CLOSED_PIPE, INTERRUPTED, MISUSE, Failure, drop_unread, finish, printing
from slothstate.cli.options import CommandBehind
from slothstate.cli.signals import failing_when_ended
from slothstate.cli.wording import ALIASES, hint, too_much
from slothstate.hints import Any, Final

__all__ = ["CommandGroup", "exit_code"]

_NAME_WIDTH: Final = 12

# The URL of a store, or any; with one slash, or no colon, too, as it is mistyped. A scheme has an end, or a long text
# would be searched from each of its letters to the last.
_ADDRESS: Final = re.compile(r"(postgres(?:ql)?(?::/?/?|\W?//?))|\w[\w+.-]{0,40}\W?//", re.IGNORECASE)


class CommandGroup(click.Group):
    """Commands by family; `families` says which module of `slothstate.cli` holds each."""

    def __init__(self, *arguments: Any, families: Mapping[str, Mapping[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.families = families
        self._modules = {name: module for family in families.values() for name, module in family.items()}

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self._modules)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self._modules:
            return None
        module = importlib.import_module(f"slothstate.cli.{self._modules[name]}")
        commands = (found for found in vars(module).values() if isinstance(found, click.Command))
        return next(command for command in commands if command.name == name)

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for, by its name or another one; what is none gets a hint."""
        if arguments[0] == "help" and not context.resilient_parsing:
            arguments = self._help_wanted(context, arguments[1:])
        name = ALIASES.get(arguments[0], arguments[0])
        # An option of a command that stands before its name is left to click.
        if name not in self._modules and not name.startswith("-") and not context.resilient_parsing:
            context.fail(f"No such command {name!r}{hint(name, list(self._modules))}")
        return super().resolve_command(context, [name, *arguments[1:]])

    def _help_wanted(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Return the arguments that ask for the help of a command; that of all commands is printed at once."""
        if len(arguments) > 1:
            context.fail("help takes one command: slothstate help [COMMAND]")
        if not arguments or arguments == ["help"] or arguments[0].startswith("-"):
            with printing():
                click.echo(context.get_help())
            context.exit()
        return [*arguments, "--help"]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for family, names in self.families.items():
            with formatter.section(family):
                commands = [(name, self.get_command(context, name)) for name in names]
                rows = [(name, command.get_short_help_str(80)) for name, command in commands if command is not None]
                # Padded to one width, so that the texts of all families stand in one column.
                formatter.write_dl([(name.ljust(_NAME_WIDTH), text) for name, text in rows])

    def invoke(self, context: click.Context) -> Any:
        invoke: Callable[[click.Context], Any] = super().invoke
        with failing_when_ended():
            return finish(lambda: invoke(context))

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse; --help and --version print in here, where click would make 1 of a reader that has gone."""
        try:
            with printing():
                return super().make_context(*arguments, **options)
        except BrokenPipeError as error:
            drop_unread(sys.stdout)
            raise click.exceptions.Exit(CLOSED_PIPE) from error

    def main(self, *arguments: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run one command; returns the exit code, or exits with it in `standalone_mode`."""
        run: Callable[..., Any] = super().main
        code = exit_code(lambda: run(*arguments, standalone_mode=False, **options))
        if standalone_mode:
            sys.exit(code)
        return code


def _usage_hint(error: click.UsageError) -> str:
    """Return what to type instead of an argument too many, or of a value that was taken for an option."""
    context = error.ctx
    if context is not None and "unexpected extra argument" in error.message:
        return too_much(context.command.name or "")
    if not isinstance(error, click.NoSuchOption) or error.possibilities or context is None or context.parent is None:
        return ""
    if isinstance(context.command, CommandBehind):
        return context.command.hyphen_hint(context)
    found = (one.make_metavar(context) for one in context.command.params if isinstance(one, click.Argument))
    metavars = " ".join(filter(None, found))
    if not metavars:
        return ""
    return f": a value that begins with a hyphen stands behind --, '{context.command_path} -- {metavars}'"


def _without_addresses(message: str) -> str:
    """Return a message that quotes words, up to an address: it may hold a password, and nobody knows where it ends."""
    # One that is not of a store may hold a password if it has a user; asked once, for there may be many.
    last = message.rfind("@")
    for found in _ADDRESS.finditer(message):
        if found[1] or found.end() <= last:
            return f"{message[: found.end()]}…"
    return message


def exit_code(run: Callable[[], Any], where: str = "") -> int:
    """Do what `exits.exit_code` does, for errors of click's as well."""

    def run_with_click() -> Any:
        try:
            return run()
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx is not None else "slothstate"
            message = " ".join(error.format_message().split()).rstrip(".") + _usage_hint(error)
            raise Failure(f"{_without_addresses(message)} (see '{path} --help')", MISUSE) from error
        except click.ClickException as error:
            raise Failure(_without_addresses(error.format_message()), error.exit_code) from error
        except click.Abort as error:
            raise Failure("interrupted", INTERRUPTED) from error

    return exits.exit_code(run_with_click, where)
