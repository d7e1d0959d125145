"""Looking at a store and its locks from the command line: stats, inspect, du, top, lock, unlock, locks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.command import SECONDS, slothstate, start
from helpers.sqlite import raw
from helpers.support import until
from helpers.terminal import ESC, STYLE, Terminal, in_terminal, invoke, output, refusal
from slothstate import State


@contextmanager
def holder(home: Path, *arguments: str, **options: Any) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A `slothstate lock` that holds its lock, and the token it printed."""
    with start("lock", *arguments, home=home, **options) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_stats(home: Path, state: State) -> None:
    """Lines of name and value for a pipe, the verb's own dictionary and a little more for --json."""
    state.set_many({"a": 1, "b": "x", "c": "y"})
    state.try_lock("job", 60)
    figures = dict(line.split("\t") for line in output("stats", home=home).splitlines())
    assert figures["path"] == str(home / "state.db")
    assert figures["total_keys"] == "3"
    assert figures["keys_by_kind.string"] == "2"
    assert figures["locks_held"] == "1"
    assert invoke("stats", "--json", "--prometheus", home=home).exit_code == 2
    loaded = json.loads(output("stats", "--json", home=home))
    assert set(state.stats()) < set(loaded)
    assert loaded["keys_by_kind"] == {"number": 1, "string": 2}
    assert loaded["locks_of_dead_owners"] == 0
    shown = STYLE.sub("", in_terminal("stats", home=home, columns=200))
    assert re.search(r"^keys +3  \(1 number, 2 string\)$", shown, re.MULTILINE)
    assert re.search(r"^open in +2 processes$", shown, re.MULTILINE)


def test_stats_for_prometheus(home: Path, state: State) -> None:
    """Each metric has its help and type, and each sample the store's path; commits of all processes are counted."""
    state.set_many({"a": 1, "b": "x"})
    before = metrics(home)
    assert before["slothstate_keys", "number"] == 1
    assert before["slothstate_locks", "alive"] == 0
    assert before["slothstate_database_bytes", ""] > 0
    with state.transaction():
        state.set("a", 2)
        state.set("b", 2)
    state.increment("a")
    assert metrics(home)["slothstate_commits_total", ""] == before["slothstate_commits_total", ""] + 2


def metrics(home: Path) -> dict[tuple[str, str], int]:
    """Parse the exposition; the second part of a name is its kind or owner label."""
    found = {}
    described = set()
    text = output("stats", "--prometheus", home=home)
    for line in text.splitlines():
        if line.startswith("#"):
            described.add(line.split()[2])
            continue
        parsed = re.fullmatch(r'(\w+)\{path="([^"]*)"(?:,(?:kind|owner)="(\w+)")?(?:,\w+="[\d.]+")*\} (\d+)', line)
        assert parsed is not None, line
        assert parsed[1] in described
        assert parsed[2] == str(home / "state.db")
        found[parsed[1], parsed[3] or ""] = int(parsed[4])
    return found


def test_inspect(home: Path, state: State) -> None:
    """Kind, size, TTL, length and a tree of what is inside, cut at each level, on one line where it is short."""
    table = {"servers": [{"host": f"h{number}", "ports": [80, 443], "more": ["x" * 60]} for number in range(30)]}
    state.set("config", table | {"motd": "a\n\x1b", "none": None}, ttl=3600)
    shown = output("inspect", "config", home=home)
    assert re.search(r"^kind +table$", shown, re.MULTILINE)
    assert re.search(r"^ttl +(1h|59m \d+s), until 20\d\d-", shown, re.MULTILINE)
    assert re.search(r"^length +3 fields$", shown, re.MULTILINE)
    assert "├── servers: 30 items" in shown
    assert "│   │   ├── ports: [80,443]" in shown
    assert "│   └── … 22 more" in shown
    assert r'├── motd: "a\n\u001b"' in shown
    assert shown.endswith("└── none: null\n")


def test_inspect_of_each_kind(home: Path, state: State) -> None:
    """A scalar is shown as it is, a long text cut, of a long list only the beginning is read."""
    state.set_many({"int": 5, "float": 1.0, "yes": True, "text": "x" * 500, "blob": b"\xff\n", "empty": {}})
    state.list_push("queue", *range(1000))
    assert "number, an integer" in output("inspect", "int", home=home)
    assert "number, a float" in output("inspect", "float", home=home)
    assert output("inspect", "yes", home=home).endswith("\ntrue\n")
    assert output("inspect", "text", home=home).endswith("x" * 400 + "…\n")
    assert output("inspect", "blob", home=home).endswith("\n\\xff\\n\n")
    assert output("inspect", "empty", home=home).endswith("\ntable\n")
    queue = output("inspect", "queue", home=home)
    assert "1,000 items" in queue
    assert "├── 19: 19\n└── … 980 more\n" in queue
    described = json.loads(output("inspect", "queue", "--json", home=home))
    assert (described["kind"], described["length"], described["size"]) == ("list", 1000, 3891)
    state["nested"] = {"a": {"b": 1}, "c": []}
    for key, length in (("empty", 0), ("nested", 2), ("text", None), ("int", None)):
        assert json.loads(output("inspect", key, "--json", home=home))["length"] == length
    assert invoke("inspect", "missing", home=home).exit_code == 1


def test_du(home: Path, state: State) -> None:
    """Bytes and keys by prefix, the largest first; a prefix that was shown can be given to go deeper."""
    state.set_many({"user:1:name": "x" * 100, "user:2:name": "y", "site": "z", "a/b": "w"})
    assert output("du", home=home) == "123\t2\tuser:\n9\t2\t\n"
    assert output("du", "user:", home=home) == "111\t1\tuser:1:\n12\t1\tuser:2:\n"
    assert output("du", "user:", "--limit", "1", home=home) == "111\t1\tuser:1:\n"
    assert output("du", "--delimiter", "/", home=home).endswith("4\t1\ta/\n")
    assert json.loads(output("du", "--json", home=home))[0] == {"prefix": "user:", "keys": 2, "size": 123}
    shown = STYLE.sub("", in_terminal("du", home=home))
    assert "93.2%" in shown
    assert "(the rest)" in shown
    assert "132 B in 4 keys; the file has" in shown
    refusal("du", "--delimiter", "", home=home, code=2)


def test_top_once(home: Path, state: State) -> None:
    """--once prints one plain screen: figures, prefixes, locks."""
    state.set_many({f"user:{number}": number for number in range(50)} | {"evil\x1b:": 1})
    state.try_lock("job\x1b", 60)
    shown = output("top", "--once", "--interval", "50ms", home=home)
    assert re.search(r"^keys +51  \(51 number\)$", shown, re.MULTILINE)
    assert re.search(r"^writes +0/s", shown, re.MULTILINE)
    assert re.search(r"^ +50 +\d+ B  user:$", shown, re.MULTILINE)
    assert re.search(rf"^alive +{os.getpid()}@\S+ +\S+ +job\\x1b$", shown, re.MULTILINE)
    assert ESC not in shown


def test_top_counts_writes_of_all_processes(home: Path, state: State) -> None:
    """Writes a second are those of everybody, between two looks."""
    with start("top", "--interval", "200ms", home=home) as process:
        assert process.stdout is not None
        deadline = time.monotonic() + SECONDS
        rates: list[float] = []
        while time.monotonic() < deadline and not any(rates):
            for _ in range(50):
                state.increment("n")
            line = process.stdout.readline()
            if line.startswith(b"writes"):
                rates.append(int(line.split()[1].removesuffix(b"/s").replace(b",", b"")))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
    assert any(rates)
    assert process.returncode == 0


def test_top_shows_calls_and_hit_rate_of_all_processes(home: Path, state: State) -> None:
    """Calls a second and the share of gets that a cache answered are those of whoever uses the store."""
    state.set("n", 1)
    ended = threading.Event()
    worker = threading.Thread(target=lambda: [state.get("n") for _ in iter(ended.is_set, True)])
    worker.start()
    try:
        shown = output("top", "--once", home=home)
    finally:
        ended.set()
        worker.join()
    calls = r"^calls +[\d,]+/s, [\d,]+/s of them gets: (100|9\d)\.\d% answered from a cache$"
    assert re.search(calls, shown, re.MULTILINE), shown
    assert not (home / "state.db-locks" / "watch").exists()


@pytest.mark.parametrize("end", ["q", "SIGINT", "SIGTERM"])
def test_top_in_a_terminal(home: Path, state: State, end: str) -> None:
    """It refreshes in place on a screen of its own, and gives the terminal back as it was."""
    state.set_many({"user:1": 1})
    with Terminal("top", "--interval", "100ms", home=home, columns=100) as terminal:
        assert terminal.is_echoing()
        terminal.wait_for("user:")
        assert f"{ESC}[?1049h" in terminal.shown
        assert not terminal.is_echoing()
        state.set_many({f"new:{number}": number for number in range(7)})
        terminal.wait_for("new:")
        terminal.wait_for("+7")
        if end == "q":
            terminal.type("q")
        else:
            terminal.process.send_signal(signal.Signals[end])
        assert terminal.end() == 0
        assert f"{ESC}[?1049l" in terminal.shown
        assert terminal.is_echoing()
        assert "Traceback" not in terminal.shown


def test_lock_is_held_until_a_signal(home: Path, state: State) -> None:
    """`lock` prints its token and holds the lock until SIGINT, SIGTERM or SIGHUP, then releases it and exits with 0."""
    tokens = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with holder(home, "job") as (process, token):
            assert not state.lock("job", timeout=0)
            process.send_signal(number)
            _, err = process.communicate(timeout=SECONDS)
            assert (process.returncode, err) == (0, b"")
            assert state.locks() == []
        tokens.append(token)
    assert tokens == sorted(set(tokens))


def test_lock_for_a_time_and_until_stdin_ends(home: Path, state: State) -> None:
    """--for and --until-eof say when the lock is released."""
    slothstate("lock", "job", "--for", "50ms", home=home)
    with holder(home, "job", "--until-eof", stdin=subprocess.PIPE) as (process, _):
        assert process.stdin is not None
        process.stdin.write(b"not yet\n")
        process.stdin.flush()
        assert not state.lock("job", timeout=0.2)
        process.stdin.close()
        assert state.lock("job", timeout=SECONDS)
        assert process.wait(SECONDS) == 0


def test_lock_that_cannot_be_had(home: Path, state: State) -> None:
    """`lock --timeout` exits with 1, silently in a pipe, naming the holder in a terminal."""
    state.lock("job")
    assert invoke("lock", "job", "--timeout", "0", home=home).exit_code == 1
    shown = in_terminal("lock", "job", "--timeout", "50ms", home=home, code=1, columns=300)
    assert f"lock 'job' was not acquired: process {os.getpid()} on " in shown


def test_waiting_for_a_lock_is_interrupted(home: Path, state: State) -> None:
    """Ctrl-C while it waits is one line and 130."""
    state.lock("job")
    with start("lock", "job", home=home) as process:
        until(lambda: state.locks()[0]["waiting"])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out, err) == (130, b"", b"slothstate: interrupted\n")


def test_unlock_leaves_the_locks_of_the_living_alone(home: Path, state: State) -> None:
    """Without --force a living owner keeps its lock, with 1 and a line that says who it is."""
    with holder(home, "job") as (process, token):
        said = refusal("unlock", "job", home=home, code=1)
        assert f"process {process.pid} on " in said
        assert f"(token {token})" in said
        assert "--force" in said
        assert len(state.locks()) == 1
        output("unlock", "job", "--force", home=home)
        assert state.locks() == []
        _, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, err) == (3, b"slothstate: lock 'job' was taken away from this process\n")
    assert invoke("unlock", "job", home=home).exit_code == 1
    assert "nothing to unlock" in in_terminal("unlock", "job", home=home, code=1)


def test_locks_of_the_dead(home: Path, state: State) -> None:
    """A killed owner's lock shows as dead, is free, and `unlock` removes it."""
    with holder(home, "job\x1b\t") as (process, token):
        alive = output("locks", home=home)
        process.kill()
        process.wait(SECONDS)
    fields = alive.rstrip("\n").split("\t")
    assert fields[0] == "alive"
    assert (fields[1], fields[3]) == (str(process.pid), str(token))
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", fields[4])
    assert fields[5:] == ["-", r"job\x1b\t"]
    assert output("locks", home=home).startswith("dead\t")
    assert state.stats()["locks_held"] == 0
    counted = metrics(home)
    assert (counted["slothstate_locks", "alive"], counted["slothstate_locks", "dead"]) == (0, 1)
    assert re.search(
        r"^locks +0 held, 1 left by dead owners$", STYLE.sub("", in_terminal("stats", home=home)), re.MULTILINE
    )
    assert json.loads(output("locks", "--json", home=home))[0]["alive"] is False
    shown = STYLE.sub("", in_terminal("locks", home=home, columns=200))
    assert re.search(rf"^dead +{process.pid}@\S+ +{token} +\S+ +job\\x1b\\t$", shown, re.MULTILINE)
    output("unlock", "job\x1b\t", home=home)
    assert output("locks", home=home) == ""
    assert "no locks" in in_terminal("locks", home=home)


def test_locks_list_who_waits(home: Path, state: State) -> None:
    """Who waits stands below the lock, in a pipe, in a terminal and in JSON, and is gone when the wait has ended."""
    state.lock("job")
    with start("lock", "job", home=home) as process:
        until(lambda: state.locks()[0]["waiting"])
        first, second = (line.split("\t") for line in output("locks", home=home).splitlines())
        assert (first[0], first[1], first[6]) == ("alive", str(os.getpid()), "job")
        assert (second[0], second[1], second[3], second[5:]) == ("waits", str(process.pid), "-", ["-", "job"])
        assert second[4] >= first[4]
        (waiting,) = json.loads(output("locks", "--json", home=home))[0]["waiting"]
        assert waiting["pid"] == process.pid
        shown = STYLE.sub("", in_terminal("locks", home=home, columns=200))
        assert re.search(rf"^waits +{process.pid}@\S+ +\S+ +job$", shown, re.MULTILINE)
        shown = output("top", "--once", "--interval", "50ms", home=home)
        assert re.search(r"^locks +1 held, 1 waiting$", shown, re.MULTILINE)
        assert re.search(rf"^alive +{os.getpid()}@\S+ +\S+ +1 +job$", shown, re.MULTILINE)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
    assert output("locks", home=home).count("\n") == 1
    assert raw(home / "state.db", "select * from lock_waiters") == []


def test_sweep(home: Path, state: State) -> None:
    """`sweep` removes what has expired and prints how many keys went."""
    state.set_many({"a": 1, "b": 2, "c": 3}, ttl=60)
    state.set("d", 4)
    raw(home / "state.db", "update entries set expires_at_ms = 1 where key < 'c'")
    assert output("keys", home=home) == "c\nd\n"
    assert output("sweep", home=home) == "2\n"
    assert state.stats()["expired_pending"] == 0
