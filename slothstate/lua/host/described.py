"""From the tables in which a script's tasks and workflows were described, task.lua and workflow.lua, to our own."""

from __future__ import annotations

import difflib

from slothstate.hints import Any
from slothstate.lua.host.workflow import Action, Config, PlanError, Task, Workflow

__all__ = ["described", "items", "lua_bytes", "lua_text", "nearest"]


def described(parts: Any) -> tuple[list[Task], list[Workflow]]:
    """Return what the script described so far, from the host's Lua parts."""
    tasks = [task_of(entry) for entry in items(parts[b"task"][b"tasks"])]
    workflows = []
    for entry in items(parts[b"workflow"][b"workflows"]):
        workflow = _workflow(entry)
        workflows.append(workflow)
        tasks += [task_of(own, workflow.name) for own in items(entry[b"own"])]
    return tasks, workflows


def task_of(entry: Any, scope: str | None = None) -> Task:
    """Return the task of a description."""
    name, where = lua_text(entry[b"name"]), lua_text(entry[b"where"])
    if not name.isprintable():
        # It is a key of `deps` and of what is kept, and a word of a line.
        raise PlanError(f"{where}: the name of a task must be printable text, got {name!r}")
    return Task(
        name=name,
        command=_action(entry[b"command"]) or "",
        position=int(entry[b"count"]),
        description=lua_text(entry[b"description"]),
        depends_on=_texts(entry[b"depends_on"]),
        timeout=entry[b"timeout"],
        retries=None if entry[b"retries"] is None else int(entry[b"retries"]),
        backoff=_optional(entry[b"backoff"]),  # type: ignore[arg-type]
        on_success=entry[b"on_success"],
        on_failure=entry[b"on_failure"],
        run_if=_action(entry[b"run_if"]),
        user=_optional(entry[b"user"]),
        workdir=_optional(entry[b"workdir"]),
        delegate_to=_texts(entry[b"delegate_to"]),
        artifacts=_texts(entry[b"artifacts"]),
        consumes=_texts(entry[b"consumes"]),
        scope=scope,
        where=where,
    )


def _workflow(entry: Any) -> Workflow:
    given = {lua_text(name): value for name, value in entry[b"config"].items()}
    for name in ("workdir", "backoff"):
        if name in given:
            given[name] = lua_text(given[name])
    for name in ("parallel", "retries"):
        if name in given:
            given[name] = int(given[name])
    return Workflow(
        name=lua_text(entry[b"name"]),
        tasks=_texts(entry[b"tasks"]),
        description=lua_text(entry[b"description"]),
        version=lua_text(entry[b"version"]),
        config=Config(**given),
        on_start=entry[b"on_start"],
        on_task_complete=entry[b"on_task_complete"],
        on_complete=entry[b"on_complete"],
        where=lua_text(entry[b"where"]),
    )


def _action(value: Any) -> Action | None:
    return value if value is None or callable(value) else lua_text(value)


def _optional(value: Any) -> str | None:
    return None if value is None else lua_text(value)


def _texts(sequence: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lua_text(text) for text in items(sequence)))


def lua_text(value: Any) -> str:
    """Return a Lua string as text, whatever its bytes; "" for nil."""
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    return value if isinstance(value, str) else ""


def lua_bytes(text: str) -> bytes:
    """Return a text as Lua gets it, with the bytes that it came from."""
    return text.encode(errors="surrogateescape")


def items(sequence: Any) -> list[Any]:
    """Return the items of a Lua sequence."""
    return [sequence[index] for index in range(1, len(sequence) + 1)]


def nearest(name: bytes, listing: bytes) -> bytes | None:
    """Return the one of some names, separated by ", ", that another is most like; None if it is like none."""
    found = difflib.get_close_matches(lua_text(name), lua_text(listing).split(", "), n=1)
    return lua_bytes(found[0]) if found else None
