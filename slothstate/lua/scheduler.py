"""Carrying out a plan: attempts, skips, hooks, and what is reported of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from slothstate.lua.report import Reporter, TaskResult
from slothstate.lua.workflow import Plan, Task

__all__ = ["Executor", "Outcome", "run_plan"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt at a command came to."""

    ok: bool
    message: str = ""


class Executor(Protocol):
    """What knows how to run a command and a hook. Whatever it raises ends the run."""

    def attempt(self, task: Task, number: int) -> Outcome:
        """Run the task's command for the `number`-th time, from 1."""

    def hook(self, task: Task, result: TaskResult) -> str | None:
        """Run `on_success` or `on_failure`, if there is one; returns the text of its error."""


def run_plan(plan: Plan, executor: Executor, reporter: Reporter, clock: Callable[[], float] = time.monotonic) -> bool:
    """Run the tasks of a plan in their order; returns whether all went well.

    A failed task is attempted again as often as its `retries` say. What depends on a task that failed or was skipped is
    skipped. A hook's error leaves the task's result as it is, but is reported and makes the run fail.
    """
    began = clock()
    reporter.plan_started(plan)
    results: list[TaskResult] = []
    missing: dict[str, str] = {}
    hooks_ok = True
    for task in plan.tasks:
        blocked_by = next((name for name in task.depends_on if name in missing), None)
        if blocked_by is not None:
            result = TaskResult(task, "skipped", f"{blocked_by} {missing[blocked_by]}")
        else:
            reporter.task_started(task)
            result = _run_task(task, executor, reporter, clock)
        if result.status != "ok":
            missing[task.name] = "failed" if result.status == "failed" else "was skipped"
        results.append(result)
        reporter.task_finished(result)
        if result.status != "skipped" and (problem := executor.hook(task, result)) is not None:
            hooks_ok = False
            hook = "on_success" if result.status == "ok" else "on_failure"
            reporter.log("error", f"{hook} of task '{task.name}': {problem}")
    reporter.plan_finished(plan, results, clock() - began)
    return hooks_ok and all(result.status == "ok" for result in results)


def _run_task(task: Task, executor: Executor, reporter: Reporter, clock: Callable[[], float]) -> TaskResult:
    began = clock()
    for number in range(1, task.retries + 2):
        attempt_began = clock()
        outcome = executor.attempt(task, number)
        now = clock()
        if outcome.ok:
            break
        if number <= task.retries:
            reporter.attempt_failed(TaskResult(task, "failed", outcome.message, now - attempt_began, number))
    return TaskResult(task, "ok" if outcome.ok else "failed", outcome.message, now - began, number)
