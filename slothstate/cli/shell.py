"""`slothstate shell`: a Lua prompt with the store at hand."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import click

import slothstate
from slothstate import SlothStateError, State, UnsafeState
from slothstate.cli.exits import MISUSE, NO, Failure, flush
from slothstate.cli.formatting import escaped, is_terminal, quantity
from slothstate.cli.opening import open_state, store_path
from slothstate.cli.options import keys_beginning, locks_beginning, lua_option, store_command
from slothstate.cli.run import stderr_reporter
from slothstate.cli.signals import TERMINATING, Ended, raising_when_ended
from slothstate.cli.supervise import check_output, supervise
from slothstate.cli.values import stdin_lines, write
from slothstate.hints import TYPE_CHECKING, Any, Final, NoReturn
from slothstate.lua.host.described import items, lua_bytes, lua_text
from slothstate.lua.host.report import printable

if TYPE_CHECKING:
    from slothstate.lua.host.host import Host

__all__ = ["shell"]

HISTORY_LINES: Final = 2000

# Where a string begins that is the first argument of a verb: what is completed there is a key, or a lock's name.
_IN_A_KEY: Final = re.compile(r"""state\.(\w+)\s*\(?\s*(["'])((?:(?!\2).)*)$""")
_LOCK_VERBS: Final = ("lock", "try_lock", "unlock", "with_lock")

_LEAVING: Final = ("exit", "quit")

_LEFT_BY: Final = tuple(number for number in TERMINATING if number != signal.SIGINT)
"""The signals that end the shell: not Ctrl-C, which ends what runs."""

_HELP: Final = """\
An expression shows its value, a statement runs; what is not finished goes on in the next line.
Tab completes names and keys, Ctrl-C ends what runs; exit, quit or Ctrl-D ends the shell.

Verbs of the store, for example state.set("key", {{1, 2}}) and state.get("key"):
{verbs}
Also log, exec and data, as `slothstate run` gives them to a script."""

_WORD_BREAKS: Final = " \t\n\"'()[]{},;=+*/<>~#%^"


@store_command("shell")
@click.option("-e", "--execute", "source", metavar="LUA", help="Run this text and end.")
@lua_option
def shell(source: str | None, implementation: str, db: str | None) -> int:
    """Talk to the store in Lua, line by line.

    \b
    Examples:
      slothstate shell
      slothstate shell -e 'state.get("config").debug'
      echo 'state.increment("visits")' | slothstate shell

    What is in reach is what `slothstate run` gives a script: `state`, `log`, `exec`, `data`. An expression shows its
    value, with or without = before it; a statement that is not finished goes on in the next line. Variables last if
    they are not local. The tab key completes names, verbs, and keys inside quotes; the history is kept in
    $XDG_STATE_HOME/slothstate. `help` lists the verbs. Ctrl-C ends what runs; `exit`, `quit` or Ctrl-D the shell.

    Without a terminal it reads Lua from stdin and ends at the first error.

    Exit codes: 0 done; 1 an error was raised; 2 misuse, or a syntax error; 3 the store cannot be used; and n for
    os.exit(n).
    """
    from slothstate.lua.host.host import Host

    with open_state(db, create=True) as state:
        host = Host(state, stderr_reporter(), implementation)
        prompt = _Prompt(host)
        if source is not None:
            return supervise(host, state, partial(prompt.script, [source], "-e"))
        if not is_terminal(sys.stdin):
            return supervise(host, state, partial(prompt.script, stdin_lines(sys.stdin), "stdin"))
        click.echo(
            f"{prompt.version} on {escaped(store_path(db))}, {quantity(len(state), 'key')}. "
            "Try: state.keys()   Help: help   End: Ctrl-D"
        )
        with _line_editing(state, prompt.names), raising_when_ended(_LEFT_BY):
            return prompt.talk()


class _Prompt:
    """Lua texts, run one by one in one runtime."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lua = host.prompt()
        self._exit_code: int | None = None
        self.version = self._lua[b"version"].decode()

    def talk(self) -> int:
        """Read from the terminal and run, until Ctrl-D or os.exit; return the exit code."""
        lines: list[str] = []
        while self._exit_code is None:
            try:
                lines.append(input("... " if lines else "> "))
            except EOFError:
                click.echo()
                break
            except KeyboardInterrupt:
                click.echo()
                lines.clear()
                continue
            source = "\n".join(lines)
            if self._is_word(source):
                lines.clear()
                continue
            function, problem, is_unfinished = self._compile(source, "prompt")
            if function is None and is_unfinished:
                continue
            lines.clear()
            try:
                problem = problem or self._run_typed(function)
            except KeyboardInterrupt:
                problem = "interrupted"
            if problem:
                click.secho(printable(problem), fg="red", err=True)
        return self._exit_code or 0

    def script(self, lines: Iterable[str], name: str) -> int:
        """Run a text that nobody types, statement by statement; return the exit code.

        Raises: `Failure` at the first error.
        """
        pending, problem = "", ""
        for number, line in enumerate(lines, start=1):
            if not pending:
                # Lines that were run before, so that errors name the right one.
                pending = "\n" * (number - 1)
            pending += line
            if self._is_word(pending):
                if self._exit_code is not None:
                    return self._exit_code
                pending = ""
                continue
            function, problem, is_unfinished = self._compile(pending, name)
            if function is None and is_unfinished:
                continue
            if function is None:
                break
            pending = ""
            if failed := self._run(function):
                raise Failure(printable(failed), NO, lines=True)
            if self._exit_code is not None:
                return self._exit_code
        if problem:
            raise Failure(printable(problem), MISUSE, lines=True)
        return 0

    def _is_word(self, source: str) -> bool:
        """Do what a word of the prompt's own stands for; False if it is none, or the name of a global variable."""
        word = source.strip().removesuffix(";").removesuffix("()")
        if word not in ("help", *_LEAVING) or word in self.names(""):
            return False
        if word == "help":
            verbs = textwrap.fill(" ".join(self.names("state")), initial_indent="  ", subsequent_indent="  ")
            write(_HELP.format(verbs=verbs))
            flush()
        else:
            self._exit_code = 0
        return True

    def names(self, path: str) -> list[str]:
        """Return the names of the fields of a global table; "" for the globals."""
        return [name.decode(errors="replace") for name in items(self._lua[b"names"](path.encode()))]

    def _compile(self, source: str, name: str) -> tuple[Any, str, bool]:
        """Return the function that a text is; or None, the syntax error, and whether more lines could help."""
        found = self._lua[b"compile"](lua_bytes(source), f"={name}".encode())
        return (None, lua_text(found[1]), found[2]) if isinstance(found, tuple) else (found, "", False)

    def _run_typed(self, function: Any) -> str:
        """Run what was typed; as `_run`. Raises: `KeyboardInterrupt`, `Ended`."""
        with _interrupting(self._host):
            found = self._lua[b"run"](function)
        return self._shown(*found)

    def _run(self, function: Any) -> str:
        """Run a function and print its results; return the text of its error, or ""."""
        return self._shown(*self._lua[b"run"](function))

    def _shown(self, kind: bytes, text: Any = None, *count: int) -> str:
        sys.stdout.flush()
        check_output(self._host)
        if kind == b"interrupt":
            raise Ended(signal.SIGINT)
        if kind == b"exit":
            self._exit_code = self._host.exit_code
        elif kind == b"error":
            return lua_text(text)
        elif count[0]:
            result = text.decode(errors="backslashreplace")
            write(printable(result) if is_terminal() else result)
            flush()
        return ""


@contextlib.contextmanager
def _interrupting(host: Host) -> Iterator[None]:
    """Let signals end what Lua runs in the block; raise `KeyboardInterrupt` for Ctrl-C, `Ended` for another one.

    Also if Lua took it for an error.
    """
    came: list[BaseException] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        host.is_interrupted = True
        came.append(KeyboardInterrupt() if number == signal.SIGINT else Ended(number))
        raise came[-1]

    host.is_interrupted = False
    before = {number: signal.getsignal(number) for number in TERMINATING}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise came[-1]


@contextlib.contextmanager
def _line_editing(state: State, names: Callable[[str], list[str]]) -> Iterator[None]:
    """Let the terminal's lines be edited and completed, and keep their history in a file that only its owner reads."""
    try:
        import readline
    except ImportError:  # not every Python has it
        yield
        return
    completer = _Completer(state, names)
    readline.set_completer_delims(_WORD_BREAKS)
    readline.set_completer(
        lambda word, number: completer.complete(word, number, readline.get_line_buffer()[: readline.get_endidx()])
    )
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    readline.set_history_length(HISTORY_LINES)
    with contextlib.suppress(OSError, UnsafeState):
        readline.read_history_file(_history_file())
    try:
        yield
    finally:
        # A history that cannot be kept is no reason to fail.
        with contextlib.suppress(OSError, UnsafeState):
            history = _history_file()
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(history, os.O_CREAT | os.O_WRONLY, 0o600))
            history.chmod(0o600)
            readline.write_history_file(history)


def _history_file() -> Path:
    """Return where the history is kept. Raises: `UnsafeState` where there is no home directory."""
    kept = os.environ.get("XDG_STATE_HOME", "")
    # A relative one is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
    directory = kept if os.path.isabs(kept) else slothstate.absolute_path("~/.local/state")
    return Path(directory, "slothstate", "shell_history")


class _Completer:
    """What the tab key offers: names with their table, or, inside the quotes of a verb's first argument, keys."""

    def __init__(self, state: State, names: Callable[[str], list[str]]) -> None:
        self._state = state
        self._names = names
        self._found: list[str] = []

    def complete(self, word: str, number: int, line: str) -> str | None:
        """Return the `number`-th way to complete the `word` at the end of `line`, None past the last."""
        if number == 0:
            inside = _IN_A_KEY.search(line)
            self._found = self._named(word) if inside is None else self._keys(inside[1], inside[3], word)
        return self._found[number] if number < len(self._found) else None

    def _named(self, word: str) -> list[str]:
        path, dot, beginning = word.rpartition(".")
        return [path + dot + name for name in self._names(path) if name.startswith(beginning)]

    def _keys(self, verb: str, beginning: str, word: str) -> list[str]:
        with contextlib.suppress(SlothStateError):
            found = (locks_beginning if verb in _LOCK_VERBS else keys_beginning)(self._state, beginning)
            before = len(beginning) - len(word)
            return [key[before:] for key in found if key.isprintable() and '"' not in key and "'" not in key]
        return []
