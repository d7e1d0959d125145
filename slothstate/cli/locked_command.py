"""A command that runs while a lock is held, as with flock(1)."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

from slothstate import Lock, LockLost, LockTimeout, State
from slothstate.cli import under
from slothstate.cli.child import Child, leaving_on_signals
from slothstate.cli.exits import MISUSE, NO, STORE_ERROR, Failure, say
from slothstate.cli.formatting import escaped, is_terminal
from slothstate.cli.opening import open_state, store_address
from slothstate.hints import Any, Final

__all__ = ["run_locked"]

NOTICE_AFTER: Final = 1.0
"""Seconds of waiting after which a terminal is told for whom."""


def run_locked(
    db: str | None,
    name: str,
    command: Sequence[str],
    timeout: float | None = None,
    conflict: int = NO,
    ttl: float | None = None,
    *,
    shared: bool = False,
    slots: int = 1,
) -> int:
    """Run a command under a lock; return its exit code.

    Raises: `Failure`, as the help of with-lock says; with the code `conflict` when the lock was not acquired.
    """
    options: dict[str, Any] = {"shared": shared, "slots": slots, "ttl": ttl}
    if not hasattr(os, "fork"):
        raise Failure("with-lock needs fork(), which this system does not have", MISUSE)
    with leaving_on_signals(), Child(command) as child, open_state(db, create=True) as state:
        code = 0
        if under.runs_under(state, name):
            raise Failure(f"lock {name!r} was not acquired: {under.REASON}", conflict)
        try:
            with _held(state, name, timeout, options) as lock:
                code = child.run(
                    {
                        "SLOTHSTATE_LOCK_NAME": name,
                        "SLOTHSTATE_LOCK_TOKEN": str(lock.token),
                        "SLOTHSTATE_DB": store_address(db),
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
    is_told = is_terminal(sys.stderr) and (timeout is None or timeout > NOTICE_AFTER)
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(state.locked(name, NOTICE_AFTER if is_told else timeout, **options))
        except LockTimeout:
            if not is_told:
                raise
            say(escaped(f"slothstate: waiting for lock {name!r}: {_holder(state, name)}"))
            rest = None if timeout is None else timeout - NOTICE_AFTER
            lock = stack.enter_context(state.locked(name, rest, **options))
        yield lock


def _holder(state: State, name: str) -> str:
    from slothstate.cli.locks import holder_of  # what it needs takes time to import, and few have to wait

    return holder_of(state, name)
