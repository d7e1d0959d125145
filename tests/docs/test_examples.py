"""The examples, run as their comments say; each leaves exactly the state that its code describes."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

import slothstate
from helpers import ROOT
from helpers.command import command, environment
from helpers.host import slothstate_run
from helpers.lua import IMPLEMENTATIONS

EXAMPLES = ROOT / "examples"


@pytest.fixture(params=IMPLEMENTATIONS)
def lua(request: pytest.FixtureRequest) -> str:
    """Each Lua that runs scripts."""
    return str(request.param)


def run_example(name: str, lua: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run an example on the store state.db in `home`, with a `sleep` that takes no time."""
    fake = home / "bin" / "sleep"
    fake.parent.mkdir(exist_ok=True)
    fake.write_text(f'#!/bin/sh\necho "$@" >> {home}/slept\n')
    fake.chmod(0o755)
    path = f"{fake.parent}:{environment(home)['PATH']}"
    return slothstate_run(EXAMPLES / name, "--db", "state.db", "--lua", lua, cwd=home, env={"PATH": path})


def stored(home: Path) -> dict[str, object]:
    """Everything in the store, which must be sound."""
    with slothstate.open(home / "state.db") as state:
        assert state.check() == []
        assert state.locks() == []
        return dict(state.items())


def test_every_example_is_tested() -> None:
    """No example is without a test here."""
    tested = set(re.findall(r'"(\w+\.lua)"', Path(__file__).read_text(encoding="utf-8")))
    assert {path.name for path in EXAMPLES.glob("*.lua")} == tested


def test_deploy_version_control(lua: str, tmp_path: Path) -> None:
    """The first run deploys and records it; a second one fails at the version check and deploys nothing."""
    before = int(time.time())
    first = run_example("deploy_version_control.lua", lua, tmp_path)
    assert (first.returncode, first.stdout) == (0, "")
    assert "task execute_deploy: ok in" in first.stderr
    state = stored(tmp_path)
    start, end = state.pop("deploy_start_time"), state.pop("deploy_end_time")
    assert isinstance(start, int)
    assert isinstance(end, int)
    assert before <= start <= end <= time.time()
    history = state.pop("deploy_history")
    assert isinstance(history, list)
    assert [sorted(entry) for entry in history] == [["duration", "timestamp", "version"]]
    assert history[0]["version"] == "v1.2.3"
    assert history[0]["duration"] == end - start
    assert state == {"deploy_status": "completed", "last_deployed_version": "v1.2.3", "total_deploys": 1}
    assert (tmp_path / "slept").read_text() == "5\n"

    everything = stored(tmp_path)
    second = run_example("deploy_version_control.lua", lua, tmp_path)
    assert second.returncode == 1
    assert re.sub(r"in [\d.]+s", "in TIME", second.stderr).splitlines() == [
        "workflow deployment_pipeline: started: 2 tasks",
        "task prepare_deploy: started",
        "warn: Version v1.2.3 already deployed",
        "task prepare_deploy: failed in TIME: Version already deployed",
        "task execute_deploy: skipped: prepare_deploy failed",
        "workflow deployment_pipeline: failed in TIME: 1 failed, 1 skipped",
    ]
    assert stored(tmp_path) == everything


def test_intelligent_caching(lua: str, tmp_path: Path) -> None:
    """The first run misses and caches for ten minutes, the second hits."""
    first = run_example("intelligent_caching.lua", lua, tmp_path)
    second = run_example("intelligent_caching.lua", lua, tmp_path)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "info: Cache miss: user:123:profile - fetching..." in first.stderr
    assert "info: Cache hit: user:123:profile" in second.stderr
    for run in (first, second):
        assert '"preferences":["dark_mode","notifications"]' in run.stderr
    profile = {"name": "Alice", "email": "alice@example.com", "preferences": ["dark_mode", "notifications"]}
    assert stored(tmp_path) == {"user:123:profile": profile}
    with slothstate.open(tmp_path / "state.db") as state:
        assert 500 <= state.get_ttl("user:123:profile") <= 600


def test_rate_limiting(lua: str, tmp_path: Path) -> None:
    """Calls count up from 1 in an hour's window, and the hundred-first is refused."""
    for count in (1, 2):
        assert run_example("rate_limiting.lua", lua, tmp_path).returncode == 0
        assert stored(tmp_path) == {"rate_limit:api_calls": count}
    with slothstate.open(tmp_path / "state.db") as state:
        assert 3500 <= state.get_ttl("rate_limit:api_calls") <= 3600
        state.increment("rate_limit:api_calls", 98)
    refused = run_example("rate_limiting.lua", lua, tmp_path)
    assert refused.returncode == 1
    assert "error: Rate limit exceeded" in refused.stderr
    assert stored(tmp_path) == {"rate_limit:api_calls": 100}


def test_rate_limiting_atomic(lua: str, tmp_path: Path) -> None:
    """The first call begins the window, later ones keep it, and the hundred-first is refused."""
    first = run_example("rate_limiting_atomic.lua", lua, tmp_path)
    assert first.returncode == 0
    assert "Request 1 of 100 allowed" in first.stderr
    with slothstate.open(tmp_path / "state.db") as state:
        assert 3500 <= state.get_ttl("rate_limit:api_calls") <= 3600
        state.set_ttl("rate_limit:api_calls", 1800)
        state.increment("rate_limit:api_calls", 98)
    assert "Request 100 of 100 allowed" in run_example("rate_limiting_atomic.lua", lua, tmp_path).stderr
    refused = run_example("rate_limiting_atomic.lua", lua, tmp_path)
    assert refused.returncode == 1
    assert re.search(r"make_api_call: failed in .*: Rate limit exceeded, again in 1[0-8]\d\d seconds", refused.stderr)


def test_rate_limiting_atomic_between_processes(tmp_path: Path) -> None:
    """Of processes that start at once, exactly those within the limit get through."""
    with slothstate.open(tmp_path / "state.db") as state:
        state.set("rate_limit:api_calls", 97, 3600)
    words = command("run", EXAMPLES / "rate_limiting_atomic.lua", "--db", "state.db")
    processes = [
        subprocess.Popen(words, cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.DEVNULL) for _ in range(6)
    ]
    assert sorted(process.wait(60) for process in processes) == [0, 0, 0, 1, 1, 1]
    assert stored(tmp_path) == {"rate_limit:api_calls": 103}


def test_hello(lua: str, tmp_path: Path) -> None:
    """Each run counts up, the greeting of the first is remembered, and the third takes the oldest job."""
    outputs = [run_example("hello.lua", lua, tmp_path).stdout.splitlines() for _ in range(3)]
    for number, lines in enumerate(outputs, start=1):
        assert lines[0] == f"Run number {number}, counted exactly, whoever else is counting."
        assert re.fullmatch(r"Hello from run 1, remembered for [1-6]?\d more seconds\.", lines[1])
        assert lines[2] == f"Jobs in the queue: {number}"
    assert [len(lines) for lines in outputs] == [3, 3, 4]
    assert outputs[2][3].startswith("One process at a time takes the oldest job: that of run 1, from ")
    state = stored(tmp_path)
    queue = state.pop("hello:queue")
    assert isinstance(queue, list)
    assert [job["run"] for job in queue] == [2, 3]
    assert state == {"hello:runs": 3, "hello:greeting": "Hello from run 1"}
