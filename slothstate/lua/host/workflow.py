"""Tasks and workflows as a script described them, and the order in which they run."""

from __future__ import annotations

import difflib
import fnmatch
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slothstate.hints import Any, Literal, TypeVar

__all__ = ["Action", "Config", "Plan", "PlanError", "Task", "Workflow", "make_plans"]

Action = Callable[..., Any] | str
"""A function of the script, or a shell command."""

Backoff = Literal["fixed", "linear", "exponential"]


class PlanError(Exception):
    """What a script described cannot be run: a cycle, an unknown or ambiguous task, an empty workflow."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One task. `position` counts the definitions of the script, `where` is "file:line".

    `retries` None: what the workflow says. `scope` is the workflow that the task was written in, None if it has a name
    for all of them.
    """

    name: str
    command: Action
    position: int = 0
    description: str = ""
    depends_on: tuple[str, ...] = ()
    timeout: float | None = None
    retries: int | None = None
    backoff: Backoff | None = None
    on_success: Callable[..., Any] | None = None
    on_failure: Callable[..., Any] | None = None
    run_if: Action | None = None
    user: str | None = None
    workdir: str | None = None
    delegate_to: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    scope: str | None = None
    where: str = ""

    def makes(self, wanted: str) -> bool:
        """Return whether what another task consumes is among the artifacts."""
        return any(made == wanted or fnmatch.fnmatch(wanted, made) for made in self.artifacts)


@dataclass(frozen=True, slots=True)
class Config:
    """What holds for all tasks of a workflow. Times are in seconds; `variables` is JSON, what `params` begins as."""

    timeout: float | None = None
    workdir: str | None = None
    make_workdir: bool = False
    parallel: int = 1
    fail_fast: bool = False
    retries: int = 0
    backoff: Backoff | None = None
    initial_delay: float | None = None
    max_delay: float = 60.0
    variables: bytes | None = None

    def attempts(self, task: Task) -> int:
        """Return how often the task is attempted at most."""
        return 1 + (self.retries if task.retries is None else task.retries)

    def delay(self, task: Task, attempt: int) -> float:
        """Return for how many seconds to wait after this failed attempt, counted from 1."""
        backoff = task.backoff or self.backoff
        if backoff is None and self.initial_delay is None:
            return 0.0
        first = 1.0 if self.initial_delay is None else self.initial_delay
        factor = {"linear": attempt, "exponential": 2.0 ** min(attempt - 1, 64)}.get(backoff or "fixed", 1)
        return min(first * factor, self.max_delay)


@dataclass(frozen=True, slots=True, eq=False)
class Workflow:
    """One workflow: the names of its tasks, as listed."""

    name: str
    tasks: tuple[str, ...]
    description: str = ""
    version: str = ""
    config: Config = field(default_factory=Config)
    on_start: Callable[..., Any] | None = None
    on_task_complete: Callable[..., Any] | None = None
    on_complete: Callable[..., Any] | None = None
    where: str = ""


_Described = TypeVar("_Described", Task, Workflow)


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks in the order in which they run, on behalf of a workflow (None: of none).

    `needs` has for each task those that must have ended before it: what it depends on, and who makes what it consumes.
    """

    workflow: Workflow | None
    tasks: tuple[Task, ...]
    needs: Mapping[str, tuple[str, ...]]

    @property
    def config(self) -> Config:
        """The workflow's, or that of none."""
        return Config() if self.workflow is None else self.workflow.config


def make_plans(tasks: Sequence[Task], workflows: Sequence[Workflow], selected: Sequence[str] = ()) -> list[Plan]:
    """Decide what runs, in which order.

    Each workflow gives one plan: its tasks and whatever they depend on, dependencies first, and otherwise in the order
    of their definitions. With `selected`, only those tasks and their dependencies run, each in the first workflow that
    includes it; those that no workflow includes run at the end.

    Raises: `PlanError` for two tasks or workflows of one name, an unknown task, a cycle, a workflow without tasks;
    also where nothing of it would have run.
    """
    _by_name("workflow", workflows)
    shared = _Scope([task for task in tasks if task.scope is None])
    plans = []
    known = dict(shared.by_name)
    for workflow in workflows:
        own = [task for task in tasks if task.scope == workflow.name]
        scope = _Scope([*shared.by_name.values(), *own]) if own else shared
        if not workflow.tasks:
            raise PlanError(f"{workflow.where}: workflow '{workflow.name}' has no tasks")
        for name in workflow.tasks:
            if name not in scope.by_name:
                listed = _unknown(name, scope.by_name)
                raise PlanError(f"{workflow.where}: workflow '{workflow.name}' lists an {listed}")
        known.update(scope.by_name)
        plans.append((scope, scope.plan(workflow, workflow.tasks)))
    for name in selected:
        if name not in known:
            raise PlanError(_unknown(name, known))
    if not selected:
        return [plan for _, plan in plans]
    chosen: list[Plan] = []
    left = list(dict.fromkeys(selected))
    for scope, plan in plans:
        included = {task.name for task in plan.tasks}
        here = [name for name in left if name in included]
        if here:
            chosen.append(scope.plan(plan.workflow, here))
            left = [name for name in left if name not in included]
    if left:
        chosen.append(shared.plan(None, left))
    return chosen


class _Scope:
    """The tasks that can name each other, in running order. Raises: `PlanError`."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.by_name = _by_name("task", tasks)
        for task in tasks:
            for dependency in task.depends_on:
                if dependency not in self.by_name:
                    unknown = _unknown(dependency, self.by_name)
                    raise PlanError(f"{task.where}: task '{task.name}' depends on an {unknown}")
        self._needs = {task.name: tuple(dict.fromkeys([*task.depends_on, *_makers(task, tasks)])) for task in tasks}
        self._ordered = _in_order(self.by_name, self._needs)

    def plan(self, workflow: Workflow | None, names: Iterable[str]) -> Plan:
        """Return the plan of the tasks of these names and all that they need."""
        wanted: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending.extend(self._needs[name])
        return Plan(workflow, tuple(task for task in self._ordered if task.name in wanted), self._needs)


def _makers(task: Task, tasks: Sequence[Task]) -> list[str]:
    """Return who makes what the task consumes."""
    return [other.name for wanted in task.consumes for other in tasks if other is not task and other.makes(wanted)]


def _by_name(kind: str, described: Iterable[_Described]) -> dict[str, _Described]:
    found: dict[str, _Described] = {}
    for one in described:
        other = found.setdefault(one.name, one)
        if other is not one:
            raise PlanError(f"{one.where}: a second {kind} '{one.name}'; the first is at {other.where}")
    return found


def _unknown(name: str, by_name: Iterable[str]) -> str:
    if close := difflib.get_close_matches(name, list(by_name), n=1):
        return f"unknown task '{name}' (did you mean '{close[0]}'?)"
    return f"unknown task '{name}' (the script defines {', '.join(by_name) or 'none'})"


def _in_order(by_name: Mapping[str, Task], needs: Mapping[str, tuple[str, ...]]) -> list[Task]:
    """Sort all tasks: of those whose dependencies are done, always the one defined first."""
    waits_for = {name: set(needed) for name, needed in needs.items()}
    dependents: dict[str, list[Task]] = {name: [] for name in by_name}
    for task in by_name.values():
        for dependency in waits_for[task.name]:
            dependents[dependency].append(task)
    ready = [(task.position, task.name) for task in by_name.values() if not needs[task.name]]
    heapq.heapify(ready)
    ordered: list[Task] = []
    while ready:
        _, name = heapq.heappop(ready)
        ordered.append(by_name[name])
        for task in dependents[name]:
            waits_for[task.name].discard(name)
            if not waits_for[task.name]:
                heapq.heappush(ready, (task.position, task.name))
    if len(ordered) < len(by_name):
        raise PlanError(_describe_cycle(by_name, waits_for))
    return ordered


def _describe_cycle(by_name: Mapping[str, Task], waits_for: dict[str, set[str]]) -> str:
    # Whatever still waits, waits for something that does: following it must come round.
    name = min((task for task in by_name.values() if waits_for[task.name]), key=lambda task: task.position).name
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = min(waits_for[name], key=lambda waited: by_name[waited].position)
    cycle = [*path[path.index(name) :], name]
    return f"{by_name[name].where}: tasks depend on each other in a cycle: {' → '.join(cycle)}"
