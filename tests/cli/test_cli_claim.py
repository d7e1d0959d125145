"""`slothstate claim`: what the command gets, exit codes, and what becomes of the item in the end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.command import SECONDS, command, environment, slothstate, start
from helpers.processes import signals_in
from helpers.support import until
from helpers.terminal import STYLE, in_terminal, output
from slothstate import State
from slothstate import open as open_state

SHOW = 'cat; echo "|$SLOTHSTATE_ITEM|$SLOTHSTATE_KEY|$SLOTHSTATE_ATTEMPT|$SLOTHSTATE_DB"'


@pytest.mark.parametrize(
    ("item", "text"),
    [("two words\n", "two words\n"), ("", ""), (7, "7"), (None, "null"), ({"a": ["é"]}, '{"a":["é"]}'), ([], "[]")],
)
def test_what_the_command_gets(home: Path, state: State, item: object, text: str) -> None:
    """The item is on stdin and in the environment: JSON, a string as it is. Done, it is gone."""
    state.list_push("q", item)
    said = slothstate("claim", "q", "--", "sh", "-c", SHOW, home=home)
    assert said == f"{text}|{text}|q|1|{home / 'state.db'}\n"
    assert not state.exists("q")
    assert state.claims() == []


@pytest.mark.parametrize("item", ["x" * 300_000, "a\0b"])
def test_item_that_the_environment_cannot_hold(home: Path, state: State, item: str) -> None:
    """It is on stdin; the variable is missing, also one of that name from outside."""
    state.list_push("q", item)
    show = 'wc -c; echo "${SLOTHSTATE_ITEM-missing} $SLOTHSTATE_KEY"'
    variables = environment(home, {"SLOTHSTATE_DB": str(home / "state.db"), "SLOTHSTATE_ITEM": "outer"})
    said = subprocess.run(
        command("claim", "q", "--", "sh", "-c", show), env=variables, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [str(len(item)), "missing", "q"]


@pytest.mark.parametrize("code", [1, 2, 3, 77, 255])
def test_command_that_fails(home: Path, state: State, code: int) -> None:
    """Its exit code is passed on, and the item is back where it was."""
    state.list_push("q", "a", "b")
    slothstate("claim", "q", "--", "sh", "-c", f"exit {code}", home=home, code=code)
    assert state.get("q") == ["a", "b"]
    assert slothstate("claim", "q", "--", "sh", "-c", "echo $SLOTHSTATE_ATTEMPT", home=home) == "2\n"


def test_command_that_cannot_run_or_is_killed(home: Path, state: State) -> None:
    """127 and 126 as with-lock says, 128 + n for signal n; the item is back."""
    state.list_push("q", "a")
    assert "cannot run 'no-such-command'" in slothstate("claim", "q", "--", "no-such-command", home=home, code=127)
    slothstate("claim", "q", "--", str(home), home=home, code=126)
    slothstate("claim", "q", "--", "sh", "-c", "kill -KILL $$", home=home, code=137)
    assert state.get("q") == ["a"]


def test_nothing_to_claim(home: Path, state: State) -> None:
    """1, or the code that was asked for, at once or after the timeout; the command does not run."""
    assert slothstate("claim", "q", "r", "--", "touch", "ran", home=home, code=1) == ""
    shown = in_terminal("claim", "q", "r", "--", "touch", "ran", home=home, code=1)
    assert shown == "slothstate: there is no item in 'q', 'r'\n"
    slothstate("claim", "q", "-E", "9", "--", "touch", "ran", home=home, code=9)
    before = time.monotonic()
    slothstate("claim", "q", "--timeout", "0.2", "--", "touch", "ran", home=home, code=1)
    assert time.monotonic() - before >= 0.2
    assert not (home / "ran").exists()


def test_misuse(home: Path, state: State) -> None:
    """No command, no queue, an option without the other it needs: 2, and nothing is claimed."""
    state.list_push("q", "a")
    for words in (("q",), ("q", "--"), ("--", "true"), ("q", "--dead", "d", "--", "true"), ("", "--", "true")):
        slothstate("claim", *words, home=home, code=2)
    slothstate("claim", "q", "--max-attempts", "0", "--", "true", home=home, code=2)
    slothstate("claim", "q", "--max-attempts", "1", "--dead", "q", "--", "true", home=home, code=2)
    state.set("text", "x")
    slothstate("claim", "text", "--", "true", home=home, code=2)
    assert state.claims() == []


def test_several_queues_and_poison(home: Path, state: State) -> None:
    """The first that has an item counts; what failed too often goes to the list of the dead."""
    state.list_push("low", "l")
    state.list_push("high", "h")
    words = ("claim", "none", "high", "low", "--max-attempts", "2", "--dead", "grave", "--", "sh", "-c")
    assert slothstate(*words, "cat", home=home) == "h"
    for _ in range(2):
        slothstate(*words, "exit 5", home=home, code=5)
    slothstate(*words, "exit 5", home=home, code=1)
    assert dict(state.items()) == {"grave": ["l"]}


def test_each(home: Path, state: State) -> None:
    """One item after the other until there is none; what failed is tried again, then put aside, and the code is 1."""
    state.list_push("q", "a", "b", "c")
    assert (
        slothstate("claim", "q", "--each", "--max-attempts", "2", "--", "sh", "-c", "cat; echo", home=home)
        == "a\nb\nc\n"
    )
    assert slothstate("claim", "q", "--each", "--max-attempts", "2", "--", "touch", "ran", home=home) == ""
    assert not (home / "ran").exists()
    state.list_push("q", "a", "b")
    state.list_push("r", "c")
    work = 'echo "$SLOTHSTATE_ITEM $SLOTHSTATE_ATTEMPT" >>done; [ "$SLOTHSTATE_ITEM" != a ]'
    slothstate("claim", "q", "r", "--each", "--max-attempts", "2", "--", "sh", "-c", work, home=home, code=1)
    assert (home / "done").read_text() == "a 1\na 2\nb 1\nc 1\n"
    assert dict(state.items()) == {"q:dead": ["a"]}
    assert state.claims() == []


@pytest.mark.parametrize("code", [2, 3, 100, 126, 127, 130, 255])
def test_each_with_a_code_of_claims_own(home: Path, state: State, code: int) -> None:
    """No code of the command ends it: only that there is no item any more."""
    state.list_push("q", "a", "b")
    work = f'[ "$SLOTHSTATE_ITEM" != a ] || exit {code}'
    slothstate("claim", "q", "--each", "--max-attempts", "1", "--", "sh", "-c", work, home=home, code=1)
    assert dict(state.items()) == {"q:dead": ["a"]}


def test_each_waits_for_more(home: Path, state: State) -> None:
    """With a timeout it ends when none came for so long."""
    process = start("claim", "q", "--each", "--max-attempts", "1", "--timeout", "1.5", "--", "cat", home=home)
    state.list_push("q", "a")
    until(lambda: not state.exists("q") and not state.claims())
    state.list_push("q", "b")
    assert process.communicate(timeout=SECONDS) == (b"ab", b"")
    assert process.returncode == 0


def test_each_ends(home: Path, state: State) -> None:
    """What cannot go on ends it: no command, no store, a key of another kind; the misuse of its options."""
    state.list_push("q", "a", "b")
    words = ("--each", "--max-attempts", "9", "--")
    assert "cannot run" in slothstate("claim", "q", *words, "no-such-command", home=home, code=127)
    slothstate("claim", "q", *words, str(home), home=home, code=126)
    assert state.get("q") == ["a", "b"]
    assert "--each needs --max-attempts" in slothstate("claim", "q", "--each", "--", "true", home=home, code=2)
    assert "exclude" in slothstate("claim", "q", "-E", "1", *words, "true", home=home, code=2)
    state.set("text", "x")
    slothstate("claim", "text", *words, "true", home=home, code=2)
    slothstate("claim", "q", "--db", home / "none.db", *words, "true", home=home, code=3)


def test_each_goes_on_after_a_lost_claim(home: Path, state: State) -> None:
    """It says so; the item is somebody else's by then, here its own once more, and given up."""
    state.list_push("q", "slow", "b")
    work = '[ "$SLOTHSTATE_ITEM" = b ] || sleep 3'
    words = ("claim", "q", "--each", "--max-attempts", "1", "--ttl", "2", "--", "sh", "-c", work)
    assert "the claim on an item of 'q'" in slothstate(*words, home=home, code=1)
    assert dict(state.items()) == {"q:dead": ["slow"]}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("end", ["exit 0", "exit 5"])
def test_each_is_told_to_end(home: Path, state: State, number: signal.Signals, end: str) -> None:
    """The command gets the signal; whatever it makes of it, no other item is taken."""
    state.list_push("q", "a", "b")
    script = f"trap '{end}' {number.name[3:]}; echo ready; while :; do sleep 0.01; done"
    words = ("claim", "q", "--each", "--max-attempts", "9", "--", "sh", "-c", script)
    process = start(*words, home=home)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert process.wait(SECONDS) == 128 + number
    process.communicate(timeout=SECONDS)
    assert state.get("q") == (["b"] if end == "exit 0" else ["a", "b"])
    assert state.claims() == []


def test_claim_that_is_lost(home: Path, state: State) -> None:
    """3, whatever the command says: somebody else may have the item."""
    state.list_push("q", "a")
    for end in ("exit 0", "exit 4"):
        told = slothstate("claim", "q", "--ttl", "0.05", "--", "sh", "-c", f"sleep 0.2; {end}", home=home, code=3)
        assert "the claim on an item of 'q'" in told
    assert state.list_length("q") == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed(home: Path, state: State, number: signal.Signals) -> None:
    """Whatever ends it: the item is back at once, and the command ends as well."""
    state.list_push("q", "a")
    process = start("claim", "q", "--", "sh", "-c", "echo ready; exec sleep 60", home=home, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    (said,) = state.claims("q")
    assert said["owner"] == {"host": said["owner"] and said["owner"]["host"], "pid": process.pid}
    process.send_signal(number)
    claim = state.list_claim("q", timeout=SECONDS)
    assert claim is not None
    assert claim.attempt == 2
    assert process.wait(SECONDS) == (-9 if number == signal.SIGKILL else 128 + number)
    process.communicate(timeout=SECONDS)


def test_killed_as_it_waits(home: Path, state: State) -> None:
    """SIGTERM ends the wait; nothing was taken, and the command never ran."""
    process = start("claim", "q", "--timeout", "60", "--", "touch", "ran", home=home)
    if sys.platform == "linux":
        status = Path(f"/proc/{process.pid}/status")
        until(lambda: signal.SIGTERM in signals_in(status, "SigBlk") | signals_in(status, "SigCgt"))
    time.sleep(0.3)
    process.terminate()
    assert process.wait(SECONDS) == 143
    process.communicate(timeout=SECONDS)
    state.list_push("q", "a")
    assert state.list_length("q") == 1
    assert not (home / "ran").exists()


def test_claims_are_counted(home: Path, state: State) -> None:
    """`stats`, its metrics and `doctor` tell what is claimed, delayed and left by the dead."""
    state.list_push("q", "a", "b", "c")
    kept = state.list_claim("q")
    delayed = state.list_claim("q")
    assert kept is not None
    assert delayed is not None
    delayed.release(delay=60)
    figures = json.loads(slothstate("stats", "--json", home=home))
    assert (figures["claims_held"], figures["claims_of_dead_owners"], figures["items_delayed"]) == (1, 0, 1)
    assert figures["oldest_claim"] == state.claims("q")[0]["since"]
    metrics = slothstate("stats", "--prometheus", home=home)
    assert 'slothstate_claims{path="' in metrics
    assert 'owner="alive"} 1' in metrics
    assert 'owner="none"} 1' in metrics
    assert "1 item claimed, 1 delayed, the oldest for" in slothstate("doctor", home=home)


def test_who_has_what(home: Path, state: State) -> None:
    """`claims` lists what is out of the lists that match: status, process, attempt, since, due, and what runs there."""
    assert output("claims", home=home) == ""
    assert "no claims" in in_terminal("claims", home=home)
    state.list_push("a", 1)
    state.list_push("jobs:\x1b\t", 2)
    process = start("claim", "jobs:\x1b\t", "--", "sh", "-c", "echo ready; exec sleep 60", home=home)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    # By the wall clock, as the commands are.
    with open_state(home / "state.db") as real:
        delayed = real.list_claim("a")
        assert delayed is not None
        delayed.release(delay=60)
    late, held = (line.split("\t") for line in output("claims", home=home).splitlines())
    assert (late[:4], late[6]) == (["delayed", "-", "-", "1"], "a")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", late[5])
    assert held[:2] + held[3:4] + held[5:] == ["alive", str(process.pid), "1", "-", r"jobs:\x1b\t"]
    (described,) = json.loads(output("claims", "j*", "--json", home=home))
    (said,) = state.claims("jobs:\x1b\t")
    command = described["owner"].pop("command")
    assert described == said
    if Path("/proc/self/cmdline").exists():
        assert "slothstate claim" in command
    shown = STYLE.sub("", in_terminal("claims", home=home, columns=200))
    assert re.search(r"^delayed +1 +\S+ +(59s|1m) +a$", shown, re.MULTILINE)
    assert re.search(rf"^alive +{process.pid}@\S+ +1 +\S+ +jobs:\\x1b\\t$", shown, re.MULTILINE)
    process.kill()
    process.communicate(timeout=SECONDS)
    assert output("claims", "jobs:*", home=home).startswith(f"dead\t{process.pid}\t")
    assert output("claims", "*x", home=home) == ""
    assert "is not closed" in slothstate("claims", "[", home=home, code=2)
