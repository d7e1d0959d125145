"""`slothstate claim`: a command for an item of a queue, which is back in it if the command fails or dies."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import click

from slothstate import LockLost
from slothstate.cli.child import Child, leaving_on_signals
from slothstate.cli.exits import DONE, MISUSE, NO, STORE_ERROR, Failure, say, say_no
from slothstate.cli.formatting import escaped
from slothstate.cli.opening import open_state, store_address
from slothstate.cli.options import SECONDS, CommandBehind, Integer, complete_key, conflict_option, store_command
from slothstate.cli.values import as_json
from slothstate.hints import Any, NamedTuple

__all__ = ["claim"]

_ITEM = "SLOTHSTATE_ITEM"


@store_command("claim", cls=CommandBehind)
@click.argument("queues", metavar="QUEUE...", nargs=-1, required=True, shell_complete=complete_key)
@click.option("--each", is_flag=True, help="Run it for one item after the other, until there is none.")
@click.option("--timeout", type=SECONDS, default=0, help="Wait so long for an item.  [default: do not wait]")
@click.option("--ttl", type=SECONDS, help="The item is back after this time even if the command still runs.")
@click.option(
    "--max-attempts",
    type=Integer(1),
    metavar="N",
    help="What was claimed N times and never done goes to the list --dead.",
)
@click.option("--dead", metavar="KEY", help="Where that goes.  [default: the QUEUE with :dead]")
@conflict_option("The exit code when there is no item.")
@click.pass_obj
def claim(
    command: list[str],
    queues: tuple[str, ...],
    each: bool,
    timeout: float,
    ttl: float | None,
    max_attempts: int | None,
    dead: str | None,
    conflict: int | None,
    db: str | None,
) -> int:
    """Run COMMAND for the first item of a list.

    The item is done, gone for good, when the command exits with 0. Otherwise it is back at its old place in the list;
    and so it is at once if this process dies, however it dies. Of several QUEUEs the first that has an item counts.
    A QUEUE that begins with a hyphen stands behind a -- of its own: `claim -- -x -- COMMAND`.

    The command finds the item on stdin and in $SLOTHSTATE_ITEM: JSON, a string as it is. The variable is missing where
    the system cannot hold it. $SLOTHSTATE_KEY is the QUEUE, $SLOTHSTATE_ATTEMPT 1 the first time, $SLOTHSTATE_DB the
    store. If this process is killed (SIGKILL), the command is killed too (on Linux). SIGINT, SIGTERM, SIGHUP, SIGQUIT,
    SIGUSR1 and SIGUSR2 go to the command.

    With --each it runs for one item after the other until there is none, also after it failed, whatever its code was.
    --max-attempts has to say how often an item is tried.

    Exit codes: those of the command, 128 + n if signal n ended it; 1 (or CODE) when there is no item. With --each, once
    there is none: 0, or 1 if the command failed for any, or lost its claim. Both: 126 or 127 when the command cannot be
    run; 2 misuse; 3 the store cannot be used, or (without --each) the claim was lost meanwhile.

    \b
    Examples:
      slothstate claim urgent photos --timeout 1h -- ./resize
      slothstate claim photos --each --max-attempts 3 -- ./resize
    """
    if not hasattr(os, "fork"):
        raise Failure("claim needs fork(), which this system does not have", MISUSE)
    if each and max_attempts is None:
        raise click.UsageError("--each needs --max-attempts: an item whose command always fails would come for ever")
    if each and conflict is not None:
        raise click.UsageError("--each and -E exclude each other: that there is no item any more is its end")
    options = {"timeout": timeout, "ttl": ttl, "max_attempts": max_attempts, "dead": dead}
    run = partial(_run_for_one, command, db, queues, options)
    with leaving_on_signals():
        if each:
            return _run_for_each(run)
        ended = run()
    if ended is None:
        say_no(f"there is no item in {', '.join(map(repr, queues))}", NO if conflict is None else conflict)
    if ended.lost:
        raise Failure(ended.lost, STORE_ERROR)
    return ended.code


class _Ended(NamedTuple):
    """How the command ended for an item; `signalled` if it was told to, `lost` if the claim was, and why."""

    code: int
    signalled: int | None
    lost: str = ""


def _run_for_each(run: Callable[[], _Ended | None]) -> int:
    """Call what runs the command for one item until there is none, or until a signal says that it is enough."""
    result = DONE
    while (ended := run()) is not None:
        if ended.lost:
            say(f"slothstate: {escaped(ended.lost)}")
        if ended.signalled is not None:
            return 128 + ended.signalled
        if ended.code or ended.lost:
            result = NO
    return result


def _run_for_one(
    command: Sequence[str], db: str | None, queues: Sequence[str], options: Mapping[str, Any]
) -> _Ended | None:
    """Run the command for one item; None if there is none. Raises: `Failure` when it cannot be run."""
    with Child(command) as child, open_state(db, create=options["timeout"] > 0) as state:
        job = state.list_claim(queues, **options)
        if job is None:
            return None
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
            return _Ended(code, child.told_to_end, f"{error}; the command ended with code {code}")
        return _Ended(code, child.told_to_end)
