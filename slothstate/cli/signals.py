"""The signals that ask a process to end, as exceptions; for some commands they are the end that they wait for."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from types import FrameType

from slothstate.cli.exits import Failure
from slothstate.hints import Final

__all__ = [
    "ENDING",
    "TERMINATING",
    "Ended",
    "clearing_up_when_ended",
    "failing_when_ended",
    "raising_when_ended",
    "until_signalled",
]

ENDING: Final = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


TERMINATING: Final = (
    *ENDING,
    *(getattr(signal, name) for name in ("SIGQUIT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)),
)
"""All that end a process which does not know them: a script's commands are to end with it, whichever it is."""


class Ended(BaseException):
    """A signal asks the command to end: Ctrl-C, SIGTERM, SIGHUP."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number
        self.exit_code = 128 + number


@contextlib.contextmanager
def raising_when_ended(numbers: Sequence[signal.Signals] = ENDING) -> Iterator[None]:
    """Turn these signals into `Ended` while the block runs, unless they are ignored (nohup)."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def clearing_up_when_ended() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does: what it has written aside goes before the process does."""
    with raising_when_ended([number for number in ENDING if number != signal.SIGINT]):
        yield


@contextlib.contextmanager
def failing_when_ended() -> Iterator[None]:
    """Make the failure of a command of `Ended`. Raises: `Failure`."""
    try:
        yield
    except Ended as ended:
        raise Failure(str(ended), ended.exit_code) from ended


@contextlib.contextmanager
def until_signalled() -> Iterator[None]:
    """Run the block until it ends or a signal ends it, which is no failure then."""
    with contextlib.suppress(Ended), raising_when_ended():
        yield
