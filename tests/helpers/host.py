"""What the tests of the script host share: a reporter that remembers, and ways to run a script."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import slothstate
from helpers.command import environment, finished
from slothstate.lua.host.host import Host
from slothstate.lua.host.report import TaskResult
from slothstate.lua.host.workflow import Plan, Task


@dataclass
class Recorder:
    """A reporter that keeps what it was told, durations left out."""

    events: list[tuple[str, ...]] = field(default_factory=list)

    def log(self, level: str, message: str) -> None:
        self.events.append((level, message))

    def plan_started(self, plan: Plan) -> None:
        self.events.append(("plan", plan.workflow.name if plan.workflow else ""))

    def task_started(self, task: Task) -> None:
        self.events.append(("started", task.name))

    def attempt_failed(self, result: TaskResult) -> None:
        self.events.append(("retry", result.task.name, result.message))

    def task_finished(self, result: TaskResult) -> None:
        self.events.append((result.status, result.task.name, result.message))

    def plan_finished(self, plan: Plan, results: list[TaskResult], seconds: float, *, ok: bool) -> None:
        self.events.append(("end" if ok else "bad end", plan.workflow.name if plan.workflow else ""))

    def logged(self, level: str = "info") -> list[str]:
        """The log lines of one level."""
        return [event[1] for event in self.events if event[0] == level]

    def results(self) -> dict[str, tuple[str, str]]:
        """Each finished task's status and message, in order."""
        return {event[1]: (event[0], event[2]) for event in self.events if event[0] in ("ok", "failed", "skipped")}


@dataclass
class Runner:
    """Runs sources in this process, each as deploy.lua against one store."""

    state: slothstate.State
    implementation: str
    recorder: Recorder = field(default_factory=Recorder)

    def run(self, source: str | bytes, tasks: Sequence[str] = (), path: str = "deploy.lua") -> int:
        """Run a source in a new host; what it reports lands in a new `recorder`."""
        self.recorder = Recorder()
        host = Host(self.state, self.recorder, self.implementation)
        return host.run(source.encode() if isinstance(source, str) else source, path, tasks)

    def info(self, source: str) -> list[str]:
        """Run a source and return what it logged with log.info."""
        assert self.run(source) == 0
        return self.recorder.logged()


def slothstate_run(
    *arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `python -m slothstate run …` as a user does, with pipes for its output."""
    done = finished("run", *arguments, cwd=cwd, env=environment(cwd, env), timeout=timeout)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
