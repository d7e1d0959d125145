"""The files that tasks make for each other: there after the one, there before the other."""

from __future__ import annotations

import glob
import os
import shutil

from slothstate.lua.host.place import Place
from slothstate.lua.host.workflow import Plan, Task

__all__ = ["fetch_consumed", "missing_artifact"]


def missing_artifact(task: Task, place: Place) -> str:
    """Return what is wrong after the task if one of its artifacts is not there."""
    for pattern in task.artifacts:
        if not _found(pattern, place):
            return f"the artifact '{pattern}' is not there: {_where(pattern, place)}"
    return ""


def fetch_consumed(plan: Plan, task: Task, places: dict[str, Place]) -> str:
    """Copy what the task consumes into its directory, from the directories of those who made it.

    Returns what is wrong if it is nowhere. What nobody in the plan makes must be in the task's directory already.
    """
    own = places[task.name]
    for wanted in task.consumes:
        makers = [other for other in plan.tasks if other is not task and other.makes(wanted)]
        for maker in makers:
            there = places[maker.name]
            for path in _found(wanted, there):
                name = path if os.path.isabs(wanted) else os.path.relpath(path, there.path(""))
                problem = _copy(path, own.path(name), own)
                if problem:
                    return problem
        if not _found(wanted, own):
            made_by = f", though {makers[0].name} makes it" if makers else ", and no task makes it"
            return f"what it consumes is not there: {_where(wanted, own)}{made_by}"
    return ""


def _found(pattern: str, place: Place) -> list[str]:
    path = place.path(pattern)
    if os.path.exists(path):
        return [path]
    return sorted(glob.glob(path, recursive=True))


def _where(pattern: str, place: Place) -> str:
    return os.path.abspath(place.path(pattern))


def _copy(source: str, target: str, place: Place) -> str:
    if os.path.realpath(source) == os.path.realpath(target):
        return ""
    try:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        if os.path.isdir(source):
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
        if place.user is not None:
            os.chown(target, place.user.uid, place.user.gid)
    except OSError as error:
        return f"what it consumes cannot be copied to {target}: {error.strerror or error}"
    return ""
