"""`slothstate claims`: which items are out of their lists, and who has them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from slothstate import ClaimDescription, matches
from slothstate.cli.exits import DONE
from slothstate.cli.formatting import clock_time, duration, escaped, is_terminal, styled
from slothstate.cli.locks import STATUS, owner_cell, status_cell
from slothstate.cli.opening import open_state
from slothstate.cli.options import complete_key, json_option, store_command
from slothstate.cli.table import print_table
from slothstate.cli.values import as_json, write
from slothstate.hints import Any, Final
from slothstate.processes import Commands

__all__ = ["claims"]

_HEADINGS: Final = ("STATUS", "PROCESS", "ATTEMPT", "FOR", "DUE IN", "LIST")


@store_command("claims")
@click.argument("pattern", required=False, shell_complete=complete_key)
@json_option
def claims(db: str | None, pattern: str | None, as_json_: bool) -> int:
    """List the items that are claimed: who has them, since when.

    Of the lists that match PATTERN. Also what is delayed, which nobody has. A dead owner's items are back in their list
    for whoever wants one next. What was given up after --max-attempts is in a list like any other: `range` shows it.

    In a pipe the fields are separated by tabs: alive, dead, unknown (doctor says why) or delayed, process, host,
    attempt, since, due (both in UTC), list. On a terminal and with --json also the command that the process runs, where
    the system tells.

    \b
    Examples:
      slothstate claims
      slothstate claims 'jobs:*' --json
    """
    if pattern is not None:
        # A pattern that is none is an error also where nothing is claimed.
        matches(pattern, "")
    with open_state(db) as state:
        found = [claim for claim in state.claims() if pattern is None or matches(pattern, claim["key"])]
        commands = Commands(state.health()["users"])
    if as_json_:
        write(as_json([_with_command(claim, commands) for claim in found]))
    elif not is_terminal():
        for claim in found:
            write("\t".join(map(escaped, _fields(claim))))
    elif not print_table(_HEADINGS, _rows(found, commands), right=["ATTEMPT"]):
        write(styled("no claims", dim=True))
    return DONE


def _status(claim: ClaimDescription) -> str:
    return "delayed" if claim["owner"] is None else STATUS[claim["alive"]]


def _with_command(claim: ClaimDescription, commands: Commands) -> dict[str, Any]:
    if claim["owner"] is None:
        return {**claim}
    return {**claim, "owner": {**claim["owner"], "command": commands.of_owner(claim)}}


def _fields(claim: ClaimDescription) -> Iterator[str]:
    owner, due = claim["owner"], claim["due"]
    yield _status(claim)
    yield from ("-", "-") if owner is None else (str(owner["pid"]), owner["host"])
    yield str(claim["attempt"])
    yield clock_time(claim["since"])
    yield "-" if due is None else clock_time(due)
    yield claim["key"]


def _rows(found: list[ClaimDescription], commands: Commands) -> Iterator[list[str]]:
    now = time.time()
    for claim in found:
        owner, due = claim["owner"], claim["due"]
        yield [
            status_cell(_status(claim)),
            "" if owner is None else owner_cell(owner),
            str(claim["attempt"]),
            duration(now - claim["since"]),
            "" if due is None else duration(due - now),
            escaped(claim["key"]),
        ]
        command = commands.of_owner(claim)
        if command is not None:
            yield ["", escaped(command)]
