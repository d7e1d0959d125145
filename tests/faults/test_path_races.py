"""Paths that change while they are opened: whoever swaps a store for a link never leads a write astray."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.support import quick_and_long
from slothstate import SlothStateError, UnsafeState

OPENINGS = 100
OPENINGS_LONG = 2000
SHORT_PAUSE = 0.0001
PATIENCE = 60

AT_FDCWD = -100
RENAME_EXCHANGE = 2


def swap_until_told(channel: Channel, path: str, other: str, opening: float) -> int:
    """Exchange two names, each time in one step, until a message comes; leave them as they were.

    The store is in its place for up to three times the seconds that an opening takes, so that many a one gets some
    way; the link is there for a moment.
    """
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = AT_FDCWD, os.fsencode(path), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE
    if exchange is None or exchange(*names) or exchange(*names):
        channel.send("this system cannot exchange two names in one step")
        return 0
    channel.send("")
    swaps = 0
    random = Random(1)
    while swaps % 2 or not channel.waiting():
        exchange(*names)
        swaps += 1
        time.sleep(random.uniform(0, 3 * opening if swaps % 2 == 0 else SHORT_PAUSE))
    return swaps


def race(directory: Path, openings: int) -> str:
    path, link = directory / "state.db", directory / "link"
    (directory / "elsewhere").mkdir()
    victim = directory / "elsewhere" / "victim.db"
    with slothstate.open(path) as state, slothstate.open(victim) as other:
        state.set("n", 0)
        other.set("n", -1)
    link.symlink_to(victim)
    content, inode = victim.read_bytes(), path.stat().st_ino
    neighbours = sorted(file.name for file in victim.parent.iterdir())
    tried = acknowledged = refused = 0
    began = time.perf_counter()
    with slothstate.open(path) as state:
        assert state.increment("n", 0) == 0
    opening = time.perf_counter() - began
    with processes() as start:
        swapper = start(swap_until_told, str(path), str(link), opening)
        if reason := swapper.receive():
            pytest.skip(reason)
        deadline = time.monotonic() + PATIENCE
        # More of them where the machine is slow: an opening that is held up meets a swap each time.
        while tried < openings or (not 0 < acknowledged < tried and time.monotonic() < deadline):
            tried += 1
            try:
                with slothstate.open(path) as state:
                    # Never -1, and so never the victim's: that one would be 0 now.
                    assert state.increment("n") == acknowledged + 1
                    acknowledged += 1
            except SlothStateError as error:
                refused += isinstance(error, UnsafeState)
        swapper.send("end")
        swaps = swapper.result()
    assert victim.read_bytes() == content
    assert sorted(file.name for file in victim.parent.iterdir()) == neighbours
    assert path.stat().st_ino == inode
    assert link.is_symlink()
    link.unlink()
    with slothstate.open(path) as state:
        assert state.get("n") == acknowledged
    assert 0 < acknowledged < tried, "the store was never, or always, a link"
    return (
        f"store and link exchanged {swaps} times during {tried} openings: {acknowledged} wrote to the store,"
        f" {refused} were refused as unsafe, 0 wrote through the link"
    )


@quick_and_long("openings", (OPENINGS,), (OPENINGS_LONG,))
def test_store_and_link_that_change_places(tmp_path: Path, openings: int, figure: Callable[[str], None]) -> None:
    """However often a store and a link change places while it is opened, what the link points to stays as it is."""
    figure(race(tmp_path, openings))
