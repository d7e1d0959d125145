"""What the store keeps of a run that has a name: which tasks ended, what they said and gave, so that it can go on.

A run NAME is the key `slothstate.run:NAME`, a table, and while it is under way the lock of the same name.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from slothstate import State
from slothstate.errors import InvalidValue, SlothStateError
from slothstate.hints import Any, Final
from slothstate.lua.host.report import TaskResult
from slothstate.lua.host.workflow import Plan, Task
from slothstate.native import json_decode, json_encode

__all__ = ["PREFIX", "RunRecord", "RunRefused", "recorded", "runs"]

PREFIX: Final = "slothstate.run:"


class RunRefused(Exception):
    """A run cannot begin or go on: another of its name is under way, or it was of another script."""


class RunRecord:
    """The record of one run, while its lock is held. Of one process: workers of side by side tasks do not write it."""

    def __init__(self, state: State, name: str, table: dict[str, Any]) -> None:
        self._state = state
        self._key = PREFIX + name
        self._table = table
        self._before: str = table["status"]

    @property
    def is_done(self) -> bool:
        """Whether the whole run has ended well."""
        return bool(self._table["status"] == "ok")

    @property
    def digest(self) -> str | None:
        """What the script, its arguments and values were, as a digest; None before they are noted."""
        digest: str | None = self._table.get("digest")
        return digest

    def describe(self, digest: str) -> None:
        """Note what runs, and that it does."""
        self._table.update(digest=digest, status="running")
        self._table.pop("ended", None)
        self._save()

    def end(self, status: str) -> None:
        """Note how the run ended; ok it is once all tasks are, of which this may have been a part."""
        if status == "ok" and _done(self._table) < (self._table.get("task_count") or 0):
            status = self._before
        self._table.update(status=status, ended=time.time())
        if status != "interrupted":
            self._table["under_way"] = []
        self._save()

    def find(self, plan: Plan, task: Task) -> TaskResult | None:
        entry = self._workflow(plan)["tasks"].get(task.name)
        if entry is None:
            return None
        return TaskResult(
            task,
            "skipped" if entry["by_choice"] else "ok",
            entry["message"],
            entry["seconds"],
            entry["attempts"],
            json_encode(entry["outputs"], "outputs").encode() if "outputs" in entry else None,
            by_choice=entry["by_choice"],
            is_earlier=True,
        )

    def params(self, plan: Plan) -> bytes | None:
        """Return what `params` held after the last task that ended, as JSON."""
        params = self._workflow(plan).get("params")
        return None if params is None else json_encode(params, "params").encode()

    def begin(self, task: Task) -> None:
        self._table["under_way"] = [*self._table["under_way"], task.name]
        self._save()

    def keep(self, plan: Plan, result: TaskResult, params: bytes) -> str | None:
        name = result.task.name
        self._table["under_way"] = [other for other in self._table["under_way"] if other != name]
        workflow = self._workflow(plan)
        if not result.is_fine:
            self._save()
            return None
        entry = {
            "message": result.message.encode(errors="backslashreplace").decode(),
            "seconds": result.seconds,
            "attempts": result.attempts,
            "by_choice": result.by_choice,
        }
        if result.outputs is not None:
            entry["outputs"] = json_decode(result.outputs)
        workflow["tasks"][name] = entry
        before = workflow.get("params")
        workflow["params"] = json_decode(params)
        try:
            self._save()
        except InvalidValue as error:
            del workflow["tasks"][name]
            workflow["params"] = before
            return f"what it gave cannot be kept: {error}"
        return None

    def plan_ended(self, plan: Plan) -> None:
        """Note that a workflow has ended well, with its hooks."""
        self._workflow(plan)["is_done"] = True
        self._save()

    def is_plan_done(self, plan: Plan) -> bool:
        """Whether a workflow has ended well in an earlier part of this run."""
        workflow = self._workflow(plan)
        return bool(workflow.get("is_done")) and all(task.name in workflow["tasks"] for task in plan.tasks)

    def plans(self, plans: list[Plan]) -> None:
        """Note how many tasks there are; a part of a run that is resumed has fewer."""
        count = sum(len(plan.tasks) for plan in plans)
        self._table["task_count"] = max(count, self._table.get("task_count") or 0)
        self._save()

    def _workflow(self, plan: Plan) -> dict[str, Any]:
        name = plan.workflow.name if plan.workflow is not None else ""
        workflow: dict[str, Any] = self._table["workflows"].setdefault(name, {"tasks": {}})
        return workflow

    def _save(self) -> None:
        self._state.set(self._key, self._table)


@contextlib.contextmanager
def recorded(state: State, name: str, file: str, *, resume: bool) -> Iterator[RunRecord]:
    """Hold the lock of a run, and give its record: that of the run that did not end well, with `resume`, or a new one.

    Raises: `RunRefused`.
    """
    key = PREFIX + name
    if not state.lock(key, timeout=0):
        raise RunRefused(f"run {name!r} is under way{_owner(state, key)}")
    try:
        table = state.get(key)
        if not resume or not isinstance(table, dict):
            table = {"file": file, "began": time.time(), "status": "running", "under_way": [], "workflows": {}}
        elif table["file"] != file:
            raise RunRefused(f"run {name!r} is one of {table['file']}, not of {file}: give it another name")
        else:
            table["under_way"] = []
        yield RunRecord(state, name, table)
    finally:
        with contextlib.suppress(SlothStateError):
            state.unlock(key)


def _owner(state: State, key: str) -> str:
    for lock in state.locks():
        if lock["name"] == key:
            return f", in process {lock['owner']['pid']} on {lock['owner']['host']}"
    return ""


def _done(table: dict[str, Any]) -> int:
    """Return how many tasks ended well."""
    return sum(len(workflow["tasks"]) for workflow in table["workflows"].values())


def runs(state: State) -> list[dict[str, Any]]:
    """Return the runs that the store has a record of, oldest first: name, file, status, tasks, times.

    `status` is running, ok, failed, interrupted, or stopped: it was killed. `done` counts the tasks that ended well,
    of `tasks`; `under_way` names those that ran, or were running when it ended.
    """
    held = {lock["name"] for lock in state.locks() if lock["alive"] is not False}
    found = []
    for key in state.scan(PREFIX + "*"):
        table = state.get(key)
        if not isinstance(table, dict) or "workflows" not in table:
            continue
        is_held = key in held
        status = table["status"]
        found.append(
            {
                "name": key.removeprefix(PREFIX),
                "status": "running" if is_held else "stopped" if status == "running" else status,
                "file": table["file"],
                "done": _done(table),
                "tasks": table.get("task_count"),
                "under_way": table["under_way"],
                "began": table["began"],
                "ended": table.get("ended"),
            }
        )
    return sorted(found, key=lambda run: (run["began"], run["name"]))
