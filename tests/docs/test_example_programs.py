"""The examples in Python and in the shell: pools of workers, a leader, a cache that is warmed once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import slothstate
from helpers import ROOT
from helpers.command import environment

EXAMPLES = ROOT / "examples"


def test_in_python(tmp_path: Path) -> None:
    """With a worker killed each job is done, and counted once."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "worker_pool.py", tmp_path / "state.db", "60"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "60 jobs done, 0 given up\n")
    with slothstate.open(tmp_path / "state.db") as state:
        assert state.get("result:7") == 49
        assert len(state.keys("result:*")) == 60
        assert state.claims() == []


def test_in_the_shell(tmp_path: Path) -> None:
    """Each item is worked on; the one that fails three times is put aside."""
    names = [f"file {number}" for number in range(6)]
    for name in names:
        (tmp_path / name).write_text(name)
    with slothstate.open(tmp_path / "state.db") as state:
        state.list_push("files", *names, "missing")
    done = subprocess.run(
        ["sh", EXAMPLES / "worker_pool.sh", "files", "rm"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={
            **environment(tmp_path),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SLOTHSTATE_DB": str(tmp_path / "state.db"),
        },
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "1 given up\n")
    assert not [name for name in names if (tmp_path / name).exists()]
    with slothstate.open(tmp_path / "state.db") as state:
        assert state.get("files:dead") == ["missing"]
        assert state.list_length("files") == 0


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
    done = subprocess.run(
        [sys.executable, EXAMPLES / "warm_cache.py", tmp_path / "state.db", "5"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["{'orders': 3}"] * 5 + ["computed 1 times"]
