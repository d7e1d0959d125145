"""Worker processes for the tests: started clean, talked to over pipes, and never left behind.

A worker is a module-level function of a test module, called as `fn(channel, *args)` in a process of its own. Messages
over its channel are what orders the processes: a message that was received happened after everything its sender did
before. Nothing waits without a deadline, and leaving `processes()` ends whatever still runs.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, Final

import pytest

import slothstate
from helpers import planted
from helpers.support import run_script

REPLY: Final = 60.0
"""Seconds a message may take. Generous: it bounds a hang, it measures nothing."""

END: Final = 5.0
"""Seconds a worker gets to end after SIGTERM before it is killed."""

if "forkserver" not in multiprocessing.get_all_start_methods():
    pytest.skip("the worker processes of these tests need fork", allow_module_level=True)

# A fork server: workers start in milliseconds, from a process with no threads and no open store.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["pytest", "filelock", "slothstate", __name__])


class Channel:
    """The worker's end of its pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def send(self, message: Any = None) -> None:
        """Send a message; `Worker.receive` returns it."""
        self._pipe.send(("message", message))

    def receive(self, deadline: float = REPLY) -> Any:
        """Return the next message of the test."""
        if not self._pipe.poll(deadline):
            raise AssertionError(f"no message from the test within {deadline} s")
        return self._pipe.recv()

    def ready(self) -> None:
        """Say that the worker is ready, and wait until the test lets it go on."""
        self.send("ready")
        self.receive()

    def waiting(self, timeout: float = 0) -> bool:
        """Return whether a message of the test is there, or comes within `timeout` seconds."""
        return self._pipe.poll(timeout)


class AckLog:
    """A file that takes one byte per acknowledged operation; what was written survives the death of its writer."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def acknowledge(self, kind: bytes) -> None:
        os.write(self._file, kind)


class Worker:
    """A running worker process, seen from the test."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], context: Any = _context) -> None:
        self._pipe, theirs = context.Pipe()
        self._name = fn.__name__
        self._ended = False
        self.process = context.Process(target=_run, args=(theirs, fn, args), daemon=True)
        self.process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process.pid is not None
        return int(self.process.pid)

    def send(self, message: Any = None) -> None:
        """Send a message; `Channel.receive` returns it."""
        self._pipe.send(message)

    def receive(self, deadline: float = REPLY) -> Any:
        """Return the next message of the worker; an error of the worker fails the test."""
        kind, message = self._receive(deadline)
        assert kind == "message", f"{self._name} ended with {message!r} instead of sending a message"
        return message

    def result(self, deadline: float = REPLY) -> Any:
        """Return what the worker function returns, passing over messages that nobody received."""
        kind, message = self._receive(deadline)
        while kind == "message":
            kind, message = self._receive(deadline)
        self.process.join(END)
        return message

    def acknowledged(self) -> list[Any]:
        """Return the messages that arrived before the worker ended; for one that was killed."""
        messages = []
        try:
            while self._pipe.poll(0):
                kind, message = self._pipe.recv()
                if kind == "message":
                    messages.append(message)
        except (EOFError, OSError, pickle.UnpicklingError):
            pass
        return messages

    def signal(self, number: int) -> None:
        """Send a signal to the worker."""
        os.kill(self.pid, number)

    def stop_for(self, seconds: float) -> None:
        """Stop the worker wherever it is (SIGSTOP), and let it go on; one that has ended stays ended."""
        with suppress(ProcessLookupError):
            self.signal(signal.SIGSTOP)
            time.sleep(seconds)
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the worker (SIGKILL) and wait until it is gone."""
        self.process.kill()
        self.process.join(REPLY)
        assert self.process.exitcode is not None, f"{self._name} survived SIGKILL"

    def end(self) -> None:
        """End the worker, whatever it does; once it has ended, do nothing."""
        if self._ended:
            return
        self._ended = True
        if self.process.is_alive():
            # A stopped process takes no SIGTERM before it goes on; one that ends meanwhile takes neither.
            with suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self.process.terminate()
            self.process.join(END)
        if self.process.is_alive():
            self.kill()
        self.process.join(END)
        self.process.close()
        self._pipe.close()

    def _receive(self, deadline: float) -> tuple[str, Any]:
        if not self._pipe.poll(deadline):
            raise AssertionError(f"no message from {self._name} within {deadline} s")
        try:
            kind, message = self._pipe.recv()
        except EOFError:
            self.process.join(END)
            raise AssertionError(f"{self._name} died: exit code {self.process.exitcode}") from None
        if kind == "error":
            raise AssertionError(f"{self._name} failed:\n{message}")
        return kind, message


def _run(pipe: Connection, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    planted.plant()
    try:
        result = fn(Channel(pipe), *args)
    except BaseException:
        pipe.send(("error", traceback.format_exc()))
    else:
        pipe.send(("result", result))


@contextmanager
def processes(context: BaseContext = _context) -> Iterator[Callable[..., Worker]]:
    """Give a function `start(fn, *args)` that starts a worker; end all of them on leaving.

    Workers of a "spawn" context are executed anew, which is slower, with the environment of that moment.
    """
    started: list[Worker] = []

    def start(fn: Callable[..., Any], *args: Any) -> Worker:
        worker = Worker(fn, args, context)
        started.append(worker)
        return worker

    try:
        yield start
    finally:
        for worker in started:
            worker.end()


def let_go(workers: Sequence[Worker]) -> None:
    """Let workers go on at the same time, once all are ready."""
    for worker in workers:
        worker.receive()
    for worker in workers:
        worker.send("go")


class Child:
    """A child made by `os.fork` inside a worker; it answers one call at a time and leaves by `os._exit`."""

    def __init__(self, fn: Callable[[Channel], Any]) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self._pipe.close()
                _run(theirs, fn, ())
                code = 0
            finally:
                os._exit(code)
        theirs.close()

    def send(self, message: Any = None) -> None:
        """Send a message to the child."""
        self._pipe.send(message)

    def receive(self, deadline: float = REPLY) -> Any:
        """Return the next message, or what the child's function returned."""
        if not self._pipe.poll(deadline):
            raise AssertionError(f"no message from the forked child within {deadline} s")
        kind, message = self._pipe.recv()
        if kind == "error":
            raise AssertionError(f"the forked child failed:\n{message}")
        return message

    def join(self) -> int:
        """Wait for the child to end; return its exit status."""
        self._pipe.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        """Kill the child (SIGKILL) and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.join()


def run_function(fn: Callable[..., Any], *args: Any) -> Any:
    """Return what `fn(None, *args)` returns in an interpreter of its own, which ends like any program.

    For what happens at the interpreter's end; arguments and result go as JSON. The function's forked children may
    leave by sys.exit.
    """
    code = f"""
import json, sys
sys.path[:0] = {sys.path!r}
if __name__ == "__main__":
    import {fn.__module__}
    print(json.dumps({fn.__module__}.{fn.__name__}(None, *json.loads(sys.argv[1]))))
"""
    done = run_script(code, json.dumps(args))
    assert done.returncode == 0, f"exit code {done.returncode}:\n{done.stderr}"
    assert done.stderr == ""
    return json.loads(done.stdout)


def hold(channel: Channel, path: str, ttl: float | None = None) -> None:
    """Hold the lock `job` until told to let go."""
    with slothstate.open(path) as state:
        with state.locked("job", timeout=30, ttl=ttl) as lock:
            channel.send(lock.token)
            channel.receive()
        channel.send("released")


def sit_in_transaction(channel: Channel, path: str) -> None:
    """Keep every other writer waiting until told to leave."""
    with slothstate.open(path) as state, state.transaction():
        state.set("sitter", 1)
        channel.send("inside")
        channel.receive()


def signals_in(status: Path, field: str) -> set[int]:
    """The signals of a mask in /proc/…/status: `SigBlk` are blocked, `SigCgt` have a handler."""
    mask = int(next(line for line in status.read_text().splitlines() if line.startswith(field)).split()[1], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


def wait_until_waiting(worker: Worker) -> None:
    """Return when a worker that said it would wait has had the time to; correct whether it has or not."""
    worker.receive()
    time.sleep(0.05)
