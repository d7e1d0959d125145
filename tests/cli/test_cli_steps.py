"""The writes of one step, whole lists, listing options, editing, waiting and watching on the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.command import command, environment, start
from helpers.support import until
from helpers.terminal import STYLE, in_terminal, invoke, output, refusal
from slothstate import State
from slothstate import open as open_state


@pytest.fixture
def state(home: Path) -> Iterator[State]:
    """The store, open in this process while commands work on it."""
    with open_state(home / "state.db") as opened:
        opened.set_many({"a": 1, "b": "two\nlines", "t": {"servers": [{"port": 80}], "ratio": 1.0, "any name": None}})
        opened.set("blob", b"\xff\x00")
        opened.set("short", "lived", ttl=600)
        opened.list_push("l", 1, "two", [3], None)
        yield opened


OUTPUTS: list[tuple[list[str], int, str]] = [
    (["get", "a", "b", "a"], 0, "1\ntwo\\nlines\n1\n"),
    (["get", "b", "missing", "a"], 1, "two\\nlines\n1\n"),
    (["get", "--json", "b", "l"], 0, '{"b":"two\\nlines","l":[1,"two",[3],null]}\n'),
    (["get", "--json", "a", "missing"], 1, '{"a":1}\n'),
    (["get", "--json", "blob", "a"], 0, '{"blob":"/wA=","a":1}\n'),
    (["get", "--json", "a"], 0, "1\n"),
    (["get", "t", "--field", ".servers[0].port"], 0, "80\n"),
    (["get", "t", "--field", ".servers[-1]"], 0, '{"port":80}\n'),
    (["get", "t", "--field", '."any name"'], 0, "null\n"),
    (["get", "t", "--field", '["any name"]'], 0, "null\n"),
    (["get", "t", "--field", ".nope"], 1, ""),
    (["get", "t", "--field", ".nope", "--default", "5"], 0, "5\n"),
    (["get", "a", "--field", ".nope"], 1, ""),
    (["get", "l", "--field", "[1]", "--json"], 0, '"two"\n'),
    (["set", "t", "--field", ".servers[0].port", "81"], 0, ""),
    (["set", "new", "--field", ".deep.er", "x"], 0, ""),
    (["set", "t", "--field", ".none", "null"], 0, ""),
    (["set", "a", "2", "--absent"], 1, ""),
    (["set", "new", "2", "--absent", "--ttl", "1h"], 0, ""),
    (["set", "a", "2", "--present"], 0, ""),
    (["set", "new", "2", "--present"], 1, ""),
    (["set", "short", "2", "--keep-ttl"], 0, ""),
    (["set", "x=y", "z"], 0, ""),
    (["set", "--pairs", "x=1", "y=a=b", "z="], 0, ""),
    (["take", "a"], 0, "1\n"),
    (["take", "l", "--json"], 0, '[1,"two",[3],null]\n'),
    (["take", "missing"], 1, ""),
    (["rename", "a", "l"], 0, ""),
    (["rename", "missing", "l"], 1, ""),
    (["copy", "l", "a"], 0, ""),
    (["copy", "missing", "a"], 1, ""),
    (["delete", "t", "--field", ".ratio"], 0, ""),
    (["delete", "t", "--field", ".nope"], 1, ""),
    (["increment", "t", "--field", ".hits"], 0, "1\n"),
    (["decrement", "t", "2", "--field", ".servers[0].port"], 0, "78\n"),
    (["increment", "rate", "--ttl", "1m"], 0, "1\n"),
    (["compare-swap", "a", "1", "--delete"], 0, ""),
    (["compare-swap", "a", "2", "--delete"], 1, ""),
    (["compare-swap", "a", "1", "2", "--ttl", "1m"], 0, ""),
    (["unshift", "l", "x", "y"], 0, "6\n"),
    (["pop", "l", "--count", "2"], 0, "null\n[3]\n"),
    (["pop", "l", "--count", "9", "--json"], 0, '[null,[3],"two",1]\n'),
    (["shift", "l", "--count", "2"], 0, "1\ntwo\n"),
    (["shift", "missing", "--count", "2"], 1, ""),
    (["shift", "missing", "--timeout", "10ms"], 1, ""),
    (["shift", "l", "--timeout", "10ms"], 0, "1\n"),
    (["trim", "l", "1", "2"], 0, "2\n"),
    (["trim", "l", "-1"], 0, "1\n"),
    (["trim", "missing", "0"], 0, "0\n"),
    (["insert", "l", "1", "x"], 0, "5\n"),
    (["insert", "l", "-1", "x"], 0, "5\n"),
    (["insert", "new", "0", "x"], 0, "1\n"),
    (["remove-item", "l", "two"], 0, "1\n"),
    (["remove-item", "l", "null", "--count", "-1"], 0, "1\n"),
    (["remove-item", "l", "[3.0]"], 0, "1\n"),
    (["remove-item", "l", "nope"], 0, "0\n"),
    (["remove-item", "missing", "x"], 0, "0\n"),
    (["keys", "--reverse"], 0, "t\nshort\nl\nblob\nb\na\n"),
    (["keys", "--limit", "2"], 0, "a\nb\n"),
    (["keys", "--after", "b", "--limit", "1"], 0, "blob\n"),
    (["keys", "--reverse", "--after", "b"], 0, "a\n"),
    (["keys", "--sort", "size", "--limit", "2"], 0, "t\nl\n"),
    (["keys", "--sort", "size", "--reverse", "--limit", "2"], 0, "a\nblob\n"),
    (["keys", "--sort", "ttl", "--limit", "2"], 0, "short\na\n"),
    (["keys", "--sort", "ttl", "--json", "--limit", "1"], 0, '["short"]\n'),
    (["scan", "--reverse", "--limit", "1", "--json"], 0, '"t"\n'),
    (["du", "--keys", "--limit", "1", "--json"], 0, '[{"prefix":"t","keys":1,"size":54}]\n'),
    (["du", "--keys", "s"], 0, "10\t1\tshort\n"),
    (["wait", "a"], 0, "1\n"),
    (["wait", "a", "2"], 0, "1\n"),
    (["wait", "a", "1.0", "--timeout", "0"], 1, ""),
    (["wait", "missing", "--timeout", "10ms"], 1, ""),
    (["wait", "missing", "x"], 1, ""),
    (["watch", "--timeout", "0"], 0, ""),
    (["unwatch", "missing"], 1, ""),
]


@pytest.mark.parametrize(("arguments", "code", "prints"), OUTPUTS, ids=lambda value: str(value)[:50])
def test_output_and_exit_code(home: Path, state: State, arguments: list[str], code: int, prints: str) -> None:
    """In a pipe each prints its answer alone; 1 is a silent no."""
    result = invoke(*arguments, home=home)
    assert (result.exit_code, result.stdout, result.stderr) == (code, prints, "")
    assert state.check() == []


def test_what_they_did(home: Path, state: State) -> None:
    """Values, and which time to live stays."""
    output("set", "t", "--field", ".servers[0].port", "81", home=home)
    assert state.get("t") == {"servers": [{"port": 81}], "ratio": 1.0, "any name": None}
    output("set", "short", "v", "--keep-ttl", home=home)
    assert state.get_ttl("short") == 600
    output("set", "--pairs", "x=1", "y=a=b", "z=", "--ttl", "1m", home=home)
    assert ([state.get(key) for key in "xyz"], state.get_ttl("x")) == ([1, "a=b", ""], 60)
    output("copy", "short", "copied", home=home)
    assert (state.get("copied"), state.get_ttl("copied")) == ("v", 600)
    output("push", "q", "--lines", "-", home=home, stdin='1\ntwo words\n\n{"a": 1}\n')
    assert state.get("q") == [1, "two words", "", {"a": 1}]
    lines = home / "lines"
    lines.write_bytes(b"1\r\n007")
    output("unshift", "q", "--string", "--lines", str(lines), home=home)
    assert state.list_range("q", 0, 1) == ["1\r", "007"]
    assert output("push", "q", "--lines", "-", home=home) == "6\n"


MISUSES = [
    (["get", "a", "b", "--raw"], "--raw, --default and --field take one key alone"),
    (["get", "a", "b", "--default", "1"], "--raw, --default and --field take one key alone"),
    (["get", "t", "--field", "servers"], "path 'servers' cannot be read at character 1"),
    (["get", "t", "--field", ".servers[x]"], "path '.servers[x]' cannot be read at character 9"),
    (["get", "t", "--field", ".."], "cannot be read at character 1"),
    (["set", "a", "1", "--absent", "--present"], "--absent and --present exclude each other"),
    (["set", "a", "1", "--keep-ttl", "--ttl", "5"], "--keep-ttl and --ttl exclude each other"),
    (["set", "t", "1", "--field", ".x", "--ttl", "5"], "--field sets a part of a value"),
    (["set", "a", "1", "--field", ".x"], "cannot set a field of 'a': expected a table, found a number"),
    (["set", "t", "1", "--field", ".servers[7]"], "'t' has no position .servers[7]"),
    (["set", "--pairs", "a"], "with --pairs each argument is KEY=VALUE, got 'a'"),
    (["set", "--pairs", "a=1", "a=2"], "key 'a' is given twice"),
    (["set", "--pairs", "a=null"], "null is no value"),
    (["set", "--pairs", "=1"], "key must"),
    (["set", "--pairs", "a=1", "--absent"], "--pairs takes --ttl and how values are read"),
    (["delete", "a", "t", "--field", ".x"], "--field takes one key alone"),
    (["increment", "t", "--field", ".ratio.x"], "expected a table, found a number"),
    (["increment", "t", "--field", ".h", "--ttl", "5"], "--ttl is not for it"),
    (["compare-swap", "a", "1", "2", "--delete"], "give OLD alone with --delete"),
    (["compare-swap", "a", "1", "--delete", "--ttl", "5"], "--delete and --ttl exclude each other"),
    (["push", "l"], "Missing argument 'ITEM...'"),
    (["push", "l", "x", "--lines", "-"], "give ITEMs or --lines, not both"),
    (["pop", "l", "--count", "0"], "Invalid value for '--count'"),
    (["pop", "a", "--count", "1"], "cannot pop from 'a'"),
    (["trim", "a", "0"], "cannot trim 'a'"),
    (["insert", "l", "9", "x"], "index 9 is not in the list 'l'"),
    (["insert", "a", "0", "x"], "cannot insert into 'a'"),
    (["insert", "l", "x", "0"], "Invalid value for 'INDEX'"),
    (["insert", "l", "0"], "Missing argument 'ITEM'"),
    (["remove-item", "a", "1"], "cannot remove from 'a'"),
    (["remove-item", "l", "x", "--count", "x"], "Invalid value for '--count'"),
    (["push", "l", "--lines", "none"], "cannot read none: No such file"),
    (["push", "l", "--lines", "."], "cannot read .: Is a directory"),
    (["du", "--keys", "--delimiter", "/"], "--keys and --delimiter exclude each other"),
    (["keys", "--sort", "size", "--after", "a"], "--after goes on in the order of names"),
    (["keys", "--limit", "-1"], "Invalid value for '--limit'"),
    (["watch", "["], "["),
    (["watch", "--name", ""], "name must"),
    (["wait", "a", "--timeout", "x"], "'x' is no duration"),
]


@pytest.mark.parametrize(("arguments", "says"), MISUSES, ids=lambda value: str(value)[:50])
def test_misuse(home: Path, state: State, arguments: list[str], says: str) -> None:
    """One line that names what is wrong; the store is as it was."""
    before = list(state.dump())
    assert says in refusal(*arguments, home=home, code=2)
    assert list(state.dump()) == before


@pytest.mark.parametrize(
    ("form", "lines", "says"),
    [
        ("--json", b"1\n{bad\n", "stdin, line 2: the value is invalid JSON text"),
        ("--json", b"1\n\n2\n", "stdin, line 2: the value is invalid JSON text"),
        ("--string", b"a\n\xff\n", "stdin, line 2: it is not UTF-8 at byte 0"),
    ],
)
def test_a_line_that_is_no_item(home: Path, state: State, form: str, lines: bytes, says: str) -> None:
    """It is named, and none of the lines is added."""
    assert says in refusal("push", "l", "--lines", "-", form, home=home, code=2, stdin=lines)
    assert state.list_length("l") == 4


def test_taking_waits_only_for_what_is_not_there(home: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait reads the whole list, which one item of a long one must not cost."""
    monkeypatch.setattr(State, "wait", lambda *_: pytest.fail("it waits"))
    assert output("pop", "l", home=home) == "null\n"
    assert output("shift", "l", "--timeout", "1m", home=home) == "1\n"
    assert output("pop", "l", "--count", "9", "--timeout", "1m", home=home) == "[3]\ntwo\n"
    assert invoke("pop", "l", home=home).exit_code == 1


def test_what_creates_a_store(home: Path) -> None:
    """Not what can only find nothing there."""
    for arguments in (
        ["set", "a", "1", "--present"],
        *(["take", "a"], ["rename", "a", "b"], ["trim", "l", "0"], ["remove-item", "l", "1"]),
    ):
        refusal(*arguments, home=home, code=3)
    assert not (home / "state.db").exists()
    output("set", "t", "--field", ".a", "1", home=home)
    assert output("get", "t", home=home) == '{"a":1}\n'


def test_at_a_terminal(home: Path, state: State) -> None:
    """A no says why; a listing is a table in the order asked for."""
    assert "'a' is there" in in_terminal("set", "a", "1", "--absent", home=home, code=1)
    assert "has no .nope" in in_terminal("get", "t", "--field", ".nope", home=home, code=1)
    assert "there is no key 'x' or 'y'" in in_terminal("get", "x", "a", "y", home=home, code=1)
    shown = in_terminal("keys", "--sort", "size", "--limit", "2", home=home)
    assert shown.index(" t ") < shown.index(" l ")
    assert "KEY" in in_terminal("du", "--keys", home=home)


def test_waits_for_another_process(home: Path, state: State) -> None:
    """`wait` and `shift --timeout` end with what somebody else writes."""

    def later(call: object, *arguments: object) -> None:
        threading.Timer(0.3, call, arguments).start()  # type: ignore[arg-type]

    later(state.set, "a", 2)
    assert output("wait", "a", "1", "--timeout", "30s", home=home) == "2\n"
    later(state.list_push, "q", {"job": 1})
    assert output("shift", "q", "--timeout", "30s", home=home) == '{"job":1}\n'
    assert not state.exists("q")


@pytest.mark.parametrize("empty", [[], {}])
def test_waits_for_an_item_of_an_empty_list(home: Path, state: State, empty: object) -> None:
    """One that was set empty has no item, and no reason to look again and again."""
    state.set("q", empty)
    began = time.process_time()
    assert invoke("pop", "q", "--timeout", "1s", home=home).exit_code == 1
    assert time.process_time() - began < 0.5
    threading.Timer(0.3, state.list_push, ("q", 1)).start()
    assert output("pop", "q", "--timeout", "30s", home=home) == "1\n"


def test_watch(home: Path, state: State) -> None:
    """JSON Lines as they come; Ctrl-C ends it."""
    process = start("watch", "w*", home=home)
    deadline = time.monotonic() + 30
    while not state.watches() and time.monotonic() < deadline:
        time.sleep(0.01)
    state.set("w", 1)
    state.set("other", 1)
    state.delete("w")
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [(line["key"], line["op"]) for line in lines] == [("w", "set"), ("w", "delete")]
    assert lines[0]["revision"] < lines[1]["revision"]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.communicate()
    assert state.watches() == []


def test_watch_with_a_command(home: Path, state: State) -> None:
    """It finds key and op in its environment; what failed comes again."""
    with state.watch("w*", name="n"):
        pass
    state.set("w1", 1)
    state.set("w2", 1)
    script = 'echo "$SLOTHSTATE_OP $SLOTHSTATE_KEY" >> told; test "$SLOTHSTATE_KEY" = w1'
    arguments = ("watch", "w*", "--name", "n", "--timeout", "0", "--", "sh", "-c", script)
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db")})
    for _ in range(2):
        done = subprocess.run(command(*arguments), env=variables, cwd=home, check=False, timeout=60)
        assert done.returncode == 1
    assert (home / "told").read_text() == "set w1\nset w2\nset w2\n"
    assert invoke("watch", "w*", "--name", "n", "--timeout", "0", "--", "./none", home=home).exit_code == 127
    assert output("watch", "w*", "--name", "n", "--count", "1", home=home).count("w2") == 1
    assert output("watch", "w*", "--name", "n", "--timeout", "0", home=home) == ""
    assert output("unwatch", "n", home=home) == ""
    assert os.environ.get("SLOTHSTATE_KEY") is None


def test_with_lock_of_several_holders(home: Path, state: State) -> None:
    """--shared and --slots let several run at a time; --ttl ends the lock though the command still runs."""
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db")})

    def run(*arguments: str) -> int:
        return subprocess.run(
            command("with-lock", "job", "--timeout", "0", *arguments), env=variables, check=False, timeout=60
        ).returncode

    with state.locked("job", 0, shared=True):
        assert run("--shared", "--", "true") == 0
        assert run("--", "true") == 1
        assert run("--slots", "2", "--", "true") == 2
    with state.locked("job", 0, slots=2):
        assert run("--slots", "2", "--", "true") == 0
        assert run("--", "true") == 2
    assert run("--shared", "--slots", "2", "--", "true") == 2
    assert run("--ttl", "100ms", "--", "sleep", "0.3") == 3


def test_each_holder_is_shown(home: Path, state: State) -> None:
    """By `locks`, once each, with who waits below the last; by `top`, which counts whoever waits once; by `unlock`."""
    with ExitStack() as running:
        processes = []
        for _ in range(2):
            for arguments in (("report", "--shared"), ("render", "--slots", "4")):
                processes.append(running.enter_context(start("with-lock", *arguments, "--", "sleep", "60", home=home)))
        until(lambda: len(state.locks()) == 4)
        waiter = threading.Thread(target=state.lock, args=("report", 60))
        waiter.start()
        until(lambda: state.locks()[-1]["waiting"])
        lines = [line.split("\t") for line in output("locks", home=home).splitlines()]
        assert [(line[0], line[6]) for line in lines] == [
            *[("alive", "render")] * 2,
            *[("alive", "report")] * 2,
            ("waits", "report"),
        ]
        found = json.loads(output("locks", "--json", home=home))
        assert [(lock["shared"], lock["slots"]) for lock in found] == [(False, 4)] * 2 + [(True, None)] * 2
        shown = STYLE.sub("", in_terminal("locks", home=home, columns=200))
        assert (shown.count(" render (4 slots)"), shown.count(" report (shared)")) == (2, 2)
        shown = output("top", "--once", "--interval", "10ms", home=home)
        assert re.search(r"^locks +4 held, 1 waiting$", shown, re.MULTILINE)
        assert " render (4 slots)" in shown
        assert "and 1 other with it" in in_terminal("unlock", "render", home=home, code=1, columns=400)
        assert output("unlock", "--force", "render", home=home) == ""
        assert output("unlock", "--force", "report", home=home) == ""
        waiter.join(60)
        assert [lock["slots"] for lock in state.locks()] == [1]
        for process in processes:
            process.kill()


def test_who_watches_is_told(home: Path, state: State) -> None:
    """By `watches`, by `stats` and as metrics."""
    assert output("watches", home=home) == ""
    with state.watch("a*"), state.watch(name="n"):
        pass
    with state.watch("a*"):
        lines = output("watches", home=home).splitlines()
        assert [line.split("\t")[0] for line in lines] == ["nobody", "alive"]
        assert lines[0].endswith("\tn\t*")
        assert lines[1].endswith(f"\t{os.uname().nodename}\t{lines[1].split(chr(9))[3]}\t\ta*")
        assert [each["name"] for each in json.loads(output("watches", "--json", home=home))] == ["n", None]
        assert re.search(
            r"^alive +\d+ +\S+ +\d+ +0 +a\*$", STYLE.sub("", in_terminal("watches", home=home)), re.MULTILINE
        )
        assert "watches\t1\n" in output("stats", home=home)
        assert 'slothstate_watches{path="' in output("stats", "--prometheus", home=home)
        assert "1 running, 1 with a name that nobody runs" in in_terminal("stats", home=home)
    state.unwatch("n")
