"""A network that swallows everything without a word: both sides find out, the owner before the server."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

import slothstate
from helpers.postgres_server import Server, started
from helpers.processes import Channel, processes
from slothstate import SlothStateError

FREE = 10.0
"""Seconds after which what a machine held that is gone is free."""

SLACK = 2.0

BUSY = 8.0

CLONE_NEWNET = 0x40000000


def run(*words: str) -> bool:
    """Run `ip`; return whether it could."""
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Network:
    """A namespace with one machine in it, the client's, and a wire to the server's."""

    name: str
    address: str
    peer: str
    device: str
    other_device: str

    def cut(self) -> None:
        """Send everything to a machine that is not there: nobody answers, and nobody is told."""
        run("neigh", "replace", self.peer, "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", self.device)
        inside = ("-n", self.name, "neigh", "replace", self.address, "lladdr", "02:00:00:00:00:99")
        run(*inside, "nud", "permanent", "dev", self.other_device)

    def mend(self) -> None:
        run("neigh", "del", self.peer, "dev", self.device)
        run("-n", self.name, "neigh", "del", self.address, "dev", self.other_device)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making a network needs root and ip")
    number = os.getpid() % 60000
    base = f"10.213.{number // 256}.{number % 256 // 4 * 4}".rpartition(".")
    addresses = [f"{base[0]}.{int(base[2]) + host}" for host in (1, 2)]
    found = Network(f"sloth{number}", addresses[0], addresses[1], f"sloth{number}a", f"sloth{number}b")
    steps = (
        ("netns", "add", found.name),
        ("link", "add", found.device, "type", "veth", "peer", "name", found.other_device),
        ("link", "set", found.other_device, "netns", found.name),
        ("addr", "add", f"{found.address}/30", "dev", found.device),
        ("link", "set", found.device, "up"),
        ("-n", found.name, "addr", "add", f"{found.peer}/30", "dev", found.other_device),
        ("-n", found.name, "link", "set", found.other_device, "up"),
    )
    try:
        if not all(run(*step) for step in steps):
            pytest.skip("no network can be made here")
        yield found
    finally:
        run("netns", "del", found.name)
        run("link", "del", found.device)


@pytest.fixture(scope="module")
def remote(network: Network) -> Iterator[Server]:
    with started(listen_addresses=f"'{network.address}'") as server:
        with (server.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network.peer}/32 trust\n")
        server.stop()
        server.start()
        yield server


def enter(name: str) -> None:
    """Be on the machine behind the wire, with all threads of this process that are to come."""
    namespace = os.open(f"/run/netns/{name}", os.O_RDONLY)
    assert ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    os.close(namespace)


def be_cut_off(channel: Channel, name: str, url: str) -> None:
    """Hold a lock, an item and a transaction while the network goes; tell what each thread is told, and when."""
    enter(name)
    state, reader, writer = (slothstate.open(url, busy_timeout=BUSY) for _ in range(3))
    claim = state.list_claim("q")
    assert claim is not None
    ready, gone = threading.Semaphore(0), threading.Event()
    told: dict[str, tuple[str, float]] = {}

    def wait() -> None:
        ready.release()
        gone.wait(60)

    def lock() -> None:
        with state.locked("job") as lock:
            wait()
            lock.ensure_held()

    def read() -> None:
        wait()
        reader.get("k")

    def write() -> None:
        wait()
        writer.set("k", "half")

    def transact() -> None:
        with state.transaction():
            state.set("k", "half")
            wait()
            state.set("half", 1)

    def note(use: Callable[[], None]) -> None:
        try:
            use()
        except SlothStateError as error:
            told[use.__name__] = type(error).__name__, time.monotonic() - cut_at

    threads = []
    # The transaction last: it keeps the others from writing.
    for use in (lock, read, write, transact):
        threads.append(threading.Thread(target=note, args=(use,)))
        threads[-1].start()
        assert ready.acquire(timeout=30)
    channel.send()
    channel.receive()
    cut_at = time.monotonic()
    gone.set()
    for thread in threads:
        thread.join()
    channel.send(told)
    channel.receive()
    # The network is back.
    assert state.get("k") == "whole"
    assert not claim.done()
    assert not state.try_lock("job")
    assert state.increment("n") == 1
    assert reader.increment("n") == 2
    assert writer.get("n") == 2
    for each in (state, reader, writer):
        each.close()


@pytest.mark.long
def test_a_client_whose_network_is_gone(network: Network, remote: Server, figure: Callable[[str], None]) -> None:
    """What it held is free after ten seconds; it gets its errors, and goes on when the network is back."""
    url = f"postgresql://postgres@{network.address}/postgres?schema=slothstate"
    with slothstate.open(remote.url()) as state, processes() as start:
        state.list_push("q", "item")
        client = start(be_cut_off, network.name, url)
        client.receive()
        network.cut()
        began = time.monotonic()
        client.send()
        try:
            assert state.lock("job", timeout=30)
            assert state.list_claim("q", timeout=30) is not None
            assert state.set("k", "whole")
            took = time.monotonic() - began
            told = client.receive()
        finally:
            network.mend()
        client.send()
        client.result()
        assert state.get("half") is None
        assert state.check() == []
        figure(f"postgresql: free after the network of its owner has gone: {took:.1f} s")
        assert took < FREE + SLACK
        assert {what: error for what, (error, _) in told.items()} == {
            "lock": "StateIOError",
            "read": "StateIOError",
            "write": "OutcomeUnknown",
            "transact": "StateIOError",
        }
        assert max(seconds for _, seconds in told.values()) < 2 * (BUSY + SLACK)
