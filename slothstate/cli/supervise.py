"""Watching over a script: Ctrl-C, signals, and a task that does not stop at its timeout.

Python handles signals in its main thread, between its own instructions; a loop in Lua would keep it from that for ever.
So the script runs in a thread, and the main thread waits for it, a signal, or the end of its patience.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable

from slothstate.cli.exits import CLOSED_PIPE, STORE_ERROR, Failure, OutputFailure, say
from slothstate.cli.signals import TERMINATING, Ended, raising_when_ended
from slothstate.hints import TYPE_CHECKING, NoReturn
from slothstate.lua.host.family import end_family

if TYPE_CHECKING:
    from slothstate import State
    from slothstate.lua.host.host import Host

__all__ = ["check_output", "supervise"]

INTERRUPT_GRACE = 0.12
"""Seconds that a script has to come to its end after a signal."""

COMMAND_GRACE = 1.0
"""The same while a command runs, or tasks side by side, which are asked to end first; and where nobody asks for the
end, but nobody reads any more."""

TIMEOUT_GRACE = 2.0
"""Seconds past its timeout at which a task that cannot be stopped ends the run."""

_CLOSE_GRACE = 1.0
"""Seconds for closing the store while a script is still in it; the kernel then frees its locks all the same."""

_LOOK_EVERY = 0.25
"""Seconds between two looks at the clock of the running task."""

_SIGPIPE = CLOSED_PIPE - 128


def supervise(host: Host, state: State, run: Callable[[], int]) -> int:
    """Call `run` in a thread and return what it returns, or raise what it raises.

    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 interrupt it, and so does printing to a pipe that nobody reads
    any more (`| head`). A script that then goes on, or that is past a task's timeout for `TIMEOUT_GRACE`, is left
    behind: the state is closed and the process ends from here.

    Raises: `Failure` with the code 128 + n after signal n.
    """
    ended = threading.Event()
    outcome: list[int | BaseException] = []

    def work() -> None:
        try:
            outcome.append(run())
        except BaseException as error:
            outcome.append(error)
        finally:
            ended.set()

    with raising_when_ended(TERMINATING):
        try:
            threading.Thread(target=work, name="slothstate-script", daemon=True).start()
            while not ended.wait(_LOOK_EVERY):
                if host.overrun() > TIMEOUT_GRACE:
                    host.interrupt(kill=True)
                    host.report_cut_off()
                    _leave(
                        state, f"a task could not be stopped {TIMEOUT_GRACE:g}s after its timeout; the run ends here", 1
                    )
                if host.has_lost_output and _nobody_reads():
                    raise Ended(_SIGPIPE)
        except Ended as signalled:
            interrupted = signalled.number
        else:
            interrupted = 0
        if interrupted:
            message = {signal.SIGINT: "interrupted", _SIGPIPE: ""}.get(interrupted)
            if message is None:
                message = f"ended by {signal.Signals(interrupted).name}"
            with contextlib.suppress(Ended):  # a second one: at once
                grace = COMMAND_GRACE if host.is_ending_commands or interrupted == _SIGPIPE else INTERRUPT_GRACE
                host.interrupt()
                ended.wait(grace)
            if not ended.is_set():
                host.interrupt(kill=True)
                host.report_cut_off()
                _leave(state, message, 128 + interrupted)
            # What the script has begun by io.popen.
            end_family(os.getpid(), itself=False)
            raise Failure(message, 128 + interrupted)
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _leave(state: State, message: str, code: int) -> NoReturn:
    for number in TERMINATING:
        signal.signal(number, signal.SIG_IGN)
    closing = threading.Thread(target=state.close, name="slothstate-close", daemon=True)
    closing.start()
    closing.join(_CLOSE_GRACE)
    if message:
        say(f"slothstate: {message}")
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    # Last of all: what waits for one of them would go on.
    end_family(os.getpid(), itself=False)
    # The script's thread is still in Lua: it could not be joined, and must not run while the interpreter is torn down.
    os._exit(code)


def check_output(host: Host) -> None:
    """Raise `OutputFailure` if what the script printed is not all where it was meant to go."""
    if host.has_lost_output:
        if _nobody_reads():
            raise OutputFailure("", CLOSED_PIPE)
        raise OutputFailure("not all that the script printed could be written to stdout", STORE_ERROR)


def _nobody_reads() -> bool:
    """Whether stdout is a pipe whose reader is gone."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
