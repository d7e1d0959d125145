"""Stores as earlier versions left them, kept as text: every later version must read every value of them.

`PYTHONPATH=tests python tests/sqlite/test_golden.py > tests/golden/schema-N.txt` makes the text for the version that is
checked out. It is done once for a version, when it is released.
"""

from __future__ import annotations

import base64
import lzma
import os
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

import slothstate
from helpers import TESTS
from helpers.sqlite import raw
from helpers.support import exactly
from slothstate.engines.sqlite import schema

GOLDEN = TESTS / "golden"

FAR = 4_102_444_800
"""2100-01-01, when the key with a TTL ends."""

VALUES: dict[str, object] = {
    "string": "text",
    "string: empty": "",
    "string: characters": 'tab\t newline\n quote" NUL\0 ü 漢 \U0001f9a5',
    "string: of digits": "10",
    "string: long": "0123456789" * 500,
    "number: int": 7,
    "number: largest": 2**63 - 1,
    "number: smallest": -(2**63),
    "number: float": 0.1,
    "number: whole float": 1.0,
    "number: negative zero": -0.0,
    "number: tiny": 5e-324,
    "number: huge": 1.7976931348623157e308,
    "boolean: true": True,
    "boolean: false": False,
    "table": {"a": [1, {"b": None}], "c": 1.0, "": "empty name", "ü": True},
    "table: empty": {},
    "list: set": [1, "two", [3], {"four": 4}, None, 5.0],
    "list: empty": [],
    "list: pushed": [-1, 0, "one", {"two": [2]}, 3.0],
    "bytes": bytes(range(256)),
    "bytes: empty": b"",
    "key: ü 漢 \U0001f9a5 * ? [a-z] \\": "its name is the point",
    "counter": 43,
    "appended": "onetwo",
    "ttl": "until 2100",
    "ttl: list": ["until", 2100],
}
"""What is in every golden store."""

EXPIRED = "ttl: expired and never swept"


def fill(path: str) -> None:
    """Make a store with all of this, and leave like a process that crashes with locks held."""
    state = slothstate.open(path)
    for key, value in VALUES.items():
        if key not in ("list: pushed", "counter", "appended"):
            state.set(key, value)
    for item in (-2, -1, 0, "one", {"two": [2]}, 3.0, "last"):
        state.list_push("list: pushed", item)
    state.list_shift("list: pushed")
    state.list_pop("list: pushed")
    state.increment("counter", 50)
    state.decrement("counter", 7)
    state.append("appended", "one")
    state.append("appended", "two")
    for key in ("ttl", "ttl: list"):
        state.set_ttl(key, FAR - time.time())
    state.set(EXPIRED, "gone", ttl=0.001)
    for _ in range(40):
        state.lock("released")
        state.unlock("released")
    state.lock("held by a dead owner")
    state.try_lock("held by a dead owner with a TTL", ttl=1e9)
    state.list_push("claimed", "a", "b")
    state.list_claim("claimed")
    state.list_claim("claimed")
    raw(path, "insert into lock_waiters values (1, 'held by a dead owner', 1, '0123456789abcdef', 'host', 1, 0)")
    raw(path, "pragma wal_checkpoint(truncate)")
    sys.stdout.flush()


def text_of(database: bytes) -> str:
    return "\n".join(textwrap.wrap(base64.b64encode(lzma.compress(database)).decode(), 120)) + "\n"


@pytest.fixture(params=sorted(GOLDEN.glob("*.txt")), ids=lambda file: file.stem)
def golden(request: pytest.FixtureRequest, path: str) -> str:
    """The path of a golden store."""
    Path(path).write_bytes(lzma.decompress(base64.b64decode(request.param.read_text(encoding="ascii"))))
    os.chmod(path, 0o600)
    return path


def test_golden_store_is_read_whole(golden: str) -> None:
    """Every value of a store that an earlier version wrote comes back exactly, with its kind, TTL and neighbours."""
    with slothstate.open(golden) as state:
        assert state.check() == []
        assert exactly({key: state.get(key) for key in VALUES}) == exactly(VALUES)
        assert state.keys() == sorted(VALUES)
        assert state.get(EXPIRED) is None
        assert state.stats()["expired_pending"] == 1
        for key in VALUES:
            ttl = state.get_ttl(key)
            assert ttl == pytest.approx(FAR - time.time(), abs=60) if key.startswith("ttl") else ttl == -1


def test_golden_store_goes_on(golden: str) -> None:
    """Verbs, locks and tokens of a store that an earlier version wrote go on from where they were."""
    with slothstate.open(golden) as state:
        assert {lock["name"]: lock["alive"] for lock in state.locks()} == {
            "held by a dead owner": False,
            "held by a dead owner with a TTL": False,
        }
        assert state.increment("counter") == 44
        assert state.append("appended", "ü") == 7
        assert state.list_push("list: pushed", 4) == 6
        assert state.list_shift("list: pushed") == -1
        assert state.compare_swap("table: empty", {}, []) is True
        last = max(token for (token,) in raw(golden, "select token from locks"))
        assert last == 42
        for name in ("held by a dead owner", "held by a dead owner with a TTL", "released"):
            with state.locked(name, timeout=0) as lock:
                assert lock.token > last
                last = lock.token
        # The first version knew of no claims.
        assert state.list_length("claimed") in (0, 2)
        assert state.sweep() >= 1
        assert raw(golden, "select count(*) from lock_waiters") == [(0,)]


def test_every_version_has_a_golden_store() -> None:
    """Whoever raises the schema's version keeps a store of it."""
    assert [file.stem for file in sorted(GOLDEN.iterdir())] == [
        f"schema-{version}" for version in range(1, schema.SCHEMA_VERSION + 1)
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        database = os.path.join(directory, "state.db")
        child = os.fork()
        if child == 0:
            fill(database)
            os._exit(0)
        os.waitpid(child, 0)
        sys.stdout.write(text_of(Path(database).read_bytes()))
