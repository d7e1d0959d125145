"""The plainest calls of the commands that scripts call most, understood without click.

Importing click and declaring a command takes longer than all else that `slothstate get KEY` does. So what is written
with no option but `--db` goes straight to the function that click would call; whatever else is written, an option, a
mistake or a word that could be either, is left to click, which alone knows help, completion and errors of usage.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from slothstate.cli.exits import finish
from slothstate.hints import Final

__all__ = ["plain_call"]

_ARGUMENTS: Final = {"get": 1, "set": 2, "exists": 1, "with-lock": 1}
"""How many arguments the commands have, that of with-lock without the command to run."""

_SEPARATOR: Final = "--"


def plain_call(words: Sequence[str]) -> Callable[[], int] | None:
    """Return what does what the words of a command line say, None if that is for click to find out."""
    if os.name != "posix" or "_SLOTHSTATE_COMPLETE" in os.environ:
        # click itself expands patterns on Windows.
        return None
    command: list[str] = []
    if "with-lock" in words and _SEPARATOR in words:
        end = words.index(_SEPARATOR)
        words, command = words[:end], list(words[end + 1 :])
    found = _plain(words)
    if found is None or any(_is_no_text(word) for word in found[1]):
        return None
    db, (name, *arguments) = found
    if len(arguments) != _ARGUMENTS.get(name) or (name == "with-lock") != bool(command):
        return None
    if name == "with-lock":
        from slothstate.cli.locked_command import run_locked

        call = partial(run_locked, db, arguments[0], command)
    else:
        from slothstate.cli import verbs

        functions: dict[str, Callable[..., int]] = {"get": verbs.get, "set": verbs.set_, "exists": verbs.exists}
        call = partial(functions[name], db, *arguments)
    return partial(finish, call)


def _is_no_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return True
    return False


def _plain(words: Sequence[str]) -> tuple[str | None, list[str]] | None:
    """Return the value of `--db` and the other words, None if there is another option, or anything like one."""
    db: str | None = None
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--db" and db is None:
            db = next(rest, "-")
            if db.startswith("-"):
                return None
        elif word.startswith("-"):
            return None
        else:
            others.append(word)
    return (db, others) if others else None
