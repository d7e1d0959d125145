"""What a first user does on Windows: verbs, a TTL, locks between processes, scripts, the command line."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import slothstate

HOLDER = """
import sys, slothstate
state = slothstate.open(sys.argv[1])
state.lock("deploy")
print("held", flush=True)
sys.stdin.read()
"""

WORKFLOW = """
local count = task("count"):command(function() return state.increment("ran") == 1 end):build()
workflow.define("w"):tasks({ count })
"""


def run(*arguments: str, code: int = 0) -> str:
    """Run the command line and return what it printed."""
    command = [sys.executable, "-m", "slothstate", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()


def main(home: Path) -> None:
    """Use a store in this directory."""
    path = str(home / "state.db")
    with slothstate.open(path) as state:
        state.set("k", {"a": [1, 2.5, None]}, ttl=0.2)
        assert state.get("k") == {"a": [1, 2.5, None]}
        time.sleep(0.3)
        assert state.get("k") is None
        assert state.increment("n", 2) == 2
        assert state.list_push("l", 1, 2) == 2
        assert state.health()["users"] is None

        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert not state.try_lock("deploy")
        assert [held["alive"] for held in state.locks()] == [True]
        assert "deploy" in run("locks", "--db", path)
        began = time.monotonic()
        holder.kill()
        holder.communicate()
        assert state.lock("deploy", timeout=10)
        print(f"free {time.monotonic() - began:.2f} s after its owner was ended")
        assert state.unlock("deploy")
        assert state.check() == []

    assert run("get", "n", "--db", path) == "2"
    run("set", "k", "v", "--ttl", "1h", "--db", path)
    assert run("keys", "--db", path).split() == ["k", "l", "n"]
    run("get", "missing", "--db", path, code=1)
    print(run("doctor", "--db", path))
    (home / "w.lua").write_text(WORKFLOW)
    run("run", str(home / "w.lua"), "--db", path)
    assert run("get", "ran", "--db", path) == "1"
    run("backup", str(home / "copy.db"), "--db", path)
    print("all well")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(Path(directory))
