"""`increment decrement append`."""

from __future__ import annotations

import click

from slothstate.cli.exits import DONE
from slothstate.cli.options import NUMBER, key_argument, store_command
from slothstate.cli.store import open_state
from slothstate.cli.values import Form, as_json, delivering, parse_value, write

__all__ = ["append", "decrement", "increment"]


@store_command("increment")
@key_argument
@click.argument("delta", type=NUMBER, default=1)
def increment(db: str | None, key: str, delta: float) -> int:
    """Add DELTA (default 1) to a number and print the sum.

    A missing key counts as 0. An integer stays one; 0.5 or 1.0 makes it a float. The time to live stays.

    \b
    Examples:
      slothstate increment page_views
      slothstate increment temperature -0.5
    """
    with open_state(db, create=True) as state, delivering(state):
        write(as_json(state.increment(key, delta)))
    return DONE


@store_command("decrement")
@key_argument
@click.argument("delta", type=NUMBER, default=1)
def decrement(db: str | None, key: str, delta: float) -> int:
    """Subtract DELTA (default 1) from a number and print the rest.

    A missing key counts as 0. The time to live stays.

    \b
    Example:
      slothstate decrement stock 5
    """
    with open_state(db, create=True) as state, delivering(state):
        write(as_json(state.decrement(key, delta)))
    return DONE


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
