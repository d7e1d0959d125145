"""`slothstate claim`: a command for an item of a queue, which is back in it if the command fails or dies."""

from __future__ import annotations

import os

import click

from slothstate import LockLost
from slothstate.cli.child import Child, leaving_on_signals, open_beside
from slothstate.cli.exits import MISUSE, NO, STORE_ERROR, Failure, say_no
from slothstate.cli.opening import store_address
from slothstate.cli.options import SECONDS, CommandBehind, Integer, complete_key, store_command
from slothstate.cli.values import as_json

__all__ = ["claim"]

_ITEM = "SLOTHSTATE_ITEM"


@store_command("claim", cls=CommandBehind)
@click.argument("queues", metavar="QUEUE...", nargs=-1, required=True, shell_complete=complete_key)
@click.option("--timeout", type=SECONDS, default=0, help="Wait so long for an item.  [default: do not wait]")
@click.option("--ttl", type=SECONDS, help="The item is back after this time even if the command still runs.")
@click.option(
    "--max-attempts",
    type=Integer(1),
    metavar="N",
    help="What was claimed N times and never done goes to the list --dead.",
)
@click.option("--dead", metavar="KEY", help="Where that goes.  [default: the QUEUE with :dead]")
@click.option(
    "-E",
    "--conflict-exit-code",
    "conflict",
    type=click.IntRange(0, 255),
    metavar="CODE",
    default=NO,
    show_default=True,
    help="The exit code when there is no item.",
)
@click.pass_obj
def claim(
    command: list[str],
    queues: tuple[str, ...],
    timeout: float,
    ttl: float | None,
    max_attempts: int | None,
    dead: str | None,
    conflict: int,
    db: str | None,
) -> int:
    """Run COMMAND for the first item of a list, once it is done.

    The item is done, gone for good, when the command exits with 0. Otherwise it is back at its old place in the list;
    and so it is at once if this process dies, however it dies. Of several QUEUEs the first that has an item counts.
    A QUEUE that begins with a hyphen stands behind a -- of its own: `claim -- -x -- COMMAND`.

    The command finds the item on stdin and in $SLOTHSTATE_ITEM: JSON, a string as it is. The variable is missing where
    the system cannot hold it. $SLOTHSTATE_KEY is the QUEUE, $SLOTHSTATE_ATTEMPT 1 the first time, $SLOTHSTATE_DB the
    store. If this process is killed (SIGKILL), the command is killed too (on Linux). SIGINT, SIGTERM, SIGHUP, SIGQUIT,
    SIGUSR1 and SIGUSR2 go to the command.

    Exit codes: those of the command, 128 + n if signal n ended it; 1 (or CODE) when there is no item; 126 or 127 when
    the command cannot be run; 2 misuse; 3 the store cannot be used, or the claim was lost meanwhile.

    \b
    Examples:
      slothstate claim urgent photos --timeout 1h -- ./resize
      while slothstate claim photos -E 100 -- ./resize || [ $? -ne 100 ]; do :; done
    """
    if not hasattr(os, "fork"):
        raise Failure("claim needs fork(), which this system does not have", MISUSE)
    with leaving_on_signals(), Child(command) as child, open_beside(child, db, create=timeout > 0) as state:
        job = state.list_claim(queues, timeout, ttl=ttl, max_attempts=max_attempts, dead=dead)
        if job is None:
            say_no(f"there is no item in {', '.join(map(repr, queues))}", conflict)
        code = 0
        try:
            with job as item:
                text = item if isinstance(item, str) else as_json(item)
                code = child.run(
                    {
                        _ITEM: text,
                        "SLOTHSTATE_KEY": job.key,
                        "SLOTHSTATE_ATTEMPT": str(job.attempt),
                        "SLOTHSTATE_DB": store_address(db),
                    },
                    stdin=text.encode(),
                    large=(_ITEM,),
                )
                if code and not job.release():
                    job.ensure_held()
        except LockLost as error:
            raise Failure(f"{error}; the command ended with code {code}", STORE_ERROR) from error
        return code
