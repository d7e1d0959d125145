"""Carrying out a plan: conditions, attempts, skips, hooks, and what is reported and kept of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from slothstate.hints import Protocol
from slothstate.lua.host.ending import Interrupted
from slothstate.lua.host.report import Reporter, TaskResult
from slothstate.lua.host.workflow import Plan, Task

__all__ = ["Kept", "Outcome", "Progress", "carry_out", "run_plan"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt at a command came to; `outputs` is JSON. `is_final`: another attempt would be no better."""

    ok: bool
    message: str = ""
    outputs: bytes | None = None
    is_final: bool = False


class Executor(Protocol):
    """What knows how to run commands and hooks. Whatever it raises ends the run.

    Hooks return the text of their error; each does nothing where the script has no such hook.
    """

    def params_as_json(self) -> bytes:
        """Return what tasks put into `params`. Raises: `ValueError`."""

    def take_params(self, text: bytes) -> None:
        """Make `params` hold what this JSON does."""

    def start(self) -> str | None:
        """Run the workflow's `on_start`, which can stop it by returning false."""

    def refusal(self, task: Task, deps: bytes) -> Outcome | None:
        """Ask whether the task is to run: an ok outcome says why it is not, one that is not ok that nobody knows."""

    def attempt(self, task: Task, number: int, deps: bytes, deadline: float | None) -> Outcome:
        """Run the task's command for the `number`-th time, from 1; `deps` is the JSON of the outputs by task."""

    def pause(self, seconds: float) -> None:
        """Wait before the next attempt."""

    def hook(self, task: Task, result: TaskResult, deps: bytes) -> str | None:
        """Run the task's `on_success` or `on_failure`."""

    def task_complete(self, result: TaskResult) -> str | None:
        """Run the workflow's `on_task_complete`."""

    def complete(self, ok: bool, results: list[TaskResult]) -> str | None:
        """Run the workflow's `on_complete`."""


class Kept(Protocol):
    """What remembers of a run, so that another can go on from there."""

    def find(self, plan: Plan, task: Task) -> TaskResult | None:
        """Return how the task ended in an earlier part of this run."""

    def begin(self, task: Task) -> None:
        """Take note that the task is under way."""

    def keep(self, plan: Plan, result: TaskResult, params: bytes) -> str | None:
        """Keep how a task ended and what `params` holds now; returns why it cannot be kept."""

    def params(self, plan: Plan) -> bytes | None:
        """Return what `params` held after the last task that ended, if one has."""

    def plans(self, plans: list[Plan]) -> None:
        """Take note of all that runs."""

    def plan_ended(self, plan: Plan) -> None:
        """Take note that a workflow ended well."""

    def is_plan_done(self, plan: Plan) -> bool:
        """Whether a workflow ended well in an earlier part of this run."""


class Progress:
    """How far a plan has got."""

    def __init__(self, plan: Plan, executor: Executor, reporter: Reporter, kept: Kept | None = None) -> None:
        self.plan = plan
        self.executor = executor
        self.reporter = reporter
        self._kept = kept
        self.results: dict[str, TaskResult] = {}
        self._began = time.monotonic()
        timeout = plan.config.timeout
        self.deadline = None if timeout is None else self._began + timeout
        self._hooks_ok = True
        self._stopped = ""

    def begin(self) -> None:
        """Report the start and run `on_start`, which may keep every task from running."""
        self.reporter.plan_started(self.plan)
        if self._kept is not None and (params := self._kept.params(self.plan)) is not None:
            self.executor.take_params(params)
        problem = self.executor.start()
        if problem is not None:
            self._hook_failed("on_start", problem)
            self._stopped = "on_start stopped the workflow"

    def settle(self, task: Task) -> bool:
        """Return whether the task needs no run: it ended in an earlier part of this run, or cannot run any more."""
        if self._kept is not None and (found := self._kept.find(self.plan, task)) is not None:
            self.results[task.name] = found
            self.reporter.task_finished(found)
            return True
        reason = self._reason_to_skip(task)
        if reason:
            self.finish(TaskResult(task, "skipped", reason))
        return bool(reason)

    def start(self, task: Task) -> None:
        """Take note that the task runs from now on."""
        self.reporter.task_started(task)
        if self._kept is not None:
            self._kept.begin(task)

    def deps(self, task: Task) -> bytes:
        """Return the outputs of all tasks that this one depends on, directly or not, as JSON."""
        found: dict[str, bytes] = {}
        pending = list(self.plan.needs[task.name])
        while pending:
            name = pending.pop()
            if name not in found and self.results[name].status == "ok":
                found[name] = self.results[name].outputs or b"{}"
            pending.extend(name for name in self.plan.needs[name] if name not in found)
        return b"{" + b",".join(json.dumps(name).encode() + b":" + text for name, text in found.items()) + b"}"

    def finish(self, result: TaskResult) -> None:
        """Take in how a task ended: report it, keep it, run its hooks."""
        task = result.task
        if (problem := self._keep(result)) is not None:
            result = TaskResult(task, "failed", problem, result.seconds, result.attempts)
        self.results[task.name] = result
        self.reporter.task_finished(result)
        if result.status == "failed" and self.plan.config.fail_fast and not self._stopped:
            self._stopped = f"{task.name} failed, and the first failure stops the workflow"
        if result.status == "skipped":
            return
        hook = "on_success" if result.status == "ok" else "on_failure"
        if (problem := self.executor.hook(task, result, self.deps(task))) is not None:
            self._hook_failed(f"{hook} of task '{task.name}'", problem)
        if (problem := self.executor.task_complete(result)) is not None:
            self._hook_failed(f"on_task_complete of task '{task.name}'", problem)

    def end(self) -> bool:
        """Run `on_complete` and report the end; returns whether all went well."""
        results = [self.results[task.name] for task in self.plan.tasks]
        ok = self._hooks_ok and all(result.is_fine for result in results)
        if (problem := self.executor.complete(ok, results)) is not None:
            self._hook_failed("on_complete", problem)
        ok = ok and self._hooks_ok
        self.reporter.plan_finished(self.plan, results, time.monotonic() - self._began, ok=ok)
        if ok and self._kept is not None:
            self._kept.plan_ended(self.plan)
        return ok

    def _keep(self, result: TaskResult) -> str | None:
        if self._kept is None:
            return None
        try:
            return self._kept.keep(self.plan, result, self.executor.params_as_json())
        except ValueError as error:
            return str(error)

    def _reason_to_skip(self, task: Task) -> str:
        for name in self.plan.needs[task.name]:
            if not self.results[name].is_fine:
                return f"{name} {'failed' if self.results[name].status == 'failed' else 'was skipped'}"
        if self._stopped:
            return self._stopped
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return f"the time of the workflow is up ({self.plan.config.timeout:g}s)"
        return ""

    def _hook_failed(self, hook: str, problem: str) -> None:
        self._hooks_ok = False
        self.reporter.log("error", f"{hook}: {problem}")


def run_plan(plan: Plan, executor: Executor, reporter: Reporter, kept: Kept | None = None) -> bool:
    """Run the tasks of a plan one after the other, in their order; returns whether all went well.

    A failed task is attempted again as often as its `retries` say. What depends on a task that failed or was skipped
    for it is skipped; what depends on one that was not to run, by its `run_if`, runs. A hook's error leaves the task's
    result as it is, but is reported and makes the run fail.
    """
    progress = Progress(plan, executor, reporter, kept)
    progress.begin()
    for task in plan.tasks:
        if not progress.settle(task):
            progress.start(task)
            progress.finish(carry_out(progress, task, reporter.attempt_failed))
    return progress.end()


def carry_out(progress: Progress, task: Task, attempt_failed: Callable[[TaskResult], None]) -> TaskResult:
    """Run a task: its condition, then its command as often as it may be attempted."""
    executor, config, deps = progress.executor, progress.plan.config, progress.deps(task)
    began = time.monotonic()
    number = 0
    try:
        refused = executor.refusal(task, deps)
        if refused is not None:
            return TaskResult(task, "skipped" if refused.ok else "failed", refused.message, by_choice=refused.ok)
        attempts = config.attempts(task)
        while True:
            number += 1
            attempt_began = time.monotonic()
            outcome = executor.attempt(task, number, deps, progress.deadline)
            now = time.monotonic()
            is_late = progress.deadline is not None and now >= progress.deadline
            if outcome.ok or outcome.is_final or number == attempts or is_late:
                status = "ok" if outcome.ok else "failed"
                return TaskResult(task, status, outcome.message, now - began, number, outcome.outputs)  # type: ignore[arg-type]
            attempt_failed(
                TaskResult(
                    task, "failed", outcome.message, now - attempt_began, number, attempts_left=attempts - number
                )
            )
            executor.pause(config.delay(task, number))
    except Interrupted:
        progress.reporter.task_finished(TaskResult(task, "interrupted", "", time.monotonic() - began, number))
        raise
