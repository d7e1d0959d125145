"""The signals that ask a process to end, as exceptions; for some commands they are the end that they wait for."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

__all__ = ["ENDING", "Ended", "raising_when_ended", "until_signalled"]

ENDING: Final = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


class Ended(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP asks the command to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def raising_when_ended() -> Iterator[None]:
    """Turn these signals into `Ended` while the block runs, unless they are ignored (nohup)."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(number)

    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def until_signalled() -> Iterator[None]:
    """Run the block until it ends or a signal ends it, which is no failure then."""
    with contextlib.suppress(Ended), raising_when_ended():
        yield
