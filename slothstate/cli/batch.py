"""`slothstate batch`: many commands in one process, one a line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import UnsupportedOperation

import click
from click.core import ParameterSource

from slothstate.cli.command_group import exit_code
from slothstate.cli.exits import DONE, MISUSE, NO, Failure, OutputFailure, flush
from slothstate.cli.formatting import is_terminal
from slothstate.cli.opening import sharing_state
from slothstate.cli.options import store_command
from slothstate.cli.values import stdin_lines
from slothstate.hints import IO, Any, Final, NoReturn, cast

__all__ = ["batch", "words_of"]

_ALONE: Final = ("batch", "claim", "copy-store", "edit", "lock", "restore", "run", "shell", "top", "with-lock")
"""Commands that read stdin, go on until they are ended, or want the store for themselves."""

_OF_THE_STORE: Final = {
    "db": "--db",
    "durability": "--durability",
    "busy_timeout": "--busy-timeout",
    "allow_remote": "--allow-remote",
}
"""Parameters that say which store it is, and how it is opened."""

# The parts of a word, as POSIX sh quotes them: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html
_PART: Final = re.compile(
    r"""(?P<plain>[^ \t'"\\]+)|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)""", re.DOTALL
)


@store_command("batch")
@click.option("--keep-going", is_flag=True, help="Go on after a line that failed, too.")
@click.pass_context
def batch(context: click.Context, db: str | None, keep_going: bool) -> int:
    """Run the commands that stdin holds, one a line, in one process.

    A line is a command and its arguments, without `slothstate`. Words are quoted as in POSIX sh, '...', "..." and \\,
    and nothing is expanded; blank lines are skipped, and what follows a # at the beginning of a word. Each prints what
    it would print alone.

    A no (1) goes on. The first misuse (2) or error of the store (3) ends the batch and is named with its line; what ran
    before it stays done: a batch is no transaction. With --keep-going the lines behind it run all the same. The exit
    code is the highest of all.

    All work on one open store, so --db and the other options of the store are given to the batch, not in a line.
    Neither batch, claim, copy-store, edit, lock, restore, run, shell, top and with-lock can be in a line, nor a - for
    stdin, which is the batch.

    \b
    Example:
      printf '%s\\n' 'set a "two words"' 'increment n 5' | slothstate batch
    """
    if is_terminal(sys.stdin):
        raise Failure("batch reads commands from stdin: redirect a file or a pipe to it", MISUSE)
    root = context.find_root()
    if db is not None:
        root.default_map = {name: {"db": db} for name in cast(click.Group, root.command).list_commands(root)}
    worst = DONE
    with sharing_state(root), _stdin_taken() as lines:
        for number, line in enumerate(stdin_lines(lines), start=1):
            text = os.fsdecode(line.rstrip(b"\r\n"))
            try:
                code = exit_code(partial(_run, root, text), where=f"line {number}: ")
            except _OutputEnded as ended:
                raise ended.error from None
            flush()
            worst = max(worst, code)
            if code > NO and not keep_going:
                break
    return worst


def _run(root: click.Context, line: str) -> Any:
    """Run the command of a line, if there is one; return what it returns."""
    words = words_of(line)
    if not words:
        return DONE
    if words[0].startswith("-"):
        raise Failure(f"a line begins with a command, not with {words[0]!r}", MISUSE)
    try:
        name, command, arguments = cast(click.Group, root.command).resolve_command(root, words)
        assert command is not None  # resolve_command has said that there is none
        if command.name in _ALONE:
            raise Failure(f"{command.name} cannot be part of a batch", MISUSE)
        with command.make_context(name, arguments, parent=root) as context:
            for parameter, option in _OF_THE_STORE.items():
                if context.get_parameter_source(parameter) is ParameterSource.COMMANDLINE:
                    raise Failure(f"{option} is for the whole batch: slothstate batch {option} ...", MISUSE)
            return command.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (BrokenPipeError, OutputFailure) as error:
        raise _OutputEnded(error) from error


class _OutputEnded(BaseException):
    """Nobody reads stdout any more: no failure of a line, but the end of the batch."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def words_of(line: str) -> list[str]:
    """Return the words of a line, as POSIX sh would find them if nothing were to be expanded.

    Raises: `Failure` for a quote that is not closed in the line, and a backslash at its end.
    """
    words: list[str] = []
    word: str | None = None
    at = 0
    while at < len(line):
        if line[at] in " \t":
            words += [] if word is None else [word]
            word = None
            at += 1
        elif line[at] == "#" and word is None:
            return words
        elif (found := _PART.match(line, at)) is not None:
            word = (word or "") + _unquoted(found)
            at = found.end()
        else:
            what = "backslash at the end" if line[at] == "\\" else f"quote {line[at]} that is not closed"
            raise Failure(f"a {what}; a command is one line", MISUSE)
    return words if word is None else [*words, word]


def _unquoted(found: re.Match[str]) -> str:
    part = found[found.lastgroup or 0]
    return re.sub(r'\\([$`"\\])', r"\1", part) if found.lastgroup == "double" else part


class _Taken:
    """What stands for stdin while its lines are the commands: whoever reads it is told so."""

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> NoReturn:
        raise Failure("stdin holds the commands of the batch, and nothing else can be read from it", MISUSE)


@contextmanager
def _stdin_taken() -> Iterator[IO[bytes]]:
    """Yield what stdin holds; in the block nothing else can be read from it, also by a command that a line runs."""
    stdin = sys.stdin
    with ExitStack() as stack:
        lines: IO[bytes] = stdin.buffer
        with suppress(UnsupportedOperation):  # it has no descriptor: nothing inherits it
            number = stdin.fileno()
            copy = os.dup(number)
            stack.callback(os.close, copy)
            stack.callback(os.dup2, copy, number)
            lines = open(copy, "rb", closefd=False)  # noqa: SIM115 - its descriptor is closed above
            with open(os.devnull, "rb") as nothing:
                os.dup2(nothing.fileno(), number)
        sys.stdin = cast(Any, _Taken())
        stack.callback(setattr, sys, "stdin", stdin)
        yield lines
