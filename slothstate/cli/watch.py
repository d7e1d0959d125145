"""Changes: waiting for one key, following all that match a pattern."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any, Final

import click

from slothstate import Change, same
from slothstate.cli.exits import DONE, cannot_run, flush, say_no
from slothstate.cli.formatting import escaped, is_terminal, styled
from slothstate.cli.opening import open_state, store_address
from slothstate.cli.options import SECONDS, complete_key, json_option, key_argument, store_command
from slothstate.cli.table import print_table
from slothstate.cli.values import Form, as_json, parse_value, print_value, value_options, write

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


@store_command("watch")
@click.argument("pattern", required=False, shell_complete=complete_key)
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", help="Go on where the watch of this name was; the store remembers it.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N changes.")
@click.option("--timeout", type=SECONDS, help="End so long after the last change.  [default: never]")
def watch(
    db: str | None,
    pattern: str | None,
    command: tuple[str, ...],
    name: str | None,
    count: int | None,
    timeout: float | None,
) -> int:
    """Print the changes of keys that match PATTERN as they come.

    Those of any process: one JSON object a line, with key, op (set, delete or expire) and revision, which rises. With
    a COMMAND it runs for each, with $SLOTHSTATE_KEY, $SLOTHSTATE_OP and $SLOTHSTATE_DB. A command that fails ends the
    watch with its code.

    With --name nothing is missed while nobody watches, up to 100,000 changes or 24 hours, and a change whose command
    failed, or that was not printed, comes again. `unwatch` forgets the name.

    \b
    Examples:
      slothstate watch 'deploy:*'
      slothstate watch --name mailer 'order:*' -- ./send-mail
    """
    left = count
    with open_state(db, create=True) as state, state.watch(pattern, name=name) as changes:
        while left != 0 and (change := changes.next(timeout)) is not None:
            if not command:
                write(as_json({"key": change.key, "op": change.op, "revision": change.revision}))
                flush()
            elif code := _run(command, change, db):
                return code
            left = None if left is None else left - 1
        if left == 0:
            # What is asked for next makes this one handled.
            changes.next(0)
    return DONE


def _run(command: Sequence[str], change: Change, db: str | None) -> int:
    """Run a command for a change and return its exit code, 128 + n if signal n ended it."""
    told = {"SLOTHSTATE_KEY": change.key, "SLOTHSTATE_OP": change.op, "SLOTHSTATE_DB": store_address(db)}
    try:
        code = subprocess.run(command, env=os.environ | told, check=False).returncode
    except OSError as error:
        raise cannot_run(command[0], error.errno or 0) from error
    return 128 - code if code < 0 else code


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
