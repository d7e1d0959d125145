"""`lock unlock locks`: a lock has an owner, and on a command line that is a process that goes on running."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import click

from slothstate import Lock, LockDescription, LockLost, LockTimeout, Owner, State
from slothstate.cli.exits import DONE, NO, STORE_ERROR, Failure, flush, say_no
from slothstate.cli.formatting import clock_time, duration, escaped, held_as, is_terminal, quantity, styled
from slothstate.cli.opening import open_state
from slothstate.cli.options import SECONDS, complete_lock, json_option, store_command
from slothstate.cli.signals import until_signalled
from slothstate.cli.table import print_table
from slothstate.cli.values import as_json, write
from slothstate.hints import Any, Final, NamedTuple
from slothstate.processes import Commands

__all__ = ["STATUS", "holder_of", "lock", "locks", "owner_cell", "status_cell", "unlock"]

LOOK_EVERY: Final = 0.5
"""Seconds between two looks whether the lock is still held."""

READ_SIZE: Final = 65_536

_STATUS_COLOURS: Final = {"dead": "red", "waits": "yellow", "unknown": "yellow"}

_HEADINGS: Final = ("STATUS", "PROCESS", "TOKEN", "FOR", "EXPIRES IN", "NAME")

STATUS: Final = {True: "alive", False: "dead", None: "unknown"}


@store_command("lock")
@click.argument("name", shell_complete=complete_lock)
@click.option("--timeout", type=SECONDS, help="Give up after this time; 0: do not wait.  [default: wait for ever]")
@click.option("--for", "hold_for", type=SECONDS, help="Hold the lock for this time, then end.")
@click.option("--until-eof", is_flag=True, help="Hold the lock until stdin ends.")
def lock(db: str | None, name: str, timeout: float | None, hold_for: float | None, until_eof: bool) -> int:
    """Hold the lock NAME in the foreground; print its token.

    A lock lives as long as its process: this one holds it until Ctrl-C (or SIGTERM, SIGHUP), until --for is over, or
    until stdin ends with --until-eof. To run a command under a lock, with-lock is the better choice.

    The token is the fencing number: every acquisition of NAME has a higher one. Exits with 0 when it held and released
    the lock, with 1 if it was not acquired within --timeout, with 3 if `unlock --force` took it away.

    \b
    Examples:
      slothstate lock deploy                    # in one terminal, while you work in another
      slothstate lock deploy --timeout 10 --for 1h &
    """
    with open_state(db, create=True) as state:
        try:
            with state.locked(name, timeout) as held, until_signalled():
                _announce(held, hold_for, until_eof)
                _hold(held, hold_for, until_eof)
        except LockTimeout:
            say_no(f"lock {name!r} was not acquired: {holder_of(state, name)}")
        except LockLost:
            raise Failure(f"lock {name!r} was taken away from this process", STORE_ERROR) from None
    return DONE


def _announce(held: Lock, hold_for: float | None, until_eof: bool) -> None:
    if is_terminal():
        end = "stdin ends" if until_eof else "Ctrl-C"
        end = end if hold_for is None else f"{end}, or for {duration(hold_for)}"
        write(f"lock {escaped(held.name)} is held (token {held.token}) until {end}")
    else:
        write(str(held.token))
    flush()


def _hold(held: Lock, hold_for: float | None, until_eof: bool) -> None:
    deadline = None if hold_for is None else time.monotonic() + hold_for
    ended = threading.Event()
    if until_eof:
        threading.Thread(target=_read_to_end, args=(ended,), daemon=True).start()
    while not held.lost:
        pause = LOOK_EVERY if deadline is None else min(LOOK_EVERY, deadline - time.monotonic())
        if pause <= 0 or ended.wait(pause):
            return


def _read_to_end(ended: threading.Event) -> None:
    """Read stdin to its end. In a thread of its own, because `select` takes no pipes or consoles on Windows."""
    with contextlib.suppress(OSError):
        while os.read(0, READ_SIZE):
            continue
    ended.set()


@store_command("unlock")
@click.argument("name", shell_complete=complete_lock)
@click.option("--force", is_flag=True, help="Take the lock away from an owner that lives.")
def unlock(db: str | None, name: str, force: bool) -> int:
    """Remove a lock that a dead process left (--force: any lock).

    Only its owner releases a lock: the process that acquired it, by ending or by unlocking. A dead owner's lock is
    free without this command, which only removes it from the list. --force is for a process that hangs and cannot be
    ended: it finds its lock lost, and writes that are fenced by the token are refused, but what else it does goes on.
    Of several holders those who are dead are removed, with --force all.

    Exits with 1 if nobody holds NAME, or a living process does and --force is not given.

    \b
    Examples:
      slothstate unlock deploy
      slothstate unlock --force deploy
    """
    with open_state(db) as state:
        if state.break_lock(name, alive=force):
            return DONE
        holder = holder_of(state, name)
        if all(found["name"] != name for found in state.locks()):
            say_no(f"lock {name!r} is not held: nothing to unlock")
        raise Failure(f"lock {name!r} is not yours to unlock: {holder}; end that process, or give --force", NO)


def holder_of(state: State, name: str) -> str:
    """Return who holds a lock, what it runs, and since when, for whoever did not get it; of several the first."""
    holders = [found for found in state.locks() if found["name"] == name]
    if not holders:
        return "it has just become free"
    found = holders[0]
    owner = found["owner"]
    held_for = duration(time.time() - found["since"])
    command = Commands(state.health()["users"]).of_owner(found)
    runs = f" ({command})" if command else ""
    others = f", and {quantity(len(holders) - 1, 'other')} with it" if len(holders) > 1 else ""
    text = f"process {owner['pid']} on {owner['host']}{runs} has held it for {held_for} (token {found['token']})"
    return text + others


@store_command("locks")
@json_option
def locks(db: str | None, as_json_: bool) -> int:
    """List the locks: who holds what, since when, and who waits.

    A lock with several holders has a line for each. A dead owner's is free: whoever wants it next gets it at once. Who
    waits is listed below the last holder, once it has waited for a tenth of a second. In a pipe the fields are
    separated by tabs: alive, dead, unknown (doctor says why) or waits, process, host, token, since, expires (both in
    UTC), name. On a terminal and with --json also whether it is shared or has slots, and the command that the process
    runs, where the system tells.

    \b
    Example:
      slothstate locks
    """
    with open_state(db) as state:
        found = state.locks()
        commands = Commands(state.health()["users"])
    if as_json_:
        write(as_json([_with_commands(lock, commands) for lock in found]))
    elif is_terminal():
        if not print_table(_HEADINGS, _rows(found, commands), right=["TOKEN"]):
            write(styled("no locks", dim=True))
    else:
        for line in _lines(found):
            expires = "-" if line.expires is None else clock_time(line.expires)
            owner = (str(line.owner["pid"]), line.owner["host"])
            fields = (line.status, *owner, line.token or "-", clock_time(line.since), expires, line.name)
            write("\t".join(map(escaped, fields)))
    return DONE


def _with_commands(lock: LockDescription, commands: Commands) -> dict[str, Any]:
    waiting = [{**waiter, "command": commands.of(waiter)} for waiter in lock["waiting"]]
    return {**lock, "owner": {**lock["owner"], "command": commands.of_owner(lock)}, "waiting": waiting}


class _Line(NamedTuple):
    """A line of the list: a lock and its owner, or somebody who waits for it."""

    status: str
    owner: Owner
    token: str
    since: float
    expires: float | None
    name: str
    held_as: str = ""


def _lines(found: list[LockDescription]) -> Iterator[_Line]:
    last = {lock["name"]: lock for lock in found}
    for lock in found:
        name, token, status = lock["name"], str(lock["token"]), STATUS[lock["alive"]]
        yield _Line(status, lock["owner"], token, lock["since"], lock["expires"], name, held_as(lock))
        for waiter in lock["waiting"] if lock is last[name] else ():
            yield _Line("waits", waiter, "", waiter["since"], None, name)


def status_cell(status: str) -> str:
    """Return whether an owner lives, as a table shows it."""
    return styled(status, fg=_STATUS_COLOURS[status]) if status in _STATUS_COLOURS else status


def owner_cell(owner: Owner) -> str:
    """Return which process it is, as a table shows it."""
    return escaped(f"{owner['pid']}@{owner['host']}")


def _rows(found: list[LockDescription], commands: Commands) -> Iterator[list[str]]:
    now = time.time()
    for line in _lines(found):
        yield [
            status_cell(line.status),
            owner_cell(line.owner),
            line.token,
            duration(now - line.since),
            "" if line.expires is None else duration(line.expires - now),
            escaped(line.name) + styled(line.held_as, dim=True),
        ]
        command = None if line.status == "dead" else commands.of(line.owner)
        if command is not None:
            yield ["", escaped(command)]
