"""Signals and the end of things: interrupted operations, handlers that use the State, garbage, interpreter exit."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

import slothstate
import slothstate.aio
from helpers.processes import Channel, processes, signals_in, sit_in_transaction
from helpers.sqlite import store_of
from helpers.support import DEVELOPMENT, run_python, run_script, until
from slothstate.calling_off import CalledOff, can_be_called_off
from slothstate.engines.postgres.ticker import Ticker
from slothstate.state import State

STORM = 2.0
"""Seconds of interruptions."""

INTERRUPTED = 0.2
"""Seconds within which Ctrl-C is answered."""

CYCLES = 500


class Interruption(BaseException):
    """What the handler of the storm raises."""


class Storm:
    """Interrupts the calling process every 0.2 to 4 ms; raises only while an operation is under way."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.armed = False
        signal.signal(signal.SIGALRM, self._strike)
        self._set()

    def _set(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(0.0002, 0.004))

    def _strike(self, number: int, frame: Any) -> None:
        self._set()
        if self.armed:
            self.armed = False
            raise Interruption

    def attempt(self, operation: Callable[[], Any]) -> bool:
        """Run an operation; return whether it was acknowledged. Interrupted, it may be done or not."""
        try:
            self.armed = True
            operation()
            self.armed = False
        except Interruption:
            return False
        return True

    def end(self) -> None:
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def weather_the_storm(channel: Channel, path: str, seed: int) -> dict[str, int]:
    """Run operations under interruption; after each one, compare the store with what it may be."""
    state = slothstate.open(path)
    other = slothstate.open(path)
    storm = Storm(seed)
    counts = {"acknowledged": 0, "interrupted": 0, "done though interrupted": 0}
    number = 0

    def transact() -> None:
        with state.transaction():
            state.set("a", number)
            state.list_push("list", number, number)
            state.set("b", number)

    def nested() -> None:
        with state.transaction():
            state.set("a", number)
            with state.transaction():
                state.list_push("list", number, number)
            state.set("b", number)

    def many() -> None:
        state.set_many({"a": number, "b": number})

    def locked() -> None:
        with state.locked("job", timeout=5) as lock, lock.transaction():
            state.set("a", number)
            state.set("b", number)

    def with_lock() -> None:
        state.with_lock("job", lambda: state.set_many({"a": number, "b": number}), timeout=5)

    def reopened() -> None:
        with slothstate.open(path) as third:
            third.set_many({"a": number, "b": number})

    def pushed_and_popped() -> None:
        state.set_many({"a": number, "b": number})
        state.increment("counter")
        state.list_push("other list", number)
        state.list_pop("other list")
        state.compare_swap("counter", -1, 0)
        state.append("text", "x")
        state.delete("text")

    operations = (transact, nested, many, locked, with_lock, reopened, pushed_and_popped)
    began = time.monotonic()
    while time.monotonic() - began < STORM:
        number += 1
        before = other.get_many(["a", "b"])
        length = other.list_length("list")
        operation = operations[number % len(operations)]
        acknowledged = storm.attempt(operation)
        assert not store_of(state).in_transaction, operation.__name__
        after = other.get_many(["a", "b"])
        wanted = {"a": number, "b": number}
        assert after in ([wanted] if acknowledged else [wanted, before]), f"{operation.__name__}: {before} → {after}"
        grown = other.list_length("list") - length
        assert grown == (2 if after == wanted and operation in (transact, nested) else 0), operation.__name__
        assert other.try_lock("job"), f"{operation.__name__} left the lock locked"
        other.unlock("job")
        assert state.get("a") == after.get("a")
        counts["acknowledged" if acknowledged else "interrupted"] += 1
        counts["done though interrupted"] += not acknowledged and after == wanted
    storm.end()
    problems = state.check()
    assert problems == []
    other.close()
    state.close()
    return counts


def write_and_wait(channel: Channel, path: str) -> str:
    """Write, which waits for another process's transaction; tell when an interrupt was answered."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with slothstate.open(path, busy_timeout=30) as state:
        try:
            channel.send("waiting")
            state.set("key", 1)
        except KeyboardInterrupt:
            channel.send(time.monotonic())
            state.get("key")
            return "interrupted"
        return "written"


def use_in_handler(channel: Channel, path: str, seconds: float) -> dict[str, int]:
    """Let a signal handler use the State in the middle of what the program does with it."""
    state = slothstate.open(path)
    counts = {"main": 0, "handler": 0, "refused": 0}

    def handler(number: int, frame: Any) -> None:
        try:
            state.increment("handler")
            state.get("main")
            if state.try_lock("from the handler"):
                state.unlock("from the handler")
        except slothstate.SlothStateError:
            counts["refused"] += 1
        else:
            counts["handler"] += 1
        signal.setitimer(signal.ITIMER_REAL, 0.0007)

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0007)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        state.increment("main")
        with state.transaction():
            state.increment("main")
        with state.locked("job", timeout=5):
            state.increment("main")
        with slothstate.open(path) as second:
            second.increment("main")
        counts["main"] += 4
    signal.setitimer(signal.ITIMER_REAL, 0)
    counts["main stored"] = state.get("main")
    counts["handler stored"] = state.get("handler")
    assert state.check() == []
    state.close()
    return counts


@pytest.mark.parametrize("seed", [1, 2])
def test_storm_of_interruptions(path: str, seed: int, figure: Callable[[str], None]) -> None:
    """Operations interrupted at any moment happen as a whole or not at all, and leave no transaction and no lock."""
    with processes() as start:
        counts = start(weather_the_storm, path, seed).result()
    figure(f"a storm of interruptions: {counts}, torn 0")
    assert counts["acknowledged"] > 20
    assert counts["interrupted"] > 20


def test_interrupt_while_waiting_for_a_writer(path: str, figure: Callable[[str], None]) -> None:
    """Ctrl-C ends the wait for another process's transaction within 200 ms, and the State goes on."""
    with processes() as start, slothstate.open(path) as state:
        sitter = start(sit_in_transaction, path)
        sitter.receive()
        answers = []
        for _ in range(3):
            writer = start(write_and_wait, path)
            writer.receive()
            time.sleep(0.05)
            sent = time.monotonic()
            writer.signal(signal.SIGINT)
            answers.append(writer.receive() - sent)
            assert writer.result() == "interrupted"
        assert statistics.median(answers) <= INTERRUPTED
        figure(f"Ctrl-C in a wait for a writer: longest answer {max(answers) * 1000:.1f} ms")
        sitter.send("leave")
        sitter.result()
        assert state.get("key") is None


@pytest.mark.parametrize("verb", [State.compact, State.check, State.usage], ids=lambda verb: verb.__name__)
def test_interrupt_of_a_long_statement(state: State, verb: Callable[[State], object]) -> None:
    """SQLite's own work is ended, too, and nothing is changed; the handle works on."""
    state.set_many({f"k{number}": "x" * 50 for number in range(20_000)})
    before = list(state.dump())

    def strike(*_: object) -> None:
        raise Interruption

    kept = signal.signal(signal.SIGALRM, strike)
    try:
        # Of its first page on, wherever it is by then.
        with pytest.raises(Interruption):
            while True:
                signal.setitimer(signal.ITIMER_REAL, 0.002)
                verb(state)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, kept)
    with can_be_called_off(lambda: True), pytest.raises(CalledOff):
        verb(state)
    assert list(state.dump()) == before
    assert state.check() == []


def test_handler_that_uses_the_state(path: str, figure: Callable[[str], None]) -> None:
    """A signal handler may use the State the program is in the middle of using: it never hangs, and nothing is lost."""
    with processes() as start:
        counts = start(use_in_handler, path, STORM).result(deadline=30)
    figure(f"a signal handler that uses the State: {counts}")
    assert counts["main stored"] == counts["main"]
    assert counts["handler"] <= counts["handler stored"] <= counts["handler"] + counts["refused"]
    assert counts["handler"] > 20


def test_dropped_state_is_collected(path: str) -> None:
    """A State that nobody refers to is gone with its connections, also out of a cycle, without a warning."""
    with slothstate.open(path) as kept:
        kept.set("key", 1)
        for round_ in range(20):
            if round_ == 5:
                # SQLite keeps a few descriptors for reuse while another connection holds locks on the file.
                before = len(os.listdir("/proc/self/fd"))
            dropped: Any = slothstate.open(path)
            dropped.increment("key")
            dropped.try_lock("job")
            holder: dict[str, Any] = {"state": dropped}
            holder["self"] = holder
            del dropped, holder
            gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before
        assert kept.get("key") == 21
        assert kept.try_lock("job")


def test_500_cycles_leak_nothing(path: str) -> None:
    """500 times opening, using and closing a store leave no descriptor and no thread behind."""

    def cycle(number: int) -> None:
        with slothstate.open(path) as state:
            state.increment("cycles")
            with state.locked("job"):
                state.get("cycles")

    for number in range(3):
        cycle(number)
    gc.collect()
    descriptors, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    for number in range(CYCLES):
        cycle(number)
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/task")) <= threads
    with slothstate.open(path) as state:
        assert state.get("cycles") == CYCLES + 3
        assert len(os.listdir(path + "-locks")) <= 2


def test_many_handles_at_once(path: str) -> None:
    """A hundred handles on one store in one process all work, and closing some leaves the others alone."""
    states = [slothstate.open(path) for _ in range(100)]
    for state in states:
        state.increment("handles")
    for state in states[::2]:
        state.close()
    for state in states[1::2]:
        assert state.increment("handles") > 100
        state.close()
    with slothstate.open(path) as state:
        assert state.get("handles") == 150


ENDS = {
    "never closed": """
state.set("key", 2)
""",
    "daemon threads write": """
import threading
def write():
    while True:
        try:
            state.increment("counter")
        except slothstate.StateClosed:
            return
for _ in range(3):
    threading.Thread(target=write, daemon=True).start()
while state.get("counter", 0) < 100:
    pass
""",
    "a daemon thread waits for a lock": """
import threading
other = slothstate.open(sys.argv[1])
other.lock("job")
def wait():
    try:
        state.lock("job")
    except slothstate.StateClosed:
        pass
threading.Thread(target=wait, daemon=True).start()
""",
    "sys.exit in a transaction": """
with state.transaction():
    state.set("key", 3)
    sys.exit(0)
""",
    "os._exit in a transaction": """
transaction = state.transaction()
transaction.__enter__()
state.set("key", 3)
os._exit(0)
""",
    "sys.exit in a thread": """
import threading
thread = threading.Thread(target=lambda: (state.set("thread", 1), sys.exit(0)))
thread.start()
thread.join()
assert state.get("thread") == 1
""",
    "used in a finalizer": """
class Last:
    def __del__(self):
        try:
            state.set("finalizer", 1)
        except slothstate.StateClosed:
            pass
last = Last()
last.cycle = last
del last
""",
    "used in atexit": """
import atexit
def goodbye():
    state.set("goodbye", 1)
atexit.register(goodbye)
""",
    "an iterator is left open": """
state.set_many({str(number): number for number in range(3000)})
iterator = state.scan()
next(iterator)
""",
    "a lock is held": """
state.lock("job")
locked = state.locked("another")
locked.__enter__()
""",
}


@pytest.mark.parametrize("end", ENDS, ids=str)
def test_interpreter_ends_quietly(path: str, end: str) -> None:
    """However a program ends: exit code 0, nothing on stderr, and its store is sound and free."""
    code = "import os, sys\nimport slothstate\nstate = slothstate.open(sys.argv[1])\nstate.set('key', 1)\n" + ENDS[end]
    done = run_script(code, path)
    assert (done.returncode, done.stderr) == (0, "")
    with slothstate.open(path) as state:
        assert state.get("key") == (2 if end == "never closed" else 1)
        assert state.try_lock("job")
        assert state.try_lock("another")


def test_close_while_threads_use_the_state(path: str) -> None:
    """Threads in the middle of operations when the State is closed see StateClosed and nothing else."""
    for _ in range(10):
        state: State = slothstate.open(path)
        errors: list[BaseException] = []
        done = [0]

        def work(state: State = state, errors: list[BaseException] = errors, done: list[int] = done) -> None:
            try:
                while True:
                    state.increment("counter")
                    state.get("counter")
                    with state.transaction():
                        state.set("key", 1)
                    done[0] += 1
            except slothstate.StateClosed:
                pass
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        while done[0] < 20:
            time.sleep(0.001)
        state.close()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert errors == []
    assert sys.exc_info() == (None, None, None)


def blocked(thread: str) -> set[int]:
    """The signals that a thread of this process has blocked."""
    return signals_in(Path(f"/proc/self/task/{thread}/status"), "SigBlk")


class Beating:
    def beat(self) -> None:
        """What a ticker calls."""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_no_signal_goes_to_a_thread_of_ours(path: str) -> None:
    """Whoever waits for signals, of the end of a child too, gets them: threads that look after a store block them."""
    beating = Beating()
    ticker = Ticker("slothstate-test", 0.01, beating.beat)
    before = set(os.listdir("/proc/self/task"))
    try:
        with slothstate.open(path) as state:
            state.set("key", 1)
            ticker.ensure_running()
            until(lambda: len(set(os.listdir("/proc/self/task")) - before) == 2)
            check(set(os.listdir("/proc/self/task")) - before)
            asyncio.run(watch_commits(path))
    finally:
        ticker.stop(seconds=5)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


STARTED = """
import _thread, ctypes, os, signal, sys
from slothstate.native import without_signals

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
sys.setswitchinterval(1000)
without_signals(_thread.start_new_thread, print, ())
ctypes.PyDLL(None).usleep(100_000)
os.kill(os.getpid(), signal.SIGCHLD)
print(signal.sigtimedwait({signal.SIGCHLD}, 20).si_signo == signal.SIGCHLD)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nothing waits for signals with a timeout")
def test_no_signal_goes_to_a_thread_that_has_just_been_started() -> None:
    """Before its first step in Python, for which it waits here, the end of a child would be lost in it."""
    assert run_python(STARTED, options=DEVELOPMENT).split() == ["True"]


async def watch_commits(path: str) -> None:
    async with slothstate.aio.open(path) as state:
        waiting = asyncio.ensure_future(state.wait("missing", timeout=20))
        while not (found := [each for each in threading.enumerate() if each.name == "slothstate-commits"]):
            await asyncio.sleep(0.01)
        check({str(each.native_id) for each in found})
        waiting.cancel()


def check(threads: set[str]) -> None:
    """Wait until these threads have begun, and look at what they have blocked."""
    # As it is made, a thread has these blocked, too.
    until(lambda: not any(blocked(thread) & {signal.SIGABRT} for thread in threads))
    for thread in threads:
        assert {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1} <= blocked(thread)
        assert not blocked(thread) & {signal.SIGSEGV, signal.SIGABRT}
