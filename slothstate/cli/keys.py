"""Single keys: what each holds, set, shown, moved and deleted."""

from __future__ import annotations

import sys

import click

from slothstate import format_path
from slothstate.cli import verbs
from slothstate.cli.exits import DONE, MISUSE, NO, Failure, say_no, say_no_key
from slothstate.cli.formatting import escaped, is_terminal, quantity
from slothstate.cli.opening import open_state, store_path
from slothstate.cli.options import FIELD, SECONDS, Field, complete_key, key_argument, store_command
from slothstate.cli.values import (
    MISSING,
    Form,
    Shape,
    as_json,
    delivering,
    output_options,
    parse_value,
    plain,
    print_item,
    print_value,
    value_options,
    write,
)
from slothstate.hints import Any, Literal

__all__ = ["clear", "compare_swap", "copy", "delete", "exists", "get", "rename", "set_", "take"]


@store_command("get")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, shell_complete=complete_key)
@click.option("--default", metavar="VALUE", help="Print this if the key is missing, and exit with 0.")
@click.option("--field", type=FIELD, help='Print this part of the value: .servers[0].port, ."any name", [-1].')
@output_options
def get(db: str | None, keys: tuple[str, ...], default: str | None, field: Field | None, shape: Shape) -> int:
    """Print the value of KEY, or one value a line of several.

    A string is printed as its text, anything else as JSON; bytes are printed as they are, without a newline. On a
    terminal control characters are escaped. Of several keys a line break in a string is written as \\n, and --json
    prints one object.

    Exits with 1 if the key, or one of several, is missing, or has no such field.

    \b
    Examples:
      slothstate get deploy:version
      slothstate get photo --raw > photo.jpg
      slothstate get config --field .servers[0].port
      slothstate get --json deploy:version deploy:state
    """
    if len(keys) > 1:
        if default is not None or field is not None or shape == "raw":
            raise click.UsageError("--raw, --default and --field take one key alone")
        return _get_several(db, keys, shape)
    [key] = keys
    return verbs.get(db, key, default, field, shape)


def _get_several(db: str | None, keys: tuple[str, ...], shape: Shape) -> int:
    with open_state(db) as state:
        found = state.get_many(keys)
    if shape == "json":
        write(as_json({key: plain(found[key]) for key in keys if key in found}))
    else:
        for key in keys:
            if key in found:
                print_item(found[key], shape)
                if isinstance(found[key], bytes) and not is_terminal():
                    write("")
    missing = [key for key in dict.fromkeys(keys) if key not in found]
    if missing:
        say_no_key(*missing)
    return DONE


@store_command("set")
@click.argument("key", metavar="KEY", shell_complete=complete_key)
@click.argument("value", metavar="VALUE", required=False)
@click.argument("more", metavar="", nargs=-1)
@click.option("--ttl", type=SECONDS, help="Let the key expire after this time: 30, 5m, 1h30m, 2d.")
@click.option("--keep-ttl", is_flag=True, help="Keep the time to live of a key that is there.")
@click.option("--absent", is_flag=True, help="Only if the key is missing; else exit with 1.")
@click.option("--present", is_flag=True, help="Only if the key is there; else exit with 1.")
@click.option("--field", type=FIELD, help="Set this part of the value alone: .debug, .servers[0].port.")
@click.option("--pairs", is_flag=True, help="Take KEY=VALUE..., and set all of them at once.")
@value_options
def set_(
    db: str | None,
    key: str,
    value: str | None,
    more: tuple[str, ...],
    ttl: float | None,
    keep_ttl: bool,
    absent: bool,
    present: bool,
    field: Field | None,
    pairs: bool,
    form: Form,
) -> int:
    """Set KEY to VALUE; without --ttl it does not expire.

    VALUE is typed by how it is written: what is JSON is stored as that (5, 1.5, true, "text", [1, 2], {"a": 1}),
    anything else as a string. A lone - reads stdin, without the newline at its end.

    --field changes one part of a table or list and nothing else; tables that are missing are made. With --pairs each
    argument is a KEY=VALUE, split at its first =.

    \b
    Examples:
      slothstate set deploy:version v1.2.3
      slothstate set limits '{"cpu": 2, "memory": 512}' --ttl 1h
      slothstate set zip --string 01234
      slothstate set photo --bytes - < photo.jpg
      slothstate set leader "$HOSTNAME" --absent --ttl 30s
      slothstate set config --field .debug true
      slothstate set --pairs app:version=1.2 app:debug=false
    """
    if (absent and present) or (keep_ttl and ttl is not None):
        one, other = ("--absent", "--present") if absent and present else ("--keep-ttl", "--ttl")
        raise click.UsageError(f"{one} and {other} exclude each other")
    conditional = absent or present or keep_ttl
    if pairs:
        if conditional or field is not None:
            raise click.UsageError("--pairs takes --ttl and how values are read, and no other option")
        return _set_pairs(db, tuple(word for word in (key, value, *more) if word is not None), ttl, form)
    if value is None:
        raise click.MissingParameter(param_hint="'VALUE'", param_type="argument")
    if more:
        raise click.UsageError(f"Got unexpected extra argument ({more[0]})")
    if field is not None:
        if conditional or ttl is not None:
            raise click.UsageError("--field sets a part of a value, whose time to live and presence stay")
        part = parse_value(value, form)
        with open_state(db, create=True) as state:
            state.set_field(key, field, part)
        return DONE
    when: Literal["absent", "present"] | None = "absent" if absent else "present" if present else None
    return verbs.set_(db, key, value, ttl, form, when, keep_ttl=keep_ttl)


def _set_pairs(db: str | None, words: tuple[str, ...], ttl: float | None, form: Form) -> int:
    mapping: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator:
            raise click.UsageError(f"with --pairs each argument is KEY=VALUE, got {word!r}")
        if key in mapping:
            raise click.UsageError(f"key {key!r} is given twice")
        mapping[key] = value
    if list(mapping.values()).count("-") > 1:
        raise click.UsageError("only one value can be read from stdin")
    parsed = {key: verbs.storable(parse_value(value, form)) for key, value in mapping.items()}
    with open_state(db, create=True) as state:
        state.set_many(parsed, ttl)
    return DONE


@store_command("take")
@key_argument
@output_options
def take(db: str | None, key: str, shape: Shape) -> int:
    """Delete KEY and print the value that it had, in one step.

    Exits with 1 if the key is missing. A value that cannot be written to stdout stays.

    \b
    Example:
      code=$(slothstate take code:ada) && echo "used $code"
    """
    with open_state(db) as state, delivering(state):
        value = state.take(key, MISSING)
        if value is MISSING:
            say_no_key(key)
        print_value(value, shape)
    return DONE


@store_command("rename")
@key_argument
@click.argument("to", shell_complete=complete_key)
def rename(db: str | None, key: str, to: str) -> int:
    """Give KEY the name TO.

    Value and time to live stay as they are; what TO held is replaced. Exits with 1 if KEY is missing.

    \b
    Example:
      slothstate rename report:draft report:current
    """
    with open_state(db) as state:
        if not state.rename(key, to):
            say_no_key(key)
    return DONE


@store_command("copy")
@key_argument
@click.argument("to", shell_complete=complete_key)
def copy(db: str | None, key: str, to: str) -> int:
    """Copy KEY to TO, with its time to live.

    What TO held is replaced.
    Exits with 1 if KEY is missing.

    \b
    Example:
      slothstate copy config config:before
    """
    with open_state(db) as state:
        if not state.copy(key, to):
            say_no_key(key)
    return DONE


@store_command("delete")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True, shell_complete=complete_key)
@click.option("--field", type=FIELD, help="Delete this part of the value of one key: .debug, .servers[0].")
def delete(db: str | None, keys: tuple[str, ...], field: Field | None) -> int:
    """Delete keys, all in one transaction.

    Exits with 1 if any of them is missing; the others are deleted all the same. A terminal is told which.

    \b
    Examples:
      slothstate delete session:1 session:2
      slothstate delete config --field .debug
    """
    if field is not None:
        if len(keys) > 1:
            raise click.UsageError("--field takes one key alone")
        with open_state(db) as state:
            if not state.delete_field(keys[0], field):
                say_no(f"key {keys[0]!r} is missing or has no {format_path(field)}")
        return DONE
    with open_state(db) as state, state.transaction():
        missing = [key for key in dict.fromkeys(keys) if not state.delete(key)]
    if missing:
        say_no_key(*missing)
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


@store_command("clear")
@click.argument("pattern", required=False)
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


@store_command("compare-swap")
@key_argument
@click.argument("values", metavar="[OLD] NEW", nargs=-1, required=True)
@click.option("--absent", is_flag=True, help="Set KEY to NEW only if it is missing; there is no OLD.")
@click.option("--delete", "deletes", is_flag=True, help="Delete KEY if its value is OLD; there is no NEW.")
@click.option("--ttl", type=SECONDS, help="Give what is set this time to live: 30, 5m, 1h30m, 2d.")
@value_options
def compare_swap(
    db: str | None, key: str, values: tuple[str, ...], absent: bool, deletes: bool, ttl: float | None, form: Form
) -> int:
    """Set KEY to NEW if its value is OLD.

    Both are read as `set` reads a VALUE. Without --ttl the time to live stays. Tables and lists are compared deeply; 1
    equals 1.0, but true is not 1. Exits with 1 if nothing was swapped.

    \b
    Examples:
      slothstate compare-swap deploy:state idle running
      slothstate compare-swap leader --absent "$HOSTNAME"
      slothstate compare-swap leader "$HOSTNAME" --delete
    """
    if deletes and (absent or ttl is not None):
        raise click.UsageError(f"--delete and {'--absent' if absent else '--ttl'} exclude each other")
    if len(values) != (1 if absent or deletes else 2):
        lone = "give NEW alone with --absent" if absent else "give OLD alone with --delete" if deletes else ""
        raise click.UsageError(lone or "give OLD and NEW, or --absent and NEW, or OLD and --delete")
    if values == ("-", "-"):
        raise click.UsageError("only one value can be read from stdin")
    parsed = [parse_value(value, form) for value in values]
    old, new = (None, parsed[0]) if absent else (parsed[0], None if deletes else verbs.storable(parsed[1]))
    if old is None and not absent:
        raise Failure("OLD is null, which no key holds: --absent swaps only if the key is missing", MISUSE)
    verbs.storable(new if absent else old)
    with open_state(db, create=absent) as state:
        if not state.compare_swap(key, old, new, ttl=ttl):
            say_no(f"not swapped: key {key!r} {'is there' if absent else 'holds another value, or is missing'}")
    return DONE
