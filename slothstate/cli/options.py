"""What the declarations of commands share: options, and arguments of common types."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import islice

import click

import slothstate
from slothstate import InvalidValue, SlothStateError, State, literal, parse_json, parse_path
from slothstate.cli.exits import NO, Failure, printing
from slothstate.cli.opening import SETTINGS, open_state
from slothstate.hints import Any, Final, TypeAlias

__all__ = [
    "FIELD",
    "NUMBER",
    "SECONDS",
    "ArgumentsApart",
    "CommandBehind",
    "Field",
    "Integer",
    "StoreCommand",
    "complete_key",
    "complete_lock",
    "conflict_option",
    "db_option",
    "file_named",
    "json_option",
    "key_argument",
    "keys_beginning",
    "locks_beginning",
    "lua_option",
    "no_stream",
    "store_command",
]

_NAMES: Final = ("after", "dead", "key", "keys", "name", "names", "pattern", "prefix", "queues", "to")
"""Parameters that are keys, or other texts that are stored."""

_NEGATIVE: Final = re.compile(r"-\.?[0-9]")

_DIGITS: Final = 40
"""More digits than an integer of 64 bits has, zeros before them included."""

_NUMERIC: Final = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?", re.IGNORECASE)

_SECONDS_OF: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

_PLAIN: Final = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"

_PART: Final = rf"({_PLAIN})\s*(ms|[smhdw])\s*"

_COMPLETIONS: Final = 200
"""So many ways to go on are offered at most."""


class StoreCommand(click.Command):
    """A command whose arguments may be negative numbers: `slothstate set temperature -5` needs no `--`."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Parse with the arguments after a `--`, where whatever begins with a hyphen is none of an option.

        click's own way, ignore_unknown_options, would take a mistyped option for a value as well.
        """
        ours, rest, valued = self.sorted_words(context, arguments)
        if ours and ours[-1] in valued and arguments[-1] == ours[-1]:
            # An option that lacks its value would take the `--`.
            return super().parse_args(context, arguments)
        if not context.resilient_parsing:
            self._refuse_contradictions(context, ours)
        with printing():  # --help
            left = super().parse_args(context, [*ours, "--", *rest] if rest else ours)
        if not context.resilient_parsing:
            self._refuse_what_is_no_text(context)
        return left

    def sorted_words(self, context: click.Context, arguments: list[str]) -> tuple[list[str], list[str], set[str]]:
        """Return the options with their values, the other words, and which options have a value."""
        options = self._options(context)
        names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        valued = {name for option in options if not option.is_flag for name in option.opts}
        ours: list[str] = []
        rest: list[str] = []
        words = iter(arguments)
        for word in words:
            if word == "--":
                rest += words
            elif word == "-" or not word.startswith("-") or (_NEGATIVE.match(word) and word not in names):
                rest.append(word)
            else:
                ours.append(word)
                if word in valued:
                    ours += islice(words, 1)
        return ours, rest, valued

    def _options(self, context: click.Context) -> list[click.Option]:
        return [parameter for parameter in self.get_params(context) if isinstance(parameter, click.Option)]

    def _refuse_contradictions(self, context: click.Context, words: list[str]) -> None:
        """Refuse two flags that say different things about one parameter; click would take the last one."""
        flags = {name: option for option in self._options(context) if option.is_flag for name in option.opts}
        given: dict[str | None, str] = {}
        for word in words:
            if word in flags:
                before = given.setdefault(flags[word].name, word)
                if flags[before] is not flags[word]:
                    raise click.UsageError(f"{before} and {word} exclude each other", context)

    def _refuse_what_is_no_text(self, context: click.Context) -> None:
        """Refuse names that are not UTF-8, in the words of who typed them: Python calls their bytes surrogates."""
        for parameter in self.get_params(context):
            found = context.params.get(parameter.name or "") if parameter.name in _NAMES else None
            for text in found if isinstance(found, tuple) else (found,):
                if text is not None and (where := not_utf8(text)):
                    what = f"{parameter.human_readable_name} '{slothstate.printable(text)}'"
                    raise click.UsageError(f"{what} is not UTF-8: {where}", context)


def not_utf8(text: str) -> str:
    """Return which byte of an argument is not UTF-8, "" if it is."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"byte 0x{os.fsencode(text[error.start])[0]:02x} at {len(text[: error.start].encode())}"
    return ""


class CommandBehind(StoreCommand):
    """A command that another one stands behind the `--` of, whose words its function gets by `click.pass_obj`.

    Nothing in front of the `--` is ever a part of that command, and nothing behind it ever one of ours: found by its
    place, as flock(1) does it, `with-lock NAME make --timeout 5` would mean something else than it says.
    """

    needs_command = True

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        end = self._separator(context, arguments)
        if end is not None:
            arguments, context.obj = arguments[:end], arguments[end + 1 :]
        if not context.resilient_parsing and not set(context.help_option_names).intersection(arguments):
            names = self.sorted_words(context, arguments)[1]
            is_misplaced = end is None and len(names) > (0 if self.needs_command else 1)
            if is_misplaced or context.obj == []:
                raise click.UsageError(f"give the command to run behind --: '{self._usage(context)}'", context)
        return super().parse_args(context, arguments)

    def _separator(self, context: click.Context, arguments: list[str]) -> int | None:
        """Return where the `--` is that the command stands behind.

        Where a name must stand before it and none does, the first `--` ends the options: the name begins with a hyphen.
        """
        found = [number for number, word in enumerate(arguments) if word == "--"]
        if found and self.needs_command:
            ours, names, _ = self.sorted_words(context, arguments[: found[0]])
            known = {name for option in self._options(context) for name in option.opts}
            if not names and all({word, word[:2], word.partition("=")[0]} & known for word in ours if word[0] == "-"):
                del found[0]
        return found[0] if found else None

    def _usage(self, context: click.Context, hyphen: str = "") -> str:
        names = super().collect_usage_pieces(context)[1:]
        return " ".join([context.command_path, *filter(None, [hyphen]), *names, "-- COMMAND..."])

    def hyphen_hint(self, context: click.Context) -> str:
        """Return how a name that begins with a hyphen is given, to stand behind the error; "" if that is no help."""
        if self.needs_command:
            usage = self._usage(context, "--")
            return f": a name that begins with a hyphen stands behind a -- of its own, '{usage}'" if context.obj else ""
        return ": a pattern that begins with a hyphen is written with a backslash before it, '\\-x*'"

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(context), "-- COMMAND..." if self.needs_command else "[-- COMMAND...]"]


class ArgumentsApart(click.Command):
    """A command that takes what stands behind a `--` for itself: its function gets it by `click.pass_obj`."""

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        if "--" in arguments:
            end = arguments.index("--")
            arguments, context.obj = arguments[:end], arguments[end + 1 :]
        with printing():
            return super().parse_args(context, arguments)

    def collect_usage_pieces(self, context: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(context), "[-- ARGUMENTS...]"]


def store_command(
    name: str, *, opens: bool = True, cls: type[click.Command] = StoreCommand
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator for a command that works on a store; its function gets `db`, for `open_state`.

    One that `opens` none needs no options that say how.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        return click.command(name, cls=cls)(db_option(function, opens=opens))

    return decorate


def _keep_setting(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    # `meta` is shared with the contexts below: what stands before the command's name holds for the command.
    if context.get_parameter_source(str(parameter.name)) is not click.core.ParameterSource.DEFAULT:
        context.meta.setdefault(SETTINGS, {})[parameter.name] = value


def db_option(function: Callable[..., Any], *, opens: bool = True) -> Callable[..., Any]:
    """Add `--db` and how to open it; given before the command's name they hold for it, too (see `slothstate.cli`)."""
    if opens:
        for option in (
            click.option(
                "--allow-remote",
                is_flag=True,
                expose_value=False,
                callback=_keep_setting,
                help="Open a store on a network file system, at your own risk.",
            ),
            click.option(
                "--busy-timeout",
                type=SECONDS,
                expose_value=False,
                callback=_keep_setting,
                help="Wait so long for another writer.  [default: 30s]",
            ),
            click.option(
                "--durability",
                type=click.Choice(["process", "full"]),
                expose_value=False,
                callback=_keep_setting,
                help="What a write survives: full is a power cut, too.  [default: process]",
            ),
        ):
            function = option(function)
    return click.option("--db", metavar="PATH", help="The store.  [$SLOTHSTATE_DB, else ~/.sloth-runner/state.db]")(
        function
    )


def file_named(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Let an argument name a file, the callback of its parameter: addresses, which may hold a password, are refused."""
    what = parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.human_readable_name
    for name in value if isinstance(value, tuple) else (value,):
        if name is not None:
            slothstate.refuse_address(name, what)
    return value


def keys_beginning(state: State, text: str) -> list[str]:
    """Return the keys that begin so, not too many."""
    return list(islice(state.scan(literal(text) + "*"), _COMPLETIONS))


def locks_beginning(state: State, text: str) -> list[str]:
    """Return the names of the locks that somebody holds and that begin so, not too many."""
    return [lock["name"] for lock in state.locks() if lock["name"].startswith(text)][:_COMPLETIONS]


def no_stream(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Let an argument name a file, as `file_named`, and never stdin or stdout: a file `-` would surprise most."""
    if value == "-" or (isinstance(value, tuple) and "-" in value):
        raise click.BadParameter("- is no file here; ./- is one of that name", context, parameter)
    return file_named(context, parameter, value)


def complete_key(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete a key, for the shell."""
    return _completions(context, keys_beginning, incomplete)


def complete_lock(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a lock, for the shell."""
    return _completions(context, locks_beginning, incomplete)


def _completions(context: click.Context, find: Callable[[State, str], list[str]], incomplete: str) -> list[str]:
    stores = (one.params.get("db") for one in (context, *filter(None, [context.parent])))
    try:
        with open_state(next(filter(None, stores), None)) as state:
            return find(state, incomplete)
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


def conflict_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option for another exit code than 1 where what is wanted cannot be had; `text` is its help."""
    return click.option(
        "-E",
        "--conflict-exit-code",
        "conflict",
        type=click.IntRange(0, 255),
        metavar="CODE",
        help=f"{text}  [default: {NO}]",
    )


json_option = click.option("--json", "as_json_", is_flag=True, help="Print JSON.")


class _Seconds(click.ParamType):  # type: ignore[type-arg]
    """A duration: a number of seconds, or numbers with units, larger ones first (500ms, 30s, 1h30m, 2d, 1w)."""

    name = "SECONDS"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        if isinstance(value, int | float):
            return value
        if re.fullmatch(_PLAIN, value):
            return float(value)
        parts = [(float(number), _SECONDS_OF[unit]) for number, unit in re.findall(_PART, value)]
        units = [unit for _, unit in parts]
        if not re.fullmatch(f"(?:{_PART})+", value) or units != sorted(set(units), reverse=True):
            self.fail(
                f"{value!r} is no duration: write 30, 1.5, 500ms, 5m, 1h or 2d, or several: 1w2d, 1h30m",
                parameter,
                context,
            )
        return sum(number * unit for number, unit in parts)


SECONDS: Final = _Seconds()

Field: TypeAlias = tuple[str | int, ...]


class _Field(click.ParamType):  # type: ignore[type-arg]
    """A part of a value, in jq's words: .name, ."any name", ["any name"], [0], [-1], in a row."""

    name = "PATH"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Field:
        if isinstance(value, tuple):
            return value
        try:
            return parse_path(value)
        except InvalidValue as error:
            self.fail(str(error), parameter, context)


FIELD: Final = _Field()


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


class Integer(click.ParamType):  # type: ignore[type-arg]
    """An integer as JSON writes it, and as the store counts: of 64 bits, and at least `least`."""

    name = "INTEGER"

    def __init__(self, least: int | None = None) -> None:
        self._least = least

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        # Python's own int() takes 1_000, blanks, and digits of any script.
        if isinstance(value, str) and not re.fullmatch("[+-]?[0-9]+", value):
            self.fail(f"{value!r} is no integer", parameter, context)
        if len(str(value)) > _DIGITS or not -(2**63) <= (number := int(value)) < 2**63:
            self.fail(f"{value} is past 64 bits", parameter, context)
        if self._least is not None and number < self._least:
            self.fail(f"{value} is less than {self._least}", parameter, context)
        return number
