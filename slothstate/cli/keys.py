"""`get set delete exists keys scan clear ttl set-ttl persist compare-swap path sweep`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from slothstate import State
from slothstate.cli import verbs
from slothstate.cli.exits import DONE, MISUSE, NO, Failure, say_no
from slothstate.cli.formatting import duration, escaped, is_terminal, one_line, quantity, size, styled
from slothstate.cli.options import SECONDS, complete_key, key_argument, store_command
from slothstate.cli.store import open_state, store_path
from slothstate.cli.table import print_table, terminal_width
from slothstate.cli.values import (
    Form,
    Shape,
    as_json,
    delivering,
    output_options,
    parse_value,
    shown,
    value_options,
    write,
    write_octets,
)

__all__ = [
    "clear",
    "compare_swap",
    "delete",
    "exists",
    "get",
    "keys",
    "path",
    "persist",
    "scan",
    "set_",
    "sweep",
    "ttl",
]

NO_TTL = -1
NO_KEY = -2

pattern_argument = click.argument("pattern", required=False)


@store_command("get")
@key_argument
@click.option("--default", metavar="VALUE", help="Print this if the key is missing, and exit with 0.")
@output_options
def get(db: str | None, key: str, default: str | None, shape: Shape) -> int:
    """Print the value of KEY.

    A string is printed as its text, anything else as JSON; bytes are printed as they are, without a newline. On a
    terminal control characters are escaped.

    Exits with 1 if the key is missing.

    \b
    Examples:
      slothstate get deploy:version
      slothstate get photo --raw > photo.jpg
      slothstate get config --json | jq .debug
    """
    return verbs.get(db, key, default, shape)


@store_command("set")
@key_argument
@click.argument("value")
@click.option("--ttl", type=SECONDS, help="Let the key expire after this time: 30, 5m, 1h30m, 2d.")
@value_options
def set_(db: str | None, key: str, value: str, ttl: float | None, form: Form) -> int:
    """Set KEY to VALUE; without --ttl it does not expire.

    VALUE is typed by how it is written: what is JSON is stored as that (5, 1.5, true, "text", [1, 2], {"a": 1}),
    anything else as a string. A lone - reads stdin, without the newline at its end.

    \b
    Examples:
      slothstate set deploy:version v1.2.3
      slothstate set limits '{"cpu": 2, "memory": 512}' --ttl 1h
      slothstate set zip --string 01234
      slothstate set photo --bytes - < photo.jpg
    """
    return verbs.set_(db, key, value, ttl, form)


@store_command("delete")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, shell_complete=complete_key)
def delete(db: str | None, keys: tuple[str, ...]) -> int:
    """Delete keys, all in one transaction.

    Exits with 1 if any of them is missing; the others are deleted all the same. A terminal is told which.

    \b
    Example:
      slothstate delete session:1 session:2
    """
    with open_state(db) as state, state.transaction():
        missing = [key for key in dict.fromkeys(keys) if not state.delete(key)]
    if missing:
        verbs.say_no_key(*missing)
    return DONE


@store_command("exists")
@key_argument
def exists(db: str | None, key: str) -> int:
    """Exit with 0 if KEY is there, with 1 if not.

    Nothing is printed, as by test(1).

    \b
    Example:
      slothstate exists deploy:version || echo "never deployed"
    """
    return verbs.exists(db, key)


def listing_options(function: Any) -> Any:
    """Add the options that say how keys are listed."""
    for option in (
        click.option("-0", "--null", is_flag=True, help="End each key with NUL, for xargs -0."),
        click.option("--raw", is_flag=True, help="Print the keys alone, with nothing escaped."),
        click.option("--json", "as_json_", is_flag=True, help="Print JSON."),
    ):
        function = option(function)
    return function


@store_command("keys")
@pattern_argument
@listing_options
def keys(db: str | None, pattern: str | None, as_json_: bool, raw: bool, null: bool) -> int:
    """List the keys that match PATTERN, all without one, in order.

    * is any run of characters, ? one, [a-z] or [^a] one of a class, \\x the character x.

    On a terminal a table shows kind, time to live, size and the beginning of the value; a key too long for it is cut in
    the middle (--raw shows it whole). In a pipe it is one key a line, a line break in a key written as \\n: for exact
    keys take --json (an array) or --null.

    \b
    Examples:
      slothstate keys 'user:*'
      slothstate keys --null 'tmp:*' | xargs -0 slothstate delete --
    """
    with open_state(db) as state:
        if as_json_:
            write(as_json(state.keys(pattern)))
        else:
            _list(state, pattern, raw, null, iter(state.keys(pattern)) if raw or null or not is_terminal() else None)
    return DONE


@store_command("scan")
@pattern_argument
@listing_options
def scan(db: str | None, pattern: str | None, as_json_: bool, raw: bool, null: bool) -> int:
    """List keys a page at a time, for stores too large for `keys`.

    The keys and their order are those of `keys`. Nothing is locked between two pages; a key that is there all the
    time comes exactly once. --json prints one JSON string a line.

    \b
    Example:
      slothstate scan --json 'user:*' | head -3
    """
    with open_state(db) as state:
        if as_json_:
            for key in state.scan(pattern):
                write(as_json(key))
        else:
            _list(state, pattern, raw, null, state.scan(pattern) if raw or null or not is_terminal() else None)
    return DONE


def _list(state: State, pattern: str | None, raw: bool, null: bool, found: Iterator[str] | None) -> None:
    if found is None:
        rows = (
            [entry.kind, _ttl_cell(entry.ttl), size(entry.size), escaped(entry.key), shown(entry.preview)]
            for entry in state.entries(pattern, preview=terminal_width())
        )
        if not print_table(["KIND", "TTL", "SIZE", "KEY", "VALUE"], rows, right=["TTL", "SIZE"]):
            write(styled("no keys", dim=True))
        return
    for key in found:
        if null:
            write_octets(key.encode() + b"\0")
        elif raw:
            write_octets(key.encode() + b"\n")
        else:
            write(one_line(key))


def _ttl_cell(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


@store_command("clear")
@pattern_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Delete nothing, print how many keys would go.")
def clear(db: str | None, pattern: str | None, yes: bool, dry_run: bool) -> int:
    """Delete the keys that match PATTERN, all without one.

    Prints how many went. Locks stay. On a terminal it says how many keys would go, and asks. Where nobody can be
    asked it refuses without --yes.

    \b
    Examples:
      slothstate clear --dry-run 'session:*'
      slothstate clear --yes 'session:*'
    """
    with open_state(db) as state:
        if not (yes or dry_run) and not is_terminal(sys.stdin):
            raise Failure("clear asks before it deletes, and stdin is no terminal: give --yes or --dry-run", MISUSE)
        if dry_run or not yes:
            count = len(state) if pattern is None else sum(1 for _ in state.scan(pattern))
            what = quantity(count, "key") + ("" if pattern is None else f" matching {escaped(pattern)}")
            if dry_run:
                write(f"{what} would be deleted from {escaped(store_path(db))}" if is_terminal() else str(count))
                return DONE
            if count and not click.confirm(f"Delete {what} from {escaped(store_path(db))}?", err=True):
                return NO
        with delivering(state, timed=False):
            removed = state.clear(pattern)
            write(f"{quantity(removed, 'key')} deleted" if is_terminal() else str(removed))
    return DONE


@store_command("ttl")
@key_argument
def ttl(db: str | None, key: str) -> int:
    """Print the seconds that KEY has left; -1 if it does not expire.

    Whole seconds, rounded up. Prints -2 and exits with 1 if the key is missing. `set-ttl` sets it.

    \b
    Example:
      slothstate ttl session:1
    """
    with open_state(db) as state:
        left = state.get_ttl(key)
    if left == NO_KEY:
        if not is_terminal():
            write(str(left))
        verbs.say_no_key(key)
    if is_terminal():
        write(f"{left}  {styled('no TTL' if left == NO_TTL else duration(left), dim=True)}")
    else:
        write(str(left))
    return DONE


@store_command("set-ttl")
@key_argument
@click.argument("seconds", type=SECONDS)
def set_ttl(db: str | None, key: str, seconds: float) -> int:
    """Let KEY expire after SECONDS from now.

    SECONDS is a number, or has units: 30, 0.5, 500ms, 5m, 1h30m, 2d, 1w. Exits with 1 if the key is missing.

    \b
    Example:
      slothstate set-ttl session:1 15m
    """
    with open_state(db) as state:
        if not state.set_ttl(key, seconds):
            verbs.say_no_key(key)
    return DONE


@store_command("persist")
@key_argument
def persist(db: str | None, key: str) -> int:
    """Take the time to live of KEY away.

    Exits with 1 if it had none, or is missing.

    \b
    Example:
      slothstate persist session:1
    """
    with open_state(db) as state:
        if not state.persist(key):
            say_no(f"key {key!r} is missing or has no TTL")
    return DONE


@store_command("compare-swap")
@key_argument
@click.argument("values", metavar="[OLD] NEW", nargs=-1, required=True)
@click.option("--absent", is_flag=True, help="Set KEY to NEW only if it is missing; there is no OLD.")
@value_options
def compare_swap(db: str | None, key: str, values: tuple[str, ...], absent: bool, form: Form) -> int:
    """Set KEY to NEW if its value is OLD.

    Both are read as `set` reads a VALUE. The time to live stays. Tables and lists are compared deeply; 1 equals
    1.0, but true is not 1. Exits with 1 if nothing was swapped.

    \b
    Examples:
      slothstate compare-swap deploy:state idle running
      slothstate compare-swap leader --absent "$HOSTNAME"
    """
    wanted = 1 if absent else 2
    if len(values) != wanted:
        raise click.UsageError("give NEW alone with --absent" if absent else "give OLD and NEW, or --absent and NEW")
    if values == ("-", "-"):
        raise click.UsageError("only one value can be read from stdin")
    *old, new = (parse_value(value, form) for value in values)
    verbs.storable(new)
    if old == [None]:
        raise Failure("OLD is null, which no key holds: --absent swaps only if the key is missing", MISUSE)
    with open_state(db, create=absent) as state:
        if not state.compare_swap(key, old[0] if old else None, new):
            say_no(f"not swapped: key {key!r} {'is there' if absent else 'holds another value, or is missing'}")
    return DONE


@store_command("path", opens=False)
def path(db: str | None) -> int:
    """Print which file the other commands would use.

    It need not be there. --db comes first, then $SLOTHSTATE_DB, then ~/.sloth-runner/state.db.

    \b
    Example:
      ls -l "$(slothstate path)"
    """
    found = store_path(db)
    if is_terminal():
        source = "--db" if db is not None else "$SLOTHSTATE_DB" if os.environ.get("SLOTHSTATE_DB") else "the default"
        there = "" if os.path.exists(found) else ", does not exist yet"
        write(f"{escaped(found)}  {styled(f'({source}{there})', dim=True)}")
    else:
        write_octets(os.fsencode(found) + b"\n")
    return DONE


@store_command("sweep")
def sweep(db: str | None) -> int:
    """Remove now what has expired.

    That is keys and locks, and the locks of dead owners; prints how many keys went. Any process that has the store
    open does that every five minutes; this is for stores that nobody has open for long.

    \b
    Example:
      slothstate sweep
    """
    with open_state(db) as state:
        removed = state.sweep()
    write(f"{quantity(removed, 'key')} removed" if is_terminal() else str(removed))
    return DONE
