"""Programs that gevent or eventlet has patched."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from helpers.support import run_python

GREEN = """
import sys, time
library, moment, path = sys.argv[1:]
def patch():
    if library == "gevent":
        from gevent import monkey
        monkey.patch_all()
    else:
        import eventlet
        eventlet.monkey_patch()
if moment == "first":
    patch()
import slothstate
state, other = slothstate.open(path), slothstate.open(path)
if moment == "late":
    patch()

def run(*functions):
    if library == "gevent":
        import gevent
        gevent.joinall([gevent.spawn(function) for function in functions], raise_error=True)
    else:
        import eventlet
        for thread in [eventlet.spawn(function) for function in functions]:
            thread.wait()

with state.transaction():
    state.increment("counter")

log = []

def hold():
    with state.transaction():
        log.append("begun")
        state.increment("counter")
        time.sleep(0.2)
        log.append("ends")

def wait():
    time.sleep(0.05)
    with other.transaction():
        log.append("waited")
        other.increment("counter")

def use():
    time.sleep(0.05)
    try:
        state.get("counter")
    except slothstate.StateBusy as error:
        assert str(error).count("greenlet ") == 2, error
        log.append("refused")

def tick():
    for _ in range(3):
        time.sleep(0.04)
        log.append("tick")

run(hold, wait, use, tick)
assert [entry for entry in log if entry != "tick"] == ["begun", "refused", "ends", "waited"], log
assert log.index("ends") > 2 + log[:4].count("tick"), log

def count():
    for _ in range(20):
        with state.transaction():
            state.set("exact", state.get("exact", 0) + 1)
        time.sleep(0)

run(*[count] * 5)
print(state.get("counter"), state.get("exact"), state.check())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="greenlet libraries are tested on POSIX")
@pytest.mark.parametrize("moment", ["first", "late"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_patched_programs(path: str, library: str, moment: str) -> None:
    """After `patch_all` transactions work, and a greenlet waits for another's while the rest of them run."""
    # Not imported here: a task counts greenlets, too, where gevent is loaded.
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    assert run_python(GREEN, library, moment, path, options=["-W", "ignore"]).strip() == "3 100 []"
