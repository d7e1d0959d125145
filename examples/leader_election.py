"""One of several processes leads; when it dies, however it dies, another leads at once.

    python examples/leader_election.py state.db 3

Start it several times. Whoever has the lock leads for so many rounds; its token rises with every leader, so what a
leader that was stopped for long writes afterwards can be told from what the new one writes, and is refused.
"""

from __future__ import annotations

import argparse
import os
import time

import slothstate


def lead(path: str, rounds: int) -> None:
    with slothstate.open(path) as state, state.locked("leader") as lock:
        print(f"{os.getpid()} leads, token {lock.token}", flush=True)
        for _ in range(rounds):
            # Refused with LockLost if somebody has taken the lock away: two never lead at a time.
            with lock.transaction():
                state.set("leader", {"pid": os.getpid(), "token": lock.token})
                state.increment("rounds")
            time.sleep(0.05)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("rounds", type=int)
    lead(**vars(parser.parse_args()))
