"""Tasks and workflows as a script described them, and the order in which they run."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["Plan", "PlanError", "Task", "Workflow", "make_plans"]


class PlanError(Exception):
    """What a script described cannot be run: a cycle, an unknown or ambiguous task, an empty workflow."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One task. `position` counts the definitions of the script, `where` is "file:line"."""

    name: str
    command: Callable[..., Any] | str
    position: int = 0
    description: str = ""
    depends_on: tuple[str, ...] = ()
    timeout: float | None = None
    retries: int = 0
    on_success: Callable[..., Any] | None = None
    on_failure: Callable[..., Any] | None = None
    where: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Workflow:
    """One workflow: the names of its tasks, as listed."""

    name: str
    tasks: tuple[str, ...]
    description: str = ""
    version: str = ""
    where: str = ""


_Described = TypeVar("_Described", Task, Workflow)


@dataclass(frozen=True, slots=True)
class Plan:
    """Tasks in the order in which they run, on behalf of a workflow (None: of none)."""

    workflow: Workflow | None
    tasks: tuple[Task, ...]


def make_plans(tasks: Sequence[Task], workflows: Sequence[Workflow], selected: Sequence[str] = ()) -> list[Plan]:
    """Decide what runs, in which order.

    Each workflow gives one plan: its tasks and whatever they depend on, dependencies first, and otherwise in the order
    of their definitions. With `selected`, only those tasks and their dependencies run, each in the first workflow that
    includes it; those that no workflow includes run at the end.

    Raises: `PlanError` for two tasks or workflows of one name, an unknown task, a cycle, a workflow without tasks;
    also where nothing of it would have run.
    """
    by_name = _by_name("task", tasks)
    _by_name("workflow", workflows)
    for task in tasks:
        for dependency in task.depends_on:
            if dependency not in by_name:
                raise PlanError(f"{task.where}: task '{task.name}' depends on an {_unknown(dependency, by_name)}")
    for workflow in workflows:
        if not workflow.tasks:
            raise PlanError(f"{workflow.where}: workflow '{workflow.name}' has no tasks")
        for name in workflow.tasks:
            if name not in by_name:
                raise PlanError(f"{workflow.where}: workflow '{workflow.name}' lists an {_unknown(name, by_name)}")
    ordered = _in_order(by_name)
    for name in selected:
        if name not in by_name:
            raise PlanError(_unknown(name, by_name))

    plans = [Plan(workflow, _members(workflow.tasks, by_name, ordered)) for workflow in workflows]
    if not selected:
        return plans
    chosen: list[Plan] = []
    left = list(dict.fromkeys(selected))
    for plan in plans:
        included = {task.name for task in plan.tasks}
        here = [name for name in left if name in included]
        if here:
            chosen.append(Plan(plan.workflow, _members(here, by_name, ordered)))
            left = [name for name in left if name not in included]
    if left:
        chosen.append(Plan(None, _members(left, by_name, ordered)))
    return chosen


def _by_name(kind: str, described: Iterable[_Described]) -> dict[str, _Described]:
    found: dict[str, _Described] = {}
    for one in described:
        other = found.setdefault(one.name, one)
        if other is not one:
            raise PlanError(f"{one.where}: a second {kind} '{one.name}'; the first is at {other.where}")
    return found


def _unknown(name: str, by_name: dict[str, Task]) -> str:
    if close := difflib.get_close_matches(name, by_name, n=1):
        return f"unknown task '{name}' (did you mean '{close[0]}'?)"
    return f"unknown task '{name}' (the script defines {', '.join(by_name) or 'none'})"


def _members(names: Iterable[str], by_name: dict[str, Task], ordered: Sequence[Task]) -> tuple[Task, ...]:
    """Return the tasks of these names and all that they depend on, in running order."""
    wanted: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending.extend(by_name[name].depends_on)
    return tuple(task for task in ordered if task.name in wanted)


def _in_order(by_name: dict[str, Task]) -> list[Task]:
    """Sort all tasks: of those whose dependencies are done, always the one defined first."""
    waits_for = {task.name: set(task.depends_on) for task in by_name.values()}
    dependents: dict[str, list[Task]] = {name: [] for name in by_name}
    for task in by_name.values():
        for dependency in waits_for[task.name]:
            dependents[dependency].append(task)
    ready = [(task.position, task.name) for task in by_name.values() if not task.depends_on]
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


def _describe_cycle(by_name: dict[str, Task], waits_for: dict[str, set[str]]) -> str:
    # Whatever still waits, waits for something that does: following it must come round.
    name = min((task for task in by_name.values() if waits_for[task.name]), key=lambda task: task.position).name
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = min(waits_for[name], key=lambda waited: by_name[waited].position)
    cycle = [*path[path.index(name) :], name]
    return f"{by_name[name].where}: tasks depend on each other in a cycle: {' → '.join(cycle)}"
