"""Commands that run until somebody ends them: a signal is then no failure, but the end that they wait for."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

__all__ = ["Ended", "until_signalled"]


class Ended(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP asks the command to end."""


@contextlib.contextmanager
def until_signalled() -> Iterator[None]:
    """Run the block until it ends or a signal ends it, unless that signal is ignored (nohup)."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended

    numbers = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])
    before = {number: signal.getsignal(number) for number in numbers}
    with contextlib.suppress(Ended):
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, end)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
