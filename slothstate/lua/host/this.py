"""The table `this` of a task's command, conditions and hooks."""

from __future__ import annotations

import os

from slothstate.hints import TYPE_CHECKING, Any
from slothstate.lua.host.described import lua_bytes
from slothstate.lua.host.place import Place, make_directory, remove_directory
from slothstate.lua.host.workflow import Plan, Task

if TYPE_CHECKING:
    from slothstate.lua.host.surroundings import Surroundings

__all__ = ["make_this"]


def make_this(host: Surroundings, plan: Plan, task: Task, number: int, place: Place) -> Any:
    """Return the table: name, description, attempt, attempts, workdir, and where there is one workflow, timeout, agent.

    `this.workdir` reads as the directory and has the functions get, exists, ensure (make it if need be) and cleanup
    (remove it if this run has made it), called with `.` or `:`.
    """
    fields: dict[str, Any] = {
        "name": lua_bytes(task.name),
        "description": lua_bytes(task.description),
        "attempt": number,
        "attempts": plan.config.attempts(task),
        "workdir": _workdir(host, place),
    }
    if plan.workflow is not None:
        fields["workflow"] = lua_bytes(plan.workflow.name)
    if task.timeout is not None:
        fields["timeout"] = task.timeout
    if task.delegate_to:
        fields["agent"] = _readable(host, task.delegate_to[0], {})
    return host.table(fields)


def _workdir(host: Surroundings, place: Place) -> Any:
    path = place.workdir or os.getcwd()

    def ensure() -> Any:
        try:
            make_directory(path)
            if place.user is not None:
                os.chown(path, place.user.uid, place.user.gid)
        except OSError as error:
            return None, f"{path}: {error.strerror}".encode()
        return True

    def cleanup() -> Any:
        if place.workdir is None:
            return None, b"the task has no workdir of its own"
        reason = remove_directory(path)
        return True if reason is None else (None, reason.encode())

    return _readable(host, path, {"exists": lambda: os.path.isdir(path), "ensure": ensure, "cleanup": cleanup})


def _readable(host: Surroundings, text: str, functions: dict[str, Any]) -> Any:
    return host.part(b"script")[b"readable"](lua_bytes(text), host.table(functions))
