"""How long work shows on a terminal: a bar, or a count where nobody knows the end; nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from slothstate.cli.formatting import console_options, is_watched

__all__ = ["advancing", "working"]


@contextmanager
def advancing(
    what: str, total: int | None = None, *, octets: bool = False, shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr while the block runs, which calls the function it gets with each amount done.

    `total` is None for work whose end is not known; `octets` counts bytes and not keys. It goes
    without a trace.
    """
    if not shown or not is_watched():
        yield lambda amount: None
        return
    # Imported here: it takes longer than most commands.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = DownloadColumn(binary_units=True) if octets else MofNCompleteColumn()
    columns = [TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn()]
    with Progress(*columns, console=Console(stderr=True, **console_options(sys.stderr)), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on stderr that something is done that cannot tell how far it is, while the block runs."""
    if not is_watched():
        yield
        return
    from rich.console import Console

    with Console(stderr=True, **console_options(sys.stderr)).status(f"{what}..."):
        yield
