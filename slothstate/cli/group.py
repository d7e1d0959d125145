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
from slothstate.cli.failure import Failure
from slothstate.cli.options import BUG, CLOSED_PIPE, INTERRUPTED, MISUSE, STORE_ERROR, exit_code_of
from slothstate.cli.text import escaped
from slothstate.cli.values import flush

__all__ = ["CommandGroup", "drop_unread"]

_NAME_WIDTH: Final = 12

_SHOW_TRACEBACK: Final = "SLOTHSTATE_TRACEBACK"

_PART_OF: Final = {"check": "doctor"}
"""The command that a verb without one of its own is part of."""


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
        """Find the command that is asked for; what is none, but a verb of Python or nearly a command, gets a hint."""
        name = arguments[0]
        # An option of a command that stands before its name is left to click.
        if name not in self._modules and not name.startswith("-") and not context.resilient_parsing:
            context.fail(f"No such command {name!r}{self._hint(name)}")
        return super().resolve_command(context, arguments)

    def _hint(self, name: str) -> str:
        from difflib import get_close_matches

        verb = name.replace("_", "-").removeprefix("list-").removeprefix("get-")
        close = [_PART_OF.get(verb, verb), *get_close_matches(name, self._modules, n=1)]
        return next((f": did you mean {found!r}?" for found in close if found in self._modules), "")

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
        code = _exit_code(lambda: run(*arguments, standalone_mode=False, **options))
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


def _exit_code(run: Callable[[], Any]) -> int:
    try:
        code = run()
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else "slothstate"
        message = " ".join(error.format_message().split()).rstrip(".")
        return _fail(f"{message} (see '{path} --help')", MISUSE)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except Failure as error:
        return _fail(str(error), error.exit_code)
    except SlothStateError as error:
        return _fail(escaped(str(error)), exit_code_of(error))
    except click.Abort:
        return _fail("interrupted", INTERRUPTED)
    except OSError as error:
        return _fail(f"cannot read or write: {error}", STORE_ERROR)
    except MemoryError:
        return _fail("out of memory", STORE_ERROR)
    except ModuleNotFoundError:
        raise  # slothstate.__main__ says which extra is missing
    except Exception as error:
        if os.environ.get(_SHOW_TRACEBACK):
            raise
        what = f"{type(error).__name__}: {error}"
        return _fail(f"a bug in slothstate: {escaped(what)}; {_SHOW_TRACEBACK}=1 shows where: please report it", BUG)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    if message:
        with contextlib.suppress(OSError, ValueError):
            click.echo(f"slothstate: {escaped(message, keep=chr(10))}", err=True)
    return code
