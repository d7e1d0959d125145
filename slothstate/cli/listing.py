"""Which keys there are: names for a pipe, and for a terminal a table of what they hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import wraps

import click

from slothstate import Entry, State
from slothstate.cli.exits import DONE
from slothstate.cli.formatting import duration, escaped, is_terminal, one_line, size, styled
from slothstate.cli.opening import open_state
from slothstate.cli.options import Integer, complete_key, store_command
from slothstate.cli.table import print_table, terminal_width
from slothstate.cli.values import as_json, shown, write, write_octets
from slothstate.hints import Any, NamedTuple

__all__ = ["keys", "scan"]

pattern_argument = click.argument("pattern", required=False)


class Listing(NamedTuple):
    """Which keys are listed, and how."""

    reverse: bool
    after: str | None
    limit: int | None
    null: bool
    raw: bool
    as_json: bool

    def of_names(self) -> dict[str, Any]:
        """Return the arguments of `State.keys` and `State.scan`."""
        return {"reverse": self.reverse, "after": self.after, "limit": self.limit}


def listing_options(function: Callable[..., int]) -> Callable[..., int]:
    """Add the options that say how keys are listed; the function gets `listing`."""

    @wraps(function)
    def listed(
        *, reverse: bool, after: str | None, limit: int | None, null: bool, raw: bool, as_json_: bool, **rest: Any
    ) -> int:
        given = [name for name, is_given in (("--json", as_json_), ("--null", null), ("--raw", raw)) if is_given]
        if len(given) > 1:
            raise click.UsageError(f"{given[0]} and {given[1]} exclude each other")
        return function(listing=Listing(reverse, after, limit, null, raw, as_json_), **rest)

    result: Callable[..., int] = listed
    for option in (
        click.option("-0", "--null", is_flag=True, help="End each key with NUL, for xargs -0."),
        click.option("--raw", is_flag=True, help="Print the keys alone, with nothing escaped."),
        click.option("--json", "as_json_", is_flag=True, help="Print JSON."),
        click.option("--limit", type=Integer(0), metavar="N", help="List at most N keys."),
        click.option(
            "--after",
            metavar="KEY",
            shell_complete=complete_key,
            help="List only what comes after KEY, which need not be there.",
        ),
        click.option("--reverse", is_flag=True, help="List them the other way round."),
    ):
        result = option(result)
    return result


@store_command("keys")
@pattern_argument
@click.option(
    "--sort", type=click.Choice(["size", "ttl"]), help="The largest first, or what expires soonest; not by name."
)
@listing_options
def keys(db: str | None, pattern: str | None, sort: str | None, listing: Listing) -> int:
    """List the keys that match PATTERN, all without one, in order.

    * is any run of characters, ? one, [a-z] or [^a] one of a class, \\x the character x.

    On a terminal a table shows kind, time to live, size and the beginning of the value; a key too long for it is cut in
    the middle (--raw shows it whole). In a pipe it is one key a line, a line break in a key written as \\n: for exact
    keys take --json (an array) or --null.

    \b
    Examples:
      slothstate keys 'user:*'
      slothstate keys --null 'tmp:*' | xargs -0 slothstate delete --
      slothstate keys --sort size --limit 10
    """
    if sort is not None and listing.after is not None:
        raise click.UsageError("--after goes on in the order of names, which --sort does not have")
    with open_state(db) as state:
        found = state.keys(pattern, **listing.of_names()) if sort is None else _sorted(state, pattern, sort, listing)
        if listing.as_json:
            write(as_json(found))
        else:
            _list(state, found, listing)
    return DONE


def _sorted(state: State, pattern: str | None, sort: str, listing: Listing) -> list[str]:
    def order(entry: Entry) -> tuple[float, str]:
        if sort == "size":
            return (entry.size if listing.reverse else -entry.size), entry.key
        left = math.inf if entry.ttl is None else entry.ttl
        return (-left if listing.reverse else left), entry.key

    return [entry.key for entry in sorted(state.entries(pattern), key=order)][: listing.limit]


@store_command("scan")
@pattern_argument
@listing_options
def scan(db: str | None, pattern: str | None, listing: Listing) -> int:
    """List keys a page at a time, for stores too large for `keys`.

    The keys and their order are those of `keys`. Nothing is locked between two pages; a key that is there all the
    time comes exactly once. --json prints one JSON string a line.

    \b
    Example:
      slothstate scan --json 'user:*' --limit 3
    """
    with open_state(db) as state:
        found = state.scan(pattern, **listing.of_names())
        if listing.as_json:
            for key in found:
                write(as_json(key))
        else:
            _list(state, found, listing)
    return DONE


def _list(state: State, found: Iterable[str], listing: Listing) -> None:
    if not (listing.raw or listing.null) and is_terminal():
        entries = filter(None, (state.entry(key, preview=terminal_width()) for key in found))
        rows = (
            [entry.kind, _ttl_cell(entry.ttl), size(entry.size), escaped(entry.key), shown(entry.preview)]
            for entry in entries
        )
        if not print_table(["KIND", "TTL", "SIZE", "KEY", "VALUE"], rows, right=["TTL", "SIZE"]):
            write(styled("no keys", dim=True))
        return
    for key in found:
        if listing.null:
            # The mark stays, as no terminal shows it or does anything with it.
            write_octets((escaped(key) if is_terminal() else key).encode() + b"\0")
        elif listing.raw:
            write_octets(key.encode() + b"\n")
        else:
            write(one_line(key))


def _ttl_cell(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)
