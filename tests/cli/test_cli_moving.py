"""`slothstate dump` and `load`: what goes out comes back, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import slothstate as package
from helpers.command import SECONDS, other, slothstate, start
from helpers.support import exact_dump
from helpers.verbs import VALUES
from slothstate import Record

NESTED: Any = []
for _ in range(499):
    NESTED = [NESTED]

EVERYTHING: dict[str, Any] = {
    **VALUES,
    "empty": "",
    "text": 'quotes " and \\ \n\r\t\0\x1b\u2028\x85 é 😀 ',
    'key with\nevery "thing" \u2028 é 😀': "x",
    "zero": 0,
    "least": -(2**63),
    "most": 2**63 - 1,
    "float": 1.0,
    "minus-zero": -0.0,
    "tiny": 5e-324,
    "huge": 1.7976931348623157e308,
    "third": 1 / 3,
    "false": False,
    "all-bytes": bytes(range(256)),
    "no-bytes": b"",
    "no-table": {},
    "no-list": [],
    "numbers": [1, 1.0, -0.0, 2**63 - 1, True, None, "1"],
    "deep": NESTED,
}


@pytest.fixture
def full(home: Path) -> list[str]:
    """A store with a value of every kind, with and without TTLs, and a list that was pushed; what it holds."""
    with package.open(home / "state.db") as state:
        for key, value in EVERYTHING.items():
            state.set(key, value)
        state.set("session", {"user": 7}, ttl=3600.5)
        state.list_push("queue", 1, 2.0, {"job": [None]}, "é")
        state.set_ttl("queue", 86_400)
        return exact_dump(state)


def ended(lines: bytes) -> bytes:
    """These lines with the last line of a dump."""
    return lines + b'{"records": %d}\n' % sum(1 for line in lines.splitlines() if line.strip())


def test_round_trip(home: Path, full: list[str]) -> None:
    """Every kind comes back exactly, with its TTL to the millisecond."""
    lines = slothstate("dump", home=home)
    assert slothstate("load", home=other(home), stdin=lines.encode()) == f"loaded {len(full)} keys\n"
    with package.open(other(home) / "state.db") as state:
        assert exact_dump(state) == full
        assert math.copysign(1, state.get("minus-zero")) == -1
        assert state.get("deep") == NESTED
    assert slothstate("dump", home=other(home)) == lines


def test_lines(home: Path) -> None:
    """A line is JSON with key, kind, value and, only with a TTL, the moment of expiry; the keys are sorted."""
    with package.open(home / "state.db") as state:
        state.set("b", b"\xff\x00")
        state.set("a", 1.0, ttl=60)
        (expires_at_ms,) = (entry.expires_at_ms for entry in state.dump("a"))
    assert slothstate("dump", home=home) == (
        f'{{"key":"a","kind":"number","expires_at_ms":{expires_at_ms},"value":1.0}}\n'
        '{"key":"b","kind":"bytes","value":"/wA="}\n'
        '{"records": 2}\n'
    )


def test_dump_of_some_keys(home: Path, full: list[str]) -> None:
    """With a pattern only the keys that match are dumped; a bad pattern is misuse; without a key there is the end."""
    *lines, end = slothstate("dump", "no-*", home=home).splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["no-bytes", "no-list", "no-table"]
    assert json.loads(end) == {"records": 3}
    assert slothstate("dump", "nothing*", home=home) == '{"records": 0}\n'
    slothstate("dump", "[", home=home, code=2)


def test_dump_without_a_store(home: Path) -> None:
    """Where there is no store, none appears."""
    assert "no store" in slothstate("dump", home=home, code=3)
    assert list(home.iterdir()) == []


def test_dump_to_a_file(home: Path, full: list[str]) -> None:
    """A file that dump makes is its owner's alone; one that exists is left as it was."""
    slothstate("dump", "-o", "all.jsonl", home=home)
    path = home / "all.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text(encoding="utf-8") == slothstate("dump", home=home)
    path.write_text("mine")
    assert "File exists" in slothstate("dump", "-o", "all.jsonl", home=home, code=2)
    assert path.read_text() == "mine"


def test_reader_that_leaves(home: Path) -> None:
    """When the reader of the pipe has enough, dump ends quietly."""
    with package.open(home / "state.db") as state:
        state.set_many({f"key:{number:05}": "x" * 100 for number in range(5000)})
    with start("dump", home=home) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 141


def test_merge(home: Path) -> None:
    """Loading replaces the keys of the dump, kind and TTL too, and keeps the others."""
    with package.open(home / "state.db") as state:
        state.set_many({"kept": 1, "replaced": [1, 2]}, ttl=60)
        state.list_push("pushed", 1, 2)
    lines = b'{"key":"replaced","kind":"string","value":"new"}\n{"key":"pushed","kind":"number","value":5}\n'
    assert slothstate("load", "--merge", home=home, stdin=ended(lines)) == "loaded 2 keys\n"
    with package.open(home / "state.db") as state:
        assert dict(state) == {"kept": 1, "replaced": "new", "pushed": 5}
        assert state.get_ttl("replaced") == -1
        assert state.get_ttl("kept") > 0


def test_replace(home: Path) -> None:
    """With --replace the keys of the dump are the only ones afterwards; locks stay."""
    with package.open(home / "state.db") as state:
        state.set_many({"gone": 1, "replaced": 2})
        state.lock("deploy")
        lines = ended(b'{"key":"replaced","value":3}\n')
        assert slothstate("load", "--replace", home=home, stdin=lines) == "loaded 1 key\n"
        assert dict(state) == {"replaced": 3}
        assert [lock["name"] for lock in state.locks()] == ["deploy"]


def test_time_passes_for_dumped_keys(home: Path) -> None:
    """What expired since the dump is left out and counted; the rest expires at the same moment as before."""
    soon = int(time.time() * 1000) + 100_000
    lines = f'{{"key":"a","value":1,"expires_at_ms":1000}}\n{{"key":"b","value":2,"expires_at_ms":{soon}}}\n'
    assert slothstate("load", home=home, stdin=ended(lines.encode())) == "loaded 1 key, 1 key had expired\n"
    with package.open(home / "state.db") as state:
        assert list(state.dump()) == [Record("b", "number", 2, soon)]


BAD_LINES = {
    "": None,
    "no json": "not JSON: Expecting value at column 1",
    '{"key":"a","value":1': "not JSON",
    '{"key":"a","value":1} {}': "not JSON: Extra data",
    "[]": "a JSON object with key, kind and value expected",
    '{"value":1}': "the field 'key' is missing",
    '{"key":"a"}': "the field 'value' is missing",
    '{"key":"a","value":1,"expires":5}': "unknown field 'expires'",
    '{"key":"a","value":1,"kind":"integer"}': "kind of 'a' must be one of",
    '{"key":"a","value":1,"kind":"string"}': "a string expected, got a number",
    '{"key":"a","value":true,"kind":"number"}': "a number expected, got a boolean",
    '{"key":"a","value":null}': "value of 'a': None cannot be stored",
    '{"key":"a","value":null,"kind":"string"}': "cannot be stored",
    '{"key":"a","value":"?","kind":"bytes"}': "base64",
    '{"key":"a","value":5,"kind":"bytes"}': "base64",
    '{"key":"","value":1}': "key must not be empty",
    '{"key":5,"value":1}': "key must be a str",
    '{"key":"a\\u0000b","value":1}': "NUL",
    '{"key":"a","value":"\\ud800"}': "lone surrogate",
    '{"key":"a","value":NaN}': "NaN cannot be stored",
    '{"key":"a","value":1e999}': "inf cannot be stored",
    '{"key":"a","value":9223372036854775808}': "64 bits",
    '{"key":"a","value":[1,9223372036854775808]}': "64 bits",
    '{"key":"a","value":1,"expires_at_ms":"soon"}': "expires_at_ms",
    '{"key":"a","value":1,"expires_at_ms":1.5}': "expires_at_ms",
    '{"key":"a","value":1,"expires_at_ms":-1}': "expires_at_ms",
    '{"key":"a","value":' + "[" * 501 + "]" * 501 + "}": "nest",
    '{"key":"a","value":' + "[" * 100_000: "nested too deeply",
    '{"key":"a","value":' + "9" * 5000 + "}": "line 3",
    '{"records":true}': "records must be the number of records before it, got true",
    '{"records":1.0}': "records must be",
    '{"records":-1}': "records must be",
    '{"records":1,"key":"a","value":1}': "unknown field 'records'",
}


@pytest.mark.parametrize("line", [line for line, problem in BAD_LINES.items() if problem], ids=lambda line: line[:40])
@pytest.mark.parametrize("how", ["--merge", "--replace", "--dry-run"])
def test_bad_lines(home: Path, line: str, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line that cannot be stored is named with its number and what is wrong, and nothing of its batch is stored."""
    from slothstate.cli import run_command_line

    with package.open(home / "state.db") as state:
        state.set("before", 1)
    (home / "bad.jsonl").write_text(f'{{"key":"first","value":1}}\n\n{line}\n{{"key":"last","value":1}}\n')
    code = run_command_line(["load", how, "--db", str(home / "state.db"), str(home / "bad.jsonl")])
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.count("\n") == 1
    assert f"{home / 'bad.jsonl'}, line 3: " in error
    assert str(BAD_LINES[line]) in error
    with package.open(home / "state.db") as state:
        assert dict(state) == {"before": 1}


def test_line_that_is_not_utf8(home: Path) -> None:
    """Bytes that are not UTF-8 are refused, naming line and byte."""
    assert "stdin, line 1: not UTF-8 at byte 9" in slothstate("load", home=home, stdin=b'{"key":"\xff"}', code=2)


def test_batches_before_a_bad_line(home: Path) -> None:
    """Merging keeps the batches before a bad line and says so; replacing keeps what was there before."""
    good = b"".join(b'{"key":"key:%d","value":1}\n' % number for number in range(1500))
    error = slothstate("load", home=home, stdin=good + b"bad\n", code=2)
    assert "stdin, line 1501: " in error
    assert "1,000 keys from before it are loaded" in error
    with package.open(home / "state.db") as state:
        assert len(state) == 1000
    assert "nothing was changed" in slothstate("load", "--replace", home=home, stdin=good + b"bad\n", code=2)
    with package.open(home / "state.db") as state:
        assert len(state) == 1000


WHOLE = ended(b'{"key":"a","value":1}\n{"key":"b","value":2}\n')

NOT_WHOLE = {
    "empty": b"",
    "blank": b"\n\n",
    "no-end": WHOLE[: WHOLE.index(b'{"records')],
    "cut-in-the-end": WHOLE[:-3],
    "cut-in-a-line": WHOLE[:30],
    "first-line": WHOLE.splitlines()[0],
    "one-too-few": WHOLE.replace(b'{"key":"a","value":1}\n', b""),
    "one-after-the-end": WHOLE + b'{"key":"c","value":3}\n',
    "two-ends": WHOLE + b'{"records": 2}\n',
    "first-of-two-cut": b'{"key":"c","value":3}\n' + WHOLE,
    "other-text": b"ssh: connect to host other port 22: Connection refused\n",
}


@pytest.mark.parametrize("what", NOT_WHOLE)
def test_what_is_no_whole_dump(home: Path, what: str) -> None:
    """Nothing is removed for the sake of part of a dump; what a plain load kept of it is said, and it fails, too."""
    with package.open(home / "state.db") as state:
        state.set("before", 1)
    said = slothstate("load", "--replace", home=home, stdin=NOT_WHOLE[what], code=2)
    assert said.endswith("nothing was changed\n")
    slothstate("load", "--dry-run", home=home, stdin=NOT_WHOLE[what], code=2)
    with package.open(home / "state.db") as state:
        assert dict(state) == {"before": 1}
    said = slothstate("load", home=home, stdin=NOT_WHOLE[what], code=2)
    with package.open(home / "state.db") as state:
        kept = len(state) - 1
    keys = "1 key from before it is" if kept == 1 else f"{kept} keys from before it are"
    assert said.endswith(f"; {keys} loaded, and may be loaded again\n" if kept else "; nothing was changed\n")


def test_part_of_a_dump(home: Path) -> None:
    """`--partial` takes what came, without the last line or with another number in it; never nothing for everything."""
    for what in ("empty", "no-end", "first-line", "one-too-few", "first-of-two-cut", "one-after-the-end", "two-ends"):
        printed = slothstate("load", "--partial", home=home, stdin=NOT_WHOLE[what])
        count = NOT_WHOLE[what].count(b"key")
        assert printed == f"loaded {count} key{'s' * (count != 1)}\n"
    slothstate("load", "--partial", "--replace", home=home, stdin=NOT_WHOLE["first-line"])
    with package.open(home / "state.db") as state:
        assert dict(state) == {"a": 1}
        assert "slothstate clear" in slothstate("load", "--partial", "--replace", home=home, code=2)
        assert dict(state) == {"a": 1}
        slothstate("load", "--replace", home=home, stdin=ended(b""))
        assert dict(state) == {}


def test_dumps_one_after_the_other(home: Path) -> None:
    """Whole dumps that follow each other are loaded as one; each says how many records are its own."""
    assert slothstate("load", "--replace", home=home, stdin=WHOLE + WHOLE + ended(b"")) == "loaded 4 keys\n"


def test_replace_does_not_wait_for_its_input(home: Path) -> None:
    """While `load --replace` reads from somebody slow, others write."""
    with start("load", "--replace", home=home, stdin=subprocess.PIPE) as loading:
        assert loading.stdin is not None
        loading.stdin.write(b'{"key":"a","value":1}\n' * 5000)
        loading.stdin.flush()
        with package.open(home / "state.db", busy_timeout=0) as state:
            state.set("before", 1)
        loading.stdin.write(b'{"records": 5000}\n')
        assert loading.communicate(timeout=SECONDS) == (b"loaded 5,000 keys\n", b"")
    with package.open(home / "state.db") as state:
        assert dict(state) == {"a": 1}


def test_a_file_whose_name_is_not_utf8(home: Path) -> None:
    """What is read need not have a name that a store could have."""
    name = os.fsdecode(b"caf\xe9.jsonl")
    (home / name).write_bytes(WHOLE)
    assert slothstate("load", name, home=home) == "loaded 2 keys\n"
    assert slothstate("dump", "-o", f"new-{name}", home=home) == ""
    assert (home / f"new-{name}").read_bytes().endswith(b'{"records": 2}\n')


def test_input_that_cannot_be_read_makes_no_store(home: Path) -> None:
    """What is no dump, closed or a directory leaves no store behind."""
    slothstate("load", home=home, code=2)
    slothstate("load", ".", home=home, code=2)
    slothstate("load", home=home, stdin=b"no dump", code=2)
    assert list(home.iterdir()) == []


def test_dry_run(home: Path, full: list[str]) -> None:
    """A dry run checks every line and makes no store."""
    slothstate("dump", "-o", "all.jsonl", home=home)
    printed = slothstate("load", "--dry-run", home / "all.jsonl", home=other(home))
    assert printed == f"{len(full)} lines can be loaded\n"
    assert list(other(home).iterdir()) == []


def test_large_dump_streams(home: Path) -> None:
    """A dump much larger than a batch comes back whole through a pipe between two processes."""
    with package.open(home / "state.db") as state:
        for start_at in range(0, 20_000, 5_000):
            state.set_many({f"key:{number}": [number, "x" * 50] for number in range(start_at, start_at + 5_000)})
        before = exact_dump(state)
    with start("dump", home=home) as dumping:
        with start("load", home=other(home), stdin=dumping.stdout) as loading:
            assert loading.communicate(timeout=SECONDS) == (b"loaded 20,000 keys\n", b"")
        assert dumping.stdout is not None
        dumping.stdout.close()
        assert dumping.wait(SECONDS) == 0
    with package.open(other(home) / "state.db") as state:
        assert exact_dump(state) == before


def at_terminal(home: Path, *arguments: str, stream: str) -> bytes:
    """Run a command with a terminal for one of its streams; return what the terminal got."""
    pty = pytest.importorskip("pty", reason="needs a terminal of Unix")
    controller, terminal = pty.openpty()
    with start(*arguments, home=home, term="xterm", **{stream: terminal}) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(controller, 10_000):
                shown += chunk
        os.close(controller)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err or b"") == (0, b"")
    return shown + (out or b"")


def test_dump_at_a_terminal(home: Path) -> None:
    """At a terminal what could drive it is escaped as JSON does, and still loads as the same value."""
    text = "\x1b[31m \x9b31m \x7f \u202e \u2028 é 😀"
    with package.open(home / "state.db") as state:
        state.set("a\x9b", text)
    shown = at_terminal(home, "dump", stream="stdout").decode()
    assert re.findall("[^ -~\r\né😀]", shown) == []
    assert slothstate("load", home=other(home), stdin=shown.encode()) == "loaded 1 key\n"
    with package.open(other(home) / "state.db") as state:
        assert dict(state) == {"a\x9b": text}


def test_progress(home: Path) -> None:
    """At a terminal a bar shows how far loading is, and is gone afterwards; stdout stays clean."""
    lines = b"".join(b'{"key":"key:%d","value":1}\n' % number for number in range(3000))
    (home / "all.jsonl").write_bytes(ended(lines))
    shown = at_terminal(home, "load", "all.jsonl", stream="stderr")
    assert b"loading" in shown
    assert shown.endswith(b"\x1b[2Kloaded 3,000 keys\n")


def held(path: Path) -> dict[str, Any]:
    with package.open(path) as state:
        return dict(state.items())


def test_copy_store(home: Path, full: list[str]) -> None:
    """A whole store, into one that is not there yet; the other stays as it is."""
    out = slothstate("copy-store", "state.db", "new.db", home=home)
    assert out == f"copied {len(full)} keys to {home / 'new.db'}\n"
    for name in ("state.db", "new.db"):
        with package.open(home / name) as state:
            assert exact_dump(state) == full


def test_copy_store_into_one_that_holds_keys(home: Path) -> None:
    """It is refused; or what it holds stays, or goes."""
    old, new = home / "old.db", home / "new.db"
    with package.open(old) as state:
        state.set_many({"a": 1, "b": 2})
        state.set("short", 1, ttl=0.001)
    with package.open(new) as state:
        state.set_many({"b": 3, "c": 4})
    time.sleep(0.01)
    assert "TO holds 2 keys" in slothstate("copy-store", old, new, home=home, code=2)
    assert held(new) == {"b": 3, "c": 4}
    slothstate("copy-store", old, new, "--merge", home=home)
    assert held(new) == {"a": 1, "b": 2, "c": 4}
    slothstate("copy-store", old, new, "--replace", home=home)
    assert held(new) == held(old) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("missing.db", "new.db"), 3, "there is no store at"),
        (("old.db", "old.db"), 2, "the same store"),
        (("old.db", "./old.db"), 2, "the same store"),
        (("old.db", "new.db", "--merge", "--replace"), 2, "exclude each other"),
        (("old.db", "new.db", "--db", "old.db"), 2, "--db has no meaning here"),
        (("old.db",), 2, "TO"),
    ],
)
def test_copy_store_refuses(home: Path, words: tuple[str, ...], code: int, told: str) -> None:
    """What is wrong is named, and no store appears."""
    with package.open(home / "old.db") as state:
        state.set("a", 1)
    assert told in slothstate("copy-store", *words, home=home, code=code)
    assert not (home / "new.db").exists()
    assert held(home / "old.db") == {"a": 1}


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1])
def test_copy_store_that_is_interrupted(home: Path, delay: float) -> None:
    """The other store has all or nothing: it comes in one transaction."""
    with package.open(home / "old.db") as state:
        state.set_many({f"k{number}": "x" * 1000 for number in range(30_000)})
    with start("copy-store", "old.db", "new.db", home=home) as process:
        deadline = time.monotonic() + SECONDS
        while not (home / "new.db").exists():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SECONDS)
    assert process.returncode in (0, 130)
    with package.open(home / "new.db") as new:
        count = len(new)
        assert count in (0, 30_000)
    if not count:
        assert slothstate("copy-store", "old.db", "new.db", home=home) == "copied 30,000 keys to " + str(
            home / "new.db\n"
        )
