"""The guard against a second SQLite library in the process: what it holds, and when it lets go."""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import slothstate
from helpers.processes import Channel, Child, processes
from helpers.sqlite import LOOKS, store_of
from helpers.support import in_threads, run_python
from slothstate.engines.sqlite import foreign_sqlite

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="locks of open file descriptions: Linux")

TIMES = 200
FILES = ("state.db", "state.db-locks", "state.db-shm", "state.db-wal")
AT_REST = ("state.db", "state.db-locks")

# The one place where the standard library's sqlite3 touches a store, in a process of its own: it is the second library
# that the guard is for. Anywhere else it would be a bug: it may carry the WAL-reset bug, and does what is shown here.
SECOND_LIBRARY = """
import os, sqlite3, subprocess, sys
import slothstate
from slothstate.engines.sqlite import foreign_sqlite

path, guarded = sys.argv[1], sys.argv[2] == "True"
if not guarded:
    foreign_sqlite.protect = foreign_sqlite.release = lambda store: None

def elsewhere():
    code = "import sys, slothstate; print(slothstate.open(sys.argv[1]).get('k'))"
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True).stdout.strip()

state = slothstate.open(path)
state.set("k", 1)
state.get("k")
for value in (2, 3):
    other = sqlite3.connect(path)
    other.execute("select count(*) from entries").fetchall()
    other.close()
    print(os.path.exists(path + "-wal"), end=" ")
    try:
        state.set("k", value)
    except slothstate.UnsafeState:
        print("refused", end=" ")
    print(elsewhere(), end=" ")
if guarded:
    print(state.check(), state.get("k"), end=" ")
state.close()
print(sorted(os.listdir(os.path.dirname(path))) == ["state.db", "state.db-locks"])
"""


def held(path: str) -> int:
    """Return how many locks of open file descriptions the kernel knows on a store's files, of whatever process."""
    inodes = {str(os.stat(path + suffix).st_ino) for suffix in ("", "-shm") if os.path.exists(path + suffix)}

    def count() -> int:
        with open("/proc/locks", encoding="ascii") as table:
            lines = [line.split() for line in table]
        return sum(
            fields[1] == "OFDLCK" and fields[-3].rsplit(":", 1)[1] in inodes for fields in lines if "->" not in fields
        )

    # A look can miss lines or count them twice while other processes lock and unlock; see support.locks_of.
    return statistics.mode(count() for _ in range(LOOKS))


def files(path: str) -> tuple[str, ...]:
    return tuple(sorted(os.listdir(os.path.dirname(path))))


def test_second_library_in_the_process_costs_nothing(path: str) -> None:
    """Whatever the standard library's sqlite3 opens and closes in our process, no acknowledged write is lost."""
    assert run_python(SECOND_LIBRARY, path, True) == "True 2 True 3 [] 3 True\n"


@pytest.mark.damaged
def test_without_the_guard_the_log_is_deleted(path: str) -> None:
    """The same without the guard: the live log is gone after the other library's close. So the test above tests it."""
    assert run_python(SECOND_LIBRARY, path, False).startswith("False ")


def test_guard_stays_until_the_last_state_of_the_process_is_closed(path: str) -> None:
    """Several States on one store: each may close, the last one lets go and tidies up the log."""
    states = [slothstate.open(path) for _ in range(3)]
    assert held(path) >= 2
    for state in states[:2]:
        state.close()
        assert held(path) >= 2
        assert files(path) == FILES
    states[2].set("k", 1)
    states[2].close()
    assert held(path) == 0
    assert files(path) == AT_REST


def test_connections_of_threads_come_and_go_under_the_guard(path: str) -> None:
    """Connections that threads open and that are closed later keep neither the guard nor the log alive."""
    with slothstate.open(path) as state:
        together = threading.Barrier(12)

        def count() -> None:
            with state.transaction() if threading.get_ident() % 2 else slothstate.open(path) as _:
                state.increment("k")
            together.wait(30)
            for _ in range(10):
                state.increment("k")

        in_threads([count] * 12)
        assert state.get("k") == 132
        assert held(path) >= 2
    assert held(path) == 0
    assert files(path) == AT_REST


def visit(channel: Channel, path: str) -> None:
    """Write, checkpoint and close as often as the test says; end by being killed if it says so."""
    while channel.receive() == "visit":
        with slothstate.open(path) as state:
            state.increment("visits")
            with store_of(state).snapshot() as (connection, _):
                connection.execute("pragma busy_timeout = 0").fetchall()
            connection.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            channel.send(state.get("visits"))


def test_guard_is_in_nobodys_way(path: str) -> None:
    """Under the guard other processes open, write, checkpoint to the end, close and recover after kill -9."""
    with processes() as start, slothstate.open(path) as state:
        for expected in (1, 2, 3):
            other = start(visit, path)
            for step in range(2):
                other.send("visit")
                assert other.receive() == expected * 2 - 1 + step
            other.kill()
            assert state.get("visits") == expected * 2
            assert state.increment("mine") == expected
        assert files(path) == FILES
    assert files(path) == AT_REST


def fork_and_report(channel: Channel, path: str) -> None:
    state = slothstate.open(path)
    state.set("k", 0)
    before = held(path)
    child = Child(lambda pipe: (state.increment("k"), held(path), state.close(), held(path)))
    counted, both, _, left = child.receive()
    assert child.join() == 0
    # The parent has not used its State since: it opens its files, and guards them, at the next operation.
    channel.send((before, counted, both, left))
    channel.send((state.increment("k"), held(path), files(path)))
    state.close()
    channel.send(files(path))


def test_both_sides_of_a_fork_are_guarded(path: str) -> None:
    """Parent and child each guard what they opened themselves; the one's close takes nothing from the other."""
    with processes() as start:
        worker = start(fork_and_report, path)
        before, counted, both, left = worker.receive()
        assert before >= 2
        assert both >= 2
        assert (counted, left) == (1, 0)
        counted, again, found = worker.receive()
        assert again >= 2
        assert (counted, found) == (2, FILES)
        assert worker.receive() == AT_REST
        worker.result()


def fork_in_transaction(channel: Channel, path: str) -> None:
    state = slothstate.open(path)
    with state.transaction():
        state.set("k", 1)
        child = Child(lambda pipe: pipe.receive())
        other = Child(lambda pipe: None)
        other.receive()
        assert other.join() == 0
        channel.send(held(path))
    state.set("k", 2)
    channel.send(held(path))
    state.close()
    channel.send(files(path))
    child.send("end")
    child.receive()
    assert child.join() == 0


def test_child_forked_inside_a_transaction_takes_no_guard_away(path: str) -> None:
    """A child that inherited guarded descriptors may end or live on: the parent's guard lasts until its close."""
    with processes() as start:
        worker = start(fork_in_transaction, path)
        assert worker.receive() >= 2
        assert worker.receive() >= 2
        assert worker.receive() == AT_REST
        worker.result()
    with slothstate.open(path) as state:
        assert state.get("k") == 2


def test_moved_store_lets_go_of_what_it_protected(path: str, tmp_path: Path) -> None:
    """A State whose file was moved away releases the files it had open, not those that took their place."""
    state, moved = slothstate.open(path), tmp_path / "moved.db"
    for suffix in ("", "-wal", "-shm"):
        os.rename(path + suffix, f"{moved}{suffix}")
    with slothstate.open(path) as successor:
        assert held(path) >= 2
        assert held(str(moved)) >= 2
        state.close()
        assert held(path) >= 2
        assert held(str(moved)) == 0
        assert successor.set("k", 1)


def test_store_works_where_the_system_has_no_such_locks(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the locks or /proc are missing the store opens, works and closes all the same."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    with slothstate.open(path) as state:
        assert state.set("k", 1)
        assert held(path) == 0
    monkeypatch.undo()
    monkeypatch.setattr(os, "listdir", refuse)
    with slothstate.open(path) as state:
        assert state.get("k") == 1
        monkeypatch.undo()
        assert held(path) == 0
    assert files(path) == AT_REST


def test_the_guard_is_cheap(path: str, figure: Callable[[str], None]) -> None:
    """Taking and dropping the guard costs an open and a close less than a millisecond; the figure is printed."""
    costs = []
    with slothstate.open(path) as state:
        store = store_of(state)._identity
        for _ in range(TIMES):
            began = time.perf_counter()
            foreign_sqlite.protect(store)
            foreign_sqlite.release(store)
            costs.append(time.perf_counter() - began)
        foreign_sqlite.protect(store)
        foreign_sqlite.release(store)
        assert held(path) >= 2, "the State itself still protects it"
    cost = statistics.median(costs)
    figure(f"the guard costs {cost * 1e6:.0f} us for each open and close")
    assert cost < 0.001
