"""`top`: the store as it changes, in place on a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.live import Live

from slothstate.cli.exits import DONE, flush, printing
from slothstate.cli.formatting import console_options, is_dumb, is_terminal
from slothstate.cli.opening import open_state
from slothstate.cli.options import SECONDS, store_command
from slothstate.cli.signals import until_signalled
from slothstate.cli.top_screen import History, render
from slothstate.cli.values import write
from slothstate.hints import Final

__all__ = ["top"]

BUSY_SHARE: Final = 0.2
"""The share of the time that looking may take: on a large store the interval grows instead."""

LATE: Final = 1.0
"""Seconds that the next look may come late."""

CONSOLE_PAUSE: Final = 0.05
"""Seconds between two looks whether a key was pressed, where nothing tells."""


@store_command("top")
@click.option("--interval", type=SECONDS, default=1.0, show_default="1s", help="Look this often.")
@click.option("--once", is_flag=True, help="Look twice, an interval apart, print what was seen, and end.")
@click.option("--delimiter", default=":", show_default=True, help="What ends a prefix of keys.")
def top(db: str | None, interval: float, once: bool, delimiter: str) -> int:
    """Watch the store live: writes, calls, hit rate, keys, locks.

    Also the processes that have it open. A write is a commit: a transaction counts once, whatever it changes. A call is
    one of a verb that works on keys. q or Ctrl-C ends it. In a
    pipe, and on a dumb terminal, the screens follow one another.

    \b
    Examples:
      slothstate top
      slothstate top --once --interval 5
    """
    with open_state(db) as state:
        history = History(state, delimiter)
        try:
            with until_signalled():
                history.look(_watch_for(history, interval))
                if once or not is_terminal() or is_dumb():
                    _print_screens(history, interval, once)
                else:
                    _refresh_screen(history, interval)
        finally:
            # Nobody need go on telling what it does.
            state.activity(0)
    return DONE


def _refresh_screen(history: History, interval: float) -> None:
    console = Console(highlight=False, markup=False, emoji=False, **console_options(sys.stdout))
    with _keys() as wait_for_key, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(history, console), refresh=True)
            if wait_for_key(_pause(history, interval)) in ("q", "Q"):
                return
            history.look(_watch_for(history, interval))


def _print_screens(history: History, interval: float, once: bool) -> None:
    console = Console(highlight=False, markup=False, emoji=False, **console_options(sys.stdout))
    while True:
        time.sleep(_pause(history, interval))
        history.look(_watch_for(history, interval))
        with printing(), console.capture() as screen:
            console.print(render(history, console))
        # Grids are filled up with blanks, which only a screen needs.
        write("\n".join(line.rstrip() for line in screen.get().splitlines()))
        if not once:
            write("")
        # Nothing may be left for rich to write: where nobody reads, it exits with 1.
        flush()
        if once:
            return


def _pause(history: History, interval: float) -> float:
    return max(interval, history.cost / BUSY_SHARE)


def _watch_for(history: History, interval: float) -> float:
    return _pause(history, interval) + LATE


def _wait_without_keys(seconds: float) -> str:
    time.sleep(seconds)
    return ""


if sys.platform == "win32":
    import msvcrt

    def _wait_for_console_key(seconds: float) -> str:
        """Wait for a key by looking again and again: `select` does not take a console."""
        deadline = time.monotonic() + seconds
        while not msvcrt.kbhit():
            left = deadline - time.monotonic()
            if left <= 0:
                return ""
            time.sleep(min(left, CONSOLE_PAUSE))
        return msvcrt.getwch()


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key, at most so many seconds, and returns it, "" if none came."""
    if not is_terminal(sys.stdin):
        yield _wait_without_keys
        return
    if sys.platform == "win32":
        yield _wait_for_console_key
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()

    def wait(seconds: float) -> str:
        if not select.select([descriptor], [], [], seconds)[0]:
            return ""
        # A closed terminal reads as the end of the file, for ever.
        return os.read(descriptor, 1).decode(errors="replace") or "q"

    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield wait
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
