"""When keys expire."""

from __future__ import annotations

import click

from slothstate.cli.exits import DONE, say_no, say_no_key
from slothstate.cli.formatting import duration, is_terminal, styled
from slothstate.cli.opening import open_state
from slothstate.cli.options import SECONDS, key_argument, store_command
from slothstate.cli.values import write
from slothstate.hints import Final

__all__ = ["persist", "set_ttl", "ttl"]

NO_TTL: Final = -1
NO_KEY: Final = -2
"""What `State.get_ttl` returns for a key that does not expire, and for one that is not there."""


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
        say_no_key(key)
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
            say_no_key(key)
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
