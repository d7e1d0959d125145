"""`push pop shift length range`."""

from __future__ import annotations

from typing import Any

import click

from slothstate.cli.exits import DONE, say_no
from slothstate.cli.formatting import is_terminal, styled
from slothstate.cli.options import key_argument, store_command
from slothstate.cli.store import open_state
from slothstate.cli.values import (
    Form,
    Shape,
    as_json,
    delivering,
    output_options,
    parse_value,
    print_item,
    print_value,
    shown,
    value_options,
    write,
)

__all__ = ["length", "pop", "push", "range_", "shift"]

_MISSING: Any = object()


@store_command("push")
@key_argument
@click.argument("items", metavar="ITEM...", nargs=-1, required=True)
@value_options
def push(db: str | None, key: str, items: tuple[str, ...], form: Form) -> int:
    """Add items to the end of a list and print its new length.

    A missing key counts as an empty list. An ITEM is read as `set` reads a VALUE; null is allowed, bytes are not.

    \b
    Examples:
      slothstate push queue '{"app": "web"}' '{"app": "api"}'
      slothstate push names --string 007
    """
    if items.count("-") > 1:
        raise click.UsageError("only one item can be read from stdin")
    parsed = [parse_value(item, form) for item in items]
    with open_state(db, create=True) as state, delivering(state):
        write(as_json(state.list_push(key, *parsed)))
    return DONE


@store_command("pop")
@key_argument
@output_options
def pop(db: str | None, key: str, shape: Shape) -> int:
    """Remove the last item of a list and print it.

    An emptied list disappears. Exits with 1 if there is none. An item that cannot be written to stdout stays in the
    list.

    \b
    Example:
      slothstate pop queue
    """
    with open_state(db) as state, delivering(state):
        return _print_taken(state.list_pop(key, _MISSING), key, shape)


@store_command("shift")
@key_argument
@output_options
def shift(db: str | None, key: str, shape: Shape) -> int:
    """Remove the first item of a list and print it.

    An emptied list disappears. Exits with 1 if there is none. An item that cannot be written to stdout stays in the
    list.

    \b
    Example:
      while job=$(slothstate shift queue); do echo "working on $job"; done
    """
    with open_state(db) as state, delivering(state):
        return _print_taken(state.list_shift(key, _MISSING), key, shape)


def _print_taken(item: Any, key: str, shape: Shape) -> int:
    if item is _MISSING:
        say_no(f"list {key!r} is empty or missing")
    print_value(item, shape)
    return DONE


@store_command("length")
@key_argument
def length(db: str | None, key: str) -> int:
    """Print the number of items of a list, 0 if it is missing.

    \b
    Example:
      slothstate length queue
    """
    with open_state(db) as state:
        write(str(state.list_length(key)))
    return DONE


@store_command("range")
@key_argument
@click.argument("start", type=int, default=0)
@click.argument("stop", type=int, default=-1)
@output_options
def range_(db: str | None, key: str, start: int, stop: int, shape: Shape) -> int:
    """Print the items of a list from START to STOP.

    Both are inclusive and count from 0, negative ones from the end; without them it is the whole list. One item a
    line, a line break in a string written as \\n; --json prints one JSON array.

    \b
    Examples:
      slothstate range queue
      slothstate range queue -3 -1 --json
    """
    with open_state(db) as state:
        items = state.list_range(key, start, stop)
        if shape == "json":
            write(as_json(items))
            return DONE
        if shape is None and is_terminal():
            first = start if start >= 0 else max(0, start + state.list_length(key))
            digits = len(str(first + len(items)))
            for index, item in enumerate(items, first):
                write(f"{styled(str(index).rjust(digits), dim=True)}  {shown(item)}")
            return DONE
    for item in items:
        print_item(item, shape)
        if shape == "raw":
            write("")
    return DONE
