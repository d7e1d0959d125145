"""Changes: waiting for one key, following all that match a pattern."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext

import click

from slothstate import Change, State, Watch, same
from slothstate.cli.child import Repeated, leaving_on_signals, signals_blocked, signals_free
from slothstate.cli.exits import DONE, cannot_run, flush, say_no
from slothstate.cli.formatting import escaped, is_terminal, styled
from slothstate.cli.opening import open_state, store_address
from slothstate.cli.options import (
    SECONDS,
    CommandBehind,
    Integer,
    complete_key,
    json_option,
    key_argument,
    store_command,
)
from slothstate.cli.table import print_table
from slothstate.cli.values import Form, as_json, parse_value, print_value, value_options, write
from slothstate.hints import Any, Final

__all__ = ["unwatch", "wait", "watch", "watches"]

_HEADINGS: Final = ("OWNER", "PID", "HOST", "HANDLED", "BEHIND", "NAME", "PATTERN")


@store_command("wait")
@key_argument
@click.argument("seen", required=False)
@click.option("--timeout", type=SECONDS, help="Wait no longer than this; 0: do not wait.  [default: for ever]")
@value_options
def wait(db: str | None, key: str, seen: str | None, timeout: float | None, form: Form) -> int:
    """Wait until the value of KEY is not SEEN any more, and print it.

    Without SEEN until there is one. SEEN is read as `set` reads a VALUE, and compared as `compare-swap` does. Exits
    with 1, and prints nothing, if the value still is SEEN after --timeout, and if the key is missing then.

    \b
    Examples:
      slothstate wait deploy:state running --timeout 10m
      slothstate wait service:ready --timeout 30s && echo ready
    """
    before: Any = None if seen is None else parse_value(seen, form)
    with open_state(db, create=True) as state:
        value = state.wait(key, before, timeout)
    if value is None or same(value, before):
        say_no(f"key {key!r} is {'missing' if value is None else 'as it was'}")
    print_value(value, None)
    return DONE


class _WatchCommand(CommandBehind):
    """A command that may have another one behind its `--`."""

    needs_command = False


@store_command("watch", cls=_WatchCommand)
@click.argument("pattern", required=False, shell_complete=complete_key)
@click.option("--name", help="Go on where the watch of this name was; the store remembers it.")
@click.option("--count", type=Integer(1), metavar="N", help="End after N changes.")
@click.option("--timeout", type=SECONDS, help="End so long after the last change.  [default: never]")
@click.pass_obj
def watch(
    command: list[str] | None,
    db: str | None,
    pattern: str | None,
    name: str | None,
    count: int | None,
    timeout: float | None,
) -> int:
    """Print the changes of keys that match PATTERN as they come.

    Those of any process: one JSON object a line, with key, op (set, delete or expire) and revision, which rises. With
    a COMMAND it runs for each, with $SLOTHSTATE_KEY, $SLOTHSTATE_OP and $SLOTHSTATE_DB. A command that fails ends the
    watch with its code. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 go to the command; when it has ended
    after one of the first four, the watch ends, too. If this process is killed (SIGKILL), the command is killed as well
    (on Linux). A PATTERN that begins with a hyphen is written with a backslash before it: '\\-x*'.

    With --name nothing is missed while nobody watches, up to 100,000 changes or 24 hours, and a change whose command
    failed, or that was not printed, comes again. `unwatch` forgets the name.

    Exit codes: that of a command that failed, 128 + n if signal n ended it; 126 or 127 when it cannot be run.

    \b
    Examples:
      slothstate watch 'deploy:*'
      slothstate watch --name mailer 'order:*' -- ./send-mail
    """
    left = count
    told_to_end: int | None = None
    with _ready(command) as (runs, mask), _opened(db, mask) as state, state.watch(pattern, name=name) as changes:
        while left != 0 and told_to_end is None and (change := _next(changes, timeout, mask)) is not None:
            if not command:
                write(as_json({"key": change.key, "op": change.op, "revision": change.revision}))
                flush()
            else:
                code, told_to_end = _run(command, runs, change, db)
                if code:
                    return code
            left = None if left is None else left - 1
        if left == 0 or told_to_end is not None:
            # What is asked for next makes this one handled.
            changes.next(0)
    return DONE if told_to_end is None else 128 + told_to_end


@contextmanager
def _ready(command: Sequence[str] | None) -> Iterator[tuple[Repeated | None, set[int] | None]]:
    """Be ready to run the command in the block, and keep signals for it; yield the mask to wait in as well."""
    if not command or not hasattr(os, "fork"):
        yield None, None
        return
    with leaving_on_signals(), signals_blocked() as mask, Repeated(command, mask) as runs:
        yield runs, mask


@contextmanager
def _opened(db: str | None, mask: set[int] | None) -> Iterator[State]:
    """Open the store; a signal ends the wait for one that is out of reach."""
    with ExitStack() as stack:
        with nullcontext() if mask is None else signals_free(mask):
            state = stack.enter_context(open_state(db, create=True))
        yield state


def _next(changes: Watch, timeout: float | None, mask: set[int] | None) -> Change | None:
    """Return the next change; a signal ends the wait for it."""
    if mask is None:
        return changes.next(timeout)
    # A change that is there already comes before a signal that is.
    change = changes.next(0)
    if change is None and timeout != 0:
        with signals_free(mask):
            change = changes.next(timeout)
    return change


def _run(command: Sequence[str], runs: Repeated | None, change: Change, db: str | None) -> tuple[int, int | None]:
    """Run a command for a change; return its exit code, 128 + n if signal n ended it, and what told it to end."""
    told = {"SLOTHSTATE_KEY": change.key, "SLOTHSTATE_OP": change.op, "SLOTHSTATE_DB": store_address(db)}
    if runs is not None:
        return runs.run(told), runs.told_to_end
    try:
        code = subprocess.run(command, env=os.environ | told, check=False).returncode
    except OSError as error:
        raise cannot_run(command[0], error.errno or 0) from error
    return (128 - code if code < 0 else code), None


@store_command("watches")
@json_option
def watches(db: str | None, as_json_: bool) -> int:
    """List who watches.

    In a pipe one line each, separated by tabs: alive, dead or nobody, pid, host, the last revision that it has handled,
    name, pattern. On a terminal and with --json also how many changes it is behind.

    \b
    Example:
      slothstate watches
    """
    with open_state(db) as state:
        found = state.watches()
    if as_json_:
        write(as_json(found))
        return DONE
    is_shown = is_terminal()
    rows = [
        [
            "nobody" if each["owner"] is None else "alive" if each["alive"] else "dead",
            str(each["owner"]["pid"]) if each["owner"] else "",
            escaped(each["owner"]["host"]) if each["owner"] else "",
            str(each["revision"]),
            *([f"{each['behind']:,}"] if is_shown else []),
            escaped(each["name"] or ""),
            escaped(each["pattern"] or "*"),
        ]
        for each in found
    ]
    if not is_shown:
        for row in rows:
            write("\t".join(row))
    elif not print_table(_HEADINGS, rows, right=["PID", "HANDLED", "BEHIND"]):
        write(styled("nobody watches", dim=True))
    return DONE


@store_command("unwatch")
@click.argument("name")
def unwatch(db: str | None, name: str) -> int:
    """Forget the watch NAME, and the changes that are kept for it.

    Exits with 1 if there is none.

    \b
    Example:
      slothstate unwatch mailer
    """
    with open_state(db) as state:
        if not state.unwatch(name):
            say_no(f"there is no watch {name!r}")
    return DONE
