"""Watches of a store that processes write to while they are killed and stopped, and the store is disturbed.

What there was to see is in the store itself: transactions keep a journal of what they change, and single verbs write
what tells how often they were done.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import slothstate
from helpers.nemesis import Nemesis
from helpers.processes import Channel, processes
from helpers.support import quick_and_long
from slothstate import Change, Watch

WORKERS = 4
SECONDS = 5.0
SECONDS_LONG = 60.0
NAME = "follower"

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="stops processes")


def write(channel: Channel, path: str, seed: int) -> None:
    """Change keys at random until told to stop: "t:" in journalled transactions, the others with a verb each."""
    chance = random.Random(seed)
    number = seed * 10**6
    with slothstate.open(path) as state:
        while not channel.waiting():
            number += 1
            key = chance.choice("abc")
            what = chance.random()
            if what < 0.4:
                with state.transaction():
                    done = []
                    for each in chance.sample("abc", 2):
                        is_there = state.exists(f"t:{each}")
                        if is_there and chance.random() < 0.4:
                            state.delete(f"t:{each}")
                        else:
                            state.set(f"t:{each}", number)
                            is_there = False
                        done.append([f"t:{each}", "delete" if is_there else "set"])
                    state.list_push("journal", *done)
            elif what < 0.6:
                state.increment(f"n:{key}")
            elif what < 0.8:
                state.list_push(f"l:{key}", number, number)
            else:
                state.set(f"x:{number}", 1, ttl=0.02)


def follow(channel: Channel, path: str, log: str) -> None:
    """Note each change in a file before asking for the next, until told to stop and there is none."""
    number = 0
    with slothstate.open(path) as state, state.watch(name=NAME) as watch:
        while (change := watch.next(0.05)) is not None or not channel.waiting():
            if change is not None:
                note(log, change)
                number += 1
                # At times it takes longer, so that some are killed before they ask for the next.
                time.sleep(0.02 if number % 50 == 0 else 0)


def note(log: str, change: Change) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, json.dumps(change).encode() + b"\n")
    os.close(file)


def rest(watch: Watch) -> Iterator[Change]:
    while (change := watch.next(0)) is not None:
        yield change


def history(path: str, log: str, seconds: float) -> str:
    """Let a nemesis loose on writers and followers for a while; return what was seen."""
    with slothstate.open(path) as state, state.watch() as watch, processes() as start:
        state.watch(name=NAME).close()
        seen: list[Change] = []
        nemesis = Nemesis(
            1,
            path,
            lambda: start(write, path, nemesis.started) if nemesis.started % 2 else start(follow, path, log),
            jumps=False,
        )
        for _ in range(WORKERS):
            nemesis.recruit()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            nemesis.strike()
            seen += rest(watch)
            time.sleep(nemesis.chance.uniform(0, 0.1))
        for worker in nemesis.workers.values():
            worker.send("stop")
        for worker in nemesis.workers.values():
            worker.result()
        nemesis.close()
        # Until the last key has expired.
        time.sleep(0.1)
        state.sweep()
        seen += rest(watch)
        with state.watch(name=NAME) as last:
            for change in rest(last):
                note(log, change)
        changes = [change for change in seen if change.key != "journal"]
        assert [[key, op] for key, op, _ in changes if key.startswith("t:")] == state.get("journal")
        counts = Counter(change.key for change in changes)
        for key in "abc":
            assert counts[f"n:{key}"] == state.get(f"n:{key}", 0)
            assert counts[f"l:{key}"] == state.list_length(f"l:{key}") / 2
        assert all(change.op == "set" for change in changes if change.key[:2] in ("n:", "l:"))
        brief: dict[str, list[str]] = {}
        for change in changes:
            if change.key[:2] not in ("t:", "n:", "l:"):
                brief.setdefault(change.key, []).append(change.op)
        assert {tuple(ops) for ops in brief.values()} == {("set", "expire")}
        assert state.check() == []
    again = assert_followed(seen, [Change(*json.loads(line)) for line in Path(log).read_text().splitlines()])
    return f"{len(seen)} changes under {dict(nemesis.done)}: missing 0, twice 0; {again} again for a name after a kill"


def assert_followed(seen: list[Change], followed: list[Change]) -> int:
    """Assert that a name has got all changes in their order; return how many came again, to whoever took it over."""
    revisions = [change.revision for change in seen]
    assert revisions == sorted(set(revisions))
    again = sum(one == next_one for one, next_one in pairwise(followed))
    # What nobody had handled is one change, the last that was given.
    assert len(followed) - again == len(set(followed))
    assert list(dict.fromkeys(followed)) == seen
    return again


@quick_and_long("seconds", (SECONDS,), (SECONDS_LONG,))
def test_watches_under_a_nemesis(path: str, tmp_path: Path, seconds: float, figure: Callable[[str], None]) -> None:
    """A watch gets each committed change once and in order; a name goes on after a kill with what was not handled."""
    figure(history(path, str(tmp_path / "followed"), seconds))
