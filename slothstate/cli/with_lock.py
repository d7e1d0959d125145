"""`slothstate with-lock`: a command that runs while a lock is held, as with flock(1)."""

from __future__ import annotations

import click

from slothstate.cli.exits import NO
from slothstate.cli.locked_command import run_locked
from slothstate.cli.options import SECONDS, CommandBehind, Integer, complete_lock, conflict_option, store_command

__all__ = ["with_lock"]


@store_command("with-lock", cls=CommandBehind)
@click.argument("name", shell_complete=complete_lock)
@click.option("--timeout", type=SECONDS, help="Wait no longer than this; 0: do not wait.  [default: for ever]")
@click.option("--shared", is_flag=True, help="Hold it beside others that share it, and nobody else.")
@click.option("--slots", type=Integer(1), metavar="N", help="Up to N hold it at a time.  [default: 1]")
@click.option("--ttl", type=SECONDS, help="Lose it after this time, though the command still runs.")
@conflict_option("The exit code when the lock was not acquired.")
@click.pass_obj
def with_lock(
    command: list[str],
    name: str,
    timeout: float | None,
    shared: bool,
    slots: int | None,
    ttl: float | None,
    conflict: int | None,
    db: str | None,
) -> int:
    """Run COMMAND under the lock NAME; end with its exit code.

    Nothing before the -- belongs to COMMAND, and nothing behind it to with-lock. A NAME that begins with a hyphen
    stands behind a -- of its own: `with-lock -- -x -- COMMAND`.

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
    return run_locked(
        db, name, command, timeout, NO if conflict is None else conflict, ttl, shared=shared, slots=slots or 1
    )
