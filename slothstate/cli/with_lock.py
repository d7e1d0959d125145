"""`slothstate with-lock`: a command that runs while a lock is held, as with flock(1)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from slothstate import Lock, LockLost, LockTimeout, State
from slothstate.cli import under
from slothstate.cli.child import Child, leaving_on_signals, open_beside
from slothstate.cli.exits import Failure
from slothstate.cli.formatting import escaped, is_terminal
from slothstate.cli.options import (
    MISUSE,
    NO,
    SECONDS,
    STORE_ERROR,
    complete_lock,
    store_command,
    store_path,
)

__all__ = ["with_lock"]

NOTICE_AFTER: Final = 1.0
"""Seconds of waiting after which a terminal is told for whom."""


@store_command("with-lock")
@click.argument("name", shell_complete=complete_lock)
@click.argument("command", metavar="-- COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--timeout", type=SECONDS, help="Wait no longer than this; 0: do not wait.  [default: for ever]")
@click.option("--shared", is_flag=True, help="Hold it beside others that share it, and nobody else.")
@click.option("--slots", type=click.IntRange(min=1), metavar="N", help="Up to N hold it at a time.  [default: 1]")
@click.option("--ttl", type=SECONDS, help="Lose it after this time, though the command still runs.")
@click.option(
    "-E",
    "--conflict-exit-code",
    "conflict",
    type=click.IntRange(0, 255),
    metavar="CODE",
    default=NO,
    show_default=True,
    help="The exit code when the lock was not acquired.",
)
def with_lock(
    name: str,
    command: tuple[str, ...],
    timeout: float | None,
    shared: bool,
    slots: int | None,
    ttl: float | None,
    conflict: int,
    db: str | None,
) -> int:
    """Run COMMAND under the lock NAME; end with its exit code.

    \b
    Examples:
      slothstate with-lock backup --timeout 10m -- rsync -a /srv/ /mnt/backup/
      slothstate with-lock render --slots 4 -- ./render scene

    The lock is free as soon as the command ends, or this process dies, however it dies; what the command leaves running
    in the background does not keep it. If this process is killed (SIGKILL), the command is killed too (on Linux):
    going on without the lock would be worse. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 go to the command.

    The command finds the lock's name and fencing token in $SLOTHSTATE_LOCK_NAME and $SLOTHSTATE_LOCK_TOKEN, and the
    store in $SLOTHSTATE_DB. If it asks with-lock for a lock that it runs under, it is refused at once: it would
    wait for itself.

    Exit codes: those of the command, 128 + n if signal n ended it; 1 (or CODE) when the lock was not acquired; 126 or
    127 when the command cannot be run; 2 misuse; 3 the store cannot be used, or the lock was lost meanwhile.
    """
    if shared and slots is not None:
        raise click.UsageError("--shared and --slots exclude each other")
    options: dict[str, Any] = {"shared": shared, "slots": slots or 1, "ttl": ttl}
    if not hasattr(os, "fork"):
        raise Failure("with-lock needs fork(), which this system does not have", MISUSE)
    with leaving_on_signals(), Child(command) as child, open_beside(child, db) as state:
        code = 0
        if under.runs_under(state, name):
            raise Failure(f"lock {name!r} was not acquired: {under.REASON}", conflict)
        try:
            with _held(state, name, timeout, options) as lock:
                code = child.run(
                    {
                        "SLOTHSTATE_LOCK_NAME": name,
                        "SLOTHSTATE_LOCK_TOKEN": str(lock.token),
                        "SLOTHSTATE_DB": store_path(db),
                        under.VARIABLE: under.extended(state, lock),
                    }
                )
        except LockTimeout as error:
            raise Failure(f"lock {name!r} was not acquired: {_holder(state, name)}", conflict) from error
        except LockLost as error:
            raise Failure(f"{error}; the command ended with code {code}", STORE_ERROR) from error
        return code


@contextlib.contextmanager
def _held(state: State, name: str, timeout: float | None, options: Mapping[str, Any]) -> Iterator[Lock]:
    """Hold the lock; who waits for it at a terminal is told who has it."""
    with contextlib.ExitStack() as stack:
        if is_terminal(sys.stderr) and (timeout is None or timeout > NOTICE_AFTER):
            try:
                lock = stack.enter_context(state.locked(name, NOTICE_AFTER, **options))
            except LockTimeout:
                click.echo(escaped(f"slothstate: waiting for lock {name!r}: {_holder(state, name)}"), err=True)
                rest = None if timeout is None else timeout - NOTICE_AFTER
                lock = stack.enter_context(state.locked(name, rest, **options))
        else:
            lock = stack.enter_context(state.locked(name, timeout, **options))
        yield lock


def _holder(state: State, name: str) -> str:
    from slothstate.cli.locks import holder_of  # what it needs takes time to import, and few have to wait

    return holder_of(state, name)
