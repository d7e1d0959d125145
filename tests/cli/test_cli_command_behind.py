"""What `with-lock`, `claim` and `watch` share: whose words stand on which side of the `--`, and what can be run."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from helpers.command import SECONDS, slothstate, start
from helpers.support import until
from helpers.terminal import output, refusal
from slothstate import State


@pytest.fixture
def ready(state: State) -> State:
    """A store with an item in each queue, and a change for the watch "n", which watches all."""
    state.watch(name="n").close()
    for name in ("q", "-q"):
        state.list_push(name, 1)
    return state


WATCH = ("watch", "--name", "n", "--count", "1")


@pytest.mark.parametrize(
    "words",
    [
        ("with-lock", "q"),
        ("with-lock", "--timeout", "5", "q"),
        ("with-lock", "--", "-q"),
        ("with-lock", "--timeout", "5", "--", "-q"),
        ("claim", "q"),
        ("claim", "--", "-q"),
        ("claim", "none", "q"),
        ("claim", "--", "none", "-q"),
        WATCH,
        (*WATCH, "*"),
        ("watch", "*", "--count", "1", "--name", "n"),
        (*WATCH, r"\-*"),
    ],
)
def test_all_behind_it_is_the_command(home: Path, ready: State, words: tuple[str, ...]) -> None:
    """Options, names and another `--` are its arguments, as they were written."""
    assert slothstate(*words, "--", "echo", "--count", "2", "--", "-x", home=home) == "--count 2 -- -x\n"


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (("with-lock", "q", "echo", "x"), "with-lock NAME -- COMMAND..."),
        (("with-lock", "q", "sh", "-c", "exit 3"), "with-lock NAME -- COMMAND..."),
        (("with-lock", "q", "echo", "--db", "other.db"), "with-lock NAME -- COMMAND..."),
        (("with-lock", "--", "-q", "echo"), "with-lock NAME -- COMMAND..."),
        (("with-lock", "--", "echo"), "with-lock NAME -- COMMAND..."),
        (("with-lock", "q", "--"), "with-lock NAME -- COMMAND..."),
        (("claim", "q", "echo", "x"), "claim QUEUE... -- COMMAND..."),
        (("claim", "q", "sh", "-c", "exit 3"), "claim QUEUE... -- COMMAND..."),
        (("claim", "--", "-q", "true"), "claim QUEUE... -- COMMAND..."),
        (("claim", "q", "--"), "claim QUEUE... -- COMMAND..."),
        (("watch", "*", "echo", "x"), "watch [PATTERN] -- COMMAND..."),
        (("watch", "*", "echo", "--count", "1"), "watch [PATTERN] -- COMMAND..."),
        (("watch", "*", "--"), "watch [PATTERN] -- COMMAND..."),
    ],
)
def test_a_command_that_is_not_behind_it(home: Path, ready: State, words: tuple[str, ...], usage: str) -> None:
    """It is refused, and nothing runs: some of its words would be ours."""
    said = refusal(*words, home=home, code=2)
    assert f"give the command to run behind --: 'slothstate {usage}'" in said
    assert not (home / "other.db").exists()
    assert ready.get("q") == [1]


def test_names_with_a_hyphen(home: Path, ready: State) -> None:
    """The error says how they are given, in a way that works."""
    said = refusal("claim", "-q", "--", "true", home=home, code=2)
    assert "stands behind a -- of its own, 'slothstate claim -- QUEUE... -- COMMAND...'" in said
    said = refusal("with-lock", "-q", "--", "true", home=home, code=2)
    assert "'slothstate with-lock -- NAME -- COMMAND...'" in said
    assert r"with a backslash before it, '\-x*'" in refusal("watch", "-q*", home=home, code=2)
    assert "Did you mean" in refusal("claim", "q", "--timout", "5", "--", "true", home=home, code=2)
    for name in ("with-lock", "claim", "watch"):
        assert "Exit codes" in output(name, "q", "echo", "--help", home=home)


BEFORE = [("with-lock", "q"), ("claim", "q"), WATCH]


@pytest.mark.parametrize("words", BEFORE)
def test_a_command_that_is_empty(home: Path, ready: State, words: tuple[str, ...]) -> None:
    """As a shell has it for a variable that is not set: there is no such command."""
    for _ in range(2):
        assert "cannot run '': No such file or directory" in slothstate(*words, "--", "", "x", home=home, code=127)
    assert ready.get("q") == [1]


@pytest.mark.parametrize("words", BEFORE)
def test_scripts(home: Path, ready: State, words: tuple[str, ...]) -> None:
    """One without `#!` is run by the shell, as execvp(3) does; of one whose interpreter is missing that is named."""
    script = home / "script"
    script.write_text('echo "$0 $1"; exit $2\n')
    script.chmod(0o755)
    assert slothstate(*words, "--", "./script", "a b", "0", home=home) == "./script a b\n"
    ready.list_push("q", 2)
    script.write_text("#!/no/such/sh -e\n")
    assert "there is no '/no/such/sh', which its first line names" in slothstate(
        *words, "--", "./script", home=home, code=127
    )
    # A program for another machine is no text.
    script.write_bytes(b"\x7fELF\0\0\0\0" + b"echo ran\n")
    assert "Exec format error" in slothstate(*words, "--", "./script", home=home, code=126)


def running(home: Path, script: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a watch whose command says "ready" first."""
    process = start("watch", *words, "--", "sh", "-c", f"echo ready; {script}", home=home)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_signals_reach_the_command_of_a_watch(home: Path, ready: State, name: str) -> None:
    """Once; what the command makes of it is the outcome, and its change comes again if it failed."""
    script = f"trap 'echo caught; exit 9' {name.removeprefix('SIG')}; echo set; while :; do sleep 0.01; done"
    with running(home, script, "--name", "n") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"set\n"
        process.send_signal(signal.Signals[name])
        assert process.communicate(timeout=SECONDS) == (b"caught\n", b"")
        assert process.returncode == 9
    assert output("watch", "--name", "n", "--timeout", "0", home=home).count("\n") == 2


@pytest.mark.parametrize(("name", "code", "runs"), [("SIGTERM", 143, 1), ("SIGUSR1", 0, 2)])
def test_a_command_that_a_signal_does_not_end(home: Path, ready: State, name: str, code: int, runs: int) -> None:
    """Its change is handled; then the watch ends if it was told to, and goes on if not."""
    script = f"trap 'echo caught; touch go' {name[3:]}; echo set; until test -e go; do sleep 0.01; done; exit 0"
    words = ("watch", "--name", "n", "--timeout", "0")
    with start(*words, "--", "sh", "-c", script, home=home) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"set\n"
        process.send_signal(signal.Signals[name])
        assert process.communicate(timeout=SECONDS) == (b"caught\n" + b"set\n" * (runs - 1), b"")
        assert process.returncode == code
    assert output(*words, home=home).count("\n") == 2 - runs


def test_a_watch_that_is_killed(home: Path, ready: State) -> None:
    """Its command is killed, too: another one of that name would run the same change beside it."""
    with running(home, "exec sleep 60", "--name", "n") as process:
        process.kill()
        # Its end: nobody has the pipe open any more.
        process.communicate(timeout=SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_watch_waits(home: Path, state: State, number: signal.Signals) -> None:
    """It ends at once, with 128 + n, and watches no more."""
    with start("watch", "--", "true", home=home) as process:
        until(state.watches)
        process.send_signal(number)
        process.communicate(timeout=SECONDS)
        assert process.returncode == 128 + number
    assert state.watches() == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("how", ["-e", "stdin", "run"])
def test_a_script_that_is_ended_ends_its_command(home: Path, name: str, how: str) -> None:
    """Whichever signal it is, and whatever runs the script."""
    script = "exec.run('echo $$ >pid; exec sleep 60')\n"
    (home / "script.lua").write_text(script)
    words = {"-e": ("shell", "-e", script), "stdin": ("shell",), "run": ("run", "script.lua")}[how]
    with start(*words, home=home, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        if how == "stdin":
            process.stdin.write(script.encode())
            process.stdin.flush()
        until(lambda: (home / "pid").exists() and (home / "pid").read_text().endswith("\n"))
        process.send_signal(signal.Signals[name])
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 128 + signal.Signals[name]
        assert said == (b"slothstate: interrupted\n" if name == "SIGINT" else f"slothstate: ended by {name}\n".encode())
    until(lambda: not Path(f"/proc/{(home / 'pid').read_text().strip()}").exists())
