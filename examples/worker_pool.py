"""Four workers on one queue; kill any of them at any moment, and its job is done by another.

    python examples/worker_pool.py photos.db 20

Each job's result is kept in the transaction that ends its claim, so it is counted once, whoever was killed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time

import slothstate

WORKERS = 4


def work(path: str) -> None:
    """Do jobs until none has come for a while."""
    with slothstate.open(path) as state:
        while claim := state.list_claim("jobs", timeout=0.5, max_attempts=5):
            with claim as job:
                time.sleep(0.01)
                with claim.transaction():
                    state.increment("done")
                    state.set(f"result:{job}", job * job)
                    claim.done()


def main(path: str, jobs: int) -> None:
    with slothstate.open(path) as state:
        state.list_push("jobs", *range(jobs))
    # Not forked: each worker opens the store itself.
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(path,)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    # What a crash, the kernel short of memory or an impatient administrator does.
    time.sleep(0.1)
    workers[0].kill()
    for worker in workers:
        worker.join()
    with slothstate.open(path) as state:
        print(f"{state.get('done', 0)} jobs done, {state.list_length('jobs:dead')} given up")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("jobs", type=int)
    main(**vars(parser.parse_args()))
