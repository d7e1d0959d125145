"""Forks: no thread of ours is alive at one, and C code that forks behind Python's back is told the truth."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

import slothstate
from helpers.processes import Channel, processes
from helpers.sqlite import store_of
from helpers.support import run_python, run_script

if sys.platform != "linux":
    pytest.skip("/proc/self/task tells the threads", allow_module_level=True)


def threads() -> int:
    """Return how many threads the system knows of this process."""
    return len(os.listdir("/proc/self/task"))


def fork_and_count(channel: Channel, path: str) -> list[Any]:
    """Return the numbers of threads: before, in the fork's own hook, in child and parent after it, and once used."""
    states = [slothstate.open(path), slothstate.open(path)]
    for state in states:
        state.increment("key")
    seen: list[Any] = [threads()]
    os.register_at_fork(after_in_parent=lambda: seen.append(threads()))
    pipe, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        after = threads()
        for state in states:
            state.increment("key")
        os.write(theirs, bytes([after, threads(), store_of(states[0])._sweeper.is_running]))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    seen.append(list(os.read(pipe, 3)))
    seen.append(threads())
    for state in states:
        state.increment("key")
    seen.append(threads())
    with states[0].transaction():
        states[0].set("key", 4)
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        seen.append(threads())
        os.waitpid(pid, 0)
    states[0].get("missing")
    seen.append(store_of(states[0])._sweeper.is_running)
    return seen


def test_no_thread_at_a_fork(path: str) -> None:
    """The sweepers end before a fork, also inside a transaction, and come back on both sides once a State is used."""
    with processes() as start:
        first, hook, child, after, used, inner_hook, inside, again = start(fork_and_count, path).result()
    assert (hook, after, inner_hook, inside) == (first - 2,) * 4
    assert child == [1, 3, 1]
    assert used == first
    assert again


def test_sweeps_go_on_though_somebody_forks(path: str) -> None:
    """A program that forks more often than it sweeps sweeps all the same."""
    code = """
import os, sys, time
import slothstate
state = slothstate.open(sys.argv[1], sweep_interval=0.5)
state.set("gone", 1, ttl=0.001)
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    state.get("missing")
    time.sleep(0.1)
    if not state.stats()["expired_pending"]:
        break
print(state.stats()["expired_pending"])
"""
    assert run_python(code, path) == "0\n"


def test_forks_warn_of_nothing(path: str) -> None:
    """Newer Pythons warn where a process with threads forks; with an open store none does."""
    code = """
import os, sys, warnings
warnings.simplefilter("error")
import slothstate
with slothstate.open(sys.argv[1]) as state:
    for _ in range(3):
        state.increment("key")
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
"""
    done = run_script(code, path)
    assert (done.returncode, done.stderr) == (0, "")


FORK_IN_C = """
import ctypes, gc, os, sys
import slothstate
path, tells_python, inside = sys.argv[1], sys.argv[2] == "True", sys.argv[3] == "True"
state = slothstate.open(path)
state.set("key", 1)
state.get("key")
if inside:
    block = state.transaction()
    block.__enter__()
    state.set("inside", 1)
pid = ctypes.PyDLL(None).fork()
if pid == 0:
    if tells_python:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    uses = [lambda: state.get("other"), lambda: state.set("key", 2), lambda: state.transaction().__enter__(),
            lambda: list(state.dump()), lambda: state.lock("job", 0), lambda: state.check(),
            lambda: slothstate.open(path)]
    if inside:
        uses.insert(0, lambda: block.__exit__(None, None, None))
    for use in uses:
        try:
            use()
        except slothstate.SlothStateError as error:
            assert "forked by C code" in str(error) or "belongs to the process that began it" in str(error), error
        else:
            os._exit(1)
    state.close()
    del state, uses
    gc.collect()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
if inside:
    block.__exit__(None, None, None)
state.set("after", 1)
print(dict(state), state.check())
"""


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("tells_python", [False, True])
def test_a_fork_in_c(path: str, tells_python: bool, inside: bool) -> None:
    """A child that C code forked, as uWSGI does it, is refused and told why; the parent's store is not touched."""
    if tells_python and sys.version_info >= (3, 13):
        pytest.skip("PyOS_AfterFork_Child now wants PyOS_BeforeFork, which runs the hooks")
    kept = {"key": 1, "after": 1} | ({"inside": 1} if inside else {})
    assert run_python(FORK_IN_C, path, tells_python, inside) == f"{dict(sorted(kept.items()))} []\n"
