"""The group of all commands: each is imported when it is used, and every error ends as one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO

import click

from slothstate import SlothStateError
from slothstate.cli.exits import Failure
from slothstate.cli.formatting import escaped
from slothstate.cli.options import BUG, CLOSED_PIPE, INTERRUPTED, MISUSE, STORE_ERROR, exit_code_of
from slothstate.cli.values import flush
from slothstate.cli.wording import ALIASES, hint, too_much

__all__ = ["CommandGroup", "drop_unread", "exit_code"]

_NAME_WIDTH: Final = 12

_SHOW_TRACEBACK: Final = "SLOTHSTATE_TRACEBACK"


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
        try:
            result = super().invoke(context)
            flush()
            return result
        except KeyboardInterrupt as error:
            raise Failure("interrupted", INTERRUPTED) from error
        except BrokenPipeError as error:
            # Whoever read our output has enough (`| head`).
            drop_unread(sys.stdout)
            raise click.exceptions.Exit(CLOSED_PIPE) from error

    def main(self, *arguments: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run one command; returns the exit code, or exits with it in `standalone_mode`."""
        run: Callable[..., Any] = super().main
        code = exit_code(lambda: run(*arguments, standalone_mode=False, **options))
        if standalone_mode:
            sys.exit(code)
        return code


def drop_unread(stream: TextIO | None) -> None:
    """Flush; into nothing where nobody reads any more, so that Python does not stumble over it on its way out."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _usage_hint(error: click.UsageError) -> str:
    """Return what to type instead of an argument too many, or of a value that was taken for an option."""
    context = error.ctx
    if context is not None and "unexpected extra argument" in error.message:
        return too_much(context.command.name or "")
    if not isinstance(error, click.NoSuchOption) or error.possibilities or context is None or context.parent is None:
        return ""
    found = (one.make_metavar(context) for one in context.command.params if isinstance(one, click.Argument))
    metavars = " ".join(filter(None, found))
    if not metavars or "--" in metavars:
        return ""
    return f": a value that begins with a hyphen stands behind --, '{context.command_path} -- {metavars}'"


def exit_code(run: Callable[[], Any], where: str = "") -> int:
    """Call what runs a command; return its exit code, after one line on stderr if it failed, which names `where`."""

    def fail(message: str, code: int) -> int:
        return _fail(f"{where}{message}" if message else "", code)

    try:
        code = run()
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "slothstate"
        message = " ".join(error.format_message().split()).rstrip(".") + _usage_hint(error)
        return fail(f"{message} (see '{path} --help')", MISUSE)
    except click.ClickException as error:
        return fail(error.format_message(), error.exit_code)
    except Failure as error:
        return fail(str(error), error.exit_code)
    except SlothStateError as error:
        return fail(escaped(str(error)), exit_code_of(error))
    except click.Abort:
        return fail("interrupted", INTERRUPTED)
    except OSError as error:
        return fail(f"cannot read or write: {error}", STORE_ERROR)
    except MemoryError:
        return fail("out of memory", STORE_ERROR)
    except ModuleNotFoundError:
        raise  # slothstate.__main__ says which extra is missing
    except Exception as error:
        if os.environ.get(_SHOW_TRACEBACK):
            raise
        what = f"{type(error).__name__}: {error}"
        return fail(f"a bug in slothstate: {escaped(what)}; {_SHOW_TRACEBACK}=1 shows where: please report it", BUG)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    if message:
        with contextlib.suppress(OSError, ValueError):
            click.echo(f"slothstate: {escaped(message, keep=chr(10))}", err=True)
    return code
