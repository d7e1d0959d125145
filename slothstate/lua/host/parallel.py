"""Tasks side by side, for workflows that ask for it: each in a fork of this process, with all that it has found so far.

What they share is the store. A task's message and outputs come back through a pipe, and what it changed in `params`;
that it changed a variable outside of it is a failure, for nobody else would see it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace

from slothstate.hints import TYPE_CHECKING, Any, Final
from slothstate.lua.host.described import lua_text
from slothstate.lua.host.ending import Exited, Interrupted
from slothstate.lua.host.execution import Execution
from slothstate.lua.host.family import end_family
from slothstate.lua.host.report import TaskResult
from slothstate.lua.host.scheduler import Progress, carry_out
from slothstate.lua.host.workflow import Task
from slothstate.native import json_decode, json_encode

if TYPE_CHECKING:
    from slothstate.lua.host.surroundings import Surroundings

__all__ = ["Workers", "run_side_by_side"]

_LOOK_EVERY: Final = 0.1
"""Seconds between two looks at whether a worker is still wanted, or the run interrupted."""

_PATIENCE: Final = 2.0
"""Seconds that a task has past its timeout, in a function that cannot be stopped, before its process ends."""

_INTERRUPT_GRACE: Final = 0.7
"""Seconds that workers have to end after an interrupt."""

_ENDING: Final = [
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if name in signal.Signals.__members__
]
"""What ends a worker as it ends the run; but for SIGTERM, by which the run ends it, not where it is ignored (nohup)."""


class Workers:
    """The processes that run tasks, for whoever interrupts them from another thread."""

    def __init__(self) -> None:
        self._pids: set[int] = set()

    @property
    def are_busy(self) -> bool:
        """Whether there are any."""
        return bool(self._pids)

    def add(self, pid: int) -> None:
        """Take note of a process."""
        self._pids.add(pid)

    def remove(self, pid: int) -> None:
        """Wait for the end of a process, and forget it."""
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        self._pids.discard(pid)

    def forget(self) -> None:
        """Have none: in a worker, which the others are no workers of. Killed by it they would leave their commands."""
        self._pids.clear()

    def interrupt(self, *, kill: bool) -> None:
        """Ask all to end, or end them."""
        for pid in list(self._pids):
            if kill:
                end_family(pid)
            else:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)


class _Worker:
    """One task in a process of its own, and what has come from it so far."""

    def __init__(self, host: Surroundings, progress: Progress, execution: Execution, task: Task, params: bytes) -> None:
        self.task = task
        self.params = params
        self.began = time.monotonic()
        self._unread = b""
        self.descriptor, writing = os.pipe()
        host.part(b"script")[b"flush"]()
        parent = os.getpid()
        # Until the worker has its own handlers: Python forgets what those of this process raise while it forks.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            with warnings.catch_warnings():
                # Python warns of forks among threads; what forks here holds no lock of anybody, and goes on alone.
                warnings.simplefilter("ignore", DeprecationWarning)
                self.pid = os.fork()
            if not self.pid:
                _work(host, progress, execution, task, writing, parent, mask)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(writing)
        host.workers.add(self.pid)

    def messages(self) -> list[Any] | None:
        """Return what has come, None at the end."""
        received = os.read(self.descriptor, 65536)
        if not received:
            return None
        *lines, self._unread = (self._unread + received).split(b"\n")
        return [json.loads(line) for line in lines]


def run_side_by_side(host: Surroundings, progress: Progress, execution: Execution) -> bool:
    """Run the tasks of a plan, as many at a time as it allows, each as soon as what it needs has ended.

    Of those that could run, the first in the order of the plan runs first. Returns whether all went well.
    """
    progress.begin()
    waiting = list(progress.plan.tasks)
    running: dict[int, _Worker] = {}
    try:
        while waiting or running:
            _start_what_can_run(host, progress, execution, waiting, running)
            ready, _, _ = select.select(list(running), [], [], _LOOK_EVERY) if running else ([], [], [])
            host.go_on()
            for descriptor in ready:
                _listen(host, progress, execution, running, descriptor)
    except BaseException as error:
        _end_all(host, progress, running, report=isinstance(error, Interrupted))
        raise
    return progress.end()


def _start_what_can_run(
    host: Surroundings, progress: Progress, execution: Execution, waiting: list[Task], running: dict[int, _Worker]
) -> None:
    started = True
    while started and len(running) < progress.plan.config.parallel:
        started = False
        for task in waiting:
            if all(name in progress.results for name in progress.plan.needs[task.name]):
                waiting.remove(task)
                started = True
                if not progress.settle(task):
                    _start(host, progress, execution, running, task)
                break


def _start(
    host: Surroundings, progress: Progress, execution: Execution, running: dict[int, _Worker], task: Task
) -> None:
    progress.start(task)
    try:
        params = execution.params_as_json()
    except ValueError as error:
        progress.finish(TaskResult(task, "failed", str(error)))
        return
    worker = _Worker(host, progress, execution, task, params)
    running[worker.descriptor] = worker


def _listen(
    host: Surroundings, progress: Progress, execution: Execution, running: dict[int, _Worker], descriptor: int
) -> None:
    worker = running[descriptor]
    messages = worker.messages()
    if messages is None:
        if worker.task.name not in progress.results:
            # A Ctrl-C ends workers, too, and they may have been faster.
            host.pause(_INTERRUPT_GRACE)
        _forget(host, running, worker)
        if worker.task.name not in progress.results:
            seconds = time.monotonic() - worker.began
            progress.finish(TaskResult(worker.task, "failed", "its process ended without a result", seconds, 1))
        return
    for kind, content in messages:
        if kind == "log":
            host.reporter.log(*content)
        elif kind == "lost output":
            host.note_lost_output()
        elif kind == "attempt":
            progress.reporter.attempt_failed(_result(worker.task, content))
        elif kind == "exit":
            host.exit_code = content
            raise Exited
        elif kind == "result":
            _merge_params(execution, worker.params, content.pop("params"))
            progress.finish(_result(worker.task, content))


def _merge_params(execution: Execution, before: bytes, after: str | None) -> None:
    """Take over what a task changed in `params`, and leave alone what others did meanwhile."""
    if after is None:
        return
    old, new = json_decode(before), json_decode(after)
    current = json_decode(execution.params_as_json())
    changed = {name: value for name, value in new.items() if name not in old or old[name] != value}
    kept = {name: value for name, value in current.items() if name in new or name not in old}
    execution.take_params(json_encode(kept | changed, "params").encode())


def _forget(host: Surroundings, running: dict[int, _Worker], worker: _Worker) -> None:
    os.close(worker.descriptor)
    host.workers.remove(worker.pid)
    del running[worker.descriptor]


def _end_all(host: Surroundings, progress: Progress, running: dict[int, _Worker], *, report: bool) -> None:
    """End all that runs: first politely, so that they end their commands."""
    host.workers.interrupt(kill=False)
    patience = time.monotonic() + _INTERRUPT_GRACE
    pending = list(running.values())
    while pending and time.monotonic() < patience:
        ready, _, _ = select.select([worker.descriptor for worker in pending], [], [], 0.05)
        pending = [worker for worker in pending if worker.descriptor not in ready or worker.messages() is not None]
    host.workers.interrupt(kill=True)
    for worker in list(running.values()):
        _forget(host, running, worker)
        if report:
            seconds = time.monotonic() - worker.began
            progress.reporter.task_finished(TaskResult(worker.task, "interrupted", "", seconds))


class _Piped:
    """A worker's reporter: it tells the process that it was forked from, which reports."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, kind: str, content: Any) -> None:
        """Send one message."""
        unsent = json.dumps([kind, content]).encode() + b"\n"
        while unsent:
            unsent = unsent[os.write(self._descriptor, unsent) :]

    def log(self, level: str, message: str) -> None:
        self.send("log", [level, message])

    def attempt_failed(self, result: TaskResult) -> None:
        self.send("attempt", _content(result))

    def task_finished(self, result: TaskResult) -> None:
        """Say nothing: it is the other process that reports the end."""


def _work(
    host: Surroundings,
    progress: Progress,
    execution: Execution,
    task: Task,
    descriptor: int,
    parent: int,
    mask: set[int | signal.Signals],
) -> None:
    """Run the task in the worker's process, in which the signals of `mask` are blocked, and end that."""
    try:
        host.workers.forget()
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGTERM:
                signal.signal(number, lambda *_: host.interrupt())
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        piped = _Piped(descriptor)
        host.reporter = progress.reporter = piped  # type: ignore[assignment]
        threading.Thread(target=_watch, args=(host, task, piped, parent), daemon=True).start()
        with suppress(Interrupted):
            _run(host, progress, execution, task, piped)
    finally:
        os._exit(0)


def _run(host: Surroundings, progress: Progress, execution: Execution, task: Task, piped: _Piped) -> None:
    functions = [action for action in (task.command, task.run_if) if callable(action)]
    watch = host.part(b"sharing")[b"watch"](*functions)
    host.part(b"script")[b"reseed"](task.position)
    params = None
    try:
        result = carry_out(progress, task, piped.attempt_failed)
    except Exited:
        piped.send("exit", host.exit_code)
        return
    changed, inside = watch()
    if inside is not None:
        problem = f"changed what functions in '{lua_text(inside)}' keep, which tasks side by side do not share"
        piped.log("warn", f"task {task.name} {problem}")
    if changed is not None and result.status == "ok":
        problem = (
            f"it changed '{lua_text(changed)}', a variable outside of it, which tasks side by side do "
            "not share: return outputs, or use the store"
        )
        result = replace(result, status="failed", message=problem, outputs=None)
    try:
        params = execution.params_as_json().decode()
    except ValueError as error:
        result = replace(result, status="failed", message=str(error), outputs=None)
    host.part(b"script")[b"flush"]()
    if host.has_lost_output:
        piped.send("lost output", None)
    piped.send("result", {**_content(result), "params": params})


def _watch(host: Surroundings, task: Task, piped: _Piped, parent: int) -> None:
    """End this process where the task does not: past its timeout, or when nobody waits for it any more."""
    began = time.monotonic()
    while True:
        time.sleep(_LOOK_EVERY)
        if os.getppid() != parent:
            host.interrupt(kill=True)
            end_family(os.getpid(), itself=False)
            os._exit(1)
        if host.has_lost_output:
            # A task that prints for ever would never come to tell it.
            piped.send("lost output", None)
        if host.overrun() > _PATIENCE:
            problem = f"it could not be stopped {_PATIENCE:g}s after its timeout"
            result = TaskResult(task, "failed", problem, time.monotonic() - began, 1)
            piped.send("result", {**_content(result), "params": None})
            host.interrupt(kill=True)
            end_family(os.getpid(), itself=False)
            os._exit(1)


def _content(result: TaskResult) -> dict[str, Any]:
    """Return what another process needs of a result."""
    fields = ("status", "message", "seconds", "attempts", "by_choice", "attempts_left")
    outputs = None if result.outputs is None else result.outputs.decode()
    return {**{name: getattr(result, name) for name in fields}, "outputs": outputs}


def _result(task: Task, content: dict[str, Any]) -> TaskResult:
    outputs = content.pop("outputs")
    return TaskResult(task, **content, outputs=None if outputs is None else outputs.encode())
