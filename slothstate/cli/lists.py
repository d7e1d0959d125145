"""Lists. What is taken from one and cannot be printed stays in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click

from slothstate import State
from slothstate.cli.exits import DONE, MISUSE, Failure, cannot_read, say_no
from slothstate.cli.formatting import is_terminal, styled
from slothstate.cli.opening import open_state
from slothstate.cli.options import SECONDS, Integer, file_named, key_argument, store_command
from slothstate.cli.values import (
    MISSING,
    Form,
    Shape,
    as_json,
    delivering,
    output_options,
    parse_line,
    parse_value,
    print_item,
    print_value,
    read_octets,
    shown,
    value_options,
    write,
)
from slothstate.hints import Any

__all__ = ["insert", "length", "pop", "push", "range_", "remove_item", "shift", "trim", "unshift"]


def _adding(name: str, add: Callable[..., int], text: str) -> click.Command:
    """Return a command that adds items to a list with `add`; `text` is its help."""

    @key_argument
    @click.argument("items", metavar="ITEM...", nargs=-1)
    @click.option("--lines", metavar="FILE", callback=file_named, help="Add each line of a file, of stdin for -.")
    @value_options
    def command(db: str | None, key: str, items: tuple[str, ...], lines: str | None, form: Form) -> int:
        if lines is None and not items:
            raise click.MissingParameter(param_hint="'ITEM...'", param_type="argument")
        if lines is not None and items:
            raise click.UsageError("give ITEMs or --lines, not both")
        if items.count("-") > 1:
            raise click.UsageError("only one item can be read from stdin")
        parsed = [parse_value(item, form) for item in items] if lines is None else _lines(lines, form)
        with open_state(db, create=True) as state, delivering(state):
            write(as_json(add(state, key, *parsed)))
        return DONE

    command.__doc__ = text
    return store_command(name)(command)


def _lines(name: str, form: Form) -> list[Any]:
    try:
        octets = read_octets(name) if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise cannot_read(name, error) from error
    lines = octets.removesuffix(b"\n").split(b"\n") if octets else []
    where = "stdin" if name == "-" else name
    items = []
    for number, line in enumerate(lines, start=1):
        try:
            items.append(parse_line(line.decode(), form))
        except UnicodeDecodeError as error:
            raise Failure(f"{where}, line {number}: it is not UTF-8 at byte {error.start}", MISUSE) from error
        except Failure as error:
            raise Failure(f"{where}, line {number}: {error}", error.exit_code) from error
    return items


push = _adding(
    "push",
    State.list_push,
    """Add items to the end of a list and print its new length.

    A missing key counts as an empty list. An ITEM is read as `set` reads a VALUE; null is allowed, bytes are not. With
    --lines each line is an item, all added at once.

    \b
    Examples:
      slothstate push queue '{"app": "web"}' '{"app": "api"}'
      slothstate push names --string 007
      find . -name '*.jpg' | slothstate push photos --string --lines -
    """,
)

unshift = _adding(
    "unshift",
    State.list_unshift,
    """Add items to the front of a list and print its new length.

    The first ITEM comes first of all. Else as `push`.

    \b
    Example:
      slothstate unshift queue '{"app": "urgent"}'
    """,
)


def _taking(name: str, one: Callable[..., Any], many: Callable[..., list[Any]], text: str) -> click.Command:
    """Return a command that takes items from a list; `text` is its help."""

    @key_argument
    @click.option("--count", type=Integer(1), metavar="N", help="Take up to N items, one a line.")
    @click.option("--timeout", type=SECONDS, default=0, help="Wait so long for an item.  [default: do not wait]")
    @output_options
    def command(db: str | None, key: str, count: int | None, timeout: float, shape: Shape) -> int:
        deadline = time.monotonic() + timeout
        with open_state(db, create=timeout > 0) as state:
            # Another one may be faster between the end of the wait and the step that takes the item. The list is read
            # only when there was no item: all of a long one is much.
            while True:
                with delivering(state):
                    if count is None:
                        item = one(state, key, MISSING)
                        items = [] if item is MISSING else [item]
                    else:
                        items = many(state, key, count)
                    if items and count is None:
                        print_value(items[0], shape)
                    elif items:
                        _print_items(items, shape)
                if items:
                    return DONE
                left = deadline - time.monotonic()
                if left <= 0:
                    say_no(f"list {key!r} is empty or missing")
                seen = state.get(key)
                if not seen:
                    # Missing, or empty as it was set: a wait for any value would end at once, again and again.
                    state.wait(key, seen, left)

    command.__doc__ = text
    return store_command(name)(command)


pop = _taking(
    "pop",
    State.list_pop,
    State.list_pop_many,
    """Remove the last item of a list and print it.

    An emptied list disappears. Exits with 1 if there is none. An item that cannot be written to stdout stays in the
    list. With --count it is several, the last first, in one step; --json prints one JSON array of them.
    --timeout waits for an item.

    \b
    Example:
      slothstate pop queue
    """,
)

shift = _taking(
    "shift",
    State.list_shift,
    State.list_shift_many,
    """Remove the first item of a list and print it.

    An emptied list disappears. Exits with 1 if there is none. An item that cannot be written to stdout stays in the
    list. With --count it is several in one step; --json prints one JSON array of them. --timeout waits for an item.

    \b
    Examples:
      while job=$(slothstate shift queue); do echo "working on $job"; done
      slothstate shift queue --timeout 1m
    """,
)


def _print_items(items: list[Any], shape: Shape) -> None:
    if shape == "json":
        write(as_json(items))
        return
    for item in items:
        print_item(item, shape)
        if shape == "raw":
            write("")


@store_command("insert")
@key_argument
@click.argument("index", type=Integer())
@click.argument("item")
@value_options
def insert(db: str | None, key: str, index: int, item: str, form: Form) -> int:
    """Insert ITEM into a list and print its new length.

    It stands at INDEX then, from 0 to the length, or negative from the end. A missing key counts as an empty list. ITEM
    is read as `set` reads a VALUE. `set KEY --field [INDEX] ITEM` replaces an item.

    \b
    Example:
      slothstate insert queue 1 '{"app": "next"}'
    """
    parsed = parse_value(item, form)
    with open_state(db, create=True) as state, delivering(state):
        write(str(state.list_insert(key, index, parsed)))
    return DONE


@store_command("remove-item")
@key_argument
@click.argument("item")
@click.option(
    "--count", type=Integer(), default=0, metavar="N", help="Only the first N; -N: the last N.  [default: all]"
)
@value_options
def remove_item(db: str | None, key: str, item: str, count: int, form: Form) -> int:
    """Remove items that equal ITEM, and print how many.

    ITEM is read as `set` reads a VALUE, and compared as `compare-swap` does. An emptied list disappears.
    `delete KEY --field [INDEX]` removes an item by its position.

    \b
    Example:
      slothstate remove-item queue '{"app": "web"}' --count 1
    """
    parsed = parse_value(item, form)
    with open_state(db) as state, delivering(state):
        write(str(state.list_remove(key, parsed, count)))
    return DONE


@store_command("trim")
@key_argument
@click.argument("start", type=Integer())
@click.argument("stop", type=Integer(), default=-1)
def trim(db: str | None, key: str, start: int, stop: int) -> int:
    """Keep the items from START to STOP, and print the new length.

    Both are inclusive and count from 0, negative ones from the end. An emptied list disappears.

    \b
    Example:
      slothstate push log "$line" && slothstate trim log -1000
    """
    with open_state(db) as state, delivering(state):
        write(str(state.list_trim(key, start, stop)))
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
@click.argument("start", type=Integer(), default=0)
@click.argument("stop", type=Integer(), default=-1)
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
        if shape is None and is_terminal():
            first = start if start >= 0 else max(0, start + state.list_length(key))
            digits = len(str(first + len(items)))
            for index, item in enumerate(items, first):
                write(f"{styled(str(index).rjust(digits), dim=True)}  {shown(item)}")
            return DONE
    _print_items(items, shape)
    return DONE
