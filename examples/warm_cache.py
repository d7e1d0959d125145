"""A cache that many processes warm once: one computes, the others wait for it; if it dies, another goes on.

python examples/warm_cache.py state.db 8
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import slothstate
from slothstate.recipes import memoize


def report(path: str, customer: str) -> None:
    with slothstate.open(path) as state:

        @memoize(state, ttl=300, name="totals")
        def totals(name: str) -> dict[str, int]:
            state.increment("computed")
            time.sleep(0.2)
            return {"orders": len(name)}

        # In one write: lines of several processes do not mix.
        print(f"{totals(customer)}\n", end="", flush=True)


def main(path: str, count: int) -> None:
    processes = [multiprocessing.Process(target=report, args=(path, "ada")) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with slothstate.open(path) as state:
        print("computed", state.get("computed"), "times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("count", type=int)
    main(**vars(parser.parse_args()))
