"""The end of a program: a State rests, whoever comes later opens again, and nobody prints a traceback."""

from __future__ import annotations

import os

import pytest

import slothstate
from helpers.support import run_script

EVERYTHING = """
import atexit, os, sys
def late():
    assert state.get("key") == 1
    state.increment("late")
    with state.transaction():
        state.set("in a transaction", 1)
    assert state.lock("job", 0) and state.locks()[0]["alive"] and state.unlock("job")
    assert len(list(state.dump())) == len(state) == 3
    assert state.check() == []
    with slothstate.open(path) as closed:
        closed.increment("late")
    slothstate.open(path).increment("late")
    assert os.listdir(os.path.dirname(path)).count("state.db-wal") == 0
    if sys.version_info < (3, 12):
        # Later ones refuse to fork now.
        pid = os.fork()
        if pid == 0:
            state.increment("late")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    else:
        state.increment("late")
    print("late", state.get("late"))
atexit.register(late)
import slothstate
path = sys.argv[1]
state = slothstate.open(path)
state.set("key", 1)
state.lock("left")
"""

FINALIZERS = """
import sys, weakref
import slothstate
state = slothstate.open(sys.argv[1])
state.set("key", 1)
class Last:
    def __del__(self):
        state.increment("finalized")
class Cycle(Last):
    def __init__(self):
        self.me = self
kept, cycle, object_ = Last(), Cycle(), Last()
weakref.finalize(kept, lambda: state.increment("finalized"))
"""

DAEMONS = """
import sys, threading
import slothstate
path = sys.argv[1]
state = slothstate.open(path)
state.set("key", 1)
def work(number):
    while True:
        state.increment("counter")
        state.get("missing")
        with state.transaction():
            state.set("key", 1)
        with state.locked(f"job {number}"):
            pass
        with slothstate.open(path) as other:
            other.get("key")
for number in range(3):
    threading.Thread(target=work, args=[number], daemon=True).start()
while state.get("counter", 0) < 50:
    pass
"""

THREADS = """
import concurrent.futures, sys, threading, time
import slothstate
state = slothstate.open(sys.argv[1])
state.set("key", 1)
def late():
    threading.main_thread().join()
    for _ in range(20):
        state.increment("late")
        time.sleep(0.002)
    sys.exit("not printed")
threading.Thread(target=late).start()
concurrent.futures.ThreadPoolExecutor(2).map(state.increment, ["late"] * 20)
"""


def test_handlers_that_were_registered_first(path: str) -> None:
    """A handler registered before slothstate was imported can do everything, forks included; the log is folded."""
    done = run_script(EVERYTHING, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "late 4\n"
    assert sorted(os.listdir(os.path.dirname(path))) == ["state.db", "state.db-locks"]
    with slothstate.open(path) as state:
        assert state.get("late") == 4
        assert state.try_lock("left")


def test_finalizers(path: str) -> None:
    """What the very end of the interpreter collects can still write."""
    done = run_script(FINALIZERS, path)
    assert (done.returncode, done.stderr) == (0, "")
    with slothstate.open(path) as state:
        assert state.get("finalized") == 4


@pytest.mark.parametrize("attempt", range(3))
def test_daemon_threads(path: str, attempt: int) -> None:
    """Daemon threads in the middle of everything print nothing, and leave a sound store without a lock."""
    done = run_script(DAEMONS, path)
    assert (done.returncode, done.stderr) == (0, "")
    with slothstate.open(path) as state:
        assert all(state.try_lock(f"job {number}") for number in range(3))


def test_threads_that_end_late(path: str) -> None:
    """Threads that Python waits for after the main one has ended write what they have to."""
    done = run_script(THREADS, path)
    assert (done.returncode, done.stderr) == (0, "")
    with slothstate.open(path) as state:
        assert state.get("late") == 40
