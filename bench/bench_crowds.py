"""Many clients of one server: what each more of them costs, and where it ends.

Processes of this machine with many threads each, a connection a thread, stand for workers on other machines: what they
share is the server, and it is what is measured. They share its cores with it, too, so rates are lower than those of a
server that has its own.
"""

from __future__ import annotations

import os
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, perf_counter_ns, sleep
from typing import Final

from bench import peers
from bench.bench_servers import SERVER, Make, counter, one_counter, reader, repeat, transaction, writer
from bench.compare import Series
from bench.peers import Peer, postgresql
from bench.report import Report
from bench.worker import Worker, directory_for

TOPIC: Final = "crowds"

HEAD_START_NS: Final = 1_000_000_000
WAIT_SECONDS: Final = 4.0
SETTLED_SECONDS: Final = 1.5
"""Waiters look more seldom after their first second."""

_THINGS: Final[tuple[tuple[str, Make], ...]] = (
    ("get", reader),
    ("set, own keys", writer),
    ("increment, own counters", counter),
    ("increment, one counter", one_counter),
    ("transactions of three verbs", transaction),
)


def in_threads(peer: Peer, make: Make, threads: int, first: int, begin_at: int, seconds: float) -> list[array[float]]:
    """Let many threads do one thing over and over; return what each took, by thread."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda number: repeat(peer, make, first + number, begin_at, seconds), range(threads)))


def wait_in_threads(peer: Peer, threads: int, first: int) -> None:
    """Let many threads wait for items that do not come."""
    wait = peer.wait
    assert wait is not None
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: wait(f"idle:{first + number}", WAIT_SECONDS), range(threads)))


def _memory(directory: Path) -> float:
    """Bytes that the server's processes have for themselves."""
    total = 0
    for process in postgresql.processes(directory):
        try:
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Dirty:", "Private_Clean:")):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def _processor_seconds(directory: Path) -> float:
    ticks = 0
    for process in postgresql.processes(directory):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def _crowd(report: Report, clients: int) -> None:
    processes, seconds = report.scale.crowd_processes, report.scale.contention_seconds
    threads = clients // processes
    with directory_for(SERVER) as directory, ExitStack() as stack:
        workers = [stack.enter_context(Worker(SERVER, directory, fsync="on")) for _ in range(processes)]
        for worker in workers:
            worker.load(repeat, in_threads, wait_in_threads)
        before = _memory(directory)
        for what, make in _THINGS:
            begin_at = perf_counter_ns() + HEAD_START_NS
            for number, worker in enumerate(workers):
                worker.send(in_threads, make, threads, number * threads, begin_at, seconds)
            found = [each for worker in workers for each in worker.receive()]
            series = Series(
                [seconds * 1e9 / max(1, sum(map(len, found)))], array("d", (w for each in found for w in each))
            )
            report.add(TOPIC, f"{what}, {clients} clients", SERVER, series)
            if what == "get" and clients > processes:
                each = (_memory(directory) - before) / (clients - processes) / 2**20
                report.note(f"{clients} clients: the server has {each:.1f} MiB for each connection")
        for number, worker in enumerate(workers):
            worker.send(wait_in_threads, threads, number * threads)
        sleep(SETTLED_SECONDS)
        used, began = _processor_seconds(directory), monotonic()
        sleep(WAIT_SECONDS - SETTLED_SECONDS - 0.5)
        share = (_processor_seconds(directory) - used) / (monotonic() - began)
        for worker in workers:
            worker.receive()
        report.note(f"{clients} clients that wait for an item: the server takes {100 * share:.0f} % of a core")


def run(report: Report) -> None:
    if reason := peers.missing(SERVER):
        report.skip(SERVER, reason)
        return
    for clients in report.scale.crowds:
        _crowd(report, clients)
