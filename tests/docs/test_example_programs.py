"""The examples in Python and in the shell: pools of workers, a leader, a cache that is warmed once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import slothstate
from helpers import ROOT
from helpers.command import environment
from helpers.support import run_program

EXAMPLES = ROOT / "examples"


def test_in_python(tmp_path: Path) -> None:
    """With a worker killed each job is done, and counted once."""
    done = run_program([sys.executable, EXAMPLES / "worker_pool.py", tmp_path / "state.db", "60"])
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "60 jobs done, 0 given up\n")
    with slothstate.open(tmp_path / "state.db") as state:
        assert state.get("result:7") == 49
        assert len(state.keys("result:*")) == 60
        assert state.claims() == []


def in_the_shell(home: Path, *words: str | Path) -> subprocess.Popen[str]:
    """Start a program in `home` that finds `slothstate` on its PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env=environment(home, {"PATH": path, "SLOTHSTATE_DB": str(home / "state.db")}),
    )


def pool(home: Path, *words: str) -> tuple[int, str, str]:
    """Run the pool of workers on the queue "files"; return its exit code, stdout and stderr."""
    process = in_the_shell(home, "sh", EXAMPLES / "worker_pool.sh", "files", *words)
    said = process.communicate(timeout=60)
    return process.returncode, *said


def test_in_the_shell(tmp_path: Path) -> None:
    """Each item is worked on; the one that fails three times is put aside."""
    names = [f"file {number}" for number in range(6)]
    for name in names:
        (tmp_path / name).write_text(name)
    with slothstate.open(tmp_path / "state.db") as state:
        state.list_push("files", *names, "missing")
    code, out, err = pool(tmp_path, "rm")
    assert (code, out) == (0, "1 given up\n")
    assert err.count("missing") == 3  # what the command says is seen
    assert not [name for name in names if (tmp_path / name).exists()]
    with slothstate.open(tmp_path / "state.db") as state:
        assert state.get("files:dead") == ["missing"]
        assert state.list_length("files") == 0


@pytest.mark.parametrize("number", [1, 3, 126, 127, 137, 200])
def test_in_the_shell_whatever_the_code(tmp_path: Path, number: int) -> None:
    """A command may fail with any code, also with one of claim's own: its item is put aside, the others are done."""
    with slothstate.open(tmp_path / "state.db") as state:
        state.list_push("files", *"abcdefgh")
    one_fails = f'[ "$1" != a ] || exit {number}; slothstate push done "$1" >/dev/null'
    assert pool(tmp_path, "sh", "-c", one_fails, "one_fails") == (0, "1 given up\n", "")
    with slothstate.open(tmp_path / "state.db") as state:
        assert sorted(state.get("done")) == list("bcdefgh")
        assert state.get("files:dead") == ["a"]
        assert not state.exists("files")


def test_in_the_shell_as_its_head_says(tmp_path: Path) -> None:
    """The commands of the comment work one after the other, in a directory with the files of the list."""
    text = (EXAMPLES / "worker_pool.sh").read_text(encoding="utf-8")
    commands = [line.removeprefix("#     ") for line in text.splitlines() if line.startswith("#     ")]
    assert len(commands) == 3
    (tmp_path / "list.txt").write_text("one\n007\n")
    for name in ("one", "007"):
        (tmp_path / name).write_text(name)
    (tmp_path / "examples").symlink_to(EXAMPLES)
    process = in_the_shell(tmp_path, "sh", "-ec", "unset SLOTHSTATE_DB\n" + "\n".join(commands))
    assert (*process.communicate(timeout=60), process.returncode) == ("2\n0 given up\n", "", 0)
    assert sorted(path.name for path in tmp_path.glob("*.gz")) == ["007.gz", "one.gz"]
    assert (tmp_path / "files.db").exists()


def test_in_the_shell_nothing_works(tmp_path: Path) -> None:
    """A store that is not there and a command that does not exist are said, and no item is touched."""
    code, out, err = pool(tmp_path, "true")
    assert (code, out) == (3, "")
    assert err.count("there is no store at") == 3
    with slothstate.open(tmp_path / "state.db") as state:
        state.list_push("files", "a")
        assert pool(tmp_path, "no-such-command") == (127, "", "there is no command 'no-such-command'\n")
        assert state.get("files") == ["a"]


def test_in_the_shell_ended(tmp_path: Path) -> None:
    """Who ends the pool ends its workers, and what they were at is back."""
    with slothstate.open(tmp_path / "state.db") as state:
        state.list_push("files", *"abcd")
        work = ("sh", "-c", "echo at work; exec sleep 60")
        process = in_the_shell(tmp_path, "sh", EXAMPLES / "worker_pool.sh", "files", *work)
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == "at work\n"
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 130
        assert state.claims() == []
        assert state.get("files") == list("abcd")


def test_leader_election(tmp_path: Path) -> None:
    """One leads after the other, with rising tokens; one that is killed is followed at once."""
    start = [sys.executable, str(EXAMPLES / "leader_election.py"), str(tmp_path / "state.db")]
    first = subprocess.Popen([*start, "1000"], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline().endswith("token 1\n")
    others = [subprocess.Popen([*start, "2"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first.kill()
    first.communicate()
    told = [other.communicate(timeout=60)[0] for other in others]
    tokens = sorted(int(line.split()[-1]) for line in told)
    assert 1 < tokens[0] < tokens[1]
    with slothstate.open(tmp_path / "state.db") as state:
        assert state.get("leader")["token"] == tokens[1]
        assert state.locks() == []


def test_warm_cache(tmp_path: Path) -> None:
    """All processes have the result, and one has computed it."""
    done = run_program([sys.executable, EXAMPLES / "warm_cache.py", tmp_path / "state.db", "5"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["{'orders': 3}"] * 5 + ["computed 1 times"]


@pytest.mark.parametrize("arguments", [(), ("state.db",), ("state.db", "x"), ("state.db", "2", "3")])
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_without_what_it_needs(tmp_path: Path, name: str, arguments: tuple[str, ...]) -> None:
    """An example says how it is used."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: {name} ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [(), ("files",)])
def test_in_the_shell_without_what_it_needs(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The pool in the shell says how it is used, too."""
    process = in_the_shell(tmp_path, "sh", EXAMPLES / "worker_pool.sh", *words)
    assert process.communicate(timeout=60)[1].startswith("usage: worker_pool.sh ")
    assert process.returncode == 2
