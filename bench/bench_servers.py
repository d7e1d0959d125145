"""The engine for several machines: each verb on PostgreSQL beside Redis, and beside our own on a file.

All are on one machine, the servers behind Unix sockets: a network adds the same to both. The pairs are of equal
durability: those that sync nothing for an acknowledgement, and those that sync each write.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from time import perf_counter_ns, sleep
from typing import Any, Final

from bench import peers
from bench.bench_keys import matching
from bench.bench_keys import what as keys_of
from bench.bench_locks import hand_over, pair, take_over
from bench.bench_queues import through
from bench.compare import Lane, Series, Workers
from bench.measure import Batch, Source, Workload
from bench.peers import Peer
from bench.report import OURS, Report
from bench.scale import QUICK, Scale
from bench.under_pytest import run_lane
from bench.worker import Worker, directory_for
from bench.workloads import append, get, increment, push_pop, set_scalar, swap

TOPIC: Final = "servers"

SERVER: Final = "postgresql"
SYNCED: Final = ", each synced"

GET: Final = "get, from a server"
SWAP: Final = "compare_swap, to a server"
SET: Final = "set, to a server"
INCREMENT: Final = "increment, to a server"
LOCK: Final = "lock + unlock, by a server"

HEAD_START_NS: Final = 300_000_000
KEYS: Final = 100
FEW_KEYS: Final = 10


def get_many(peer: Peer) -> Source:
    """Read a hundred keys in one call."""
    read, write = peer.get_many, peer.set_many
    assert read is not None
    assert write is not None
    names = [f"together:{number}" for number in range(KEYS)]
    write({name: number for number, name in enumerate(names)})
    values = [peer.value(number) for number in range(KEYS)]
    expected = values if peer.native is None else dict(zip(names, values, strict=True))
    return lambda operations: Batch(read, ([names] * operations,), [expected] * operations)


def transact(peer: Peer) -> Source:
    """Read a key, write it and count, as one step; in Redis, whose steps do not see each other's results, `MULTI`."""
    step, numbers = peer.transact, count()
    assert step is not None

    def source(operations: int) -> Batch:
        return Batch(step, (["value"] * operations, ["count"] * operations, [next(numbers) for _ in range(operations)]))

    return source


_VERBS: Final[tuple[tuple[str, Workload, dict[str, Any]], ...]] = (
    (SET, set_scalar, {}),
    (INCREMENT, increment, {}),
    ("append, to a server", append, {}),
    (SWAP, swap, {}),
    ("list_push + list_pop, by a server", push_pop, {"length": FEW_KEYS}),
    ("an item pushed, claimed and done, by a server", through, {"claims": True}),
    ("a transaction of three verbs, by a server", transact, {}),
    (LOCK, pair, {}),
)

_READS: Final[tuple[tuple[str, Workload, dict[str, Any]], ...]] = (
    (GET, get, {"kind": "int"}),
    ("get_many of 100, from a server", get_many, {}),
)

_UNSYNCED: Final[tuple[dict[str, Any], ...]] = (
    {"peer": OURS},
    {"peer": SERVER},
    {"peer": "redis", "variant": "everysec", "open": {"fsync": "everysec"}},
)

_SYNCED: Final[tuple[dict[str, Any], ...]] = (
    {"peer": OURS, "variant": "full", "open": {"durability": "full"}},
    {"peer": SERVER, "variant": "full", "open": {"fsync": "on", "durability": "full"}},
    {"peer": "redis", "variant": "always", "open": {"fsync": "always"}},
)


def _lane(what: str, workload: Workload, options: dict[str, Any], store: dict[str, Any]) -> Lane:
    if store["peer"] == "redis" and workload is through:
        # A stream is its queue that loses nothing.
        store = {**store, "variant": f"{store['variant']}, streams", "open": {**store["open"], "streams": True}}
    return Lane(what=what, workload=workload, options=options, **store)


def _label(store: dict[str, Any]) -> str:
    return Lane(what="", workload=get, **store).label


def lanes(scale: Scale) -> list[Lane]:
    search = {"count": scale.many_keys, "search": "prefix"}
    return [
        *(_lane(what, workload, options, store) for what, workload, options in _READS + _VERBS for store in _UNSYNCED),
        *(_lane(what + SYNCED, workload, options, store) for what, workload, options in _VERBS for store in _SYNCED),
        *(
            Lane(what=keys_of("prefix", scale) + ", from a server", workload=matching, options=search, limit=1, **store)
            for store in _UNSYNCED
        ),
    ]


# Eight clients


def reader(peer: Peer, number: int) -> Callable[[], Any]:
    assert peer.get is not None
    assert peer.set is not None
    peer.set(f"own:{number}", peer.value(number))
    return partial(peer.get, f"own:{number}")


def writer(peer: Peer, number: int) -> Callable[[], Any]:
    set_, value, numbers = peer.set, peer.value, count()
    assert set_ is not None
    # What stays the same is not written by every store.
    return lambda: set_(f"own:{number}", value(next(numbers)))


def counter(peer: Peer, number: int) -> Callable[[], Any]:
    assert peer.increment is not None
    return partial(peer.increment, f"counter:{number}")


def one_counter(peer: Peer, number: int) -> Callable[[], Any]:
    return counter(peer, 0)


def transaction(peer: Peer, number: int) -> Callable[[], Any]:
    transact, numbers = peer.transact, count()
    assert transact is not None
    return lambda: transact(f"own:{number}", f"counter:{number}", next(numbers))


def locker(peer: Peer, number: int) -> Callable[[], Any]:
    lock, unlock = peer.lock, peer.unlock
    assert lock is not None
    assert unlock is not None

    def both() -> None:
        # In Redis a lock is a key.
        lock(f"lock:{number}")
        unlock(f"lock:{number}")

    return both


Make = Callable[[Peer, int], Callable[[], Any]]

_CROWD: Final[tuple[tuple[str, Make], ...]] = (
    ("get", reader),
    ("set, own keys", writer),
    ("increment, own counters", counter),
    ("increment, one counter", one_counter),
    ("transactions of three verbs", transaction),
    ("lock + unlock, own names", locker),
)


def repeat(peer: Peer, make: Make, number: int, begin_at: int, seconds: float) -> array[float]:
    """Do one thing over and over from one moment of the system's monotonic clock on; return how long each took."""
    act = make(peer, number)
    act()
    waits = array("d")
    sleep(max(0, begin_at - perf_counter_ns()) / 1e9)
    end = begin_at + int(seconds * 1e9)
    began = perf_counter_ns()
    while began < end:
        act()
        now = perf_counter_ns()
        waits.append(now - began)
        began = now
    return waits


def crowd(report: Report, store: dict[str, Any], mark: str) -> dict[str, Series]:
    """Let many clients do each of the things at once; return what one operation took of all the time, by thing."""
    clients, seconds = max(report.scale.processes), report.scale.contention_seconds / 2
    name, label = store["peer"], _label(store)
    found = {}
    with directory_for(name) as directory, ExitStack() as stack:
        workers = [stack.enter_context(Worker(name, directory, **store.get("open", {}))) for _ in range(clients)]
        for what, make in _CROWD:
            for worker in workers:
                worker.load(repeat)
            begin_at = perf_counter_ns() + HEAD_START_NS
            for number, worker in enumerate(workers):
                worker.send(repeat, make, number, begin_at, seconds)
            waits = [worker.receive() for worker in workers]
            rate = sum(map(len, waits)) / seconds
            found[what] = Series([1e9 / rate], array("d", (wait for each in waits for wait in each)))
            report.note(
                f"{what}{mark}, {clients} clients, {label}: {rate:,.0f}/s in all, "
                f"slowest/fastest {min(map(len, waits)) / max(map(len, waits)):.2f}"
            )
    return found


def _crowds(report: Report, stores: tuple[dict[str, Any], ...], mark: str) -> None:
    clients = max(report.scale.processes)
    found = {_label(store): crowd(report, store, mark) for store in stores}
    for what, _ in _CROWD:
        for label, series in found.items():
            report.add(TOPIC, f"{what}{mark}, {clients} clients", label, series[what], found[next(iter(found))][what])


# Locks that pass from one to another


def _passed(report: Report, what: str, experiment: Callable[..., Series], times: int, *, goal: float | None) -> None:
    for store in _UNSYNCED[1:] if goal is None else _UNSYNCED[1:2]:
        series = experiment(store["peer"], times, **store.get("open", {}))
        report.add(TOPIC, what, _label(store), series)
        if goal is not None:
            report.at_most(f"{what}: p50", goal, series.percentiles(50)[0] / 1e6, " ms")


def run(report: Report) -> None:
    scale = report.scale
    missing = {name: reason for name in (SERVER, "redis") if (reason := peers.missing(name))}
    if missing:
        for name, reason in missing.items():
            report.skip(name, reason)
        return
    report.measure(TOPIC, lanes(scale))
    for what in (GET, SWAP):
        report.at_least(f"{what}: times faster than Redis", 1, report.times(what, "redis, everysec", than=SERVER))
    for what in (SET, INCREMENT, LOCK):
        name = what + SYNCED
        report.at_least(f"{name}: speed beside Redis", 1, report.times(name, "redis, always", than=f"{SERVER}, full"))
    search = keys_of("prefix", scale) + ", from a server"
    report.at_least(f"{search}: times faster than KEYS", 20, report.times(search, "redis, everysec", than=SERVER))
    _crowds(report, _UNSYNCED, "")
    _crowds(report, _SYNCED, SYNCED)
    _passed(report, "unlock until a waiting client has the lock", hand_over, scale.handovers, goal=None)
    _passed(report, "kill -9 of the owner until a waiting client has the lock", take_over, scale.takeovers, goal=50)


PARAMETERS: Final = {"lane": lanes(QUICK)}


def bench_servers(benchmark: Any, workers: Workers, lane: Lane) -> None:
    run_lane(benchmark, workers, lane)
