"""What grows in place: numbers, strings and bytes."""

from __future__ import annotations

import click

from slothstate.cli.exits import DONE
from slothstate.cli.opening import open_state
from slothstate.cli.options import FIELD, NUMBER, SECONDS, Field, key_argument, store_command
from slothstate.cli.values import Form, as_json, delivering, parse_value, write

__all__ = ["append", "decrement", "increment"]


def _counting(name: str, sign: int, text: str) -> click.Command:
    """Return the command that adds (1) or subtracts (-1); `text` is its help."""

    @key_argument
    @click.argument("delta", type=NUMBER, default=1)
    @click.option("--ttl", type=SECONDS, help="Let a number that this creates expire after this time.")
    @click.option("--field", type=FIELD, help="Count in this part of the value: .hits, .pages[0].")
    def command(db: str | None, key: str, delta: float, ttl: float | None, field: Field | None) -> int:
        if field is not None and ttl is not None:
            raise click.UsageError("--field counts in a part of a value, whose time to live stays: --ttl is not for it")
        with open_state(db, create=True) as state, delivering(state):
            if field is not None:
                total = state.increment_field(key, field, sign * delta)
            else:
                total = (state.increment if sign > 0 else state.decrement)(key, delta, ttl=ttl)
            write(as_json(total))
        return DONE

    command.__doc__ = text
    return store_command(name)(command)


increment = _counting(
    "increment",
    1,
    """Add DELTA (default 1) to a number and print the sum.

    A missing key counts as 0. An integer stays one; 0.5 or 1.0 makes it a float. The time to live stays; --ttl is for
    a number that is not there yet.

    \b
    Examples:
      slothstate increment page_views
      slothstate increment temperature -0.5
      slothstate increment "rate:$user" --ttl 1m
      slothstate increment stats --field .hits
    """,
)

decrement = _counting(
    "decrement",
    -1,
    """Subtract DELTA (default 1) from a number and print the rest.

    A missing key counts as 0. The time to live stays. Else as `increment`.

    \b
    Example:
      slothstate decrement stock 5
    """,
)


@store_command("append")
@key_argument
@click.argument("text")
@click.option("--bytes", "form", flag_value="bytes", default=None, help="TEXT is bytes, added to bytes.")
@click.option("--base64", "form", flag_value="base64", default=None, help="TEXT is base64 of bytes, added to bytes.")
def append(db: str | None, key: str, text: str, form: Form) -> int:
    """Append TEXT to a string and print its new length.

    The length is one of characters; a missing key counts as empty. TEXT is always text, also if it looks like a
    number. A lone - reads stdin, without the newline at its end. With --bytes or --base64 bytes are appended to
    bytes, and the length is one of bytes.

    \b
    Example:
      slothstate append log "$(date): deployed, "
    """
    addition = parse_value(text, form or "string")
    with open_state(db, create=True) as state, delivering(state):
        write(as_json(state.append(key, addition)))
    return DONE
