"""What commands share: where the store is, how it is opened, the exit codes, and arguments of common types."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from typing import Any, Final, NoReturn

import click

import slothstate
from slothstate import (
    InvalidKey,
    InvalidValue,
    LockTimeout,
    OutOfRange,
    PatternError,
    SlothStateError,
    State,
    WrongType,
    literal,
    parse_json,
)
from slothstate.cli.failure import Failure
from slothstate.cli.text import escaped, is_terminal

__all__ = [
    "BUG",
    "CLOSED_PIPE",
    "DONE",
    "INTERRUPTED",
    "MISUSE",
    "NO",
    "NUMBER",
    "SECONDS",
    "STORE_ERROR",
    "StoreCommand",
    "complete_key",
    "db_option",
    "exit_code_of",
    "has_store",
    "json_option",
    "key_argument",
    "lua_option",
    "open_state",
    "say_no",
    "store_command",
    "store_path",
]

DONE: Final = 0
NO: Final = 1
"""The answer is no: absent, not swapped, not locked."""
MISUSE: Final = 2
"""What was asked cannot be: an unknown option, a bad key, value or pattern, a verb on a key of another kind."""
STORE_ERROR: Final = 3
"""The store cannot do it now: missing, busy, full, damaged, not one to trust."""
BUG: Final = 70
"""Something that no code here expects; EX_SOFTWARE of sysexits.h."""
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141

_MISUSES: Final = (InvalidKey, InvalidValue, OutOfRange, PatternError, WrongType)

_NEGATIVE: Final = re.compile(r"-\.?[0-9]")

_NUMERIC: Final = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", re.IGNORECASE)

_DURATION: Final = re.compile(r"([0-9]*\.?[0-9]+)(ms|s|m|h|d)?")

_SECONDS_OF: Final = {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}

_COMPLETIONS: Final = 200


def exit_code_of(error: SlothStateError) -> int:
    """Return the exit code that an error of the store ends a command with."""
    if isinstance(error, LockTimeout):
        return NO
    return MISUSE if isinstance(error, _MISUSES) else STORE_ERROR


def say_no(why: str) -> NoReturn:
    """End the command with the exit code `NO`, and say why where somebody looks at it; a pipe needs only the code."""
    raise Failure(why if is_terminal() else "", NO)


class StoreCommand(click.Command):
    """A command whose arguments may be negative numbers: `slothstate set temperature -5` needs no `--`."""

    def make_parser(self, context: click.Context) -> Any:
        parser: Any = super().make_parser(context)
        process = parser._process_opts

        def process_unless_number(argument: str, state: Any) -> None:
            if _NEGATIVE.match(argument) and argument not in parser._short_opt:
                state.largs.append(argument)
            else:
                process(argument, state)

        # click's own way, ignore_unknown_options, would take a mistyped option for a value as well.
        parser._process_opts = process_unless_number
        return parser


def store_command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator for a command that works on a store; its function gets `db`, for `open_state`."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(name, cls=StoreCommand)(db_option(function))

    return decorate


def db_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--db`; given before the command's name it is the default (see `slothstate.cli`)."""
    return click.option("--db", metavar="PATH", help="The store.  [$SLOTHSTATE_DB, else ~/.sloth-runner/state.db]")(
        function
    )


def store_path(db: str | None) -> str:
    """Return the path of the store that `db` stands for (None: the default), whether or not it is there."""
    path = slothstate.default_path() if db is None else db
    return os.path.abspath(os.path.expanduser(path)) if path else path


def open_state(db: str | None, *, create: bool = False) -> State:
    """Open the store; a missing one is created only if `create`: reading must not make an empty store appear.

    Raises: `Failure` with the code `STORE_ERROR` if there is no store.
    """
    path = store_path(db)
    if not create and not has_store(db):
        advice = "name another with --db or $SLOTHSTATE_DB; 'slothstate set' creates it"
        raise Failure(f"there is no store at {escaped(path)}: {advice}", STORE_ERROR)
    return slothstate.open(db)


def has_store(db: str | None) -> bool:
    """Return whether there is a store, or something in its place that opening it will tell of."""
    path = store_path(db)
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True  # opening it says what is wrong
    return found.st_size > 0 or not stat.S_ISREG(found.st_mode) or os.path.exists(path + "-wal")


def complete_key(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the keys that begin so, for the shell's completion."""
    from itertools import islice

    try:
        with open_state(context.params.get("db")) as state:
            return list(islice(state.scan(literal(incomplete) + "*"), _COMPLETIONS))
    except (Failure, SlothStateError):
        return []


key_argument = click.argument("key", shell_complete=complete_key)

lua_option = click.option(
    "--lua",
    "implementation",
    type=click.Choice(["luajit", "lua54"]),
    default="luajit",
    show_default=True,
    help="Which Lua to use.",
)

json_option = click.option("--json", "as_json_", is_flag=True, help="Print JSON.")


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    """A duration: a number of seconds, or one with a unit (500ms, 30s, 5m, 1h, 2d)."""

    name = "SECONDS"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        if isinstance(value, int | float):
            return value
        found = _DURATION.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is no duration: write 30, 1.5, 500ms, 5m, 1h or 2d", parameter, context)
        return float(found[1]) * _SECONDS_OF[found[2]]


SECONDS: Final = _Seconds()


class _Number(click.ParamType):  # type: ignore[type-arg]
    """An int or a float, as it is written: 1 stays an int, 1.0 a float."""

    name = "NUMBER"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int | float:
        if isinstance(value, str):
            try:
                value = parse_json(value.removeprefix("+"))
            except ValueError as error:
                is_number = _NUMERIC.fullmatch(value)
                reason = f" that can be stored: {str(error).rpartition(': ')[2]}" if is_number else ""
                self.fail(f"{value!r} is no number{reason}", parameter, context)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(f"{value!r} is no number", parameter, context)
        return value


NUMBER: Final = _Number()
