"""A Redis server of its own on a Unix socket; the first process to open a directory starts it.

Every write goes to the append-only file before it is answered, and the file is not synced: what `synchronous=NORMAL` is
to SQLite. Other values of `appendfsync` are for the topic that asks for them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from bench.peers import PROCESS_DEATH, Peer, is_absent, through_json

DURABILITY: Final = f"appendonly yes, appendfsync no: {PROCESS_DEATH}"

START_SECONDS: Final = 10.0


def missing() -> str | None:
    if shutil.which("redis-server") is None:
        return "redis-server is not installed"
    return is_absent("redis")


def versions() -> dict[str, str]:
    import redis

    words = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()
    server = next(word.removeprefix("v=") for word in words if word.startswith("v="))
    return {"Redis": server, "redis-py": redis.__version__ + (" with hiredis" if find_spec("hiredis") else "")}


# What its documentation gives for a swap that no other client comes between.
_SWAP: Final = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('set', KEYS[1], ARGV[2]) return 1 end return 0"


def open(directory: Path, *, streams: bool = False, fsync: str = "no") -> Peer:
    """With `streams` a queue is a stream with a group of consumers instead of a list; `fsync` is `appendfsync`."""
    import redis

    socket = directory / "redis.sock"
    server = None if socket.exists() else _start(directory, socket, fsync)
    client = redis.Redis(unix_socket_path=str(socket))
    _wait(client, server)
    locks: dict[str, Any] = {}

    def close() -> None:
        client.close()
        if server is not None:
            server.terminate()
            server.wait()

    def set_many(mapping: dict[str, Any]) -> None:
        client.mset(mapping)

    def push_many(key: str, items: list[Any]) -> Any:
        return client.rpush(key, *items)

    def wait(key: str, seconds: float) -> Any:
        found = client.blpop(key, seconds)
        return None if found is None else found[1]

    script = client.register_script(_SWAP)

    def swap(key: str, old: Any, new: Any) -> bool:
        return bool(script(keys=[key], args=[old, new]))

    def transact(key: str, counter: str, value: Any) -> None:
        with client.pipeline(transaction=True) as steps:
            steps.get(key)
            steps.set(key, value)
            steps.incr(counter)
            steps.execute()

    @cache
    def group(key: str) -> str:
        # Another process may have been faster.
        with suppress(redis.ResponseError):
            client.xgroup_create(key, "workers", id="0", mkstream=True)
        return "workers"

    def add(key: str, item: Any) -> Any:
        return client.xadd(key, {b"item": item})

    def claim(key: str, seconds: float) -> Any:
        found: Any = client.xreadgroup(group(key), str(os.getpid()), {key: ">"}, count=1, block=int(seconds * 1000))
        if not found:
            return None
        # A dict where redis-py speaks RESP3, its default of late.
        ((_, entries),) = found.items() if isinstance(found, dict) else found
        ((identity, fields),) = entries[0] if isinstance(entries[0], list) else entries
        with client.pipeline(transaction=False) as both:
            both.xack(key, "workers", identity)
            both.xdel(key, identity)
            both.execute()
        return fields[b"item"]

    def lock(name: str) -> None:
        locks[name] = client.lock(name)
        locks[name].acquire()

    def unlock(name: str) -> None:
        locks.pop(name).release()

    return Peer(
        name="redis",
        is_served=True,
        close=close,
        directory=directory,
        value=lambda value: str(value).encode(),
        get=client.get,
        set=client.set,
        set_many=set_many,
        increment=client.incr,
        append=client.append,
        compare_swap=swap,
        transact=transact,
        get_many=client.mget,
        push=add if streams else client.rpush,
        push_many=push_many,
        pop=client.rpop,
        shift=client.lpop,
        wait=wait,
        claim=claim,
        keys=client.keys,
        lock=lock,
        unlock=unlock,
        **through_json(client.get, client.set),
    )


def _start(directory: Path, socket: Path, fsync: str) -> subprocess.Popen[bytes]:
    settings = {
        "port": "0",
        "unixsocket": str(socket),
        "dir": str(directory),
        "save": "",
        "appendonly": "yes",
        "appendfsync": fsync,
        "auto-aof-rewrite-percentage": "0",
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _wait(client: Any, server: subprocess.Popen[bytes] | None) -> None:
    import redis

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() >= deadline or (server is not None and server.poll() is not None):
                raise
            time.sleep(0.02)
        else:
            return
